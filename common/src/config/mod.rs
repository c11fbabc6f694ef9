//! The configuration registry: every key we honour, typed and documented, and where its value came from (DESIGN D13).
//!
//! [`Configuration::load`] puts together, lowest first: built-in default, `alluxio-site.properties`, environment
//! (`ALLUXIO_MASTER_HOSTNAME` is `alluxio.master.hostname`), `-D key=value`, flags of the command. Values are checked
//! then, with one error that names key, value, source and what is accepted; so reading cannot fail. Keys of Alluxio
//! without effect here and unknown keys are warnings, since a configuration outlives the version that it was written for.
//!
//! How to add a key: [`keys`].

pub mod docs;
mod key;
pub mod keys;
mod known;
mod load;
mod properties;

pub use key::{Key, Kind, Scope, parse_bytes, parse_duration};
pub use known::{Meaning, ROOT_OPTION, find, is_credential, meaning, nearest};
pub use load::{ConfigError, Sources};
pub use properties::SyntaxError;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// References within references; more is taken for a circle.
const REFERENCE_DEPTH_MAX: usize = 16;
/// What is shown in place of a credential.
const MASK: &str = "******";

/// Where a value came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    #[default]
    Default,
    /// A properties file.
    SiteFile(PathBuf),
    /// An environment variable.
    Environment(String),
    /// `-D key=value`.
    Property,
    /// A flag of the command.
    Flag(String),
    /// Set by code: a test, or a role for what it chose itself.
    Code,
    /// An option of a mount.
    MountOption,
}

impl fmt::Display for Source {
    /// Alluxio's words where it has them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("DEFAULT"),
            Source::SiteFile(path) => write!(f, "SITE_PROPERTY ({})", path.display()),
            Source::Environment(name) => write!(f, "ENVIRONMENT ({name})"),
            Source::Property => f.write_str("SYSTEM_PROPERTY"),
            Source::Flag(flag) => write!(f, "FLAG ({flag})"),
            Source::Code => f.write_str("RUNTIME"),
            Source::MountOption => f.write_str("MOUNT_OPTION"),
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    value: String,
    source: Source,
}

/// Property values of one process.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    values: BTreeMap<String, Entry>,
    warnings: Vec<String>,
}

/// A property as `getConf` shows it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value, references replaced.
    pub value: String,
    /// Where the value came from.
    pub source: Source,
    /// Its key, if we honour it.
    pub key: Option<&'static Key>,
}

impl Setting {
    /// The value for people: credentials are masked.
    pub fn display_value(&self) -> &str {
        if is_credential(&self.name) && !self.value.is_empty() {
            MASK
        } else {
            &self.value
        }
    }
}

impl Configuration {
    /// Sets a property from code, unchecked: what does not have the key's syntax reads as the default, with a warning
    /// in the log. What a user typed goes through [`Configuration::try_set`].
    pub fn set(&mut self, key: &str, value: &str) {
        self.insert(key, value, Source::Code);
    }

    /// Sets a property and checks it.
    ///
    /// # Errors
    /// If the value, references replaced, is not what the key accepts. It is not set then.
    pub fn try_set(&mut self, key: &str, value: &str, source: Source) -> Result<(), ConfigError> {
        let before = self.values.get(key).cloned();
        self.insert(key, value, source);
        let checked = self.check(key);
        if checked.is_err() {
            match before {
                Some(entry) => self.values.insert(key.to_owned(), entry),
                None => self.values.remove(key),
            };
        }
        checked
    }

    /// Value or default, as text, references replaced; words of a [`Kind::Enum`] as they are declared.
    pub fn string(&self, key: &Key) -> String {
        let text = self.parsed(key, |text| Some(text.to_owned())).unwrap_or_default();
        match key.kind {
            Kind::Enum(words) => key::find_word(words, &text).map(str::to_owned).unwrap_or(text),
            _ => text,
        }
    }
    /// A whole number.
    pub fn int(&self, key: &Key) -> u64 {
        self.parsed(key, |text| text.trim().parse().ok()).unwrap_or_default()
    }
    /// `true` or `false`.
    pub fn bool(&self, key: &Key) -> bool {
        self.parsed(key, key::parse_bool).unwrap_or_default()
    }
    /// A size such as `64MB`.
    pub fn bytes(&self, key: &Key) -> u64 {
        self.parsed(key, parse_bytes).unwrap_or_default()
    }
    /// A time such as `30s`; negative ones are `None`.
    pub fn duration(&self, key: &Key) -> Option<Duration> {
        self.parsed(key, parse_duration).flatten()
    }
    /// A TCP port.
    pub fn port(&self, key: &Key) -> u16 {
        self.parsed(key, |text| text.trim().parse().ok()).unwrap_or_default()
    }
    /// Permission bits.
    pub fn octal(&self, key: &Key) -> u32 {
        self.parsed(key, key::parse_octal).unwrap_or_default()
    }
    /// A part of one.
    pub fn ratio(&self, key: &Key) -> f64 {
        self.parsed(key, key::parse_ratio).unwrap_or_default()
    }
    /// Words between commas, without blanks around them.
    pub fn list(&self, key: &Key) -> Vec<String> {
        let text = self.string(key);
        text.split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    }
    /// A file or folder.
    pub fn path(&self, key: &Key) -> PathBuf {
        PathBuf::from(self.string(key))
    }

    /// Whether somebody set it, to whatever.
    pub fn is_set(&self, key: &Key) -> bool {
        self.values.contains_key(key.name)
    }

    /// Where the value of a key came from.
    pub fn source(&self, name: &str) -> Source {
        self.values
            .get(name)
            .map(|entry| entry.source.clone())
            .unwrap_or_default()
    }

    /// A property by its name: a key we honour, or whatever else was set.
    pub fn get(&self, name: &str) -> Option<Setting> {
        let key = known::find(name);
        let value = match key {
            Some(key) => self.string(key),
            None => {
                let raw = &self.values.get(name)?.value;
                self.resolve(raw).unwrap_or_else(|_| raw.clone())
            }
        };
        Some(Setting {
            name: name.to_owned(),
            value,
            source: self.source(name),
            key,
        })
    }

    /// All keys we honour and all else that was set, by name.
    pub fn iter_known(&self) -> impl Iterator<Item = Setting> {
        let honoured = keys::all().map(|key| key.name.to_owned());
        let names: std::collections::BTreeSet<String> = honoured.chain(self.values.keys().cloned()).collect();
        names.into_iter().filter_map(|name| self.get(&name))
    }

    /// Options of the root mount: `alluxio.master.mount.table.root.option.NAME`.
    pub fn mount_options(&self) -> BTreeMap<String, String> {
        let options = self.values.iter().filter_map(|(name, entry)| {
            let option = name.strip_prefix(known::ROOT_OPTION)?;
            let value = self.resolve(&entry.value).unwrap_or_else(|_| entry.value.clone());
            Some((option.to_owned(), value))
        });
        options.collect()
    }

    /// These values with options of a mount over them.
    ///
    /// # Errors
    /// If an option is a key we honour and the value is not what it accepts.
    pub fn with_mount_options<'a>(
        &self,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Configuration, ConfigError> {
        let mut with = self.clone();
        for (name, value) in options {
            with.try_set(name, value, Source::MountOption)?;
        }
        Ok(with)
    }

    /// What is odd about what was set, for people; found by [`Configuration::load`].
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn insert(&mut self, key: &str, value: &str, source: Source) {
        let entry = Entry {
            value: value.to_owned(),
            source,
        };
        self.values.insert(key.to_owned(), entry);
    }

    /// The value, if it parses; else the default, which does (a test sees to that), unless it is empty.
    fn parsed<T>(&self, key: &Key, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let raw = self.values.get(key.name).map_or(key.default, |entry| &entry.value);
        match self.resolve(raw) {
            Ok(text) if key.accepts(&text) => parse(&text),
            _ => {
                tracing::warn!(key = key.name, value = raw, "must be {}; the default is used", key.kind);
                parse(&self.resolve(key.default).ok()?)
            }
        }
    }

    /// Replaces `${name}` by the value of that property, again and again.
    fn resolve(&self, raw: &str) -> Result<String, String> {
        self.resolve_within(raw, REFERENCE_DEPTH_MAX)
    }

    fn resolve_within(&self, raw: &str, depth: usize) -> Result<String, String> {
        let mut text = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some(start) = rest.find("${") {
            let Some(len) = rest[start..].find('}') else { break };
            text.push_str(&rest[..start]);
            let name = &rest[start + 2..start + len];
            let value = self
                .raw(name)
                .ok_or_else(|| format!("refers to ${{{name}}}, which is not known"))?;
            if depth == 0 {
                return Err(format!("refers to ${{{name}}} in a circle"));
            }
            text.push_str(&self.resolve_within(&value, depth - 1)?);
            rest = &rest[start + len + 1..];
        }
        text.push_str(rest);
        Ok(text)
    }

    fn raw(&self, name: &str) -> Option<String> {
        if let Some(entry) = self.values.get(name) {
            return Some(entry.value.clone());
        }
        if let Some(key) = known::find(name) {
            return Some(key.default.to_owned());
        }
        // Java's properties of the system that Alluxio's defaults name.
        match name {
            "user.home" => Some(std::env::var("HOME").unwrap_or_else(|_| "/".to_owned())),
            _ => None,
        }
    }
}
