//! The little XML that S3 speaks: read into a tree, written by hand.

use quick_xml::Reader;
use quick_xml::events::Event;

/// Deepest element that is read; S3's answers need five.
const DEPTH_MAX: usize = 16;

/// An element: its name without prefix, its text, its children.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub name: String,
    pub text: String,
    pub children: Vec<Element>,
}

impl Element {
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// Text of a child, empty if it is not there.
    pub fn text_of(&self, name: &str) -> &str {
        self.child(name).map_or("", |child| &child.text)
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

/// Parses a document; says what is wrong with it otherwise.
pub(super) fn parse(document: &[u8]) -> Result<Element, String> {
    let text = std::str::from_utf8(document).map_err(|error| error.to_string())?;
    let mut reader = Reader::from_str(text);
    // The bottom is the document itself.
    let mut stack = vec![Element::default()];
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(start) => {
                if stack.len() > DEPTH_MAX {
                    return Err("it is nested too deeply".to_owned());
                }
                stack.push(Element {
                    name: name_of(start.local_name().as_ref()),
                    ..Element::default()
                });
            }
            Event::Empty(start) => {
                let name = name_of(start.local_name().as_ref());
                top(&mut stack)?.children.push(Element {
                    name,
                    ..Element::default()
                });
            }
            Event::End(_) => {
                let done = stack.pop().ok_or("an element ends that did not begin")?;
                top(&mut stack)?.children.push(done);
            }
            Event::Text(piece) => {
                let piece = piece.decode().map_err(|error| error.to_string())?;
                top(&mut stack)?.text.push_str(&piece);
            }
            Event::CData(piece) => {
                let piece = piece.decode().map_err(|error| error.to_string())?;
                top(&mut stack)?.text.push_str(&piece);
            }
            Event::GeneralRef(reference) => {
                let resolved = reference.resolve_char_ref().map_err(|error| error.to_string())?;
                let name = reference.decode().map_err(|error| error.to_string())?;
                let resolved = resolved.or(match &*name {
                    "amp" => Some('&'),
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "quot" => Some('"'),
                    "apos" => Some('\''),
                    _ => None,
                });
                let character = resolved.ok_or_else(|| format!("unknown entity &{name};"))?;
                top(&mut stack)?.text.push(character);
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    let mut document = stack.pop().ok_or("an element ends that did not begin")?;
    if !stack.is_empty() {
        return Err("it ends too early".to_owned());
    }
    document.children.pop().ok_or_else(|| "it is empty".to_owned())
}

fn name_of(bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(bytes.as_ref()).into_owned()
}

fn top(stack: &mut [Element]) -> Result<&mut Element, &'static str> {
    stack.last_mut().ok_or("an element ends that did not begin")
}

/// Whether XML 1.0 can hold this text at all: most control characters it cannot, not even escaped.
pub(super) fn can_hold(text: &str) -> bool {
    text.chars()
        .all(|c| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..))
}

/// Text made safe for an element, also where parsers change white space.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push_str(&format!("&#{};", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_with_entities() {
        let root = parse(
            br#"<?xml version="1.0"?><s:List xmlns:s="x"><A>1 &lt;&amp;&#xe9;&quot;</A><B/><A><![CDATA[<2>]]></A></s:List>"#,
        )
        .unwrap();
        assert_eq!(root.name, "List");
        let texts: Vec<_> = root.all("A").map(|a| a.text.as_str()).collect();
        assert_eq!(texts, ["1 <&\u{e9}\"", "<2>"]);
        assert_eq!(root.text_of("B"), "");
        assert_eq!(root.text_of("C"), "");
    }

    #[test]
    fn garbage_is_an_error() {
        for bad in [
            "",
            "<a>",
            "</a>",
            "<a></b>",
            "not xml",
            "<a>&what;</a>",
            &"<a>".repeat(1000),
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:.20}");
        }
        assert!(parse(b"\xff\xfe").is_err());
    }

    #[test]
    fn escaped_text_comes_back() {
        let text = "a<b>&\"c'\r\n\té…";
        let root = parse(format!("<K>{}</K>", escape(text)).as_bytes()).unwrap();
        assert_eq!(root.text, text);
        assert!(can_hold(text) && !can_hold("\u{1}") && !can_hold("\u{ffff}"));
    }
}
