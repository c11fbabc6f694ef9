//! `-o` lists: what a mount may be told, on the command line and in fstab.

use crate::transport::TransportKind;
use alluxio_proto::{ErrorKind, FsError, FsResult};
use nix::mount::MsFlags;
use std::path::PathBuf;
use std::time::Duration;

/// Upper bound of `attr_timeout` and `entry_timeout`: a year stands for "never".
const TIMEOUT_SECONDS_MAX: f64 = 365.0 * 86_400.0;

/// Every word that [`MountOptions::parse`] knows, as an error message lists it.
const KNOWN: &str = "ro, rw, suid, nosuid, dev, nodev, exec, noexec, atime, noatime, relatime, strictatime, diratime, \
    nodiratime, sync, async, dirsync, defaults, default_permissions, allow_other, noallow_other, uid=N, gid=N, umask=OCTAL, \
    max_background=N, attr_timeout=SECONDS, entry_timeout=SECONDS, passthrough=on|off|auto, transport=fuser|dev, \
    soft, hard, verify, noverify, access_log=FILE, alluxio.KEY=VALUE and other properties with a dot in their name; ignored as in fstab: auto, noauto, nofail, _netdev, \
    user, users, owner, group, comment=, x-…";

/// Whether complete local files are read by the kernel itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Passthrough {
    /// Where the kernel and our rights allow it.
    #[default]
    Auto,
    /// Always: a mount that cannot have it fails.
    On,
    /// Never: every byte goes through the daemon.
    Off,
}

/// What one mount was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// Flags of mount(2), among them read-only.
    pub flags: MsFlags,
    /// Whether users other than the one who mounts may enter. Default: yes if root mounts.
    pub allow_other: bool,
    /// All files appear to belong to this user.
    pub uid: Option<u32>,
    /// All files appear to belong to this group.
    pub gid: Option<u32>,
    /// Permission bits taken away from all files as they appear.
    pub umask: Option<u32>,
    /// Background requests that the kernel sends before it waits; read-ahead and asynchronous IO are such.
    pub max_background: Option<u16>,
    /// How long the kernel may believe attributes, instead of what the master says.
    pub attr_timeout: Option<Duration>,
    /// How long the kernel may believe names, instead of what the master says.
    pub entry_timeout: Option<Duration>,
    /// Whether the kernel reads complete local files itself.
    pub passthrough: Passthrough,
    /// Who talks to the kernel, instead of what the configuration says.
    pub transport: Option<TransportKind>,
    /// Calls wait for as long as master or workers are away, instead of failing after `alluxio.user.rpc.retry.max.duration`.
    pub hard: bool,
    /// Hold cached bytes against their checksums at every read. All bytes pass through the daemon then.
    pub verify: bool,
    /// Write a line for each request of the kernel to this file.
    pub access_log: Option<PathBuf>,
    /// Property keys set for this mount only (`-o alluxio.user.file.writetype.default=THROUGH`), in the order given.
    pub properties: Vec<(String, String)>,
}

impl Default for MountOptions {
    fn default() -> MountOptions {
        MountOptions {
            flags: MsFlags::empty(),
            allow_other: nix::unistd::geteuid().is_root(),
            uid: None,
            gid: None,
            umask: None,
            max_background: None,
            attr_timeout: None,
            entry_timeout: None,
            passthrough: Passthrough::default(),
            transport: None,
            hard: false,
            verify: false,
            access_log: None,
            properties: Vec::new(),
        }
    }
}

/// What to do with a word that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// Say so.
    Refuse,
    /// `mount -s`: pass over it.
    Ignore,
}

impl MountOptions {
    /// Parses a comma-separated list. Of two that contradict each other the later one counts, as in mount(8).
    ///
    /// # Errors
    /// `InvalidArgument` that names the word that is not known, or the value that makes no sense; `NotSupported` for remount.
    pub fn parse(list: &str) -> FsResult<MountOptions> {
        let mut options = MountOptions::default();
        options.apply(list, Unknown::Refuse)?;
        Ok(options)
    }

    /// Whether nothing may be written through this mount.
    pub fn read_only(&self) -> bool {
        self.flags.contains(MsFlags::MS_RDONLY)
    }

    /// Whether reads leave atime alone.
    pub fn noatime(&self) -> bool {
        self.flags.contains(MsFlags::MS_NOATIME)
    }

    /// Adds a list to what is set already (`-o` may be given several times).
    pub(crate) fn apply(&mut self, list: &str, unknown: Unknown) -> FsResult<()> {
        for word in split(list) {
            self.apply_word(&word, unknown)?;
        }
        Ok(())
    }

    fn apply_word(&mut self, word: &str, unknown: Unknown) -> FsResult<()> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        if is_comment(name) {
            return Ok(());
        }
        match (name, value) {
            ("remount", _) => return Err(no_remount()),
            ("uid", Some(value)) => self.uid = Some(id(word, value)?),
            ("gid", Some(value)) => self.gid = Some(id(word, value)?),
            ("umask", Some(value)) => self.umask = Some(umask(word, value)?),
            ("max_background", Some(value)) => self.max_background = Some(max_background(word, value)?),
            ("attr_timeout", Some(value)) => self.attr_timeout = Some(seconds(word, value)?),
            ("entry_timeout", Some(value)) => self.entry_timeout = Some(seconds(word, value)?),
            ("passthrough", value) => self.passthrough = passthrough(word, value)?,
            ("access_log", Some(value)) if !value.is_empty() => self.access_log = Some(absolute(word, value)?),
            ("transport", Some(value)) => self.transport = Some(transport(word, value)?),
            (key, Some(value)) if key.contains('.') => self.properties.push((key.to_owned(), value.to_owned())),
            (name, None) if self.apply_flag(name) => {}
            _ if unknown == Unknown::Ignore => {}
            _ => return Err(unknown_word(word)),
        }
        Ok(())
    }

    /// Words without a value. Answers whether it is one.
    fn apply_flag(&mut self, name: &str) -> bool {
        match name {
            "allow_other" => self.allow_other = true,
            "noallow_other" => self.allow_other = false,
            "hard" => self.hard = true,
            "soft" => self.hard = false,
            "verify" => self.verify = true,
            "noverify" => self.verify = false,
            // The kernel always checks permissions for us; saying so changes nothing.
            "default_permissions" => {}
            // rw, suid, dev, exec, async.
            "defaults" => {
                self.flags &= !(MsFlags::MS_RDONLY | SAFE | MsFlags::MS_SYNCHRONOUS);
            }
            // A mount that a user may make by himself must not make him root.
            "user" | "users" => self.flags |= SAFE,
            "owner" | "group" => self.flags |= MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            _ => match mount_flag(name) {
                Some((flag, true)) => self.flags |= flag,
                Some((flag, false)) => self.flags &= !flag,
                None => return false,
            },
        }
        true
    }

    /// The words of `flags`, for programs that take them as text. The first is `ro` or `rw`.
    pub(crate) fn flag_words(&self) -> Vec<&'static str> {
        let mut words = vec![if self.read_only() { "ro" } else { "rw" }];
        for (flag, word) in [
            (MsFlags::MS_NOSUID, "nosuid"),
            (MsFlags::MS_NODEV, "nodev"),
            (MsFlags::MS_NOEXEC, "noexec"),
            (MsFlags::MS_NOATIME, "noatime"),
            (MsFlags::MS_SYNCHRONOUS, "sync"),
            (MsFlags::MS_DIRSYNC, "dirsync"),
        ] {
            if self.flags.contains(flag) {
                words.push(word);
            }
        }
        words
    }
}

/// A file by its whole name: the daemon of mount(8) leaves the working directory.
fn absolute(word: &str, value: &str) -> FsResult<PathBuf> {
    std::path::absolute(value).map_err(|error| FsError::from_io(format!("mount option {word}"), &error))
}

/// What `user` in fstab implies.
const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// The flag of mount(2) that a word sets (true) or clears (false).
fn mount_flag(name: &str) -> Option<(MsFlags, bool)> {
    Some(match name {
        "ro" => (MsFlags::MS_RDONLY, true),
        "rw" => (MsFlags::MS_RDONLY, false),
        "nosuid" => (MsFlags::MS_NOSUID, true),
        "suid" => (MsFlags::MS_NOSUID, false),
        "nodev" => (MsFlags::MS_NODEV, true),
        "dev" => (MsFlags::MS_NODEV, false),
        "noexec" => (MsFlags::MS_NOEXEC, true),
        "exec" => (MsFlags::MS_NOEXEC, false),
        "noatime" => (MsFlags::MS_NOATIME, true),
        "atime" => (MsFlags::MS_NOATIME, false),
        "relatime" => (MsFlags::MS_RELATIME, true),
        "norelatime" => (MsFlags::MS_RELATIME, false),
        "strictatime" => (MsFlags::MS_STRICTATIME, true),
        "nostrictatime" => (MsFlags::MS_STRICTATIME, false),
        "nodiratime" => (MsFlags::MS_NODIRATIME, true),
        "diratime" => (MsFlags::MS_NODIRATIME, false),
        "sync" => (MsFlags::MS_SYNCHRONOUS, true),
        "async" => (MsFlags::MS_SYNCHRONOUS, false),
        "dirsync" => (MsFlags::MS_DIRSYNC, true),
        _ => return None,
    })
}

/// Words that fstab, mount(8) and systemd keep for themselves.
fn is_comment(name: &str) -> bool {
    name.starts_with("x-")
        || name.starts_with("X-")
        || matches!(
            name,
            "auto" | "noauto" | "nofail" | "_netdev" | "nouser" | "nousers" | "noowner" | "nogroup" | "comment"
        )
}

/// Splits at commas; a backslash keeps the comma (or backslash) after it. Empty parts are nothing.
fn split(list: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut letters = list.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, words.last_mut()) {
            (',', _) => words.push(String::new()),
            ('\\', Some(word)) => match letters.next_if(|next| matches!(next, ',' | '\\')) {
                Some(kept) => word.push(kept),
                None => word.push('\\'),
            },
            (letter, Some(word)) => word.push(letter),
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn id(word: &str, value: &str) -> FsResult<u32> {
    // The last id means "leave it" to chown and is nobody's.
    value
        .parse()
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| bad_value(word, "a number, as `id` prints it"))
}

fn umask(word: &str, value: &str) -> FsResult<u32> {
    u32::from_str_radix(value, 8)
        .ok()
        .filter(|bits| *bits <= 0o777)
        .ok_or_else(|| bad_value(word, "octal digits, 000 to 777"))
}

fn max_background(word: &str, value: &str) -> FsResult<u16> {
    value
        .parse()
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| bad_value(word, "a number from 1 to 65535"))
}

fn seconds(word: &str, value: &str) -> FsResult<Duration> {
    value
        .parse::<f64>()
        .ok()
        .filter(|seconds| (0.0..=TIMEOUT_SECONDS_MAX).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| bad_value(word, "seconds, such as 0, 0.5 or 600"))
}

fn passthrough(word: &str, value: Option<&str>) -> FsResult<Passthrough> {
    match value {
        None | Some("on") => Ok(Passthrough::On),
        Some("off") => Ok(Passthrough::Off),
        Some("auto") => Ok(Passthrough::Auto),
        Some(_) => Err(bad_value(word, "on, off or auto")),
    }
}

fn transport(word: &str, value: &str) -> FsResult<TransportKind> {
    TransportKind::from_word(value).ok_or_else(|| bad_value(word, "fuser or dev"))
}

fn bad_value(word: &str, wanted: &str) -> FsError {
    FsError::new(
        ErrorKind::InvalidArgument,
        format!("mount option {word}: the value must be {wanted}"),
    )
}

fn unknown_word(word: &str) -> FsError {
    FsError::new(
        ErrorKind::InvalidArgument,
        format!("mount option {word} is not known. Known are: {KNOWN}"),
    )
}

fn no_remount() -> FsError {
    FsError::new(
        ErrorKind::NotSupported,
        "mount option remount: a live mount keeps its options; unmount it and mount it again with others. What needs none of us goes \
         without: `mount -o remount,bind,ro DIR` makes DIR read-only, and with rw writable again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(list: &str) -> MountOptions {
        MountOptions::parse(list).unwrap()
    }

    fn refused(list: &str) -> String {
        let error = MountOptions::parse(list).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{list}: {error}");
        error.message
    }

    #[test]
    fn nothing_is_the_default() {
        assert_eq!(parsed(""), MountOptions::default());
        assert_eq!(parsed(",,defaults,rw,"), MountOptions::default());
        assert_eq!(
            parsed("").allow_other,
            nix::unistd::geteuid().is_root(),
            "root mounts for all, others for themselves"
        );
    }

    #[test]
    fn each_word_has_its_effect() {
        let options = parsed(
            "ro,nosuid,allow_other,uid=1000,gid=0,umask=0027,max_background=64,attr_timeout=0.5,entry_timeout=600,\
             passthrough=off,transport=dev,verify,default_permissions",
        );
        assert!(options.read_only() && options.allow_other && options.verify);
        assert_eq!(options.flags, MsFlags::MS_RDONLY | MsFlags::MS_NOSUID);
        assert_eq!(
            (options.uid, options.gid, options.umask),
            (Some(1000), Some(0), Some(0o027))
        );
        assert_eq!(options.max_background, Some(64));
        assert_eq!(options.attr_timeout, Some(Duration::from_millis(500)));
        assert_eq!(options.entry_timeout, Some(Duration::from_secs(600)));
        assert_eq!(options.passthrough, Passthrough::Off);
        assert_eq!(options.transport, Some(TransportKind::Dev));
        assert_eq!(options.flag_words(), ["ro", "nosuid"]);
    }

    #[test]
    fn the_later_word_counts() {
        assert!(!parsed("ro,rw").read_only());
        assert!(parsed("rw,ro").read_only());
        assert!(!parsed("allow_other,noallow_other").allow_other);
        assert!(parsed("soft,hard").hard && !parsed("hard,soft").hard);
        assert_eq!(parsed("user,exec").flags, MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
        assert_eq!(parsed("user,defaults").flags, MsFlags::empty());
    }

    #[test]
    fn words_of_fstab_are_passed_over() {
        assert_eq!(
            parsed("_netdev,noauto,nofail,x-systemd.automount,x-gvfs-name=A b,comment=hello"),
            MountOptions::default()
        );
    }

    #[test]
    fn properties_are_kept_for_the_configuration() {
        let options = parsed(r"alluxio.user.file.writetype.default=THROUGH,s3a.secretKey=a\,b=\\c");
        assert_eq!(
            options.properties,
            [
                ("alluxio.user.file.writetype.default".to_owned(), "THROUGH".to_owned()),
                ("s3a.secretKey".to_owned(), r"a,b=\c".to_owned())
            ]
        );
    }

    #[test]
    fn what_is_not_known_is_named() {
        for word in ["blocksize=4k", "quiet", "uid", "ro=1", "allow_others"] {
            let message = refused(&format!("rw,{word}"));
            assert!(message.contains(word), "{message}");
            assert!(
                message.contains("passthrough=on|off|auto"),
                "lists what is known: {message}"
            );
        }
        let mut options = MountOptions::default();
        options.apply("quiet,ro", Unknown::Ignore).unwrap();
        assert!(options.read_only());
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        for word in [
            "uid=root",
            "uid=-1",
            "uid=4294967295",
            "gid=",
            "umask=8",
            "umask=1777",
            "max_background=0",
            "max_background=65536",
            "attr_timeout=-1",
            "attr_timeout=NaN",
            "entry_timeout=1e99",
            "entry_timeout=inf",
            "passthrough=maybe",
            "transport=",
            "transport=tcp",
        ] {
            assert!(refused(word).contains(word), "{word}");
        }
        assert_eq!(
            MountOptions::parse("remount,ro").unwrap_err().kind,
            ErrorKind::NotSupported
        );
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(list in "\\PC{0,60}") {
            if let Err(error) = MountOptions::parse(&list) {
                prop_assert!(matches!(error.kind, ErrorKind::InvalidArgument | ErrorKind::NotSupported));
            }
        }

        #[test]
        fn a_property_survives_escaping(value in "[ -~]{1,40}") {
            let escaped = value.replace('\\', "\\\\").replace(',', "\\,");
            prop_assert_eq!(parsed(&format!("a.b={escaped}")).properties, vec![("a.b".to_owned(), value)]);
        }
    }
}
