//! The commands against a running cluster: what they do, what they print, and how they end.

use alluxio_tests::cluster::{Local, LocalBuilder, Mount};
use alluxio_tests::modes::Mode;
use alluxio_tests::process::Output;
use alluxio_tests::{tools, tree, wait};
use std::path::Path;
use std::time::Duration;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// Runs a command that has to succeed and gives its output.
#[track_caller]
fn ok(local: &Local, arguments: &[&str]) -> String {
    let output = local.alluxio(arguments);
    assert_eq!(output.code, 0, "{arguments:?}: {output:?}");
    output.stdout
}

/// Runs a command that has to fail with one line that has all the words.
#[track_caller]
fn fails(local: &Local, arguments: &[&str], words: &[&str]) -> Output {
    let output = local.alluxio(arguments);
    assert_eq!(output.code, 1, "{arguments:?}: {output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{arguments:?}: {output:?}");
    for word in words {
        assert!(
            output.stderr.contains(word),
            "{arguments:?}: {word:?} is not in {output:?}"
        );
    }
    output
}

#[test]
fn names_and_contents() {
    let local = LocalBuilder::new().start();
    assert_eq!(
        ok(&local, &["fs", "mkdir", "/a/b", "/c"]),
        "Successfully created directory /a/b\nSuccessfully created directory /c\n"
    );
    fails(&local, &["fs", "mkdir", "/c"], &["make folder /c", "exists", "-p"]);
    ok(&local, &["fs", "mkdir", "-p", "/c"]);
    assert_eq!(ok(&local, &["fs", "touch", "/a/empty"]), "/a/empty has been created\n");
    assert_eq!(ok(&local, &["fs", "touch", "/a/empty"]), "/a/empty has been touched\n");

    let content = tree::contents(1, 5_000_000);
    std::fs::write(local.mount().join("a/big"), &content).unwrap();
    let text = "first\nlast\n";
    std::fs::write(local.mount().join("a/text"), text).unwrap();
    assert_eq!(ok(&local, &["fs", "cat", "/a/text"]), text);
    assert_eq!(ok(&local, &["fs", "cat", "/a/t*", "/a/text"]), format!("{text}{text}"));
    assert_eq!(ok(&local, &["fs", "head", "-c", "5", "/a/text"]), "first");
    assert_eq!(ok(&local, &["fs", "tail", "-c", "5", "/a/text"]), "last\n");
    assert_eq!(
        ok(&local, &["fs", "checksum", "/a/text"]),
        format!("md5sum: {}\n", md5(text))
    );

    assert_eq!(
        ok(&local, &["fs", "mv", "/a/text", "/c"]),
        "Renamed /a/text to /c/text\n"
    );
    fails(
        &local,
        &["fs", "mv", "/a/big", "/c/text"],
        &["rename /a/big to /c/text: /c/text exists", "fs rm"],
    );
    fails(&local, &["fs", "mv", "/none", "/c"], &["/none does not exist"]);
    fails(&local, &["fs", "mv", "/a", "/a/b"], &["into itself"]);
    fails(&local, &["fs", "rm", "/a"], &["-R"]);
    fails(&local, &["fs", "rm", "-R", "/"], &["the root"]);
    assert_eq!(ok(&local, &["fs", "rm", "-R", "/a"]), "/a has been removed\n");
    assert!(!local.mount().join("a").exists());
    fails(&local, &["fs", "rm", "/a"], &["remove /a"]);
    fails(&local, &["fs", "cat", "/c"], &["directory"]);
    fails(&local, &["fs", "ls", "/none*"], &["nothing matches"]);

    for (arguments, code) in [
        (["-d", "/c"], 0),
        (["-f", "/c"], 1),
        (["-s", "/c"], 0),
        (["-f", "/c/text"], 0),
        (["-z", "/c/text"], 1),
        (["-e", "/a"], 1),
    ] {
        let output = local.alluxio(&["fs", "test", arguments[0], arguments[1]]);
        assert_eq!((output.code, output.stderr.as_str()), (code, ""), "{arguments:?}");
    }
}

/// MD5 by the system's tool.
fn md5(text: &str) -> String {
    let dir = tools::scratch("md5-");
    let path = dir.path().join("f");
    std::fs::write(&path, text).expect("write");
    let output = std::process::Command::new("md5sum")
        .arg(&path)
        .output()
        .expect("run md5sum");
    String::from_utf8(output.stdout).expect("UTF-8")[..32].to_owned()
}

#[test]
fn listings_and_reports() {
    let local = LocalBuilder::new().start();
    std::fs::create_dir(local.mount().join("d")).unwrap();
    std::fs::write(local.mount().join("d/file"), "0123456789").unwrap();
    ok(&local, &["fs", "chmod", "640", "/d/file"]);
    ok(&local, &["fs", "persist", "/"]);

    let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap()
        .name;
    let lines = ok(&local, &["fs", "ls", "/d"]);
    let line = lines.trim_end_matches('\n');
    assert!(line.starts_with(&format!("-rw-r-----  {user:<15}")), "{line}");
    assert!(line.ends_with(" 100% /d/file"), "{line}");
    assert_eq!(&line[42..73], "             10       PERSISTED", "{line}");
    assert_eq!(
        line.len(),
        12 + 15 + 15 + 15 + 16 + 24 + 5 + 1 + "/d/file".len(),
        "{line}"
    );
    assert!(ok(&local, &["fs", "ls", "/"]).contains("DIR /d\n"));
    assert!(ok(&local, &["fs", "ls", "-R", "/"]).ends_with("/d/file\n"));
    let json: serde_json::Value = serde_json::from_str(&ok(&local, &["fs", "ls", "--format", "json", "/d"])).unwrap();
    assert_eq!(
        (json["path"].as_str(), json["size"].as_u64()),
        (Some("/d/file"), Some(10))
    );
    assert_eq!(json["mode"], "0640");

    assert_eq!(
        ok(&local, &["fs", "stat", "-f", "%N %z %u", "/d/f*"]),
        format!("file 10 {user}\n")
    );
    let id = json["fileId"].to_string();
    assert!(ok(&local, &["fs", "stat", "-fileId", &id]).starts_with("/d/file is a file path.\nFileInfo{fileId="));
    let counted = ok(&local, &["fs", "count", "/"]);
    let numbers: Vec<&str> = counted.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(numbers, ["1", "1", "10"]);
    assert!(ok(&local, &["fs", "du", "-s", "/"]).contains("10            10 (100%)        /\n"));
    let located = ok(&local, &["fs", "location", "/d/file"]);
    assert_eq!(located.lines().count(), 2, "{located}");

    let summary = ok(&local, &["fsadmin", "report"]);
    assert!(
        summary.contains("    Live Workers: 1\n    Lost Workers: 0\n"),
        "{summary}"
    );
    assert!(ok(&local, &["fsadmin", "report", "capacity", "-live"]).contains("for live workers"));
    let json = ok(&local, &["fsadmin", "report", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["workers"].as_array().unwrap().len(), 1);
    fails(
        &local,
        &["fsadmin", "report", "capacity", "-workers", "nowhere"],
        &["nowhere"],
    );
}

#[test]
fn copies_of_trees() {
    let dir = tools::scratch("copies-");
    let source = dir.path().join("source");
    std::fs::create_dir_all(source.join("deep/empty")).unwrap();
    std::fs::write(source.join("large"), tree::contents(7, 9_000_001)).unwrap();
    std::fs::write(source.join("deep/none"), "").unwrap();
    std::os::unix::fs::symlink("deep/none", source.join("link")).unwrap();
    for index in 0..50u64 {
        std::fs::write(source.join(format!("deep/f{index}")), tree::contents(index, 1000)).unwrap();
    }
    let local = LocalBuilder::new().start();
    let path = |name: &str| dir.path().join(name).display().to_string();

    ok(&local, &["fs", "copyFromLocal", &path("source"), "/new/tree"]);
    same(&source, &local.mount().join("new/tree"));
    // A folder that exists is copied into, and what exists in it is not replaced.
    let again = local.alluxio(&["fs", "copyFromLocal", &path("source"), "/new"]);
    assert_eq!(again.code, 0, "{again:?}");
    same(&source, &local.mount().join("new/source"));
    let twice = local.alluxio(&["fs", "copyFromLocal", &path("source"), "/new"]);
    assert_eq!(twice.code, 1);
    assert!(twice.stdout.contains("failed"), "{twice:?}");

    ok(&local, &["fs", "cp", "-R", "/new/tree", "/copy"]);
    same(&source, &local.mount().join("copy"));
    fails(&local, &["fs", "cp", "-R", "/copy", "/copy/deep"], &["into itself"]);
    fails(&local, &["fs", "cp", "/copy", "/elsewhere"], &["-R"]);

    ok(&local, &["fs", "copyToLocal", "/copy", &path("back")]);
    same(&source, &dir.path().join("back"));
    ok(
        &local,
        &["fs", "copyToLocal", "/copy/deep/f1*", &format!("{}/", path("some"))],
    );
    assert_eq!(std::fs::read_dir(dir.path().join("some")).unwrap().count(), 11);
    // Nothing unfinished is left behind under a name of ours.
    fails(
        &local,
        &["fs", "copyToLocal", "/nothing", &path("nothing")],
        &["/nothing"],
    );
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with(".alluxio"))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    ok(
        &local,
        &[
            "fs",
            "cp",
            "--preserve",
            "/copy/large",
            &format!("file://{}", path("kept")),
        ],
    );
    let (kept, original) = (
        std::fs::metadata(dir.path().join("kept")).unwrap(),
        std::fs::metadata(local.mount().join("copy/large")).unwrap(),
    );
    assert_eq!(kept.modified().unwrap(), original.modified().unwrap());
}

/// Both trees hold the same names, links and bytes.
#[track_caller]
fn same(a: &Path, b: &Path) {
    let mut diff = std::process::Command::new("diff");
    let output = diff
        .args(["-r", "--no-dereference"])
        .args([a, b])
        .output()
        .expect("run diff");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn owners_modes_and_mounts() {
    let dir = tools::scratch("mounted-");
    std::fs::write(dir.path().join("there"), "there").unwrap();
    let local = LocalBuilder::new().start();
    let uri = format!("file://{}", dir.path().display());
    let table = |word: &str| ok(&local, &["fs", "mount"]).matches(word).count();

    assert_eq!(
        ok(&local, &["fs", "mount", "--readonly", "/m", &uri]),
        format!("Mounted {uri} at /m\n")
    );
    assert_eq!(table("  on  /m  (posix"), 1);
    assert_eq!(ok(&local, &["fs", "cat", "/m/there"]), "there");
    fails(&local, &["fs", "touch", "/m/new"], &["/m/new", "read-only"]);
    fails(
        &local,
        &["fs", "mount", "/m", tools::text(tools::scratch("other-").path())],
        &["mounted there already", "--update", "alluxio fs unmount /m"],
    );
    for command in ["free", "persist"] {
        let error = fails(&local, &["fs", command, "/nope"], &["no such file or directory"]);
        assert_eq!(error.stderr.matches("/nope").count(), 1, "{error:?}");
    }
    // One file by two names that know nothing of each other.
    let outer = tools::scratch("outer-");
    std::fs::create_dir(outer.path().join("part")).unwrap();
    let (inside, outside) = (
        tools::text(&outer.path().join("part")).to_owned(),
        tools::text(outer.path()),
    );
    std::fs::write(outer.path().join("x"), "x").unwrap();
    ok(&local, &["fs", "mount", "/o", outside]);
    let error = fails(
        &local,
        &["fs", "mv", "/o/x", "/x"],
        &["different mounts", "fs cp -R", "alluxio.user.rename.across.mounts=true"],
    );
    assert!(error.stderr.starts_with("alluxio: rename /o/x to /x: "), "{error:?}");
    fails(
        &local,
        &["fs", "mount", "/n", &inside],
        &["mounted at /o", "in common", "--readonly"],
    );
    ok(&local, &["fs", "mount", "--readonly", "/n", &inside]);
    ok(&local, &["fs", "unmount", "/n"]);
    fails(
        &local,
        &["fs", "mount", "/n", "file:///no/such/folder"],
        &["/no/such/folder"],
    );
    assert_eq!(ok(&local, &["fs", "unmount", "/m"]), "Unmounted /m\n");
    assert_eq!(table("/m  (posix"), 0);
    assert!(dir.path().join("there").exists());

    ok(&local, &["fs", "mkdir", "/d/e"]);
    ok(&local, &["fs", "touch", "/d/e/f"]);
    assert_eq!(
        ok(&local, &["fs", "chmod", "-R", "u=rwX,go=", "/d"]),
        "Changed permission of /d as 700\n"
    );
    assert_eq!(mode(&local, "d/e"), 0o700);
    assert_eq!(mode(&local, "d/e/f"), 0o600);
    assert_eq!(
        ok(&local, &["fs", "chown", "-R", "1234:5678", "/d"]),
        "Changed owner:group of /d to 1234:5678.\n"
    );
    assert_eq!(ok(&local, &["fs", "stat", "-f", "%u %g", "/d/e/f"]), "1234 5678\n");
    ok(&local, &["fs", "chgrp", "0", "/d"]);
    // Nobody's by a slip.
    fails(
        &local,
        &["fs", "chown", "nosuchuser", "/d"],
        &["no user \"nosuchuser\"", "number"],
    );
    fails(
        &local,
        &["fs", "chgrp", "nosuchgroup", "/d"],
        &["no group \"nosuchgroup\"", "number"],
    );
    assert_eq!(ok(&local, &["fs", "stat", "-f", "%u", "/d"]), "1234\n");
    // A folder that holds something is no mount point, and a slip is no option.
    let free = outer.path().join("free");
    std::fs::create_dir(&free).unwrap();
    ok(&local, &["fs", "unmount", "/o"]);
    let error = fails(
        &local,
        &["fs", "mount", "/d", tools::text(&free)],
        &["/d: it has entries", "empty folder"],
    );
    assert!(!error.stderr.contains("directory"), "{error:?}");
    let slip = "alluxio.underfs.s3.endpont=x";
    let refused = local.alluxio(&["fs", "mount", "/s", tools::text(&free), "--option", slip]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("did you mean alluxio.underfs.s3.endpoint?"),
        "{refused:?}"
    );
    assert_eq!(
        ok(&local, &["fs", "free", "/d"]),
        "/d is being freed from Alluxio space.\n"
    );
}

/// A mount in the foreground says that it serves, as the other roles do, and that it has ended.
#[test]
fn a_mount_in_the_foreground_says_so() {
    let local = LocalBuilder::new().start();
    let dir = tools::scratch("mount-");
    let mut mount = Mount::start(&local, dir.path(), Mode::Passthrough);
    let shown = dir.path().display().to_string();
    let served = format!(
        "of the master at localhost:{} is mounted on {shown}.",
        local.option("alluxio.master.rpc.port")
    );
    wait::until("a word of it", LONG, || mount.process().log().contains(&served));
    mount.process().signal(nix::sys::signal::Signal::SIGTERM);
    assert!(mount.process().wait(LONG).success());
    let log = mount.process().log();
    assert!(log.contains(&format!("{shown} is unmounted.")), "{log}");
}

fn mode(local: &Local, path: &str) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(local.mount().join(path))
        .expect("look up")
        .permissions()
        .mode()
        & 0o7777
}

#[test]
fn format_makes_a_new_start() {
    let dir = tools::scratch("format-");
    LocalBuilder::at(dir.path())
        .run(
            "echo kept > \"$M\"/f; mkdir \"$M\"/d; chown 1234 \"$M\"/d",
            std::time::Duration::from_secs(60),
        )
        .ok();
    let work = format!("alluxio.work.dir={}", dir.path().join("data").display());
    let format = || {
        let mut command = std::process::Command::new(tools::alluxio());
        alluxio_tests::process::run(
            command.args(["format", "-y", "-D", &work]),
            std::time::Duration::from_secs(60),
        )
    };
    let output = format();
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(output.stdout.lines().count(), 3, "{output:?}");
    // What is in the under-storage is found again, from a new cluster.
    let local = LocalBuilder::at(dir.path()).start();
    assert_eq!(std::fs::read(local.mount().join("f")).unwrap(), b"kept\n");
    let refused = format();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("stop it first"), "{refused:?}");
    assert_eq!(std::fs::read(local.mount().join("f")).unwrap(), b"kept\n");
}
