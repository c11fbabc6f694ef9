//! Two real S3 servers and one of our own, because each has what the others lack.
//!
//! [`Versity`] is fast and keeps objects as files (a bucket is a folder), so a test reads them without any S3 client.
//! [`Moto`] keeps keys exactly (`a//b`, `k` beside `k/x`), in memory, slowly.
//! [`MemoryS3`] runs in the test's process and has AWS's habits: policies, locks, archives, checksums, faults on demand.

pub mod memory;

pub use memory::MemoryS3;

use crate::{Process, ports, tools, wait};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Access key of both servers.
pub const ACCESS_KEY: &str = "test-access";
/// Secret key of both servers.
pub const SECRET_KEY: &str = "test-secret-key";

/// What every S3 server of the harness offers.
pub trait S3Server {
    /// `http://127.0.0.1:PORT`
    fn endpoint(&self) -> String;

    /// `-D` options that point an alluxio process at it.
    fn options(&self) -> BTreeMap<String, String> {
        options_for(&self.endpoint())
    }
}

/// `-D` options that point an alluxio process at an endpoint.
pub fn options_for(endpoint: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("s3a.accessKeyId".to_owned(), ACCESS_KEY.to_owned()),
        ("s3a.secretKey".to_owned(), SECRET_KEY.to_owned()),
        ("alluxio.underfs.s3.endpoint".to_owned(), endpoint.to_owned()),
        ("alluxio.underfs.s3.region".to_owned(), "us-east-1".to_owned()),
        ("alluxio.underfs.s3.disable.dns.buckets".to_owned(), "true".to_owned()),
    ])
}

/// A versitygw over a folder of its own.
#[derive(Debug)]
pub struct Versity {
    port: u16,
    root: PathBuf,
    process: Process,
    _dir: tempfile::TempDir,
}

impl Versity {
    /// Starts it with one bucket, `bucket`.
    pub fn start() -> Versity {
        let dir = tools::scratch("s3-");
        let root = dir.path().to_owned();
        Self::start_at(dir, root)
    }

    /// Starts it over a folder on a disk of the caller's; `keep` is held as long as the server.
    pub fn start_at(keep: tempfile::TempDir, root: PathBuf) -> Versity {
        std::fs::create_dir_all(root.join("bucket")).expect("make a bucket");
        let port = ports::free();
        let mut process = Process::spawn(
            "versitygw",
            Command::new(tools::program("ALLUXIO_TEST_VERSITYGW", "versitygw"))
                .env("ROOT_ACCESS_KEY", ACCESS_KEY)
                .env("ROOT_SECRET_KEY", SECRET_KEY)
                .args(["--keep-alive", "--port", &format!("127.0.0.1:{port}"), "posix"])
                .arg(&root),
        );
        process.wait_ready("its port", Duration::from_secs(60), || wait::listens(port));
        Versity {
            port,
            root,
            process,
            _dir: keep,
        }
    }

    /// Folder of a bucket: objects are files in it.
    pub fn bucket(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Process id, for CPU accounting.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl S3Server for Versity {
    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// A moto server.
#[derive(Debug)]
pub struct Moto {
    port: u16,
    _process: Process,
}

impl Moto {
    /// Starts it with one bucket, `bucket`.
    pub fn start() -> Moto {
        let port = ports::free();
        let mut process = Process::spawn(
            "moto_server",
            Command::new(tools::program("ALLUXIO_TEST_MOTO_SERVER", "moto_server")).args([
                "-H",
                "127.0.0.1",
                "-p",
                &port.to_string(),
            ]),
        );
        process.wait_ready("its port", Duration::from_secs(60), || wait::listens(port));
        let server = Moto {
            port,
            _process: process,
        };
        server.python("s3.create_bucket(Bucket='bucket')");
        server
    }

    /// Runs Python with `s3`, a boto3 client of this server; returns what it prints.
    #[track_caller]
    pub fn python(&self, code: &str) -> String {
        boto3(&self.endpoint(), code)
    }
}

impl S3Server for Moto {
    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Runs Python with `s3`, a boto3 client of the endpoint: an S3 client that is not ours.
#[track_caller]
pub fn boto3(endpoint: &str, code: &str) -> String {
    let python = python_of(&tools::program("ALLUXIO_TEST_MOTO_SERVER", "moto_server"));
    let prelude = format!(
        "import sys, hashlib, boto3\nfrom botocore.config import Config\n\
         s3 = boto3.client('s3', endpoint_url='{endpoint}', region_name='us-east-1', \
         aws_access_key_id='{ACCESS_KEY}', aws_secret_access_key='{SECRET_KEY}', \
         config=Config(s3={{'addressing_style': 'path'}}, retries={{'max_attempts': 2}}))\n"
    );
    let mut command = Command::new(python);
    command.arg("-c").arg(prelude + code);
    crate::process::run(&mut command, Duration::from_secs(120)).ok()
}

/// The interpreter of the virtual environment that moto_server lives in.
fn python_of(moto_server: &Path) -> PathBuf {
    moto_server.with_file_name("python")
}
