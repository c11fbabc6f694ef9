//! Who may do what: `chmod`, `chown`, `chgrp`.

use super::Shell;
use super::contents::about;
use super::walk::{Item, Walk};
use crate::args::fs::{GroupArgs, ModeArgs, OwnerArgs};
use crate::commands::{CommandError, Done};
use crate::output::text;
use alluxio_proto::master::SetAttr;
use alluxio_proto::types::{Attr, FileKind};
use alluxio_proto::{ErrorKind, FsError};

/// Changes permission bits.
pub async fn chmod(shell: &mut Shell<'_>, args: &ModeArgs) -> Done {
    let change = ModeChange::parse(&args.mode)?;
    apply(
        shell,
        args.recursive,
        "change the mode of",
        |attr| SetAttr {
            mode: Some(change.of(attr)),
            ..Default::default()
        },
        |path, set| format!("Changed permission of {path} as {:o}", set.mode.unwrap_or_default()),
    )
    .await
}

/// Changes owner, and group if one is given.
pub async fn chown(shell: &mut Shell<'_>, args: &OwnerArgs) -> Done {
    let (owner, group) = match args.owner.split_once(':') {
        Some((owner, group)) => (owner, Some(group)),
        None => (args.owner.as_str(), None),
    };
    if owner.is_empty() || group.is_some_and(str::is_empty) {
        let why = format!("change the owner to {:?}: write USER or USER:GROUP", args.owner);
        return Err(CommandError::Usage(why));
    }
    known_user(owner)?;
    group.map_or(Ok(()), known_group)?;
    apply(
        shell,
        args.recursive,
        "change the owner of",
        |_| SetAttr {
            owner: Some(owner.to_owned()),
            group: group.map(str::to_owned),
            ..Default::default()
        },
        |path, _| match group {
            Some(group) => format!("Changed owner:group of {path} to {owner}:{group}."),
            None => format!("Changed owner of {path} to {owner}"),
        },
    )
    .await
}

/// Changes the group.
pub async fn chgrp(shell: &mut Shell<'_>, args: &GroupArgs) -> Done {
    known_group(&args.group)?;
    apply(
        shell,
        args.recursive,
        "change the group of",
        |_| SetAttr {
            group: Some(args.group.clone()),
            ..Default::default()
        },
        |path, _| format!("Changed group of {path} to {}", args.group),
    )
    .await
}

/// Refuses a user that this host does not know: a mount would show its files as nobody's. A number is what the user says it is.
fn known_user(name: &str) -> Result<(), CommandError> {
    let found = nix::unistd::User::from_name(name).map(|user| user.is_some());
    known("user", name, found)
}

/// As [`known_user`], of a group.
fn known_group(name: &str) -> Result<(), CommandError> {
    let found = nix::unistd::Group::from_name(name).map(|group| group.is_some());
    known("group", name, found)
}

fn known(what: &str, name: &str, found: nix::Result<bool>) -> Result<(), CommandError> {
    if name.parse::<u32>().is_ok() {
        return Ok(());
    }
    match found {
        Ok(true) => Ok(()),
        Ok(false) => {
            let why = format!("there is no {what} {name:?} on this host; name another, or give its number");
            Err(FsError::new(ErrorKind::InvalidArgument, why).into())
        }
        Err(errno) => Err(CommandError::failed(format!("look up the {what} {name:?}: {errno}"))),
    }
}

/// Changes every path, and with `deep` all below; prints one line per path that was typed.
async fn apply(
    shell: &mut Shell<'_>,
    deep: bool,
    doing: &str,
    change: impl Fn(&Attr) -> SetAttr,
    say: impl Fn(&str, &SetAttr) -> String,
) -> Done {
    for path in shell.expanded(doing).await? {
        let attr = match shell.fs.stat(&path).await {
            Ok(attr) => attr,
            Err(error) => {
                shell.note(Err(about(error, doing, &path).into()))?;
                continue;
            }
        };
        let folder = attr.kind() == FileKind::Directory;
        let failures = shell.failures;
        let top = Item {
            path: path.clone().into_bytes(),
            attr,
        };
        // What is below goes first: who may no longer enter the folder could not change it then.
        if deep && folder {
            below(shell, &top, doing, &change).await?;
        }
        let done = set(shell, &top, doing, &change).await;
        shell.note(done.map_err(CommandError::from))?;
        if shell.failures == failures {
            shell.out.line(say(&path, &change(&top.attr)))?;
        }
    }
    shell.finish().await
}

async fn below(shell: &mut Shell<'_>, top: &Item, doing: &str, change: &impl Fn(&Attr) -> SetAttr) -> Done {
    let mut walk = Walk::new(shell.fs.clone(), &text(&top.path), top.attr.inode, true, false);
    // The walk enters a folder after it gave it out, so folders wait until what is in them is done.
    let mut folders: Vec<Item> = Vec::new();
    while let Some(item) = walk.next().await {
        let item = match item {
            Ok(item) => item,
            Err(error) => {
                shell.note(Err(error.into()))?;
                continue;
            }
        };
        while let Some(folder) = folders.pop_if(|folder| !is_below(&item.path, &folder.path)) {
            let done = set(shell, &folder, doing, change).await;
            shell.note(done.map_err(CommandError::from))?;
        }
        if item.attr.kind() == FileKind::Directory {
            folders.push(item);
        } else if item.attr.kind() != FileKind::Symlink {
            let done = set(shell, &item, doing, change).await;
            shell.note(done.map_err(CommandError::from))?;
        }
    }
    while let Some(folder) = folders.pop() {
        let done = set(shell, &folder, doing, change).await;
        shell.note(done.map_err(CommandError::from))?;
    }
    Ok(())
}

fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}

async fn set(shell: &Shell<'_>, item: &Item, doing: &str, change: &impl Fn(&Attr) -> SetAttr) -> Result<(), FsError> {
    let mut set = change(&item.attr);
    set.inode = item.attr.inode;
    let changed: Result<Attr, FsError> = shell.fs.change(set).await;
    changed
        .map(drop)
        .map_err(|error| about(error, doing, &text(&item.path)))
}

/// What `chmod` does to permission bits.
#[derive(Debug, PartialEq, Eq)]
enum ModeChange {
    /// Exactly these.
    Octal(u32),
    /// Clauses, in order.
    Symbolic(Vec<Clause>),
}

/// One of `u+x`, `go-w`, `a=rX`.
#[derive(Debug, PartialEq, Eq)]
struct Clause {
    /// 0o700, 0o070, 0o007 together.
    who: u32,
    operator: char,
    /// Of one class: 0 to 7.
    bits: u32,
    /// `X`: execute for folders, and where anybody has it.
    execute_if_any: bool,
}

impl ModeChange {
    fn parse(text: &str) -> Result<Self, CommandError> {
        let wrong = || {
            let why = format!("change the mode to {text:?}: write octal bits such as 755, or changes such as u+x,go-w");
            CommandError::Usage(why)
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let bits = u32::from_str_radix(text, 8).map_err(|_| wrong())?;
            return if bits <= 0o7777 {
                Ok(Self::Octal(bits))
            } else {
                Err(wrong())
            };
        }
        let clauses: Option<Vec<Clause>> = text.split(',').map(Clause::parse).collect();
        clauses.map(Self::Symbolic).ok_or_else(wrong)
    }

    fn of(&self, attr: &Attr) -> u32 {
        match self {
            Self::Octal(bits) => *bits,
            Self::Symbolic(clauses) => {
                let folder = attr.kind() == FileKind::Directory;
                clauses
                    .iter()
                    .fold(attr.mode & 0o7777, |mode, clause| clause.of(mode, folder))
            }
        }
    }
}

impl Clause {
    fn parse(text: &str) -> Option<Self> {
        let at = text.find(['+', '-', '='])?;
        let (who, rest) = text.split_at(at);
        let mut letters = rest.chars();
        let operator = letters.next()?;
        let mut clause = Self {
            who: if who.is_empty() { 0o777 } else { 0 },
            operator,
            bits: 0,
            execute_if_any: false,
        };
        for letter in who.chars() {
            clause.who |= match letter {
                'u' => 0o700,
                'g' => 0o070,
                'o' => 0o007,
                'a' => 0o777,
                _ => return None,
            };
        }
        for letter in letters {
            match letter {
                'r' => clause.bits |= 4,
                'w' => clause.bits |= 2,
                'x' => clause.bits |= 1,
                'X' => clause.execute_if_any = true,
                _ => return None,
            }
        }
        Some(clause)
    }

    fn of(&self, mode: u32, folder: bool) -> u32 {
        let mut bits = self.bits;
        if self.execute_if_any && (folder || mode & 0o111 != 0) {
            bits |= 1;
        }
        let bits = (bits << 6 | bits << 3 | bits) & self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => mode & !self.who | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(text: &str, mode: u32, kind: FileKind) -> u32 {
        let attr = Attr {
            mode,
            kind: kind as i32,
            ..Default::default()
        };
        ModeChange::parse(text).unwrap().of(&attr)
    }

    #[test]
    fn modes() {
        for (text, before, after) in [
            ("755", 0, 0o755),
            ("0", 0o777, 0),
            ("4755", 0, 0o4755),
            ("u+x", 0o644, 0o744),
            ("+x", 0o644, 0o755),
            ("go-rwx", 0o777, 0o700),
            ("a=r", 0o4777, 0o4444),
            ("u=rw,g=u", 0, u32::MAX),
            ("u=rwx,go=", 0o077, 0o700),
            ("a+X", 0o644, 0o644),
            ("a+X", 0o744, 0o755),
        ] {
            if after == u32::MAX {
                assert!(ModeChange::parse(text).is_err(), "{text}");
            } else {
                assert_eq!(changed(text, before, FileKind::File), after, "{text} of {before:o}");
            }
        }
        assert_eq!(changed("a+X", 0o644, FileKind::Directory), 0o755);
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in ["", "888", "77777", "u", "x+r", "u+q", "u+r,", "rwx"] {
            assert!(matches!(ModeChange::parse(text), Err(CommandError::Usage(_))), "{text}");
        }
    }

    #[test]
    fn owners_are_known_or_numbers() {
        for known in ["root", "0", "1234567"] {
            assert!(known_user(known).is_ok() && known_group(known).is_ok(), "{known}");
        }
        for unknown in ["no such user here", "-1", "4294967296"] {
            for refused in [known_user(unknown), known_group(unknown)] {
                let Err(CommandError::Failed(error)) = refused else {
                    panic!("{unknown} is taken: {refused:?}")
                };
                assert!(
                    error.message.contains(unknown) && error.message.contains("number"),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn folders_wait_for_what_is_in_them() {
        assert!(is_below(b"/a/b", b"/a"));
        assert!(!is_below(b"/ab", b"/a"));
        assert!(!is_below(b"/a", b"/a"));
    }
}
