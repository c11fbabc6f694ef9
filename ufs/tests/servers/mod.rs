//! Real S3 servers, each on a free port with a folder of its own, gone when the guard is dropped.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alluxio_common::config::Configuration;
use alluxio_ufs::{UnderFileSystem, open};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub const ACCESS_KEY: &str = "AKIDALLUXIOTEST";
pub const SECRET_KEY: &str = "secret/with+signs=";
pub const BUCKET: &str = "bucket";

/// A server under way.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// What versitygw keeps its objects in.
    pub folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// versitygw over a folder, with one bucket.
    pub fn versitygw() -> Self {
        let server = Self::start("ALLUXIO_TEST_VERSITYGW", "versitygw", |command, address, folder| {
            command
                .env("ROOT_ACCESS_KEY", ACCESS_KEY)
                .env("ROOT_SECRET_KEY", SECRET_KEY)
                .args(["--quiet", "--keep-alive", "--port", &address.to_string(), "posix"])
                .arg(folder);
        });
        std::fs::create_dir(server.folder.path().join(BUCKET)).unwrap();
        server
    }

    /// moto, with one bucket.
    pub async fn moto() -> Self {
        let server = Self::start("ALLUXIO_TEST_MOTO_SERVER", "moto_server", |command, address, _| {
            command.args(["-H", &address.ip().to_string(), "-p", &address.port().to_string()]);
        });
        let (status, body) = server.raw("PUT", &format!("/{BUCKET}"), b"").await;
        assert_eq!(status, 200, "{body}");
        server
    }

    fn start(variable: &str, program: &str, arguments: impl Fn(&mut Command, SocketAddr, &Path)) -> Self {
        let path = std::env::var_os(variable).unwrap_or_else(|| program.into());
        // Another process may take the port between choosing and using it.
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let mut command = Command::new(&path);
            arguments(&mut command, address, folder.path());
            let child = command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| {
                    panic!(
                        "{}: {error}; `cargo xtask test` installs it and sets {variable}",
                        path.display()
                    )
                });
            let mut server = Self { child, address, folder };
            let deadline = Instant::now() + Duration::from_secs(60);
            while Instant::now() < deadline && server.child.try_wait().unwrap().is_none() {
                if TcpStream::connect(address).is_ok() {
                    return server;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("{program} does not start");
    }

    /// The options of a mount of this server.
    pub fn options(&self) -> BTreeMap<String, String> {
        let pairs = [
            ("s3a.accessKeyId", ACCESS_KEY.to_owned()),
            ("s3a.secretKey", SECRET_KEY.to_owned()),
            ("alluxio.underfs.s3.endpoint", format!("http://{}", self.address)),
            ("alluxio.underfs.s3.streaming.upload.partition.size", "5MB".to_owned()),
            ("alluxio.underfs.s3.copy.part.size", "6MB".to_owned()),
            (
                "alluxio.underfs.object.store.uploads.dir",
                self.uploads().display().to_string(),
            ),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// Where uploads are noted.
    pub fn uploads(&self) -> std::path::PathBuf {
        // Beside the buckets of versitygw, which are visible folders.
        self.folder.path().join(".uploads")
    }

    pub fn open(&self, prefix: &str) -> Arc<dyn UnderFileSystem> {
        let uri = format!("s3://{BUCKET}/{prefix}");
        open(&uri, &self.options(), &Configuration::default()).unwrap()
    }

    /// One request as bytes on the wire: the target is not touched by any URL library. Moto wants a signature and does not check it.
    pub async fn raw(&self, method: &str, target: &str, body: &[u8]) -> (u16, String) {
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential={ACCESS_KEY}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (
            status.unwrap_or_else(|| panic!("{method} {target}: {answer:?}")),
            answer,
        )
    }
}

/// A key as the target of a raw request.
pub fn target(key: &str) -> String {
    let encoded = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC).to_string();
    format!("/{BUCKET}/{}", encoded.replace("%2F", "/").replace("%2E", "."))
}
