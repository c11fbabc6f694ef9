//! `ls`: Alluxio's columns.

use super::Shell;
use super::contents::about;
use super::walk::{Item, Walk};
use crate::args::Format;
use crate::args::fs::{LsArgs, SortField, Timestamp};
use crate::commands::{CommandError, Done};
use crate::output::{self, percent};
use alluxio_common::config::keys;
use alluxio_proto::master::ResolvePath;
use alluxio_proto::types::{Attr, FileKind, PersistState};
use serde_json::{Value, json};
use std::cmp::Ordering;

/// Most files that are held to be sorted.
const SORTED_MAX: usize = 1_000_000;

/// Prints what is at the paths.
pub async fn ls(shell: &mut Shell<'_>, args: &LsArgs) -> Done {
    let pattern = shell.conf.string(&keys::user::DATE_FORMAT);
    for path in shell.expanded("list").await? {
        let done = one(shell, args, &path, &pattern).await;
        shell.note(done)?;
    }
    shell.finish().await
}

async fn one(shell: &mut Shell<'_>, args: &LsArgs, path: &str, pattern: &str) -> Done {
    let resolve = ResolvePath {
        path: path.to_owned().into(),
        refresh: args.force,
    };
    let attr: Attr = shell
        .fs
        .ask(resolve)
        .await
        .map_err(|error| about(error, "list", path))?;
    if args.directory || attr.kind() != FileKind::Directory {
        let path = path.as_bytes().to_vec();
        return print(shell, args, &Item { path, attr }, pattern);
    }
    let mut walk = Walk::new(shell.fs.clone(), path, attr.inode, args.recursive, args.force);
    if args.sort.is_none() && !args.reverse {
        while let Some(item) = walk.next().await {
            match item {
                Ok(item) => print(shell, args, &item, pattern)?,
                Err(error) => shell.note(Err(error.into()))?,
            }
        }
        return Ok(());
    }
    for item in sorted(shell, args, &mut walk).await? {
        print(shell, args, &item, pattern)?;
    }
    Ok(())
}

async fn sorted(shell: &mut Shell<'_>, args: &LsArgs, walk: &mut Walk) -> Result<Vec<Item>, CommandError> {
    let mut items = Vec::new();
    while let Some(item) = walk.next().await {
        match item {
            Ok(_) if items.len() == SORTED_MAX => {
                let why = format!("sort a listing: more than {SORTED_MAX} files; leave out --sort and -r");
                return Err(CommandError::failed(why));
            }
            Ok(item) => items.push(item),
            Err(error) => shell.note(Err(error.into()))?,
        }
    }
    let field = args.sort.unwrap_or(SortField::Path);
    items.sort_by(|a, b| {
        let order = compare(field, a, b);
        if args.reverse { order.reverse() } else { order }
    });
    Ok(items)
}

fn compare(field: SortField, a: &Item, b: &Item) -> Ordering {
    let name = |item: &Item| {
        let name = item.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        name.to_ascii_lowercase()
    };
    match field {
        SortField::Size => a.attr.size.cmp(&b.attr.size),
        SortField::CreationTime => a.attr.btime_ns.cmp(&b.attr.btime_ns),
        SortField::InMemoryPercentage => in_alluxio(&a.attr).cmp(&in_alluxio(&b.attr)),
        SortField::LastModificationTime => a.attr.mtime_ns.cmp(&b.attr.mtime_ns),
        SortField::LastAccessTime => a.attr.atime_ns.cmp(&b.attr.atime_ns),
        SortField::Name => name(a).cmp(&name(b)),
        SortField::Path => a.path.cmp(&b.path),
    }
}

fn print(shell: &mut Shell<'_>, args: &LsArgs, item: &Item, pattern: &str) -> Done {
    if args.pinned && !item.attr.pinned {
        return Ok(());
    }
    match args.format {
        Format::Json => shell.out.json(&as_json(item))?,
        Format::Text => {
            let time_ns = match args.timestamp {
                Timestamp::CreationTime => item.attr.btime_ns,
                Timestamp::LastModificationTime => item.attr.mtime_ns,
                Timestamp::LastAccessTime => item.attr.atime_ns,
            };
            let time = output::local_time(output::milliseconds(time_ns), pattern);
            let mut line = columns(&item.attr, args.human, &time).into_bytes();
            line.extend_from_slice(&item.path);
            shell.out.raw_line(&line)?;
        }
    }
    Ok(())
}

/// All columns but the path, which is bytes.
fn columns(attr: &Attr, human: bool, time: &str) -> String {
    let (size, state) = if attr.kind() == FileKind::Directory {
        (attr.entries.to_string(), "DIR".to_owned())
    } else {
        (output::size(attr.size, human), format!("{}%", in_alluxio(attr)))
    };
    format!(
        "{:<12}{:<15}{:<15}{size:>15}{:>16}{time:>24}{state:>5} ",
        mode_text(attr),
        attr.owner,
        attr.group,
        state_word(attr)
    )
}

/// Share of the file that workers hold. Of an empty file that is all.
pub fn in_alluxio(attr: &Attr) -> u64 {
    percent(attr.cached_bytes, attr.size, 100).min(100)
}

/// Alluxio's word for where the data stands.
pub fn state_word(attr: &Attr) -> &'static str {
    if attr.persist_refused {
        return "REFUSED";
    }
    match attr.persist_state() {
        PersistState::NotPersisted => "NOT_PERSISTED",
        PersistState::ToBePersisted => "TO_BE_PERSISTED",
        PersistState::Persisted => "PERSISTED",
        PersistState::Lost => "LOST",
    }
}

/// `drwxr-xr-x`.
fn mode_text(attr: &Attr) -> String {
    let kind = match attr.kind() {
        FileKind::File => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
        FileKind::CharDevice => 'c',
        FileKind::BlockDevice => 'b',
    };
    let mut text = String::from(kind);
    // Setuid, setgid and sticky show in the place of the execute bit of user, group and others.
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = attr.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (attr.mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// One file for programs. Names that are not UTF-8 are shown with replacement characters.
pub fn as_json(item: &Item) -> Value {
    let attr = &item.attr;
    let path = output::text(&item.path);
    let name = path.rsplit('/').next().unwrap_or_default();
    json!({
        "path": path,
        "name": name,
        "fileId": attr.inode,
        "kind": kind_word(attr.kind()),
        "mode": format!("{:04o}", attr.mode & 0o7777),
        "owner": attr.owner,
        "group": attr.group,
        "size": attr.size,
        "entries": (attr.kind() == FileKind::Directory).then_some(attr.entries),
        "persistenceState": state_word(attr),
        "creationTimeMs": output::milliseconds(attr.btime_ns),
        "lastModificationTimeMs": output::milliseconds(attr.mtime_ns),
        "lastAccessTimeMs": output::milliseconds(attr.atime_ns),
        "inAlluxioPercentage": (attr.kind() != FileKind::Directory).then(|| in_alluxio(attr)),
        "pinned": attr.pinned,
        "blockSizeBytes": attr.block_bytes,
        "mountId": attr.mount_id,
        "openForWrite": attr.open_for_write,
    })
}

fn kind_word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::CharDevice => "character device",
        FileKind::BlockDevice => "block device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Attr {
        Attr {
            mode: 0o644,
            owner: "root".into(),
            group: "root".into(),
            size: 10,
            cached_bytes: 10,
            persist_state: PersistState::Persisted as i32,
            ..Default::default()
        }
    }

    const TIME: &str = "11-21-2026 10:00:00:000";

    #[test]
    fn columns_are_alluxios() {
        assert_eq!(
            columns(&file(), false, TIME),
            "-rw-r--r--  root           root                        10       PERSISTED 11-21-2026 10:00:00:000 100% "
        );
        let folder = Attr {
            kind: FileKind::Directory as i32,
            mode: 0o1755,
            entries: 3,
            persist_state: PersistState::ToBePersisted as i32,
            ..file()
        };
        assert_eq!(
            columns(&folder, true, TIME),
            "drwxr-xr-t  root           root                         3 TO_BE_PERSISTED 11-21-2026 10:00:00:000  DIR "
        );
        let large = Attr {
            size: 6 << 20,
            cached_bytes: 1 << 20,
            owner: "a name longer than its column".into(),
            ..file()
        };
        assert_eq!(
            columns(&large, true, TIME),
            "-rw-r--r--  a name longer than its columnroot                    6.00MB       PERSISTED 11-21-2026 10:00:00:000  16% "
        );
    }

    #[test]
    fn special_bits_show() {
        let text = |mode| mode_text(&Attr { mode, ..file() });
        assert_eq!(text(0o7777), "-rwsrwsrwt");
        assert_eq!(text(0o7666), "-rwSrwSrwT");
        assert_eq!(text(0), "----------");
    }

    #[test]
    fn orders() {
        let item = |path: &str, size| Item {
            path: path.as_bytes().to_vec(),
            attr: Attr { size, ..file() },
        };
        let (a, b) = (item("/x/B", 1), item("/y/a", 2));
        assert_eq!(compare(SortField::Path, &a, &b), Ordering::Less);
        assert_eq!(compare(SortField::Name, &a, &b), Ordering::Greater);
        assert_eq!(compare(SortField::Size, &a, &b), Ordering::Less);
        assert_eq!(compare(SortField::InMemoryPercentage, &a, &b), Ordering::Equal);
    }

    #[test]
    fn json_tells_all() {
        let item = Item {
            path: b"/d/n".to_vec(),
            attr: file(),
        };
        let json = as_json(&item);
        assert_eq!(json["name"], "n");
        assert_eq!(json["mode"], "0644");
        assert_eq!(json["persistenceState"], "PERSISTED");
        assert_eq!(json["entries"], Value::Null);
    }
}
