//! Three separate processes on the default ports, and `mount -t alluxio`.

use alluxio_tests::mounts::{self, MountHelper, MountPoint};
use alluxio_tests::netns::NetNs;
use alluxio_tests::s3::{ACCESS_KEY, SECRET_KEY};
use alluxio_tests::{Process, tools, tree};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_secs(60);

#[test]
fn three_processes_and_mount_t_alluxio() {
    let net = NetNs::new();
    let dir = tools::scratch("three-");
    let bucket = dir.path().join("s3/bucket");
    std::fs::create_dir_all(&bucket).unwrap();
    let mut server = Process::spawn(
        "versitygw",
        net.command(tools::program("ALLUXIO_TEST_VERSITYGW", "versitygw"))
            .env("ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("ROOT_SECRET_KEY", SECRET_KEY)
            .args(["--keep-alive", "--port", "127.0.0.1:7070", "posix"])
            .arg(dir.path().join("s3")),
    );
    server.wait_ready("its port", SHORT, || net.listens(7070));

    let conf = dir.path().join("conf");
    std::fs::create_dir(&conf).unwrap();
    std::fs::write(
        conf.join("alluxio-site.properties"),
        format!(
            "alluxio.work.dir={}\nalluxio.master.mount.table.root.ufs=s3://bucket/p\ns3a.accessKeyId={ACCESS_KEY}\ns3a.secretKey={SECRET_KEY}\n\
             alluxio.underfs.s3.endpoint=http://127.0.0.1:7070\nalluxio.underfs.s3.region=us-east-1\n",
            dir.path().join("work").display()
        ),
    )
    .unwrap();
    if let Some(transport) = alluxio_tests::cluster::transport() {
        let line = format!("alluxio.fuse.transport={transport}\n");
        let path = conf.join("alluxio-site.properties");
        let properties = std::fs::read_to_string(&path).unwrap() + &line;
        std::fs::write(path, properties).unwrap();
    }
    let role = |name: &str| {
        Process::spawn(
            name,
            net.command(tools::alluxio()).arg(name).env("ALLUXIO_CONF_DIR", &conf),
        )
    };
    let mut master = role("master");
    master.wait_ready("port 19998", SHORT, || net.listens(19998));
    let mut worker = role("worker");
    worker.wait_ready("port 29999", SHORT, || net.listens(29999));

    let _helper = MountHelper::install();
    let point = MountPoint::new(dir.path().join("mnt"));
    let at = point.path().display();
    net.sh(&format!("mount -t alluxio localhost:19998/ {at}"), SHORT).ok();
    assert_eq!(mounts::fs_type(point.path()).as_deref(), Some("fuse.alluxio"));
    assert!(net.sh(&format!("df -T {at}"), SHORT).ok().contains("fuse.alluxio"));
    let refused = net.sh(&format!("mount -t alluxio localhost:19998/ {at}"), SHORT);
    assert_ne!(refused.code, 0, "a second mount on the same folder");
    assert!(
        refused.stderr.contains("already mounted") || refused.stderr.contains("busy"),
        "{}",
        refused.stderr
    );
    let listed = net.sh(&format!("{} fuse list", tools::alluxio().display()), SHORT).ok();
    assert!(listed.contains(&at.to_string()), "{listed}");

    net.sh(
        &format!("cp -a /usr/include {at}/ && diff -r --no-dereference /usr/include {at}/include"),
        LONG,
    )
    .ok();
    let alluxio = |arguments: &str| {
        net.sh(&format!("{} {arguments}", tools::alluxio().display()), LONG)
            .ok()
    };
    alluxio("fs persist /");
    // A link is an object that holds its target.
    let copy = tools::scratch("copy-");
    let stored = copy.path();
    net.sh(
        &format!("cp -a {}/. {}", bucket.join("p/include").display(), stored.display()),
        LONG,
    )
    .ok();
    let links = net.sh("find /usr/include -type l -printf '%P %l\\n'", SHORT).ok();
    for (name, target) in links.lines().filter_map(|line| line.split_once(' ')) {
        assert_eq!(std::fs::read(stored.join(name)).unwrap(), target.as_bytes(), "{name}");
        std::fs::remove_file(stored.join(name)).unwrap();
    }
    tree::assert_same_files("/usr/include".as_ref(), stored);

    // Other commands see the same namespace.
    assert!(alluxio("fs ls /include").contains("/include/stdio.h"));
    assert_eq!(
        alluxio("fs cat alluxio://localhost:19998/include/stdio.h").as_bytes(),
        std::fs::read("/usr/include/stdio.h").unwrap()
    );
    assert!(alluxio("fsadmin report").contains("Live Workers: 1"));

    net.sh(&format!("umount {at}"), SHORT).ok();
    assert!(!mounts::is_mounted(point.path()));
    for mut process in [worker, master] {
        process.signal(nix::sys::signal::Signal::SIGTERM);
        let status = process.wait(SHORT);
        assert!(status.success(), "{status}: {}", process.log());
    }
}
