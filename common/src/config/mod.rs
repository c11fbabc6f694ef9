//! The configuration registry: every key we honour, typed and documented, and where its value came from.

mod key;
pub mod keys;

pub use key::{Key, Kind, Scope, parse_bytes, parse_duration};

use std::collections::BTreeMap;
use std::time::Duration;

/// Property values of one process. Values are checked when they are set, so reading cannot fail.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    values: BTreeMap<String, String>,
}

impl Configuration {
    /// Sets a property, whatever source it came from.
    pub fn set(&mut self, key: &str, value: &str) {
        self.values.insert(key.to_owned(), value.to_owned());
    }
    /// Value or default, as text.
    pub fn string(&self, key: &Key) -> String {
        self.values.get(key.name).map_or(key.default, String::as_str).to_owned()
    }
    /// A whole number.
    pub fn int(&self, key: &Key) -> u64 {
        self.string(key).parse().unwrap_or(0)
    }
    /// `true` or `false`.
    pub fn bool(&self, key: &Key) -> bool {
        self.string(key) == "true"
    }
    /// A size such as `64MB`.
    pub fn bytes(&self, key: &Key) -> u64 {
        key::parse_bytes(&self.string(key)).unwrap_or(0)
    }
    /// A time such as `30s`; negative ones are `None`.
    pub fn duration(&self, key: &Key) -> Option<Duration> {
        key::parse_duration(&self.string(key)).flatten()
    }
}
