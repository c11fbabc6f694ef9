//! Looks whether what is on the mount after a cut is what the model promises or allows.

use super::content::{LINE_BYTES, Line, decode, records};
use super::log::Step;
use super::model::{FileModel, Model, State};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the cluster may take to bring files that were open into their final state, while it serves.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

/// Checks one thread's folder; what was found becomes what is expected from now on. Answers what is wrong.
pub fn check(dir: &Path, model: &mut Model) -> Vec<String> {
    let start = Instant::now();
    let names = loop {
        match names(dir, model) {
            Ok(names) => break names,
            Err(why) if start.elapsed() > SETTLE_LIMIT => return vec![why],
            Err(_) => std::thread::sleep(PAUSE),
        }
    };
    let (mut wrong, keeps_ghosts) = (Vec::new(), model.keeps_ghosts);
    if let Some(step) = model.begun.take() {
        let happened = match &step {
            Step::Create { name, .. } => names.contains(name),
            Step::Rename { from, .. } => !names.contains(from),
            Step::Unlink { name } => !names.contains(name),
            _ => false,
        };
        if happened {
            model.apply_name(&step);
        }
    }
    model.names.retain(|name, _| names.contains(name));
    for (name, uid) in model.names.clone() {
        let file = model.files.entry(uid).or_default();
        loop {
            match content(&dir.join(&name), uid, file) {
                Ok(found) => {
                    file.adopt(found, keeps_ghosts);
                    break;
                }
                // What is settled has no reason to be on its way, and nothing is ever an I/O error.
                Err((why, is_final)) if is_final || file.is_settled() || start.elapsed() > SETTLE_LIMIT => {
                    wrong.push(format!("{name} (file {uid}): {why}"));
                    break;
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }
    model.forget_nameless();
    wrong
}

/// The names in the folder, if they may be what is there.
fn names(dir: &Path, model: &Model) -> Result<BTreeSet<String>, String> {
    let listed = std::fs::read_dir(dir).map_err(|error| format!("list {}: {error}", dir.display()))?;
    let mut found = BTreeSet::new();
    for entry in listed {
        let entry = entry.map_err(|error| format!("list {}: {error}", dir.display()))?;
        found.insert(entry.file_name().to_string_lossy().into_owned());
    }
    let firm = |model: &Model| -> BTreeSet<String> {
        let names = model.names.iter();
        names
            .filter(|(_, uid)| model.files.get(*uid).is_none_or(|file| file.firm))
            .map(|(name, _)| name.clone())
            .collect()
    };
    let all = |model: &Model| -> BTreeSet<String> { model.names.keys().cloned().collect() };
    let fits = |model: &Model| firm(model).is_subset(&found) && found.is_subset(&all(model));
    let mut after = model.clone();
    if let Some(step) = &model.begun {
        after.apply_name(step);
    }
    if fits(model) || fits(&after) {
        return Ok(found);
    }
    let lost: Vec<_> = firm(model).difference(&found).cloned().collect();
    let strange: Vec<_> = found.difference(&all(model)).cloned().collect();
    Err(format!(
        "names: missing {lost:?}, not expected {strange:?}, under way was {:?}",
        model.begun
    ))
}

/// The content, if it may be what is there; otherwise why not, and whether waiting is no use.
fn content(path: &Path, uid: u32, file: &FileModel) -> Result<Vec<State>, (String, bool)> {
    let failed = |error: std::io::Error| (format!("read: {error}"), error.raw_os_error() == Some(libc::EIO));
    if !file.is_settled() || !file.firm {
        // What was open is given its final content now; whoever opens it for writing waits for that.
        std::fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed)?;
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    compare(&bytes, uid, file).map_err(|why| (why, false))
}

/// What a line is that was caught while it was stored: each part of it is something that may be there.
fn torn(records: impl Iterator<Item = Line>, states: &[State], fits: impl Fn(&Line, &State) -> bool) -> Option<State> {
    let of_each = records.map(|record| states.iter().find(|state| fits(&record, state)));
    let newest = of_each.collect::<Option<Vec<_>>>()?.into_iter().max()?;
    Some(State { torn: true, ..*newest })
}

/// Holds bytes against what may be found of a file.
///
/// # Errors
/// What is wrong with them.
pub fn compare(bytes: &[u8], uid: u32, file: &FileModel) -> Result<Vec<State>, String> {
    let allowed = file.allowed();
    let (shortest, longest) = allowed.lengths;
    let lines = bytes.len() / LINE_BYTES;
    if !bytes.len().is_multiple_of(LINE_BYTES) || lines < shortest || lines > longest {
        return Err(format!(
            "{} bytes, which is {lines} lines; allowed are {shortest} to {longest}",
            bytes.len()
        ));
    }
    let mut found = Vec::with_capacity(lines);
    let mut wrong: Option<(usize, usize, String)> = None;
    for (index, line) in bytes.chunks(LINE_BYTES).enumerate() {
        let what = decode(line, index as u32);
        let states = &allowed.states[index];
        let fits = |what: &Line, state: &State| match *what {
            Line::Zero => state.zero,
            Line::Written { uid: of, version } => of == uid && version == state.version && !state.zero,
            Line::Foreign => state.torn,
        };
        let state = states.iter().find(|state| fits(&what, state)).copied();
        match state.or_else(|| torn(records(line, index as u32), states, fits)) {
            Some(state) => found.push(state),
            None => {
                let first = format!("{what:?}, allowed is {:?}", allowed.states[index]);
                let entry = wrong.get_or_insert((index, 0, first));
                entry.1 += 1;
            }
        }
    }
    match wrong {
        None => Ok(found),
        Some((first, count, what)) => Err(format!(
            "{count} of {lines} lines are wrong, the first is line {first} (byte {}): {what}",
            first * LINE_BYTES
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends there")]
mod tests {
    use super::super::content::encode;
    use super::*;

    #[test]
    fn a_line_that_was_caught_while_it_was_stored_is_of_what_may_be_there() {
        let mut model = Model::default();
        let mut run = |step| {
            model.begin(&step);
            model.done();
        };
        run(Step::Create {
            uid: 1,
            name: "a".into(),
        });
        for version in 1..=2 {
            run(Step::Write {
                uid: 1,
                version,
                from: 0,
                lines: 1,
                synced: version == 1,
            });
        }
        let file = model.files.get_mut(&1).unwrap();
        let halves = |one, other| [&encode(1, one, 0, 1)[..32], &encode(1, other, 0, 1)[32..]].concat();
        assert!(compare(&halves(3, 2), 1, file).is_err(), "nobody wrote that");
        let found = compare(&halves(2, 1), 1, file).unwrap();
        assert_eq!((found[0].version, found[0].torn), (2, true));
        file.adopt(found, false);
        assert!(compare(&halves(2, 1), 1, file).is_ok(), "it stays as it is");
    }
}
