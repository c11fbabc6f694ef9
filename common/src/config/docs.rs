//! `docs/configuration.md`, made from the registry.

use super::{Key, keys};
use std::fmt::Write;

const START: &str = "\
# Configuration

<!-- Made by `cargo xtask docs` from common/src/config/keys; do not edit. -->

Properties have Alluxio's names. A value is taken from the last of these that has it:

1. the default below;
2. `alluxio-site.properties` in the first of `$ALLUXIO_CONF_DIR` (or `${alluxio.home}/conf`), `~/.alluxio/`,
   `/etc/alluxio/` that has the file (Java's properties syntax);
3. the environment: `ALLUXIO_MASTER_HOSTNAME` is `alluxio.master.hostname`;
4. `-D key=value` on the command line;
5. a flag of the command, such as `--ufs`.

`alluxio getConf --source` shows each value and where it came from. `${key}` in a value stands for the value of that key.
Sizes are `512KB`, `64MB`, `1GB` (powers of 1024); times are `100ms`, `30s`, `5min`, `1hour`, `1day`, and -1 is never. A
wrong value is an error at start. A key of Alluxio that has no effect here is accepted with a warning, and so is an
unknown one, with the nearest known name. Names that start with `s3a.`, `fs.`, `aws.` or `dfs.` are handed to the
under-storages, and so is NAME of `alluxio.master.mount.table.root.option.NAME`.
";

/// The document.
pub fn render() -> String {
    let mut text = START.to_owned();
    for (title, keys) in keys::MODULES {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n## {title}\n\n| Property | Default | Value | Read by | |\n|---|---|---|---|---|\n"
        );
        for key in *keys {
            let _ = writeln!(text, "{}", row(key));
        }
    }
    text
}

fn row(key: &Key) -> String {
    let default = if key.default.is_empty() {
        String::new()
    } else {
        format!("`{}`", key.default)
    };
    let cells = [
        format!("`{}`", key.name),
        default,
        key.kind.to_string(),
        key.scope.to_string(),
        key.doc.to_owned(),
    ];
    format!("| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == super::render(),
            "docs/configuration.md is not current: run `cargo xtask docs`"
        );
    }
}
