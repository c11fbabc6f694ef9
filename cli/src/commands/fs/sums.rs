//! Sums over trees: `du`, `count`.

use super::Shell;
use super::contents::about;
use super::walk::{Item, Walk};
use crate::args::Format;
use crate::args::fs::DuArgs;
use crate::commands::Done;
use crate::output::{self, percent};
use alluxio_proto::FsError;
use alluxio_proto::master::{Counted, GetReport, Locate, Locations, Report};
use alluxio_proto::types::FileKind;
use serde_json::json;
use std::collections::BTreeMap;

/// What is held of one file or tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    bytes: u64,
    cached_bytes: u64,
    /// With `-g`: by worker.
    by_worker: BTreeMap<String, u64>,
}

/// Prints sizes.
pub async fn du(shell: &mut Shell<'_>, args: &DuArgs) -> Done {
    let in_memory = args.memory && tier_is_memory(shell).await?;
    shell.out.raw_line(&columns(
        "File Size",
        "In Alluxio",
        args.memory.then_some("In Memory"),
        args.by_worker.then_some("Worker Host Name"),
        b"Path",
    ))?;
    for path in shell.expanded("measure").await? {
        let done = one(shell, args, &path, in_memory).await;
        shell.note(done)?;
    }
    shell.finish().await
}

/// Whether cached data is in memory by the workers' word: their only tier is MEM.
async fn tier_is_memory(shell: &Shell<'_>) -> Result<bool, FsError> {
    let report: Report = shell.fs.ask(GetReport::default()).await?;
    let mut tiers = report.workers.iter().flat_map(|worker| &worker.tiers).peekable();
    Ok(tiers.peek().is_some() && tiers.all(|tier| tier.alias == "MEM"))
}

async fn one(shell: &mut Shell<'_>, args: &DuArgs, path: &str, in_memory: bool) -> Done {
    let attr = shell
        .fs
        .stat(path)
        .await
        .map_err(|error| about(error, "measure", path))?;
    let own = Item {
        path: path.as_bytes().to_vec(),
        attr,
    };
    let mut sum = Held::default();
    if own.attr.kind() != FileKind::Directory {
        add(shell, args, &own, &mut sum, in_memory).await?;
    } else {
        let mut walk = Walk::new(shell.fs.clone(), path, own.attr.inode, true, false);
        while let Some(item) = walk.next().await {
            let done = match item {
                Ok(item) if item.attr.kind() == FileKind::Directory => Ok(()),
                Ok(item) => add(shell, args, &item, &mut sum, in_memory).await,
                Err(error) => Err(error.into()),
            };
            shell.note(done)?;
        }
    }
    if args.summarize {
        print(shell, args, &own.path, &sum, in_memory)?;
    }
    Ok(())
}

/// Adds one file to the sum, and prints it unless only the sum is asked for.
async fn add(shell: &mut Shell<'_>, args: &DuArgs, item: &Item, sum: &mut Held, in_memory: bool) -> Done {
    let mut held = Held {
        bytes: item.attr.size,
        cached_bytes: item.attr.cached_bytes.min(item.attr.size),
        by_worker: BTreeMap::new(),
    };
    if args.by_worker && held.cached_bytes > 0 {
        let inode = item.attr.inode;
        let found: Locations = shell.fs.ask(Locate { inode }).await?;
        for location in found.locations {
            let host = location.worker.map(|worker| worker.host).unwrap_or_default();
            *held.by_worker.entry(host).or_default() += location.bytes;
        }
    }
    sum.bytes = sum.bytes.saturating_add(held.bytes);
    sum.cached_bytes = sum.cached_bytes.saturating_add(held.cached_bytes);
    for (host, bytes) in &held.by_worker {
        *sum.by_worker.entry(host.clone()).or_default() += bytes;
    }
    if !args.summarize {
        print(shell, args, &item.path, &held, in_memory)?;
    }
    Ok(())
}

fn print(shell: &mut Shell<'_>, args: &DuArgs, path: &[u8], held: &Held, in_memory: bool) -> Done {
    let part = |bytes: u64| {
        let share = percent(bytes, held.bytes, 0);
        format!("{} ({share}%)", output::size(bytes, args.human))
    };
    let memory = args.memory.then(|| part(if in_memory { held.cached_bytes } else { 0 }));
    let size = output::size(held.bytes, args.human);
    let total = args.by_worker.then_some("total");
    shell.out.raw_line(&columns(
        &size,
        &part(held.cached_bytes),
        memory.as_deref(),
        total,
        path,
    ))?;
    for (host, bytes) in &held.by_worker {
        let memory = args.memory.then(|| part(if in_memory { *bytes } else { 0 }));
        shell
            .out
            .raw_line(&columns("", &part(*bytes), memory.as_deref(), Some(host), b""))?;
    }
    Ok(())
}

fn columns(size: &str, in_alluxio: &str, memory: Option<&str>, worker: Option<&str>, path: &[u8]) -> Vec<u8> {
    let mut line = format!("{size:<13} {in_alluxio:<16} ");
    if let Some(memory) = memory {
        line += &format!("{memory:<16} ");
    }
    if let Some(worker) = worker {
        line += &format!("{worker:<25} ");
    }
    let mut line = line.into_bytes();
    line.extend_from_slice(path);
    line
}

/// Prints how many files, folders and bytes there are.
pub async fn count(shell: &mut Shell<'_>, human: bool, format: Format) -> Done {
    if format == Format::Text {
        shell
            .out
            .line(counted_columns("File Count", "Folder Count", "Folder Size"))?;
    }
    for path in shell.expanded("count").await? {
        match shell.fs.count(&path).await {
            Ok(counted) => print_counted(shell, human, format, &path, &counted)?,
            Err(error) => shell.note(Err(about(error, "count", &path).into()))?,
        }
    }
    shell.finish().await
}

fn print_counted(shell: &mut Shell<'_>, human: bool, format: Format, path: &str, counted: &Counted) -> Done {
    if format == Format::Json {
        return Ok(shell.out.json(&json!({
            "path": path,
            "files": counted.files,
            "folders": counted.directories,
            "bytes": counted.bytes,
            "cachedBytes": counted.cached_bytes,
        }))?);
    }
    Ok(shell.out.line(counted_columns(
        &counted.files.to_string(),
        &counted.directories.to_string(),
        &output::size(counted.bytes, human),
    ))?)
}

fn counted_columns(files: &str, folders: &str, bytes: &str) -> String {
    format!("{files:<25}{folders:<25}{bytes:<15}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_alluxios() {
        assert_eq!(
            columns("File Size", "In Alluxio", None, None, b"Path"),
            b"File Size     In Alluxio       Path"
        );
        assert_eq!(
            String::from_utf8(columns("5120B", "0B (0%)", Some("0B (0%)"), Some("total"), b"/a")).unwrap(),
            "5120B         0B (0%)          0B (0%)          total                     /a"
        );
        assert_eq!(
            counted_columns("2", "1", "30"),
            "2                        1                        30             "
        );
    }
}
