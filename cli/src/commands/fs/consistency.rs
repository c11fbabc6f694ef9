//! `alluxio fs checkConsistency`: where the namespace and the under-storage do not say the same, because a change was refused.

use alluxio_proto::ErrorKind;
use alluxio_proto::master::{Counted, SettleIntents, StuckChange};

use super::Shell;
use crate::commands::intents::all_stuck;
use crate::commands::{CommandError, Done};

/// Exit status if something is not as it should be.
const INCONSISTENT: u8 = 1;

/// Lists what is refused beneath each path; `repair`: has it tried again now.
pub async fn check(shell: &mut Shell<'_>, repair: bool) -> Done {
    let stuck = all_stuck(&shell.fs).await?;
    let mut found = Vec::new();
    for path in std::mem::take(&mut shell.paths) {
        let here: Vec<&StuckChange> = stuck.iter().filter(|stuck| is_beneath(stuck, &path)).collect();
        match here.is_empty() {
            true => shell
                .out
                .line(format!("{path} is consistent with the under storage system."))?,
            false => shell
                .out
                .line(format!("The following files are inconsistent beneath {path}:"))?,
        }
        for stuck in here {
            shell.out.line(line(stuck))?;
            found.push(stuck.intent);
        }
    }
    if found.is_empty() {
        return shell.finish().await;
    }
    if !repair {
        shell.finish().await?;
        return Err(CommandError::Status(INCONSISTENT));
    }
    let mut again = 0;
    for intent in found {
        let settle = SettleIntents {
            intents: vec![intent],
            all: false,
            forget: false,
        };
        let tried: Result<Counted, _> = shell.fs.change(settle).await;
        match tried {
            Ok(counted) => again += counted.files,
            // It has succeeded by itself meanwhile.
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error.context("try a refused change again").into()),
        }
    }
    shell.out.line(format!("{again} changes are tried again now"))?;
    shell.finish().await
}

fn is_beneath(stuck: &StuckChange, path: &str) -> bool {
    let (name, top) = (&stuck.name[..], path.trim_end_matches('/').as_bytes());
    name.strip_prefix(top)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn line(stuck: &StuckChange) -> String {
    format!(
        "{}  {} (change {}, {}): {}",
        String::from_utf8_lossy(&stuck.name),
        stuck.what,
        stuck.intent,
        stuck.path,
        stuck.error
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beneath_a_path_is_listed() {
        let stuck = |name: &'static [u8]| StuckChange {
            name: name.into(),
            ..Default::default()
        };
        for (name, path, expected) in [
            (&b"/d/f"[..], "/d", true),
            (b"/d/f", "/d/f", true),
            (b"/d/f", "/", true),
            (b"/", "/", true),
            (b"/dd/f", "/d", false),
            (b"", "/d", false),
        ] {
            assert_eq!(is_beneath(&stuck(name), path), expected, "{path}");
        }
    }
}
