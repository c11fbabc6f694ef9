//! Reader of Java's `.properties` syntax, as `alluxio-site.properties` is written.
//!
//! A line is a comment (`#` or `!` first), blank, or a key and a value parted by `=`, `:` or white space. A backslash at
//! its end continues it on the next; elsewhere it escapes: `\t \n \r \f \uXXXX`, and any other character stands for
//! itself. The text is UTF-8, or Latin-1 as Java reads it if it is not valid UTF-8.

/// What is wrong and where.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {what}")]
pub struct SyntaxError {
    /// From 1.
    pub line: usize,
    /// For a person.
    pub what: &'static str,
}

/// Keys and values in the order of the file; a key may come again, then the last counts.
///
/// # Errors
/// Only `\u` without four hexadecimal digits is wrong; everything else means something.
pub fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, SyntaxError> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    };
    let mut properties = Vec::new();
    let mut lines = text.split('\n').map(|line| line.trim_end_matches('\r')).enumerate();
    while let Some((number, first)) = lines.next() {
        let start = trim_start(first);
        if start.is_empty() || start.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = start.to_owned();
        while ends_in_escape(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(trim_start(next)),
                None => break,
            }
        }
        properties.push(split(&logical).map_err(|what| SyntaxError { line: number + 1, what })?);
    }
    Ok(properties)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

fn trim_start(line: &str) -> &str {
    line.trim_start_matches(is_blank)
}

/// An odd number of backslashes at the end.
fn ends_in_escape(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn split(line: &str) -> Result<(String, String), &'static str> {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let is_end = !escaped && (is_blank(c) || c == '=' || c == ':');
        escaped = c == '\\' && !escaped;
        is_end
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = trim_start(rest);
    let value = trim_start(rest.strip_prefix(['=', ':']).unwrap_or(rest));
    Ok((unescape(key)?, unescape(value)?))
}

fn unescape(text: &str) -> Result<String, &'static str> {
    // As Java's strings, since two \u may be one character.
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    units.push(hexadecimal(&digits).ok_or("\\u needs four hexadecimal digits")?);
                    continue;
                }
                Some(other) => other,
                None => break,
            },
            plain => plain,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    Ok(String::from_utf16_lossy(&units))
}

fn hexadecimal(digits: &str) -> Option<u16> {
    let right = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    right.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes()).unwrap()
    }

    fn one(key: &str, value: &str) -> Vec<(String, String)> {
        vec![(key.to_owned(), value.to_owned())]
    }

    /// The examples of `java.util.Properties.load`.
    #[test]
    fn java_examples() {
        for line in [
            "Truth = Beauty",
            " Truth:Beauty",
            "Truth                    :Beauty",
            "Truth Beauty",
        ] {
            assert_eq!(parsed(line), one("Truth", "Beauty"), "{line}");
        }
        let fruits = "fruits                           apple, banana, pear, \\\n    cantaloupe, watermelon, \\\r\n    kiwi, mango\n";
        assert_eq!(
            parsed(fruits),
            one("fruits", "apple, banana, pear, cantaloupe, watermelon, kiwi, mango")
        );
        assert_eq!(parsed("cheeses"), one("cheeses", ""));
        assert_eq!(parsed(r"\:\= = \ x"), one(":=", " x"));
    }

    #[test]
    fn comments_blanks_and_separators() {
        assert_eq!(parsed("# a=b\n  ! c=d\n\n \t \n"), vec![]);
        assert_eq!(parsed("a = b = c # not a comment"), one("a", "b = c # not a comment"));
        assert_eq!(parsed("a==b"), one("a", "=b"));
        assert_eq!(parsed("a=trailing stays  "), one("a", "trailing stays  "));
        // A comment is not continued, and a blank line ends a continuation.
        assert_eq!(parsed("# x \\\na=1"), one("a", "1"));
        assert_eq!(parsed("a=1\\\n\nb=2"), [one("a", "1"), one("b", "2")].concat());
        assert_eq!(parsed("a=1\\"), one("a", "1"));
        assert_eq!(parsed("a=1\\\\\nb=2"), [one("a", "1\\"), one("b", "2")].concat());
    }

    #[test]
    fn escapes() {
        assert_eq!(parsed(r"a=\t\n\r\f\q\\"), one("a", "\t\n\r\x0cq\\"));
        assert_eq!(parsed(r"k\u00e9y=\u0041\uD83D\uDE00"), one("kéy", "A😀"));
        assert_eq!(parsed("a=é"), one("a", "é"));
        assert_eq!(parse(b"a=\xe9").unwrap(), one("a", "é"));
        let error = parse(b"# c\na=1\nb=\\u12g4").unwrap_err();
        assert_eq!(error.to_string(), "line 3: \\u needs four hexadecimal digits");
        assert!(parse(b"a=\\u12").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse(&bytes);
        }

        /// What is escaped as Java does when it stores comes back.
        #[test]
        fn stored_comes_back(key in "\\PC{1,20}", value in "\\PC{0,20}") {
            let store = |text: &str| -> String {
                text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
            };
            let line = format!("{}={}", store(&key), store(&value));
            proptest::prop_assert_eq!(parsed(&line), one(&key, &value));
        }
    }
}
