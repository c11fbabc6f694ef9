//! Installs what tests and benches need: Debian packages, versitygw through Go, moto in a virtual environment. What is
//! there already is not touched.

use anyhow::{Context, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSITYGW: &str = "github.com/versity/versitygw/cmd/versitygw@v1.8.0";
const PYTHON_PACKAGES: [&str; 2] = ["moto[server]==5.2.5", "boto3==1.44.5"];
const PJDFSTEST: &str = "0.2.2";
/// A Debian package, and what shows that it is there, from wherever.
struct Need {
    package: &'static str,
    is_there: fn() -> bool,
}

const DEBIAN: [Need; 9] = [
    Need::program("fuse3", || on_path("fusermount3")),
    Need::program("e2fsprogs", || on_path("mkfs.ext4")),
    Need::program("git", || on_path("git")),
    Need::program("fio", || on_path("fio")),
    Need::program("acl", || on_path("setfacl")),
    Need::program("attr", || on_path("setfattr")),
    Need::program("rsync", || on_path("rsync")),
    Need::program("util-linux", || on_path("flock")),
    Need::program("python3-venv", || python_has("ensurepip")),
];
/// Programs whose work on a mount is a proof of POSIX.
const DEBIAN_POSIX: [Need; 5] = [
    Need::program("vim", || on_path("vim")),
    Need::program("sqlite3", || on_path("sqlite3")),
    Need::program("tar", || on_path("tar")),
    Need::program("python3-pip", || python_has("pip")),
    // The server's programs are on no PATH, and what is there may belong to the client alone.
    Need::program("postgresql", has_postgresql),
];

impl Need {
    const fn program(package: &'static str, is_there: fn() -> bool) -> Need {
        Need { package, is_there }
    }
}

/// Where the installed tools are.
pub struct Tools {
    /// The fast S3 server.
    pub versitygw: PathBuf,
    /// The exact S3 server.
    pub moto_server: PathBuf,
}

/// Root of the workspace.
pub fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Installs what is missing and says what it does.
pub fn tools() -> anyhow::Result<Tools> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the tests mount file systems: run them as root"
    );
    ensure!(
        Path::new("/dev/fuse").exists(),
        "/dev/fuse is missing: load the fuse module (modprobe fuse)"
    );
    debian(&DEBIAN)?;
    let dir = target().join("tools");
    Ok(Tools {
        versitygw: versitygw(&dir)?,
        moto_server: moto(&dir)?,
    })
}

fn on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| dir.join(name).is_file())
}

fn python_has(module: &str) -> bool {
    let found = Command::new("python3")
        .arg("-c")
        .arg(format!("import {module}"))
        .output();
    found.is_ok_and(|output| output.status.success())
}

fn has_postgresql() -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions
        .map(|version| version.path().join("bin"))
        .any(|bin| bin.join("initdb").is_file() && bin.join("pgbench").is_file())
}

/// Installs the programs that the proofs of POSIX run. The tests start PostgreSQL by themselves, as the user `postgres`.
///
/// # Errors
/// If one of them cannot be had: nothing is left out.
pub fn posix_programs() -> anyhow::Result<()> {
    debian(&DEBIAN_POSIX)
}

fn debian(wanted: &[Need]) -> anyhow::Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|need| !(need.is_there)())
        .map(|need| need.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    ensure!(
        on_path("apt-get"),
        "the tests need programs that are not here, and this is no Debian: install what is there called {names}"
    );
    println!("installing Debian packages: {names}");
    step(Command::new("apt-get").args(["-qq", "update"]))?;
    step(
        Command::new("apt-get")
            .args(["-qq", "-y", "--no-install-recommends", "install"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )?;
    let still: Vec<&str> = wanted
        .iter()
        .filter(|need| !(need.is_there)())
        .map(|need| need.package)
        .collect();
    ensure!(
        still.is_empty(),
        "apt-get installed {names}, and what the tests want of {} is still not found: is another version of it first on PATH?",
        still.join(" ")
    );
    Ok(())
}

fn versitygw(dir: &Path) -> anyhow::Result<PathBuf> {
    let bin = dir.join("bin");
    let program = bin.join("versitygw");
    if !program.is_file() {
        println!("installing {VERSITYGW} into {} (a minute or two)", bin.display());
        step(Command::new("go").args(["install", VERSITYGW]).env("GOBIN", &bin))?;
    }
    Ok(program)
}

fn moto(dir: &Path) -> anyhow::Result<PathBuf> {
    let venv = dir.join("moto");
    let program = venv.join("bin/moto_server");
    if !program.is_file() {
        println!("installing {} into {}", PYTHON_PACKAGES.join(", "), venv.display());
        step(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        step(
            Command::new(venv.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check"])
                .args(PYTHON_PACKAGES),
        )?;
    }
    Ok(program)
}

/// The POSIX suite, as a program; installed when it is missing.
pub fn pjdfstest() -> anyhow::Result<PathBuf> {
    let dir = target().join("tools");
    let program = dir.join("bin/pjdfstest");
    if !program.is_file() {
        println!("installing pjdfstest {PJDFSTEST} into {} (a minute)", dir.display());
        step(
            cargo()
                .args(["install", "pjdfstest", "--version", PJDFSTEST, "--locked", "--debug"])
                .arg("--root")
                .arg(&dir),
        )?;
    }
    Ok(program)
}

/// Cargo, in the workspace, as a user would start it: without what cargo itself told this program about its package. Build
/// scripts (ring's) ask for those variables, and half the dependencies would be compiled anew for each caller.
pub fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let about_this = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        if about_this.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a command with its output shown.
///
/// # Errors
/// If it cannot start or fails; the message is its command line.
pub fn step(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}
