//! The files of the AWS tools: `~/.aws/credentials`, `~/.aws/config`.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::settings::Environment;

/// Settings of a section. Names are in lower case.
pub(in super::super) type Section = BTreeMap<String, String>;

/// What a file was when it was read; nothing: it was not there, or no file (`/dev/null`, whose time moves).
type Stamp = Option<(u64, i64, i64, u64)>;

/// Files that something was read from, and what they were then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Stamps(Vec<(PathBuf, Stamp)>);

impl Stamps {
    /// Takes note of a file before it is read.
    pub fn note(&mut self, path: &Path) {
        self.0.push((path.to_owned(), stamp(path)));
    }

    /// Whether any of them is another one now.
    pub fn changed(&self) -> bool {
        self.0.iter().any(|(path, known)| stamp(path) != *known)
    }
}

fn stamp(path: &Path) -> Stamp {
    let meta = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
}

/// Both files as they were read.
#[derive(Debug, Default)]
pub(in super::super) struct Files {
    credentials: BTreeMap<String, Section>,
    config: BTreeMap<String, Section>,
    pub stamps: Stamps,
    /// For messages.
    pub named: String,
}

/// One profile: what the credentials file says of it goes before what the config file says.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Profile {
    pub name: String,
    pub credentials: Section,
    pub config: Section,
}

impl Profile {
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.credentials.get(key).or_else(|| self.config.get(key));
        found.map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Where the files of a user are.
pub(in super::super) fn aws_folder(env: &Environment) -> Option<PathBuf> {
    Some(PathBuf::from(env("HOME")?).join(".aws"))
}

impl Files {
    /// Reads them now. What is not there is empty, which is the usual case; what cannot be read is worth a word.
    pub fn read(env: &Environment) -> Self {
        let mut files = Self::default();
        let mut named = Vec::new();
        for (variable, default) in [
            ("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            ("AWS_CONFIG_FILE", "config"),
        ] {
            let own = env(variable).map(|path| expanded(&path, env));
            let Some(path) = own.or_else(|| Some(aws_folder(env)?.join(default))) else {
                continue;
            };
            files.stamps.note(&path);
            named.push(path.display().to_string());
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) => {
                    if error.kind() != std::io::ErrorKind::NotFound {
                        tracing::warn!(path = %path.display(), %error, "read a file of AWS profiles");
                    }
                    continue;
                }
            };
            match default {
                "config" => files.config = sections(&text),
                _ => files.credentials = sections(&text),
            }
        }
        files.named = named.join(", ");
        files
    }

    /// A profile, if either file has it.
    pub fn profile(&self, name: &str) -> Option<Profile> {
        let credentials = self.credentials.get(name);
        // `[profile default]` goes before `[default]`; no other profile may do without the word.
        let config = self.config.get(&format!("profile {name}"));
        let config = config.or_else(|| self.config.get(name).filter(|_| name == "default"));
        (credentials.is_some() || config.is_some()).then(|| Profile {
            name: name.to_owned(),
            credentials: credentials.cloned().unwrap_or_default(),
            config: config.cloned().unwrap_or_default(),
        })
    }

    /// `[sso-session NAME]`.
    pub fn sso_session(&self, name: &str) -> Option<&Section> {
        self.config.get(&format!("sso-session {name}"))
    }
}

fn expanded(path: &str, env: &Environment) -> PathBuf {
    match (path.strip_prefix("~/"), env("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

fn sections(text: &str) -> BTreeMap<String, Section> {
    let mut all: BTreeMap<String, Section> = BTreeMap::new();
    let mut inside: Option<String> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| Some(rest.split_once(']')?.0)) {
            let name = name.replace('"', " ");
            let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
            all.entry(name.clone()).or_default();
            inside = Some(name);
        } else if let Some(section) = inside.as_ref().and_then(|name| all.get_mut(name))
            // Indented lines belong to a nested setting.
            && !line.starts_with([' ', '\t'])
            && let Some((key, value)) = trimmed.split_once('=')
        {
            section.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_as_people_write_them() {
        let all = sections(
            "junk = 1\n[default]\nregion = a\n; no\n[profile  two words ]\nKEY=v=1\ns3 =\n  region = nested\n\
             [profile \"q\"]\nx=1\n[sso-session s]\nsso_region = r # kept\n[broken\ny=2\n",
        );
        assert_eq!(all["default"]["region"], "a");
        assert_eq!(all["profile two words"]["key"], "v=1");
        assert!(!all["profile two words"].contains_key("region"));
        assert_eq!(all["profile q"]["x"], "1");
        assert_eq!(all["sso-session s"]["sso_region"], "r # kept");
        assert_eq!(all.len(), 4);
    }
}
