//! Names and attributes on a real mount: hard links, special files, rename flags, extended attributes, access lists, setuid.
//!
//! As root, since other users' rights are what is tested.
#![allow(clippy::unwrap_used, reason = "a test ends there")]
#![allow(clippy::disallowed_methods, reason = "the system call is what is tested")]

use alluxio_tests::cluster::on_dev;
use alluxio_tests::process::{Output, run};
use alluxio_tests::{Local, LocalBuilder, S3Server, Versity, tools, wait};
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(60);
/// `nobody` and `daemon`, which every Debian has.
const NOBODY: u32 = 65534;
const DAEMON: u32 = 1;

/// A mount over a folder, both open to all users.
struct Mount {
    local: Local,
    ufs: PathBuf,
    _dir: tempfile::TempDir,
}

impl Mount {
    fn start() -> Mount {
        let dir = tools::scratch("names-");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let ufs = dir.path().join("ufs");
        fs::create_dir(&ufs).unwrap();
        let local = LocalBuilder::at(dir.path()).ufs(tools::text(&ufs)).start();
        fs::set_permissions(local.mount(), fs::Permissions::from_mode(0o1777)).unwrap();
        Mount { local, ufs, _dir: dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.local.mount().join(name)
    }

    /// What the folder has at `name`, once it has the bytes.
    #[track_caller]
    fn wait_stored(&self, name: &str, content: &[u8]) {
        let path = self.ufs.join(name);
        wait::until(&format!("{name} in the folder"), SHORT, || {
            fs::read(&path).is_ok_and(|bytes| bytes == content)
        });
    }

    fn restart(self) -> Mount {
        Mount {
            local: self.local.crash_and_restart(),
            ..self
        }
    }
}

/// Runs a shell line as a user.
fn as_user(id: u32, line: &str) -> Output {
    let mut command = Command::new("sh");
    command.args(["-ec", line]).uid(id).gid(id).current_dir("/");
    run(&mut command, SHORT)
}

#[track_caller]
fn sh(line: String) -> String {
    alluxio_tests::process::sh(&line, SHORT).ok()
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn rename(from: &Path, to: &Path, flags: u32) -> Result<(), i32> {
    let (from, to) = (c_path(from), c_path(to));
    // SAFETY: both paths end with a NUL and live until the call returns.
    let failed = unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) } != 0;
    if failed {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap());
    }
    Ok(())
}

fn names(path: &Path) -> u64 {
    fs::metadata(path).unwrap().nlink()
}

#[test]
fn several_names_share_one_file_and_one_object() {
    let mount = Mount::start();
    let (a, b, c) = (mount.at("a"), mount.at("b"), mount.at("d/c"));
    fs::create_dir(mount.at("d")).unwrap();
    fs::write(&a, "one").unwrap();
    fs::hard_link(&a, &b).unwrap();
    fs::hard_link(&b, &c).unwrap();
    assert_eq!([names(&a), names(&b), names(&c)], [3; 3]);
    assert_eq!(fs::metadata(&a).unwrap().ino(), fs::metadata(&c).unwrap().ino());
    fs::OpenOptions::new()
        .append(true)
        .open(&b)
        .and_then(|mut file| std::io::Write::write_all(&mut file, b" two"))
        .unwrap();
    assert_eq!(fs::read(&c).unwrap(), b"one two");
    // One object, under the first name.
    mount.wait_stored("a", b"one two");
    assert!(!mount.ufs.join("b").exists() && !mount.ufs.join("d/c").exists());
    // Its name goes: it is found under another, and never nowhere.
    fs::remove_file(&a).unwrap();
    assert_eq!(names(&c), 2);
    wait::until("the object to have moved", SHORT, || {
        !mount.ufs.join("a").exists() && (mount.ufs.join("b").exists() || mount.ufs.join("d/c").exists())
    });
    // Written through another name again, and saved over as editors do.
    fs::write(&b, "three").unwrap();
    fs::write(mount.at("new"), "four").unwrap();
    fs::rename(mount.at("new"), &b).unwrap();
    assert_eq!(
        (fs::read(&b).unwrap(), fs::read(&c).unwrap()),
        (b"four".to_vec(), b"three".to_vec())
    );
    assert_eq!((names(&b), names(&c)), (1, 1));
    mount.wait_stored("b", b"four");
    mount.wait_stored("d/c", b"three");
    // Two names of one inode: rename does nothing.
    fs::hard_link(&b, mount.at("e")).unwrap();
    fs::rename(&b, mount.at("e")).unwrap();
    assert_eq!((names(&b), fs::read(mount.at("e")).unwrap()), (2, b"four".to_vec()));
    // A removed tree leaves what has another name, and a restart all of it.
    fs::hard_link(&c, mount.at("kept")).unwrap();
    let removed = mount.local.alluxio(&["fs", "rm", "-R", "/d"]);
    removed.ok();
    let mount = mount.restart();
    wait::until("the removed tree to be reclaimed", SHORT, || {
        names(&mount.at("kept")) == 1
    });
    assert_eq!(fs::read(mount.at("kept")).unwrap(), b"three");
    mount.wait_stored("kept", b"three");
    assert_eq!(names(&mount.at("e")), 2);
    assert_eq!(
        fs::hard_link(mount.local.mount(), mount.at("x"))
            .unwrap_err()
            .raw_os_error(),
        Some(libc::EPERM)
    );
    assert_eq!(
        fs::hard_link(mount.at("b"), mount.at("e")).unwrap_err().raw_os_error(),
        Some(libc::EEXIST)
    );
}

#[test]
fn an_unlinked_file_that_is_open_keeps_its_other_name() {
    let mount = Mount::start();
    let (a, b) = (mount.at("a"), mount.at("b"));
    let mut file = fs::File::create(&a).unwrap();
    fs::hard_link(&a, &b).unwrap();
    fs::remove_file(&a).unwrap();
    std::io::Write::write_all(&mut file, b"written later").unwrap();
    drop(file);
    assert_eq!(fs::read(&b).unwrap(), b"written later");
    mount.wait_stored("b", b"written later");
    // The last name goes while it is open: the file is there, and says that it has none.
    let file = fs::File::open(&b).unwrap();
    fs::remove_file(&b).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    assert_eq!(std::io::read_to_string(&file).unwrap(), "written later");
}

#[test]
fn rename_flags_and_mounts_of_the_namespace() {
    let mount = Mount::start();
    let (a, b) = (mount.at("a"), mount.at("b"));
    fs::write(&a, "a").unwrap();
    fs::create_dir(&b).unwrap();
    fs::write(b.join("in"), "in").unwrap();
    assert_eq!(rename(&a, &b, libc::RENAME_NOREPLACE), Err(libc::EEXIST));
    assert_eq!(rename(&a, &mount.at("none"), libc::RENAME_EXCHANGE), Err(libc::ENOENT));
    assert_eq!(
        rename(&a, &b.join("in"), libc::RENAME_EXCHANGE | libc::RENAME_NOREPLACE),
        Err(libc::EINVAL)
    );
    assert_eq!(rename(&b, &b.join("in"), libc::RENAME_EXCHANGE), Err(libc::EINVAL));
    rename(&a, &b, libc::RENAME_EXCHANGE).unwrap();
    assert_eq!(
        (fs::read(&b).unwrap(), fs::read(a.join("in")).unwrap()),
        (b"a".to_vec(), b"in".to_vec())
    );
    rename(&b, &mount.at("c"), libc::RENAME_NOREPLACE).unwrap();
    mount.wait_stored("a/in", b"in");
    mount.wait_stored("c", b"a");
    let other = mount.ufs.parent().unwrap().join("other");
    fs::create_dir(&other).unwrap();
    mount.local.alluxio(&["fs", "mount", "/m", tools::text(&other)]).ok();
    wait::until("the mount in the namespace", SHORT, || mount.at("m").is_dir());
    assert_eq!(rename(&mount.at("c"), &mount.at("m/c"), 0), Err(libc::EXDEV));
    assert_eq!(
        fs::hard_link(mount.at("c"), mount.at("m/c"))
            .unwrap_err()
            .raw_os_error(),
        Some(libc::EXDEV)
    );
    assert_eq!(rename(&mount.at("m"), &mount.at("n"), 0), Err(libc::EBUSY));
}

#[test]
fn special_files_survive_a_crash() {
    let mount = Mount::start();
    sh(format!(
        "cd {} && mkfifo -m 640 fifo && mknod -m 600 chr c 1 3 && mknod blk b 7 200 && ln -s nowhere link && ln fifo again",
        mount.local.mount().display()
    ));
    let _socket = std::os::unix::net::UnixListener::bind(mount.at("sock")).unwrap();
    let mount = mount.restart();
    let meta = |name: &str| fs::symlink_metadata(mount.at(name)).unwrap();
    assert!(meta("fifo").file_type().is_fifo() && meta("sock").file_type().is_socket());
    assert_eq!((meta("fifo").mode() & 0o7777, meta("fifo").nlink()), (0o640, 2));
    assert_eq!(meta("again").ino(), meta("fifo").ino());
    assert!(meta("chr").file_type().is_char_device() && meta("blk").file_type().is_block_device());
    assert_eq!(meta("chr").rdev(), libc::makedev(1, 3));
    assert_eq!(meta("blk").rdev(), libc::makedev(7, 200));
    assert_eq!(fs::read_link(mount.at("link")).unwrap(), Path::new("nowhere"));
    // A FIFO is one: what goes in comes out.
    let printed = sh(format!(
        "cd {} && (echo hello > fifo &) && cat again",
        mount.local.mount().display()
    ));
    assert_eq!(printed, "hello\n");
    let names = || {
        fs::read_dir(&mount.ufs)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
    };
    wait::until("the link in the folder", SHORT, || names().next().is_some());
    assert_eq!(names().collect::<Vec<_>>(), ["link"], "only the link is in the folder");
}

#[test]
fn extended_attributes_by_the_tools() {
    let mount = Mount::start();
    let (file, at) = (mount.at("f"), mount.local.mount().display().to_string());
    fs::write(&file, "x").unwrap();
    sh(format!("cd {at} && ln f g && mkfifo p && mkdir -m 1777 d && ln -s f l"));
    sh(format!(
        "cd {at} && setfattr -n user.a -v 1 f && setfattr -n user.b f && setfattr -n trusted.t -v t f && setfattr -n security.s -v s f"
    ));
    let listed = sh(format!("cd {at} && getfattr -d -m - g"));
    assert_eq!(
        listed,
        "# file: g\nsecurity.s=\"s\"\ntrusted.t=\"t\"\nuser.a=\"1\"\nuser.b=\"\"\n\n"
    );
    // Others see neither trusted attributes nor what they may not read; and change nothing.
    let fail = |id, line: &str| as_user(id, &format!("cd {at} && {line}")).fail_with();
    let shown = as_user(NOBODY, &format!("cd {at} && getfattr -d -m - f")).ok();
    assert_eq!(shown, "# file: f\nsecurity.s=\"s\"\nuser.a=\"1\"\nuser.b=\"\"\n\n");
    assert!(fail(NOBODY, "setfattr -n user.a -v 2 f").contains("Permission denied"));
    assert!(fail(NOBODY, "setfattr -n trusted.a -v 2 f").contains("Operation not permitted"));
    assert!(fail(NOBODY, "setfattr -n user.a -v 2 d").contains("Operation not permitted"));
    assert!(fail(0, "setfattr -n user.a -v 2 p").contains("Operation not permitted"));
    assert!(fail(0, "setfattr -h -n user.a -v 2 l").contains("Operation not permitted"));
    assert!(fail(0, "setfattr -n other.a -v 2 f").contains("Operation not supported"));
    assert!(fail(0, "getfattr -n user.none f").contains("No such attribute"));
    let set = |name: &str, value: &[u8], flags| {
        let (path, name) = (c_path(&file), CString::new(name).unwrap());
        // SAFETY: path and name end with a NUL, and the value has the length that is given.
        let failed = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
        if failed == 0 {
            0
        } else {
            std::io::Error::last_os_error().raw_os_error().unwrap()
        }
    };
    assert_eq!(set("user.a", b"2", libc::XATTR_CREATE), libc::EEXIST);
    assert_eq!(set("user.none", b"2", libc::XATTR_REPLACE), libc::ENODATA);
    assert_eq!(set(&format!("user.{}", "n".repeat(250)), b"", 0), 0);
    assert_eq!(set(&format!("user.{}", "n".repeat(251)), b"", 0), libc::ERANGE);
    let large = vec![7; 65_536];
    assert_eq!(set("user.large", &large, 0), 0);
    assert_eq!(set("user.large", &vec![7; 65_537], 0), libc::E2BIG);
    let changed = fs::metadata(&file).unwrap();
    sh(format!("cd {at} && setfattr -x user.b f"));
    let after = fs::metadata(&file).unwrap();
    assert!((changed.ctime(), changed.ctime_nsec()) < (after.ctime(), after.ctime_nsec()));
    let mount = mount.restart();
    let value = sh(format!(
        "getfattr --only-values -n user.large {} | wc -c",
        mount.at("g").display()
    ));
    assert_eq!(value.trim(), "65536");
    fs::remove_file(mount.at("f")).unwrap();
    let listed = sh(format!("cd {at} && getfattr -m - g"));
    assert!(listed.contains("trusted.t") && !listed.contains("user.b"), "{listed}");
}

/// What a tool said when it failed.
trait FailWith {
    fn fail_with(self) -> String;
}

impl FailWith for Output {
    #[track_caller]
    fn fail_with(self) -> String {
        assert_ne!(self.code, 0, "it should have failed: {self:?}");
        self.stderr
    }
}

#[test]
fn access_lists_by_the_tools() {
    let mount = Mount::start();
    let at = mount.local.mount().display().to_string();
    let list = |name: &str| sh(format!("cd {at} && getfacl -cn {name}"));
    fs::write(mount.at("f"), "secret").unwrap();
    sh(format!(
        "cd {at} && chmod 600 f && mkdir d && setfacl -m u:nobody:r,g:daemon:rw f"
    ));
    assert_eq!(
        list("f"),
        "user::rw-\nuser:65534:r--\ngroup::---\ngroup:1:rw-\nmask::rw-\nother::---\n\n"
    );
    assert_eq!(fs::metadata(mount.at("f")).unwrap().mode() & 0o777, 0o660);
    let read = |id| as_user(id, &format!("cat {at}/f")).code == 0;
    let write = |id| as_user(id, &format!("echo x >> {at}/f")).code == 0;
    assert_eq!(
        (read(NOBODY), write(NOBODY), write(DAEMON), read(2)),
        (true, false, true, false)
    );
    // chmod changes the mask.
    sh(format!("cd {at} && chmod g-w f"));
    assert_eq!((read(DAEMON), write(DAEMON)), (true, false));
    assert!(list("f").contains("mask::r--"));
    // Only the owner sets lists.
    assert!(
        as_user(NOBODY, &format!("setfacl -m u:nobody:rw {at}/f"))
            .fail_with()
            .contains("not permitted")
    );
    // A default list takes the place of the umask, and goes down.
    sh(format!(
        "cd {at} && setfacl -d -m u:nobody:rwx,o::- d && (umask 077; mkdir d/sub; : > d/sub/file)"
    ));
    assert_eq!(
        list("d/sub"),
        "user::rwx\nuser:65534:rwx\ngroup::r-x\nmask::rwx\nother::---\ndefault:user::rwx\ndefault:user:65534:rwx\n\
         default:group::r-x\ndefault:mask::rwx\ndefault:other::---\n\n"
    );
    assert_eq!(
        list("d/sub/file"),
        "user::rw-\nuser:65534:rwx\t#effective:rw-\ngroup::r-x\t#effective:r--\nmask::rw-\nother::---\n\n"
    );
    as_user(
        NOBODY,
        &format!("echo mine > {at}/d/sub/new && echo more >> {at}/d/sub/file"),
    )
    .ok();
    assert!(
        as_user(DAEMON, &format!("ls {at}/d/sub"))
            .fail_with()
            .contains("Permission denied")
    );
    // Without a default list the umask counts.
    sh(format!("cd {at} && (umask 027; mkdir plain; : > plain/f)"));
    assert_eq!(fs::metadata(mount.at("plain/f")).unwrap().mode() & 0o777, 0o640);
    assert_eq!(fs::metadata(mount.at("plain")).unwrap().mode() & 0o777, 0o750);
    let before = list("d/sub/file");
    let mount = mount.restart();
    assert_eq!(list("d/sub/file"), before);
    // cp -a and a dump and restore keep them.
    sh(format!(
        "cd {at} && cp -a d e && getfacl -R d | sed 's/^# file: d/# file: e/' | setfacl --restore=- && setfacl -b f"
    ));
    assert_eq!(list("e/sub"), list("d/sub"));
    assert_eq!(list("f"), "user::rw-\ngroup::---\nother::---\n\n");
    drop(mount);
}

#[test]
fn a_read_counts_once_after_a_change() {
    let mount = Mount::start();
    let atime = |mount: &Mount| {
        let meta = fs::metadata(mount.at("f")).unwrap();
        (meta.atime(), meta.atime_nsec())
    };
    fs::write(mount.at("f"), "content").unwrap();
    let before = atime(&mount);
    assert_eq!(fs::read(mount.at("f")).unwrap(), b"content");
    wait::until("the read to count", SHORT, || atime(&mount) > before);
    let read = atime(&mount);
    assert_eq!(fs::read(mount.at("f")).unwrap(), b"content");
    assert_eq!(atime(&mount), read, "nothing has changed since");
    sh(format!("touch -a -d @1000000000 {}", mount.at("f").display()));
    assert_eq!(atime(&mount), (1_000_000_000, 0));
    assert_eq!(fs::read(mount.at("f")).unwrap(), b"content");
    wait::until("the read to count", SHORT, || atime(&mount) > read);
}

#[test]
fn writing_takes_setuid_away() {
    let mount = Mount::start();
    let at = mount.local.mount().display().to_string();
    let mode = |name: &str| fs::metadata(mount.at(name)).unwrap().mode() & 0o7777;
    let make = |name: &str| {
        fs::write(mount.at(name), "program").unwrap();
        fs::set_permissions(mount.at(name), fs::Permissions::from_mode(0o6777)).unwrap();
        assert_eq!(mode(name), 0o6777);
    };
    for (name, line) in [
        ("append", "echo x >> append"),
        (
            "direct",
            "dd if=/dev/zero of=direct bs=4096 count=1 conv=notrunc oflag=direct 2>/dev/null",
        ),
        ("cut", "truncate -s 1 cut"),
        ("shell", ": > shell"),
    ] {
        make(name);
        as_user(NOBODY, &format!("cd {at} && {line}")).ok();
        assert_eq!(mode(name), 0o777, "{name}");
    }
    // Root keeps them when it writes, and nobody's when they are given away.
    make("root");
    sh(format!("cd {at} && echo x >> root"));
    assert_eq!(mode("root"), 0o6777);
    sh(format!("cd {at} && chown nobody root"));
    assert_eq!(mode("root"), 0o777);
    make("caps");
    fs::set_permissions(mount.at("caps"), fs::Permissions::from_mode(0o777)).unwrap();
    sh(format!(
        "setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 {at}/caps"
    ));
    as_user(NOBODY, &format!("echo x >> {at}/caps")).ok();
    assert_eq!(sh(format!("getfattr -m - {at}/caps")), "");
}

/// Mode, owner and mtime go with the object as user metadata. A look-up by name reads them; listings do not have them.
#[test]
fn a_new_cluster_finds_mode_owner_and_mtime() {
    let server = Versity::start();
    let (one, other) = (tools::scratch("one-"), tools::scratch("other-"));
    let start = |dir: &tempfile::TempDir| {
        let builder = LocalBuilder::at(dir.path()).ufs("s3://bucket/p");
        builder.options(server.options()).start()
    };
    let seen = |local: &Local| {
        let meta = fs::metadata(local.mount().join("f")).unwrap();
        (
            meta.mode() & 0o7777,
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
        )
    };
    let first = start(&one);
    let mut file = fs::File::create(first.mount().join("f")).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::fchown(&file, Some(DAEMON), Some(DAEMON)).unwrap();
    std::io::Write::write_all(&mut file, b"content").unwrap();
    drop(file);
    let before = seen(&first);
    assert_eq!((before.0, before.1, before.2), (0o640, DAEMON, DAEMON));
    let object = server.bucket("bucket").join("p/f");
    wait::until("the object", SHORT, || {
        fs::read(&object).is_ok_and(|bytes| bytes == b"content")
    });
    assert_eq!(first.stop(SHORT).0, 0);
    assert_eq!(seen(&start(&other)), before);
}

#[test]
fn a_file_without_a_name_gets_one_where_the_transport_can() {
    let mount = Mount::start();
    let made = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o640)
        .open(mount.local.mount());
    // Over fuser there are none, and programs make a name and remove it.
    let file = match made {
        Ok(file) => file,
        Err(error) => {
            assert_eq!((error.raw_os_error(), on_dev()), (Some(libc::EOPNOTSUPP), false));
            return;
        }
    };
    std::io::Write::write_all(&mut &file, b"nameless").unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    use std::os::fd::AsRawFd;
    let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    let to = c_path(&mount.at("named"));
    // SAFETY: both paths end with a NUL and live until the call returns.
    let linked = unsafe {
        libc::linkat(
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::AT_SYMLINK_FOLLOW,
        )
    };
    assert_eq!(linked, 0, "{}", std::io::Error::last_os_error());
    drop(file);
    assert_eq!(fs::read(mount.at("named")).unwrap(), b"nameless");
    mount.wait_stored("named", b"nameless");
}

/// The kernel asks for O_TRUNC before it looks whether a program is running from the file.
#[test]
fn a_running_program_is_not_truncated() {
    let mount = Mount::start();
    let program = mount.local.mount().join("program");
    fs::copy("/bin/sleep", &program).unwrap();
    let bytes = fs::read(&program).unwrap();
    let mut running = Command::new(&program).arg("60").spawn().unwrap();
    let flags = [libc::O_WRONLY, libc::O_RDWR, libc::O_RDONLY | libc::O_TRUNC];
    for flags in flags {
        let path = CString::new(program.as_os_str().as_bytes()).unwrap();
        // SAFETY: a string that ends with a NUL and lives until the call returns.
        let fd = unsafe { libc::open(path.as_ptr(), flags) };
        assert_eq!(
            (fd, std::io::Error::last_os_error().raw_os_error()),
            (-1, Some(libc::ETXTBSY)),
            "flags {flags:#x}"
        );
    }
    assert!(fs::read(&program).unwrap() == bytes, "it is still whole");
    assert!(running.try_wait().unwrap().is_none(), "it still runs");
    running.kill().unwrap();
    running.wait().unwrap();
    wait::until("it can be changed when it has ended", SHORT, || {
        fs::File::options()
            .read(true)
            .write(true)
            .truncate(true)
            .open(&program)
            .is_ok()
    });
}

/// As `tail -f` of a log that is still empty.
#[test]
fn a_reader_of_an_empty_new_file_does_not_stop_a_writer() {
    use std::io::{Read, Write};
    let mount = Mount::start();
    let log = mount.local.mount().join("log");
    let writer = fs::File::create(&log).unwrap();
    let mut reader = fs::File::open(&log).unwrap();
    let made = writer.metadata().unwrap();
    drop(writer);
    wait::until("its close is complete", SHORT, || {
        let said = mount.local.alluxio(&["fs", "persist", "/log"]);
        said.code == 0 && mount.ufs.join("log").exists()
    });
    let closed = fs::metadata(&log).unwrap();
    assert_eq!(
        (closed.mtime(), closed.mtime_nsec(), closed.ctime_nsec()),
        (made.mtime(), made.mtime_nsec(), made.ctime_nsec()),
        "nothing was written, so its times stay"
    );
    let persisted = mount.local.alluxio(&["fs", "persist", "/log"]);
    assert_eq!(persisted.code, 0, "{}", persisted.stderr);
    for line in ["one\n", "two\n"] {
        let mut writer = fs::File::options().append(true).open(&log).unwrap();
        writer.write_all(line.as_bytes()).unwrap();
        drop(writer);
        let mut read = String::new();
        wait::until("the reader sees it", SHORT, || {
            reader.read_to_string(&mut read).unwrap();
            read == line
        });
    }
}
