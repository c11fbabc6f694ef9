//! A mount of a bucket that allows what it must, and whose keys change: nothing of it reaches a program.
#![allow(clippy::unwrap_used, reason = "a test ends there")]
#![allow(clippy::disallowed_methods, reason = "they are what is tested")]

use alluxio_tests::s3::memory::{Content, Credential, MemoryS3, Object};
use alluxio_tests::s3::{ACCESS_KEY, S3Server, SECRET_KEY};
use alluxio_tests::{LocalBuilder, tools, wait};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const ROUNDS: usize = 3;

/// Waits until an object is that.
fn stored(server: &MemoryS3, key: &str, bytes: &[u8]) {
    wait::until("it is stored", LONG, || {
        server.object(key).is_some_and(|object| object.content.bytes() == bytes)
    });
}

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new()
        .append(true)
        .open(path)
        .unwrap()
        .write_all(bytes)
        .unwrap();
}

/// The actions of the policy for reading and writing, as the document has it.
fn documented() -> Vec<&'static str> {
    let document = include_str!("../../docs/s3-storage.md");
    let section = document.split_once("\n### Reading and writing\n").unwrap().1;
    let section = section.split("\n### ").next().unwrap();
    let words = section.split('"').filter_map(|word| word.strip_prefix("s3:"));
    words.filter(|word| *word != "prefix").collect()
}

#[test]
fn a_mount_needs_no_more_than_the_document_says() {
    let server = MemoryS3::start();
    server.allow_only(&documented(), "p/");
    let dir = tools::scratch("access-");
    let local = LocalBuilder::at(dir.path())
        .ufs("s3://bucket/p")
        .options(server.options())
        .start();
    let mount = local.mount();
    let large = vec![b'l'; 20 << 20];
    fs::create_dir(mount.join("d")).unwrap();
    fs::write(mount.join("d/f"), "one").unwrap();
    fs::write(mount.join("large"), &large).unwrap();
    stored(&server, "p/d/f", b"one");
    stored(&server, "p/large", &large);
    append(&mount.join("d/f"), b" two");
    append(&mount.join("large"), b"end");
    stored(&server, "p/d/f", b"one two");
    let longer = [&large[..], b"end"].concat();
    stored(&server, "p/large", &longer);
    fs::rename(mount.join("d/f"), mount.join("d/g")).unwrap();
    fs::rename(mount.join("large"), mount.join("larger")).unwrap();
    stored(&server, "p/d/g", b"one two");
    stored(&server, "p/larger", &longer);
    fs::rename(mount.join("d"), mount.join("e")).unwrap();
    stored(&server, "p/e/g", b"one two");
    wait::until("the old names are gone", LONG, || {
        // `p/` has the attributes of the mount's own folder.
        let new = |key: &String| key.starts_with("p/e/") || key == "p/larger" || key == "p/";
        server.keys().iter().all(new)
    });
    assert_eq!(fs::read(mount.join("e/g")).unwrap(), b"one two");
    fs::remove_file(mount.join("larger")).unwrap();
    fs::remove_dir_all(mount.join("e")).unwrap();
    wait::until("it is gone from the bucket", LONG, || {
        server.keys().iter().all(|key| key == "p/")
    });
    let (code, log) = local.stop(LONG);
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("ERROR"), "{log}");
    let log = server.log();
    let denied: Vec<_> = log.iter().filter(|seen| seen.status == 403).collect();
    assert!(denied.is_empty(), "{denied:#?}");
}

fn profile(path: &Path, key: &str, secret: &str) {
    let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
    fs::write(path, text).unwrap();
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Reads and writes go on over a change of keys, in master and worker, and both count their requests.
#[test]
fn keys_that_change_in_the_profile_are_taken_by_a_mount() {
    let server = MemoryS3::start();
    let dir = tools::scratch("access-");
    let credentials = dir.path().join("credentials");
    profile(&credentials, ACCESS_KEY, SECRET_KEY);
    let mut options = server.options();
    options.retain(|key, _| !key.starts_with("s3a."));
    for round in 0..ROUNDS {
        let content = Content::from(bytes::Bytes::from_static(b"theirs"));
        server.put(&format!("p/theirs{round}/f"), Object::plain(content));
    }
    let (master, worker) = (alluxio_tests::ports::free(), alluxio_tests::ports::free());
    let local = LocalBuilder::at(dir.path())
        .ufs("s3://bucket/p")
        .options(options)
        .option("alluxio.master.web.port", master.to_string())
        .option("alluxio.worker.web.port", worker.to_string())
        .variable("AWS_SHARED_CREDENTIALS_FILE", credentials.display().to_string())
        .variable("AWS_CONFIG_FILE", "/dev/null")
        .variable("AWS_EC2_METADATA_DISABLED", "true")
        .start();
    let mount = local.mount();
    fs::write(mount.join("before"), "x").unwrap();
    stored(&server, "p/before", b"x");
    for round in 0..ROUNDS {
        let (key, secret) = (format!("NEW{round}"), format!("secret{round}"));
        let credential = Credential {
            secret: secret.clone(),
            token: None,
            expired: false,
            expires: None,
        };
        // As one does it: the new key is good before it is in the file, and the old one ends right after.
        server.credentials(|known| drop(known.insert(key.clone(), credential)));
        profile(&credentials, &key, &secret);
        server.credentials(|known| known.retain(|name, _| *name == key));
        // A folder that the master has not seen, an object that the worker has not.
        let (name, theirs) = (format!("f{round}"), format!("theirs{round}/f"));
        assert_eq!(fs::read(mount.join(&theirs)).unwrap(), b"theirs");
        fs::write(mount.join(&name), &name).unwrap();
        stored(&server, &format!("p/{name}"), name.as_bytes());
    }
    let of_worker = get(worker, "/metrics");
    for verb in ["PutObject", "GetObject"] {
        let name = format!("Worker_UfsRequests_UFS:s3:__bucket_p_Verb:{verb} ");
        assert!(of_worker.contains(&name), "{of_worker}");
    }
    assert!(of_worker.contains("Worker_UfsLatency_UFS:s3:__bucket_p_Verb:GetObject_bucket"));
    let of_master = get(master, "/metrics");
    assert!(
        of_master.contains("Master_UfsRequests_UFS:s3:__bucket_p_Verb:ListObjectsV2 "),
        "{of_master}"
    );
    let (code, log) = local.stop(LONG);
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("ERROR") && !log.contains("secret2"), "{log}");
}
