//! Descriptors over a unix socket: they arrive, they do not leak, and garbage does no harm.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use alluxio_common::rpc::fd::{Client, FdHandler, serve};
use alluxio_common::{ErrorKind, FsError, FsResult};
use async_trait::async_trait;
use bytes::Bytes;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Opener {
    dir: PathBuf,
    calls: AtomicUsize,
}

#[async_trait]
impl FdHandler for Opener {
    async fn call(&self, header: Bytes, data: Bytes) -> FsResult<(Bytes, Bytes, Option<OwnedFd>)> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match header.as_ref() {
            b"echo" => Ok((header, data, None)),
            b"panic" => panic!("asked for"),
            b"wait" => std::future::pending().await,
            name => {
                let path = self.dir.join(std::str::from_utf8(name).unwrap());
                let file = File::open(&path).map_err(|e| FsError::from_io(format!("open {}", path.display()), &e))?;
                Ok((header, data, Some(file.into())))
            }
        }
    }
}

struct Server {
    path: PathBuf,
    opener: Arc<Opener>,
    shutdown: CancellationToken,
    task: JoinHandle<FsResult<()>>,
}

impl Server {
    async fn start(dir: &Path) -> Self {
        let path = dir.join("worker.sock");
        let opener = Arc::new(Opener {
            dir: dir.to_owned(),
            calls: AtomicUsize::new(0),
        });
        let shutdown = CancellationToken::new();
        let (handler, token, at) = (Arc::clone(&opener), shutdown.clone(), path.clone());
        let task = tokio::spawn(async move { serve(&at, handler, token).await });
        let deadline = Instant::now() + Duration::from_secs(10);
        while Client::connect(&path).await.is_err() {
            assert!(Instant::now() < deadline, "the server does not come up");
            tokio::task::yield_now().await;
        }
        Self {
            path,
            opener,
            shutdown,
            task,
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        let end = tokio::time::timeout(Duration::from_secs(10), self.task)
            .await
            .expect("the server ends");
        end.unwrap().unwrap();
        assert!(!self.path.exists(), "the socket file is removed");
    }
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// Descriptors of this process that lead into a folder.
fn open_files_in(dir: &Path) -> usize {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap();
    fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter(|target| target.starts_with(dir))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptors_data_and_errors_come_back() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), b"content").unwrap();
    let server = Server::start(dir.path()).await;
    let client = Client::connect(&server.path).await.unwrap();

    let (header, data, fd) = client.call(text("f"), text("beside")).await.unwrap();
    assert_eq!((header, data), (text("f"), text("beside")));
    let mut content = String::new();
    File::from(fd.unwrap()).read_to_string(&mut content).unwrap();
    assert_eq!(content, "content");

    let (_, _, none) = client.call(text("echo"), Bytes::new()).await.unwrap();
    assert!(none.is_none());
    let big = Bytes::from(vec![7; 8 << 20]);
    assert!(client.call(text("echo"), big.clone()).await.unwrap().1 == big);
    assert_eq!(
        client.call(text("no such file"), Bytes::new()).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert_eq!(
        client.call(text("panic"), Bytes::new()).await.unwrap_err().kind,
        ErrorKind::Internal
    );
    let long = Bytes::from(vec![0; (8 << 20) + 1]);
    assert_eq!(
        client.call(text("echo"), long).await.unwrap_err().kind,
        ErrorKind::InvalidArgument
    );
    assert!(client.call(text("f"), Bytes::new()).await.unwrap().2.is_some());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_get_their_own_and_nothing_leaks() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..20 {
        std::fs::write(dir.path().join(n.to_string()), n.to_string()).unwrap();
    }
    let server = Server::start(dir.path()).await;
    let client = Client::connect(&server.path).await.unwrap();
    let calls = (0..500).map(|n| {
        let client = client.clone();
        tokio::spawn(async move {
            let name = (n % 20).to_string();
            let (_, _, fd) = client.call(Bytes::from(name.clone()), Bytes::new()).await.unwrap();
            let mut content = String::new();
            File::from(fd.unwrap()).read_to_string(&mut content).unwrap();
            assert_eq!(content, name);
        })
    });
    futures::future::try_join_all(calls.collect::<Vec<_>>()).await.unwrap();
    // The server closes its own a moment after it sent it.
    none_left_in(dir.path()).await;

    // A caller that gives up does not leave the descriptor behind, nor its connection in the pool.
    for _ in 0..20 {
        let call = client.call(text("1"), Bytes::new());
        let _ = tokio::time::timeout(Duration::from_micros(20), call).await;
    }
    assert!(client.call(text("2"), Bytes::new()).await.unwrap().2.is_some());
    none_left_in(dir.path()).await;
    server.stop().await;
}

/// Waits until nobody in this process has a file of a folder open.
async fn none_left_in(dir: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while open_files_in(dir) > 0 {
        assert!(Instant::now() < deadline, "descriptors leak");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pooled_connections_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let client = Client::connect(&server.path).await.unwrap();
    client.call(text("echo"), Bytes::new()).await.unwrap();
    server.stop().await;
    let error = client.call(text("echo"), Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("worker.sock"), "{error}");
    let again = Server::start(dir.path()).await;
    client.call(text("echo"), Bytes::new()).await.unwrap();
    assert_eq!(again.opener.calls.load(Ordering::SeqCst), 1);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let second = serve(&server.path, server.opener.clone(), CancellationToken::new()).await;
    assert_eq!(second.unwrap_err().kind, ErrorKind::Busy);
    let client = Client::connect(&server.path).await.unwrap();
    client.call(text("echo"), Bytes::new()).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_does_not_wait_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let client = Client::connect(&server.path).await.unwrap();
    let call = tokio::spawn(async move { client.call(text("wait"), Bytes::new()).await });
    while server.opener.calls.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    server.stop().await;
    assert_eq!(call.await.unwrap().unwrap_err().kind, ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_unwanted_descriptors_end_their_connection_only() {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::os::fd::AsRawFd;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let client = Client::connect(&server.path).await.unwrap();
    let path = server.path.clone();
    let hello = {
        let mut hello = vec![0x89, b'A', b'L', b'X', 0, 0, 0, 1, 3, 0, 0, 0];
        let crc = alluxio_common::checksum::crc32c(&hello);
        hello.extend(crc.to_be_bytes());
        hello
    };
    let provoke = tokio::task::spawn_blocking(move || {
        let mut noise: Vec<Vec<u8>> = vec![
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"PRI * HTTP/2.0".to_vec(),
            vec![0; 64],
        ];
        noise.push([hello.as_slice(), &[0xff; 100]].concat());
        noise.push([hello.as_slice(), &[0; 24]].concat());
        for (n, bytes) in noise.iter().enumerate() {
            let mut socket = UnixStream::connect(&path).unwrap();
            let _ = socket.write_all(bytes);
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut answer = Vec::new();
            let read = socket.read_to_end(&mut answer);
            let timed_out = read.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!timed_out, "case {n}: the connection stays open");
        }
        // Descriptors where none is wanted: the kernel has made them, and we must not keep them.
        for many in [1, 3, 253] {
            let mut file = tempfile::tempfile_in(path.parent().unwrap()).unwrap();
            file.rewind().unwrap();
            let socket = UnixStream::connect(&path).unwrap();
            let fds = vec![file.as_raw_fd(); many];
            let slices = [std::io::IoSlice::new(&hello)];
            let rights = [ControlMessage::ScmRights(&fds)];
            sendmsg::<()>(socket.as_raw_fd(), &slices, &rights, MsgFlags::empty(), None).unwrap();
        }
    });
    provoke.await.unwrap();
    client.call(text("echo"), Bytes::new()).await.unwrap();
    server.stop().await;
    assert_eq!(open_files_in(dir.path()), 0);
}

/// Serial calls that carry a descriptor, printed; the bound only catches a lost design.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_call_latency() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), b"content").unwrap();
    let server = Server::start(dir.path()).await;
    let client = Client::connect(&server.path).await.unwrap();
    let started = Instant::now();
    let calls = 1000;
    for _ in 0..calls {
        client.call(text("f"), Bytes::new()).await.unwrap();
    }
    let each = started.elapsed() / calls;
    println!("{each:?} a call");
    assert!(each < Duration::from_millis(5));
    server.stop().await;
}
