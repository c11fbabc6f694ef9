//! Puts a configuration together from its sources and checks it.

use super::{Configuration, Entry, Key, Meaning, Scope, Source, keys, known, meaning, nearest, properties};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

/// Name of the properties file.
const SITE_FILE: &str = "alluxio-site.properties";

/// Variables of the test harness begin so.
const TEST_VARIABLES: &str = "ALLUXIO_TEST_";

/// Variables that start with `ALLUXIO_` and are no properties: ours, and those of Alluxio's scripts and images.
const OTHER_VARIABLES: [&str; 7] = [
    "ALLUXIO_LOGS_DIR",
    "ALLUXIO_CLASSPATH",
    "ALLUXIO_RAM_FOLDER",
    "ALLUXIO_USERNAME",
    "ALLUXIO_GROUP",
    "ALLUXIO_UID",
    "ALLUXIO_GID",
];

/// Where values come from, beside the properties file that is searched for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Environment variables; those that do not start with `ALLUXIO_` are not looked at, but for `HOME`.
    pub environment: Vec<(String, String)>,
    /// `-D key=value`, in the order of the command line.
    pub properties: Vec<(String, String)>,
    /// Flags of the command: the flag as typed, its key, its value.
    pub flags: Vec<(String, String, String)>,
}

impl Sources {
    /// The environment of this process and nothing else yet. Variables that are not UTF-8 are not ours.
    pub fn from_environment() -> Self {
        let variables = std::env::vars_os();
        Self {
            environment: variables
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            ..Self::default()
        }
    }

    /// Adds the argument of a `-D`.
    ///
    /// # Errors
    /// If it is not `key=value`.
    pub fn add_property(&mut self, argument: &str) -> Result<(), ConfigError> {
        match argument.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                self.properties.push((key.trim().to_owned(), value.to_owned()));
                Ok(())
            }
            _ => Err(ConfigError::NotAProperty(argument.to_owned())),
        }
    }

    /// Adds what a flag of the command sets.
    pub fn add_flag(&mut self, flag: &str, key: &Key, value: impl Into<String>) {
        self.flags.push((flag.to_owned(), key.name.to_owned(), value.into()));
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is not what its key accepts.
    #[error("property {key} = {value:?} (from {origin}) must be {accepted}")]
    Value {
        /// The key.
        key: String,
        /// The value, references replaced.
        value: String,
        /// Where it came from.
        origin: String,
        /// What is accepted.
        accepted: String,
    },
    /// A reference leads nowhere.
    #[error("property {key} = {value:?} (from {origin}) {what}")]
    Reference {
        /// The key.
        key: String,
        /// The value as it was written.
        value: String,
        /// Where it came from.
        origin: String,
        /// For a person.
        what: String,
    },
    /// An argument of `-D` without `=`.
    #[error("-D {0:?}: must be key=value, such as alluxio.master.hostname=host")]
    NotAProperty(String),
    /// The properties file cannot be read.
    #[error("read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The properties file is not one.
    #[error("{}, {error}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: properties::SyntaxError,
    },
}

impl Configuration {
    /// Puts together all sources and checks every key we honour. [`Configuration::warnings`] says what is odd.
    ///
    /// # Errors
    /// The first value that is not what its key accepts; a properties file that cannot be read.
    pub fn load(sources: &Sources) -> Result<Configuration, ConfigError> {
        let mut conf = Configuration::default();
        if let Some((_, home)) = sources.environment.iter().find(|(name, _)| name == "HOME") {
            conf.insert("user.home", home, Source::Environment("HOME".to_owned()));
        }
        conf.add_environment(&sources.environment);
        for (key, value) in &sources.properties {
            conf.insert(key, value, Source::Property);
        }
        for (flag, key, value) in &sources.flags {
            conf.insert(key, value, Source::Flag(flag.clone()));
        }
        // What is above the file may say where the file is, and stays above it.
        conf.add_site_file()?;
        let names: Vec<String> = conf.values.keys().cloned().collect();
        for name in names {
            conf.warn_about(&name);
        }
        for key in keys::all() {
            conf.check(key.name)?;
        }
        Ok(conf)
    }

    fn add_environment(&mut self, environment: &[(String, String)]) {
        let by_variable: HashMap<String, &str> = known_names().map(|name| (variable(name), name)).collect();
        for (name, value) in environment {
            if let Some(key) = by_variable.get(name) {
                self.insert(key, value, Source::Environment(name.clone()));
            } else if name.ends_with("_JAVA_OPTS") && name.starts_with("ALLUXIO_") {
                self.warnings.push(format!(
                    "variable {name} is for Java and not read; put its -D properties into {SITE_FILE} or give them as -D"
                ));
            } else if name.starts_with("ALLUXIO_")
                && !name.starts_with(TEST_VARIABLES)
                && !OTHER_VARIABLES.contains(&name.as_str())
            {
                let like = name.to_ascii_lowercase().replace('_', ".");
                self.warnings
                    .push(format!("unknown variable {name}{}", hint(nearest(&like).map(variable))));
            }
        }
    }

    fn add_site_file(&mut self) -> Result<(), ConfigError> {
        let key = &keys::general::SITE_CONF_DIR;
        self.check(key.name)?;
        for folder in self.list(key) {
            let path = PathBuf::from(folder).join(SITE_FILE);
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
                Err(error) => return Err(ConfigError::Read { path, error }),
            };
            let properties = properties::parse(&bytes).map_err(|error| ConfigError::Syntax {
                path: path.clone(),
                error,
            })?;
            let mut file = HashMap::new();
            // The last of several counts.
            file.extend(properties);
            for (name, value) in file {
                let source = Source::SiteFile(path.clone());
                // As Alluxio does: nobody means the blanks that Java's syntax keeps at the end of a line.
                let value = value.trim().to_owned();
                self.values.entry(name).or_insert(Entry { value, source });
            }
            return Ok(());
        }
        Ok(())
    }

    fn warn_about(&mut self, name: &str) {
        let source = self.source(name);
        match meaning(name) {
            Meaning::Unknown if name == "user.home" => {}
            Meaning::Honoured(key) if key.name == keys::general::SITE_CONF_DIR.name => {
                if matches!(source, Source::SiteFile(_)) {
                    self.warnings
                        .push(format!("property {name} (from {source}) has no effect in that file"));
                }
            }
            Meaning::Honoured(key) if key.scope == Scope::Nobody => {
                self.warnings
                    .push(format!("property {name} (from {source}): accepted, no effect"));
            }
            Meaning::Honoured(_) => {}
            Meaning::PassedThrough => {
                // What is said of an option of the root mount is said of the name that it has there.
                let option = name.strip_prefix(known::ROOT_OPTION);
                if let Some(option) = option.filter(|option| matches!(meaning(option), Meaning::Unknown)) {
                    let hint = hint(nearest(option).map(|near| format!("{}{near}", known::ROOT_OPTION)));
                    self.warnings
                        .push(format!("unknown property {name} (from {source}){hint}"));
                }
            }
            Meaning::NoEffect => {
                self.warnings
                    .push(format!("property {name} (from {source}): accepted, no effect"));
            }
            Meaning::Unknown => {
                let hint = hint(nearest(name).map(str::to_owned));
                self.warnings
                    .push(format!("unknown property {name} (from {source}){hint}"));
            }
        }
    }

    /// Whether the value of a name is right, as far as anything is known about it.
    pub(super) fn check(&self, name: &str) -> Result<(), ConfigError> {
        let Some(raw) = self.raw(name) else { return Ok(()) };
        let origin = || self.source(name).to_string();
        let value = self.resolve(&raw).map_err(|what| ConfigError::Reference {
            key: name.to_owned(),
            value: raw,
            origin: origin(),
            what,
        })?;
        match known::find(name) {
            Some(key) if !key.accepts(&value) => Err(ConfigError::Value {
                key: name.to_owned(),
                value,
                origin: origin(),
                accepted: key.kind.to_string(),
            }),
            _ => Ok(()),
        }
    }
}

fn known_names() -> impl Iterator<Item = &'static str> {
    // Honoured ones last, so that they win should two names give one variable.
    known::accepted()
        .chain(keys::all().map(|key| key.name))
        .filter(|name| name.starts_with("alluxio."))
}

/// `alluxio.foo.bar` as a variable.
fn variable(name: &str) -> String {
    name.to_ascii_uppercase().replace(['.', '-'], "_")
}

fn hint(name: Option<String>) -> String {
    name.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}
