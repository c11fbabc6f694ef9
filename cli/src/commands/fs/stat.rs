//! What is known of one path: `stat`, `test`, `location`.

use super::Shell;
use super::contents::about;
use super::ls::{as_json, in_alluxio, state_word};
use super::walk::Item;
use crate::args::Format;
use crate::args::fs::{StatArgs, TestArgs};
use crate::commands::{CommandError, Done};
use crate::output::{self, text};
use alluxio_proto::master::{GetAttr, GetPath, LinkTarget, Locate, Location, Locations, PathReply, ReadLink};
use alluxio_proto::types::{Attr, FileKind};
use alluxio_proto::{ErrorKind, FsError};
use serde_json::json;

/// How `%y` writes times.
const PATTERN: &str = "yyyy-MM-dd HH:mm:ss";

/// Prints all about paths, or about one inode.
pub async fn stat(shell: &mut Shell<'_>, args: &StatArgs) -> Done {
    if let Some(inode) = args.file_id {
        let found = by_id(shell, inode).await;
        let done = match found {
            Ok(item) => print(shell, args, item).await,
            Err(error) => Err(error.context(format!("look up file id {inode}")).into()),
        };
        shell.note(done)?;
        return shell.finish().await;
    }
    for path in shell.expanded("look up").await? {
        let done = match shell.fs.stat(&path).await {
            Ok(attr) => {
                let path = path.into_bytes();
                print(shell, args, Item { path, attr }).await
            }
            Err(error) => Err(about(error, "look up", &path).into()),
        };
        shell.note(done)?;
    }
    shell.finish().await
}

async fn by_id(shell: &Shell<'_>, inode: u64) -> Result<Item, FsError> {
    let attr: Attr = shell.fs.ask(GetAttr { inode }).await?;
    let reply: PathReply = shell.fs.ask(GetPath { inode }).await?;
    Ok(Item {
        path: reply.path.to_vec(),
        attr,
    })
}

async fn print(shell: &mut Shell<'_>, args: &StatArgs, item: Item) -> Done {
    if let Some(pattern) = &args.pattern {
        return Ok(shell.out.raw_line(&by_pattern(pattern, &item))?);
    }
    let inode = item.attr.inode;
    let location = shell.fs.ask(GetPath { inode }).await?;
    let locations = if item.attr.kind() == FileKind::File {
        locate(shell, inode).await?
    } else {
        Vec::new()
    };
    let target = if item.attr.kind() == FileKind::Symlink {
        let link: LinkTarget = shell.fs.ask(ReadLink { inode }).await?;
        Some(link.target)
    } else {
        None
    };
    if args.format == Format::Json {
        let mut json = as_json(&item);
        json["ufsPath"] = location.ufs_uri.into();
        json["linkTarget"] = target.map(|target| text(&target)).into();
        json["workers"] = locations.iter().map(location_json).collect();
        return Ok(shell.out.json_pretty(&json)?);
    }
    for line in lines(&item, &location.ufs_uri, target.as_deref(), &locations) {
        shell.out.line(line)?;
    }
    Ok(())
}

async fn locate(shell: &Shell<'_>, inode: u64) -> Result<Vec<Location>, FsError> {
    let found: Locations = shell.fs.ask(Locate { inode }).await?;
    Ok(found.locations)
}

fn location_json(location: &Location) -> serde_json::Value {
    let worker = location.worker.clone().unwrap_or_default();
    json!({"host": worker.host, "port": worker.port, "workerId": worker.worker_id, "bytes": location.bytes})
}

/// Alluxio's words: what it is, its fields, its blocks. Our blocks are ranges of one file, so their locations are the file's.
fn lines(item: &Item, ufs_uri: &str, target: Option<&[u8]>, locations: &[Location]) -> Vec<String> {
    let path = text(&item.path);
    let kind = match item.attr.kind() {
        FileKind::Directory => "directory",
        FileKind::File => "file",
        FileKind::Symlink => "symbolic link",
        _ => "special file",
    };
    let mut lines = vec![format!("{path} is a {kind} path."), fields(item, ufs_uri)];
    if let Some(target) = target {
        lines.push(format!("Pointing at: {}", text(target)));
    }
    if item.attr.kind() != FileKind::File {
        return lines;
    }
    let blocks = blocks(&item.attr);
    if blocks == 0 {
        lines.push("This file does not contain any blocks.".to_owned());
    } else {
        lines.push(format!(
            "Containing {blocks} block(s) of at most {} bytes, held by {} worker(s): ",
            item.attr.block_bytes,
            locations.len()
        ));
    }
    for location in locations {
        let worker = location.worker.clone().unwrap_or_default();
        lines.push(format!(
            "{}:{} holds {} bytes",
            worker.host, worker.port, location.bytes
        ));
    }
    lines
}

/// Names and order of Alluxio's FileInfo, as far as we have them.
fn fields(item: &Item, ufs_uri: &str) -> String {
    let attr = &item.attr;
    let folder = attr.kind() == FileKind::Directory;
    let path = text(&item.path);
    let name = path.rsplit('/').next().unwrap_or_default();
    let fields = [
        ("fileId", attr.inode.to_string()),
        ("name", name.to_owned()),
        ("path", path.clone()),
        ("ufsPath", ufs_uri.to_owned()),
        ("length", if folder { attr.entries } else { attr.size }.to_string()),
        ("blockSizeBytes", attr.block_bytes.to_string()),
        ("creationTimeMs", output::milliseconds(attr.btime_ns).to_string()),
        ("completed", (!attr.open_for_write).to_string()),
        ("folder", folder.to_string()),
        ("pinned", attr.pinned.to_string()),
        (
            "lastModificationTimeMs",
            output::milliseconds(attr.mtime_ns).to_string(),
        ),
        ("lastAccessTimeMs", output::milliseconds(attr.atime_ns).to_string()),
        ("owner", attr.owner.clone()),
        ("group", attr.group.clone()),
        ("mode", format!("{:o}", attr.mode & 0o7777)),
        ("nlink", attr.nlink.to_string()),
        ("persistenceState", state_word(attr).to_owned()),
        ("mountId", attr.mount_id.to_string()),
        ("dataVersion", attr.version.to_string()),
        ("inAlluxioPercentage", in_alluxio(attr).to_string()),
    ];
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("FileInfo{{{}}}", fields.join(", "))
}

fn blocks(attr: &Attr) -> u64 {
    attr.size.div_ceil(attr.block_bytes.max(1))
}

/// `stat -f`.
fn by_pattern(pattern: &str, item: &Item) -> Vec<u8> {
    let attr = &item.attr;
    let folder = attr.kind() == FileKind::Directory;
    let of_file = |value: u64| if folder { "NA".to_owned() } else { value.to_string() };
    let mut out = Vec::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let Some(field) = letters.next() else {
            out.push(b'%');
            break;
        };
        let value = match field {
            'N' => {
                let name = item.path.rsplit(|byte| *byte == b'/').next();
                out.extend_from_slice(name.unwrap_or_default());
                continue;
            }
            'z' => of_file(attr.size),
            'u' => attr.owner.clone(),
            'g' => attr.group.clone(),
            'y' => output::local_time(output::milliseconds(attr.mtime_ns), PATTERN),
            'Y' => output::milliseconds(attr.mtime_ns).to_string(),
            'b' => of_file(blocks(attr)),
            'i' => attr.inode.to_string(),
            other => format!("%{other}"),
        };
        out.extend_from_slice(value.as_bytes());
    }
    out
}

/// Answers by the exit status.
pub async fn test(shell: &mut Shell<'_>, args: &TestArgs) -> Done {
    let path = shell.paths.first().cloned().unwrap_or_default();
    let attr = match shell.fs.stat(&path).await {
        Ok(attr) => Some(attr),
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
        // Unknown is neither yes nor no.
        Err(error) => return Err(about(error, "look up", &path).into()),
    };
    let holds = match attr {
        Some(attr) => answers(shell, args, &path, &attr).await?,
        None => false,
    };
    shell.finish().await?;
    if holds { Ok(()) } else { Err(CommandError::Status(1)) }
}

async fn answers(shell: &Shell<'_>, args: &TestArgs, path: &str, attr: &Attr) -> Result<bool, CommandError> {
    let folder = attr.kind() == FileKind::Directory;
    Ok(if args.directory {
        folder
    } else if args.file {
        attr.kind() == FileKind::File
    } else if args.empty {
        !folder && attr.size == 0
    } else if args.filled && folder {
        let mut walk = super::walk::Walk::new(shell.fs.clone(), path, attr.inode, false, false);
        walk.next().await.transpose()?.is_some()
    } else if args.filled {
        attr.size > 0
    } else {
        args.exists
    })
}

/// Prints which workers hold files.
pub async fn location(shell: &mut Shell<'_>) -> Done {
    for path in shell.expanded("locate").await? {
        let found = async {
            let attr = shell.fs.stat(&path).await?;
            if attr.kind() == FileKind::Directory {
                return Err(FsError::new(ErrorKind::IsADirectory, "it is a folder; name a file"));
            }
            Ok((attr.inode, locate(shell, attr.inode).await?))
        };
        match found.await {
            Ok((inode, locations)) => {
                shell.out.line(format!("{path} with file id {inode} is on nodes: "))?;
                for worker in locations.into_iter().filter_map(|location| location.worker) {
                    shell.out.line(worker.host)?;
                }
            }
            Err(error) => shell.note(Err(about(error, "locate", &path).into()))?,
        }
    }
    shell.finish().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluxio_proto::types::{PersistState, WorkerAddress};

    fn item() -> Item {
        Item {
            path: b"/d/n\xff".to_vec(),
            attr: Attr {
                inode: 7,
                mode: 0o640,
                owner: "ann".into(),
                group: "staff".into(),
                size: 130,
                cached_bytes: 65,
                block_bytes: 64,
                mtime_ns: 1_500_000_000,
                nlink: 1,
                version: 3,
                mount_id: 1,
                persist_state: PersistState::Persisted as i32,
                ..Default::default()
            },
        }
    }

    #[test]
    fn patterns() {
        assert_eq!(by_pattern("%N|%z|%u|%g|%Y|%b", &item()), b"n\xff|130|ann|staff|1500|3");
        assert_eq!(by_pattern("%i 100%% %", &item()), b"7 100%% %");
        let mut folder = item();
        folder.attr.kind = FileKind::Directory as i32;
        assert_eq!(by_pattern("%z%b", &folder), b"NANA");
    }

    #[test]
    fn a_file_in_words() {
        let worker = Some(WorkerAddress {
            host: "h".into(),
            port: 29999,
            ..Default::default()
        });
        let location = Location { worker, bytes: 65 };
        assert_eq!(
            lines(&item(), "s3://b/d/n", None, &[location]),
            [
                "/d/n\u{fffd} is a file path.",
                "FileInfo{fileId=7, name=n\u{fffd}, path=/d/n\u{fffd}, ufsPath=s3://b/d/n, length=130, blockSizeBytes=64, \
                 creationTimeMs=0, completed=true, folder=false, pinned=false, lastModificationTimeMs=1500, \
                 lastAccessTimeMs=0, owner=ann, group=staff, mode=640, nlink=1, persistenceState=PERSISTED, mountId=1, \
                 dataVersion=3, inAlluxioPercentage=50}",
                "Containing 3 block(s) of at most 64 bytes, held by 1 worker(s): ",
                "h:29999 holds 65 bytes",
            ]
        );
        let mut empty = item();
        empty.attr.size = 0;
        assert_eq!(
            lines(&empty, "", None, &[]).last().map(String::as_str),
            Some("This file does not contain any blocks.")
        );
    }
}
