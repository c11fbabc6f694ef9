//! A store that misbehaves: 503, lost answers, bodies cut short, stalls. Nothing is lost, nothing is mixed, and every
//! error is the right one.

use alluxio_tests::proxy::{Fault, Proxy};
use alluxio_tests::s3::options_for;
use alluxio_tests::{LocalBuilder, S3Server, Versity, tree, wait};
use std::time::{Duration, Instant};

fn put(server: &Versity, key: &str, bytes: &[u8]) {
    let path = server.bucket("bucket").join(key);
    std::fs::create_dir_all(path.parent().expect("keys have a parent")).expect("make folders");
    std::fs::write(path, bytes).expect("write an object");
}

#[test]
fn reads_survive_throttling_and_cut_bodies() {
    let server = Versity::start();
    let bytes = tree::contents(3, 5_000_000);
    put(&server, "big", &bytes);
    let proxy = Proxy::start(&server.endpoint());
    let local = LocalBuilder::new()
        .ufs("s3://bucket")
        .options(options_for(&proxy.endpoint()))
        .start();
    proxy.fault("GET", "/big", Fault::Status(503), 2);
    proxy.fault("GET", "/big", Fault::CutBody(100_000), 2);
    assert!(std::fs::read(local.mount().join("big")).unwrap() == bytes);
}

#[test]
fn writes_survive_throttling_and_lost_answers() {
    let server = Versity::start();
    let proxy = Proxy::start(&server.endpoint());
    let local = LocalBuilder::new()
        .ufs("s3://bucket")
        .options(options_for(&proxy.endpoint()))
        .start();
    proxy.fault("PUT", "/a", Fault::Status(503), 3);
    proxy.fault("PUT", "/b", Fault::LoseAnswer, 1);
    std::fs::write(local.mount().join("a"), b"first").unwrap();
    std::fs::write(local.mount().join("b"), b"second").unwrap();
    local.alluxio(&["fs", "persist", "/"]).ok();
    assert_eq!(std::fs::read(server.bucket("bucket").join("a")).unwrap(), b"first");
    assert_eq!(std::fs::read(server.bucket("bucket").join("b")).unwrap(), b"second");
}

/// An error of the store is not an absence: no name disappears, and the errno says that the store could not be asked.
#[test]
fn an_unreachable_store_hides_nothing() {
    let server = Versity::start();
    put(&server, "dir/known", b"known");
    put(&server, "dir/other", b"other");
    let proxy = Proxy::start(&server.endpoint());
    let local = LocalBuilder::new()
        .ufs("s3://bucket")
        .options(options_for(&proxy.endpoint()))
        .option("alluxio.user.file.metadata.sync.interval", "0s")
        .option("alluxio.user.rpc.retry.max.duration", "2s")
        .option("alluxio.underfs.s3.request.timeout", "2s")
        .start();
    assert_eq!(std::fs::read(local.mount().join("dir/known")).unwrap(), b"known");
    proxy.fault("", "", Fault::Status(503), usize::MAX);
    let error = std::fs::metadata(local.mount().join("dir/never-seen")).unwrap_err();
    assert_ne!(
        error.raw_os_error(),
        Some(libc::ENOENT),
        "a store that cannot be asked is not an absence"
    );
    proxy.heal();
    wait::until("the names are back", Duration::from_secs(20), || {
        std::fs::read(local.mount().join("dir/other")).is_ok_and(|b| b == b"other")
    });
    assert_eq!(std::fs::read(local.mount().join("dir/known")).unwrap(), b"known");
    assert_eq!(
        std::fs::metadata(local.mount().join("dir/never-seen"))
            .unwrap_err()
            .raw_os_error(),
        Some(libc::ENOENT)
    );
}

/// A store that never answers ends in an error within the timeout; other operations go on meanwhile.
#[test]
fn a_stalled_store_blocks_nobody_else() {
    let server = Versity::start();
    put(&server, "slow", &tree::contents(1, 3_000_000));
    put(&server, "fast", b"fast");
    let proxy = Proxy::start(&server.endpoint());
    let local = LocalBuilder::new()
        .ufs("s3://bucket")
        .options(options_for(&proxy.endpoint()))
        .option("alluxio.underfs.s3.request.timeout", "3s")
        .option("alluxio.user.rpc.retry.max.duration", "5s")
        .start();
    std::fs::metadata(local.mount().join("slow")).unwrap();
    proxy.fault("GET", "/slow", Fault::Stall, usize::MAX);
    let slow = local.mount().join("slow");
    let reader = std::thread::spawn(move || {
        let start = Instant::now();
        (std::fs::read(slow).map(|bytes| bytes.len()), start.elapsed())
    });
    let start = Instant::now();
    assert_eq!(std::fs::read(local.mount().join("fast")).unwrap(), b"fast");
    std::fs::write(local.mount().join("written"), b"meanwhile").unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "others waited {:?} for a stalled read",
        start.elapsed()
    );
    wait::until("the stalled read ends", Duration::from_secs(60), || {
        reader.is_finished()
    });
    let (result, _) = reader.join().unwrap();
    assert!(result.is_err(), "a store that never answers cannot be read: {result:?}");
    proxy.heal();
    assert_eq!(
        std::fs::read(local.mount().join("slow")).unwrap(),
        tree::contents(1, 3_000_000)
    );
}

/// One cold file, two readers: its bytes come from the store once.
#[test]
fn two_cold_readers_fetch_once() {
    let server = Versity::start();
    let bytes = tree::contents(8, 20_000_000);
    put(&server, "file", &bytes);
    let proxy = Proxy::start(&server.endpoint());
    let local = LocalBuilder::new()
        .ufs("s3://bucket")
        .options(options_for(&proxy.endpoint()))
        .start();
    let path = local.mount().join("file");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert!(std::fs::read(&path).unwrap() == bytes));
        }
    });
    let fetched = proxy.counts().bytes_down;
    assert!(
        fetched as f64 <= bytes.len() as f64 * 1.02,
        "{fetched} bytes fetched for a file of {}",
        bytes.len()
    );
}

/// A small file costs exactly one PUT, also when it was written under another name first.
#[test]
fn a_small_file_costs_one_put() {
    let server = Versity::start();
    let proxy = Proxy::start(&server.endpoint());
    let local = LocalBuilder::new()
        .ufs("s3://bucket")
        .options(options_for(&proxy.endpoint()))
        .start();
    for index in 0..20 {
        let temporary = local.mount().join(format!("tmp-{index}"));
        std::fs::write(&temporary, tree::contents(index, 2_000)).unwrap();
        nix::fcntl::renameat(
            nix::fcntl::AT_FDCWD,
            &temporary,
            nix::fcntl::AT_FDCWD,
            local.mount().join(format!("final-{index}")).as_path(),
        )
        .unwrap();
    }
    local.alluxio(&["fs", "persist", "/"]).ok();
    let counts = proxy.counts();
    // The mark of the bucket is no file.
    let is_file = |line: &&String| line.starts_with("PUT") && !line.contains(".alluxio-folder");
    let puts: Vec<&String> = counts.lines.iter().filter(is_file).collect();
    assert_eq!(puts.len(), 20, "{puts:#?}");
}
