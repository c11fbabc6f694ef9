//! What the documents promise to users, kept word by word on real processes.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_common::config::{Scope, keys};
use alluxio_tests::mounts::MountPoint;
use alluxio_tests::{Process, Separate, process, tools, wait};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(300);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The first command of the README, with the binary under test in the place of `cargo run`.
fn first_command() -> String {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("    ")).unwrap();
    let rest = line
        .strip_prefix("cargo run --release --")
        .unwrap_or_else(|| panic!("the README's first command is {line}"));
    format!("{}{rest}", tools::alluxio().display())
}

/// A machine on which nothing of ours was ever there: default ports, an empty /mnt and an empty /var/lib of its own.
fn on_a_new_machine(line: &str) -> process::Output {
    let dir = tools::scratch("new-machine-");
    let (lib, mnt) = (dir.path().join("lib"), dir.path().join("mnt"));
    std::fs::create_dir(&lib).unwrap();
    std::fs::create_dir(&mnt).unwrap();
    let script = format!(
        "ip link set lo up; mount --bind {} /var/lib; mount --bind {} /mnt; cd {}\n{line}",
        lib.display(),
        mnt.display(),
        root().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-ec", &script]);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("ALLUXIO_") || name.starts_with("AWS_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    process::run(&mut command, LONG)
}

#[test]
fn the_first_command_of_the_readme_works_as_it_stands() {
    let line = first_command();
    assert!(!line.contains("s3"), "it needs a bucket: {line}");
    // Twice: a person who liked it does it again.
    let output = on_a_new_machine(&format!("{line}\n{line}"));
    let all = format!("{}\n{}", output.stdout, output.stderr);
    assert_eq!(output.code, 0, "{all}");
    // What was copied, where it lies, that it is the same.
    assert!(output.stdout.contains("-> '/mnt/a/docs/cli.md'"), "{all}");
    let said = output
        .stderr
        .lines()
        .find(|line| line.starts_with("alluxio: persisted "))
        .unwrap_or_else(|| panic!("{all}"));
    assert!(
        said.contains(" files (") && said.ends_with("/ is /var/lib/alluxio/ufs"),
        "{said}"
    );
    assert!(output.stdout.ends_with("the same\n"), "{all}");
    assert_eq!(output.stdout.matches("the same").count(), 2, "{all}");
}

/// Lines of product code that are no part of the registry of keys.
fn product_code() -> String {
    fn collect(dir: &Path, text: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.ends_with("common/src/config/keys") || path.ends_with("tests") {
                continue;
            }
            if path.is_dir() {
                collect(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut text = String::new();
    for member in ["cli", "client", "common", "fuse", "server", "ufs"] {
        collect(&root().join(member), &mut text);
    }
    text
}

/// Constants of keys by the names of their properties.
fn constants() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("common/src/config/keys")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for key in text.split("pub const ").skip(1) {
            let constant = key.split(':').next().unwrap().trim().to_owned();
            if let Some(name) = key.split("name: \"").nth(1) {
                found.push((constant, name.split('"').next().unwrap().to_owned()));
            }
        }
    }
    found
}

/// A property that is documented and read by nobody is a promise that nobody keeps.
#[test]
fn every_key_is_read_or_said_to_have_no_effect() {
    let code = product_code();
    let constants = constants();
    assert!(constants.len() > 80, "only {} keys were found", constants.len());
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let read = |constant: &str| {
        code.match_indices(constant).any(|(at, _)| {
            let (before, after) = (
                code[..at].chars().next_back(),
                code[at + constant.len()..].chars().next(),
            );
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
    };
    let mut wrong = Vec::new();
    for (constant, name) in &constants {
        let key = alluxio_common::config::find(name).unwrap();
        // Another key's default may be all that needs it.
        let referred = || keys::all().any(|other| other.default.contains(&format!("${{{name}}}")));
        let is_read = read(constant) || referred();
        if (key.scope == Scope::Nobody) == is_read {
            wrong.push(format!(
                "{constant} ({name}), {}",
                if is_read { "which is read" } else { "which nobody reads" }
            ));
        }
    }
    assert!(wrong.is_empty(), "Scope::Nobody is wrong, or missing, at: {wrong:#?}");
}

#[test]
fn a_key_without_effect_is_said_to_have_none_by_document_and_warning() {
    let text = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let nobodys: Vec<_> = keys::all().filter(|key| key.scope == Scope::Nobody).collect();
    assert!(!nobodys.is_empty());
    for key in nobodys {
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| `{}` ", key.name)))
            .unwrap();
        assert!(row.contains("accepted without effect"), "{row}");
        let output = alluxio(&["getConf", "-D", &format!("{}={}", key.name, key.default), key.name]);
        assert!(
            output.stderr.contains("accepted, no effect"),
            "{}: {}",
            key.name,
            output.stderr
        );
    }
}

/// Runs a command away from any configuration.
fn alluxio(arguments: &[&str]) -> process::Output {
    let mut command = Command::new(tools::alluxio());
    command.env("ALLUXIO_CONF_DIR", "/nonexistent").env_remove("RUST_LOG");
    process::run(command.args(arguments), LONG)
}

#[test]
fn the_keys_of_a_mount_say_what_is_mounted_where_and_under_which_name() {
    let cluster = Separate::start(&[]);
    std::fs::create_dir_all(cluster.ufs().join("sub")).unwrap();
    std::fs::write(cluster.ufs().join("sub/inside"), "x").unwrap();
    let point = MountPoint::new(cluster.dir().join("by key"));
    let mut command = Command::new(tools::alluxio());
    command.env("ALLUXIO_CONF_DIR", cluster.dir()).args(["fuse", "mount"]);
    for property in [
        format!("alluxio.fuse.mount.point={}", point.path().display()),
        "alluxio.fuse.mount.alluxio.path=/sub".to_owned(),
        "alluxio.fuse.fs.name=our-files".to_owned(),
    ] {
        command.arg("-D").arg(property);
    }
    let mut mount = Process::spawn("fuse mount", &mut command);
    let inside = point.path().join("inside");
    mount.wait_ready("the mount", LONG, || inside.exists());
    let table = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(table.contains("\nour-files "), "{table}");
    mount.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(mount.wait(LONG).success(), "{}", mount.log());
}

/// Files of a data folder that a process has open.
fn cached_files_open(pid: u32) -> usize {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = links.flatten().filter_map(|link| std::fs::read_link(link.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().ends_with(".data"))
        .count()
}

#[test]
fn without_short_circuit_no_descriptor_leaves_the_worker() {
    let cluster = Separate::start(&[]);
    for (name, options, expected) in [
        ("with", "alluxio.user.short.circuit.enabled=true", 1),
        ("without", "alluxio.user.short.circuit.enabled=false", 0),
    ] {
        let mut mount = cluster.mount_with(name, options);
        let path = mount.file(name);
        let pid = mount.process().id();
        let opens = || {
            let mut file = std::fs::File::create(&path).unwrap();
            std::io::Write::write_all(&mut file, b"data").unwrap();
            cached_files_open(pid)
        };
        // A worker that was started just now is known to be on this host only after a look at its socket.
        wait::until(name, Duration::from_secs(10), || opens() == expected);
        assert_eq!(opens(), expected, "{name}");
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
        mount.stop();
    }
    // Both cannot be: it is said, and nothing is mounted.
    let refused = cluster.alluxio(&[
        "fuse",
        "mount",
        "-o",
        "passthrough=on,alluxio.user.short.circuit.enabled=false",
        "/",
        "/mnt",
    ]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("short.circuit"), "{}", refused.stderr);
}

#[test]
fn a_wrong_log_filter_is_an_error() {
    for arguments in [
        ["fs", "ls", "/", "-D", "alluxio.log=debgu"],
        [
            "fsadmin",
            "report",
            "summary",
            "-D",
            "alluxio.log=info,alluxio_worker=loud",
        ],
        ["fuse", "mount", "/", "-D", "alluxio.log=a=b=c"],
    ] {
        let output = alluxio(&arguments);
        assert_eq!(output.code, 2, "{arguments:?}: {}", output.stderr);
        assert!(
            output.stderr.contains("alluxio.log"),
            "{arguments:?}: {}",
            output.stderr
        );
    }
    let mut command = Command::new(tools::alluxio());
    command
        .env("ALLUXIO_CONF_DIR", "/nonexistent")
        .env("RUST_LOG", "nonsense");
    let output = process::run(command.args(["fs", "ls", "/"]), LONG);
    assert_eq!(output.code, 2, "{}", output.stderr);
    assert!(output.stderr.contains("RUST_LOG"), "{}", output.stderr);
}

#[test]
fn log_lines_are_json_when_asked_for_with_the_span_of_the_request() {
    let mut cluster = Separate::start(&[
        ("alluxio.log", "info,alluxio_common=debug,alluxio_master=debug"),
        ("alluxio.log.format", "JSON"),
    ]);
    let made = cluster.alluxio(&["fs", "mkdir", "/made"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let log = cluster.master().log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let asked = lines
        .iter()
        .find(|line| line["span"]["op"] == "Mkdir")
        .unwrap_or_else(|| panic!("{log}"));
    assert_eq!(asked["span"]["name"], "request");
    assert_eq!(asked["span"]["inode"], 1, "{asked}");
    assert!(asked["span"]["id"].as_u64().is_some_and(|id| id > 0), "{asked}");
    assert!(asked["span"]["caller"].is_string(), "{asked}");
    assert_eq!(asked["message"], "answered", "{asked}");
}

#[test]
fn the_access_log_of_a_mount_has_a_line_for_each_request() {
    let cluster = Separate::start(&[]);
    let log = cluster.dir().join("access.log");
    let mount = cluster.mount_with("m", &format!("passthrough=off,access_log={}", log.display()));
    std::fs::write(mount.file("a file"), "hello").unwrap();
    assert!(std::fs::metadata(mount.file("absent")).is_err());
    mount.stop();
    let text = std::fs::read_to_string(&log).unwrap();
    let line = |words: &[&str]| {
        text.lines()
            .find(|line| words.iter().all(|word| line.contains(word)))
            .unwrap_or_else(|| panic!("no line with {words:?}:\n{text}"))
    };
    line(&[" Create ", "name=\"a file\"", "uid=0", "errno=0"]);
    let written = line(&[" Write ", "offset=0 length=5", "took_us="]);
    assert!(!written.contains("inode=0 "), "{written}");
    line(&[" Lookup ", "name=\"absent\"", &format!("errno={}", libc::ENOENT)]);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);

    for (options, word) in [
        ("access_log=/no/such/folder/log", "access log"),
        ("transport=fuser,access_log=/tmp/x", "access_log"),
    ] {
        let refused = cluster.alluxio(&["fuse", "mount", "-o", options, "/", "/mnt"]);
        assert_eq!(refused.code, 1, "{options}: {}", refused.stderr);
        assert!(refused.stderr.contains(word), "{options}: {}", refused.stderr);
    }
}

/// One caller waits through two layers that try again; one of them says so, once.
#[test]
fn a_long_wait_is_said_once_with_what_is_waited_for() {
    let mut cluster = Separate::start(&[]);
    let mut mount = cluster.mount_with("m", "attr_timeout=0,entry_timeout=0");
    cluster.kill_master();
    let path = mount.file("whatever");
    let caller = std::thread::spawn(move || std::fs::metadata(path));
    let waits = |log: &str| {
        log.lines()
            .filter(|line| line.contains("waiting for") && line.contains("WARN"))
            .count()
    };
    let deadline = Instant::now() + LONG;
    while waits(&mount.process().log()) == 0 {
        assert!(Instant::now() < deadline, "nothing is said:\n{}", mount.process().log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = mount.process().log();
    let line = log.lines().find(|line| line.contains("waiting for")).unwrap();
    assert!(line.contains("connect to") && line.contains("120s at most"), "{line}");
    cluster.restart_master();
    assert_eq!(caller.join().unwrap().unwrap_err().kind(), std::io::ErrorKind::NotFound);
    mount.stop();
}

/// The budget is the property: with everything away, a call ends when it says, whichever layers it passes.
#[test]
fn a_call_ends_when_its_budget_does() {
    let mut cluster = Separate::start(&[("alluxio.user.rpc.retry.max.duration", "3s")]);
    let mount = cluster.mount_with("m", "attr_timeout=0,entry_timeout=0,passthrough=off");
    std::fs::write(mount.file("f"), "x").unwrap();
    let file = std::fs::File::open(mount.file("f")).unwrap();
    cluster.kill_master();
    let started = Instant::now();
    assert!(std::fs::metadata(mount.file("f")).is_err());
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(30),
        "{took:?}"
    );
    drop(file);
}

/// `alluxio format` refuses a folder that holds what it does not know, so it has to know all that the worker puts there.
#[test]
fn format_knows_every_file_of_the_workers_folder() {
    let layout = std::fs::read_to_string(root().join("server/worker/src/store/layout.rs")).unwrap();
    let format = std::fs::read_to_string(root().join("cli/src/commands/format.rs")).unwrap();
    let listing = layout.split("//! ```").nth(1).unwrap();
    let names: Vec<&str> = listing
        .lines()
        .filter_map(|line| line.strip_prefix("//! ")?.split([' ', '/']).next())
        .filter(|name| !["", "lock", "lost+found"].contains(name))
        .collect();
    assert!(names.contains(&"worker.properties") && names.len() > 4, "{names:?}");
    let unknown: Vec<&&str> = names
        .iter()
        .filter(|name| !format.contains(&format!("\"{name}\"")))
        .collect();
    assert!(
        unknown.is_empty(),
        "cli/src/commands/format.rs does not know {unknown:?}"
    );
}
