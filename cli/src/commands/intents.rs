//! `alluxio fsadmin intents`: what under-storages refuse, and a person's decision on it.

use super::connect::Targets;
use super::{CommandError, Done, fsadmin};
use crate::args::{Format, IntentsAction, IntentsArgs};
use crate::output::Out;
use alluxio_client::FileSystem;
use alluxio_common::config::Configuration;
use alluxio_proto::FsResult;
use alluxio_proto::master::{Counted, GetReport, Report, SettleIntents, StuckChange};
use serde_json::{Value, json};

/// Changes asked for at once.
const PAGE_MAX: u32 = 1000;

/// Runs one command.
pub async fn intents(conf: &Configuration, args: &IntentsArgs, out: &mut Out) -> Done {
    let names_any = args.all || !args.ids.is_empty();
    match args.action {
        IntentsAction::List if names_any => {
            return Err(CommandError::Usage(
                "intents list: shows all; it takes neither ID nor --all".to_owned(),
            ));
        }
        IntentsAction::Retry | IntentsAction::Forget if !names_any => {
            let why = "intents: name an ID of `alluxio fsadmin intents list`, or --all";
            return Err(CommandError::Usage(why.to_owned()));
        }
        _ => {}
    }
    let fs = Targets::parse([])?.connect(conf).await?;
    if args.action == IntentsAction::List {
        let stuck = all_stuck(&fs).await?;
        return match args.format {
            Format::Json => Ok(out.json_pretty(&stuck.iter().map(fsadmin::stuck_json).collect::<Value>())?),
            Format::Text => {
                for stuck in &stuck {
                    out.line(line(stuck))?;
                }
                Ok(())
            }
        };
    }
    let settle = SettleIntents {
        intents: args.ids.clone(),
        all: args.all,
        forget: args.action == IntentsAction::Forget,
    };
    let doing = if settle.forget { "give up" } else { "retry" };
    let counted: Counted = fs
        .change(settle)
        .await
        .map_err(|error| error.context(format!("{doing} changes")))?;
    match args.format {
        Format::Json => out.json_pretty(&json!({ "changes": counted.files }))?,
        Format::Text if args.action == IntentsAction::Forget => {
            out.line(format!("Gave up {} changes", counted.files))?
        }
        Format::Text => out.line(format!("{} changes are tried again now", counted.files))?,
    }
    fs.close().await?;
    Ok(())
}

/// All changes that do not get done, by their ids; a master of before tells the first of them only.
pub async fn all_stuck(fs: &FileSystem) -> FsResult<Vec<StuckChange>> {
    let mut all: Vec<StuckChange> = Vec::new();
    loop {
        let after = all.last().map_or(0, |last| last.intent);
        let page = GetReport {
            stuck_after: after,
            stuck_max: PAGE_MAX,
        };
        let report: Report = (fs.ask(page).await).map_err(|error| error.context("ask the master what is refused"))?;
        let is_last = report.stuck_count <= report.stuck.len() as u64;
        let is_next = report.stuck.first().is_some_and(|first| first.intent > after);
        if is_next {
            all.extend(report.stuck);
        }
        if is_last || !is_next {
            return Ok(all);
        }
    }
}

fn line(stuck: &StuckChange) -> String {
    let state = match (stuck.given_up, stuck.refused) {
        (true, _) => "given up".to_owned(),
        (false, true) => format!("refused, tried {} times", stuck.attempts),
        (false, false) => format!("tried {} times", stuck.attempts),
    };
    format!(
        "{}  {} {} ({state}): {}",
        stuck.intent, stuck.what, stuck.path, stuck.error
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_has_its_number_state_and_reason() {
        let stuck = StuckChange {
            intent: 17,
            what: "upload".into(),
            path: "/d/f".into(),
            error: "403".into(),
            attempts: 4,
            refused: true,
            ..Default::default()
        };
        let given_up = StuckChange {
            given_up: true,
            ..stuck.clone()
        };
        assert_eq!(
            [line(&stuck), line(&given_up)],
            [
                "17  upload /d/f (refused, tried 4 times): 403",
                "17  upload /d/f (given up): 403"
            ]
        );
    }
}
