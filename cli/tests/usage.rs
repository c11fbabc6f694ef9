//! What the binary says and how it ends when it is asked wrongly, or when there is nobody to ask.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs `alluxio` away from whatever configuration this host has.
fn alluxio(arguments: &[&str]) -> Output {
    command(arguments).output().expect("run alluxio")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alluxio"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ALLUXIO_") {
            command.env_remove(name);
        }
    }
    command
        .env("ALLUXIO_CONF_DIR", "/nonexistent")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// One line on stderr with all the words, and the status.
#[track_caller]
fn refused(arguments: &[&str], status: i32, words: &[&str]) {
    let output = alluxio(arguments);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {stderr}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    assert!(stderr.starts_with("alluxio: "), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{arguments:?}: {word:?} is not in {stderr:?}");
    }
}

#[track_caller]
fn says(arguments: &[&str], stdout: &str) {
    let output = alluxio(arguments);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    assert_eq!(text(&output.stdout), stdout, "{arguments:?}");
}

#[test]
fn unknown_words_are_one_line_with_what_was_meant() {
    refused(
        &["local", "--mont", "/x"],
        2,
        &["--mont", "'--mount'", "alluxio local --help"],
    );
    refused(&["fs", "lss", "/"], 2, &["'lss'", "'ls'", "alluxio fs --help"]);
    refused(&["fs", "test", "/x"], 2, &["-d", "-e", "alluxio fs test --help"]);
    refused(
        &["fs", "head", "-c", "much", "/x"],
        2,
        &["much", "4KB", "see `alluxio fs head --help`"],
    );
    refused(&["fsadmin", "report", "all"], 2, &["all", "capacity", "summary", "ufs"]);
    refused(&["fsadmin", "report", "ufs", "-live"], 2, &["-live", "capacity"]);
}

#[test]
fn wrong_keys_and_values() {
    refused(
        &["-D", "no equals sign", "version"],
        2,
        &["no equals sign", "key=value"],
    );
    let many = ["getConf", "-D", "alluxio.master.rpc.port=many"];
    refused(&many, 2, &["alluxio.master.rpc.port", "many", "a port"]);
    refused(&["getConf", "alluxio.master.rpc.prt"], 1, &["alluxio.master.rpc.port"]);
    refused(
        &["getConf", "alluxio.nope"],
        1,
        &["unknown property; `alluxio getConf` lists those that are known"],
    );
    refused(&["getConf", "alluxio.fuse.jnifuse.enabled"], 1, &["no effect"]);
    refused(&["getConf", "--unit", "MB", "alluxio.master.hostname"], 2, &["text"]);
    // Unknown and useless keys are warnings.
    for (property, word) in [
        ("alluxio.master.rpc.prt=1", "did you mean alluxio.master.rpc.port?"),
        ("alluxio.fuse.jnifuse.enabled=true", "no effect"),
    ] {
        let output = alluxio(&["getConf", "-D", property, "alluxio.master.rpc.port"]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(text(&output.stdout), "19998\n");
        let stderr = text(&output.stderr);
        assert!(
            stderr.starts_with("alluxio: warning: ") && stderr.contains(word),
            "{stderr}"
        );
    }
}

#[test]
fn properties_and_their_sources() {
    says(&["getConf", "alluxio.master.rpc.port"], "19998\n");
    says(&["getConf", "--source", "alluxio.master.rpc.port"], "DEFAULT\n");
    let set = [
        "-Dalluxio.master.rpc.port=7",
        "getConf",
        "--source",
        "alluxio.master.rpc.port",
    ];
    says(&set, "SYSTEM_PROPERTY\n");
    says(
        &["getConf", "--unit", "kb", "alluxio.user.block.size.bytes.default"],
        "65536\n",
    );
    says(&["getConf", "--unit", "ms", "alluxio.user.rpc.timeout"], "30000\n");
    says(&["getConf", "s3a.secretKey", "-D", "s3a.secretKey=hidden"], "******\n");
    let all = text(&alluxio(&["getConf", "--source", "-D", "alluxio.master.hostname=h"]).stdout);
    assert!(all.contains("alluxio.master.hostname=h (SYSTEM_PROPERTY)\n"), "{all}");
    assert!(all.contains("alluxio.master.rpc.port=19998 (DEFAULT)\n"), "{all}");
    let json = alluxio(&["getConf", "--format", "json"]).stdout;
    let json: Vec<serde_json::Value> = serde_json::from_slice(&json).expect("JSON");
    let port = json
        .iter()
        .find(|one| one["name"] == "alluxio.master.rpc.port")
        .expect("the port");
    assert_eq!(port["value"], "19998");
    assert_eq!(port["source"], "DEFAULT");
}

#[test]
fn help_teaches_and_is_no_failure() {
    for arguments in [
        &["--help"][..],
        &["local", "--help"],
        &["fs", "--help"],
        &["fs", "cp", "--help"],
        &["fuse", "mount", "--help"],
        &["fsadmin", "report", "--help"],
    ] {
        let output = alluxio(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        let help = text(&output.stdout);
        assert!(help.contains("Examples:") && help.contains("-D <KEY=VALUE>"), "{help}");
    }
    for command in ["ls", "du", "count"] {
        let help = text(&alluxio(&["fs", command, "--help"]).stdout);
        assert!(help.contains("  -h") && help.contains("1.50GB"), "{help}");
    }
    says(&["version"], concat!(env!("CARGO_PKG_VERSION"), "\n"));
    // Nothing asked for: the help, and no success.
    let output = alluxio(&["fs"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("copyFromLocal"));
}

/// As mount.fuse runs us for `mount -o remount DIR`, where our helper is not installed.
#[test]
fn the_helper_of_all_fuse_types_is_understood() {
    let output = alluxio(&["alluxio:/", "/mnt", "-o", "ro,remount"]);
    assert_eq!(output.status.code(), Some(32), "mount failure");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("unmount it and mount it again"), "{stderr}");
}

#[test]
fn paths_that_make_no_sense() {
    refused(&["fs", "ls", "/a/../../b"], 2, &["..", "/a/../../b"]);
    refused(&["fs", "ls", "a"], 2, &["a path starts with /"]);
    refused(&["fs", "ls", "s3://bucket/x"], 2, &["s3", "alluxio://HOST:PORT/PATH"]);
    refused(&["fs", "cat", "alluxio://a/x", "alluxio://b/x"], 2, &["same masters"]);
    refused(
        &["fs", "cp", "file:///a", "file:///b"],
        2,
        &["both locations are on this host"],
    );
    refused(&["fs", "cp", "file://far/a", "/b"], 2, &["file:///PATH"]);
    refused(&["fs", "mount", "/a"], 2, &["<URI>"]);
}

#[test]
fn nobody_to_ask() {
    // Reserved and closed again: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("bind")
        .local_addr()
        .expect("address")
        .port();
    let property = format!("alluxio.master.rpc.port={port}");
    let begun = Instant::now();
    refused(
        &["fs", "persist", "-t", "500ms", "/", "-D", &property],
        1,
        &["persist", "500ms (-t)"],
    );
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let begun = Instant::now();
    refused(
        &["fs", "ls", "/", "-D", &property],
        1,
        &[&format!("localhost:{port}"), "is one running?", "alluxio local"],
    );
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// A port that is taken is found out before anything is made.
#[test]
fn a_taken_port_leaves_no_folders_behind() {
    let dir = tempfile::tempdir().expect("scratch");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = taken.local_addr().expect("address").port();
    let path = |name: &str| dir.path().join(name).display().to_string();
    for key in ["alluxio.master.rpc.port", "alluxio.worker.rpc.port"] {
        // The other one is free, whatever runs on this host.
        let properties = ["alluxio.master.rpc.port=0", "alluxio.worker.rpc.port=0"];
        let property = format!("{key}={port}");
        let mut arguments = vec!["local", "-D", properties[0], "-D", properties[1], "-D", &property];
        let (mount, data) = (path("mount"), path("data"));
        arguments.extend(["--mount", &mount, "--data", &data]);
        refused(&arguments, 1, &["the port is taken", key, &port.to_string()]);
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0, "{key}");
    }
}

/// The property that puts state under a folder.
fn work(dir: &Path) -> String {
    format!("alluxio.work.dir={}", dir.display())
}

/// Makes state of ours, as far as `format` looks at it.
fn state(work: &Path) {
    for (folder, file) in [
        ("journal", "format"),
        ("metastore", "version"),
        ("cache", "worker.properties"),
    ] {
        std::fs::create_dir_all(work.join(folder)).expect("make folder");
        std::fs::write(work.join(folder).join(file), "x").expect("write");
    }
    std::fs::create_dir_all(work.join("cache/data/00")).expect("make folder");
    std::fs::write(work.join("cache/data/00/1.1.data"), "x").expect("write");
}

#[test]
fn format_asks_first() {
    let dir = tempfile::tempdir().expect("scratch");
    let property = &work(dir.path());
    says(&["format", "-D", property], "There is nothing to remove.\n");
    state(dir.path());
    refused(&["format", "-D", property], 2, &["nobody can be asked", "-y"]);
    assert!(dir.path().join("journal/format").exists());
    let shown = text(&alluxio(&["format", "-s", "-y", "-D", property]).stdout);
    assert!(shown.contains("nothing was done"), "{shown}");
    assert!(dir.path().join("journal/format").exists());

    let output = alluxio(&["format", "-y", "-D", property]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().count(), 3);
    for folder in ["journal", "metastore", "cache"] {
        let left = std::fs::read_dir(dir.path().join(folder)).expect("list").count();
        assert_eq!(left, 0, "{folder}");
    }
}

#[test]
fn format_leaves_alone_what_is_not_ours_or_in_use() {
    let dir = tempfile::tempdir().expect("scratch");
    state(dir.path());
    let property = &work(dir.path());
    let foreign = dir.path().join("cache/thesis.tex");
    std::fs::write(&foreign, "x").expect("write");
    refused(
        &["format", "-y", "-D", property],
        1,
        &["thesis.tex", "alluxio.worker.tieredstore.level0.dirs.path"],
    );
    std::fs::remove_file(&foreign).expect("remove");

    let lock = std::fs::File::create(dir.path().join("journal/lock")).expect("create");
    lock.lock().expect("lock");
    refused(&["format", "-y", "-D", property], 1, &["a process uses it"]);
    for file in ["journal/format", "metastore/version", "cache/data/00/1.1.data"] {
        assert!(dir.path().join(file).exists(), "{file}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    // It is gone before the command starts: what the command prints fits into a pipe that nobody reads.
    let (reader, writer) = std::io::pipe().expect("pipe");
    drop(reader);
    let output = command(&["getConf"]).stdout(writer).output().expect("run alluxio");
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(141));
}
