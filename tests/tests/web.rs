//! The web ports of master, worker and mount, over plain HTTP on real processes.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_tests::netns::NetNs;
use alluxio_tests::proxy::{Fault, Proxy};
use alluxio_tests::s3::options_for;
use alluxio_tests::separate::Separate;
use alluxio_tests::{LocalBuilder, Process, S3Server, Versity, ports, tools, wait};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

/// Status and body of a request.
fn ask(port: u16, method: &str, path: &str) -> (u16, String) {
    let (status, _, body) = exchange(
        port,
        &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    );
    (status, body)
}

fn get(port: u16, path: &str) -> String {
    let (status, body) = ask(port, "GET", path);
    assert_eq!(status, 200, "{path}: {body}");
    body
}

fn exchange(port: u16, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // The other end may close while we still write.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    (
        status.unwrap_or_else(|| panic!("no answer: {answer:?}")),
        head.to_owned(),
        body.to_owned(),
    )
}

/// Checks the form of a page and returns its samples.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let (mut helped, mut typed) = (Vec::new(), Vec::new());
    let mut samples = BTreeMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.len() > 3, "{line}");
            helped.push(name);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["gauge", "histogram"].contains(&kind), "{line}");
            assert!(!typed.contains(&name), "twice: {line}");
            typed.push(name);
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let bare = name.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| bare.strip_suffix(end))
                .filter(|family| typed.contains(family))
                .unwrap_or(bare);
            assert!(
                typed.contains(&family) && helped.contains(&family),
                "without HELP or TYPE: {line}"
            );
            samples.insert(name.to_owned(), value.parse().unwrap());
        }
    }
    assert!(page.ends_with("# EOF\n"), "{page}");
    samples
}

#[test]
fn each_role_serves_metrics_health_and_its_log_level() {
    let (master, worker, fuse) = (ports::free(), ports::free(), ports::free());
    let mut cluster = Separate::start(&[
        ("alluxio.master.web.port", &master.to_string()),
        ("alluxio.worker.web.port", &worker.to_string()),
        ("alluxio.fuse.web.enabled", "true"),
        ("alluxio.fuse.web.port", &fuse.to_string()),
    ]);
    // Passthrough would leave the worker nothing to do.
    let mount = cluster.mount_with("m", "passthrough=off");
    std::fs::write(mount.file("f"), vec![7; 300_000]).unwrap();
    assert_eq!(std::fs::read(mount.file("f")).unwrap().len(), 300_000);
    assert!(std::fs::metadata(mount.file("absent")).is_err());

    // Histograms of latency are filled, per operation and in all; counters and gauges are there.
    let of = |port| samples(&get(port, "/metrics"));
    let found = of(master);
    for name in [
        "Master_TotalRpcs_count",
        "Master_Lookup_count",
        "Master_Create_count",
        "Master_Create_sum",
        "Master_FilesCreated",
    ] {
        assert!(found.get(name).is_some_and(|value| *value > 0.0), "{name}: {found:#?}");
    }
    // Tried again while there was no worker yet.
    assert_eq!(found["Master_FilesCreated"], 1.0);
    assert_eq!(found["Master_Create_bucket{le=\"+Inf\"}"], found["Master_Create_count"]);
    assert!(found.contains_key("Master_TotalPaths"));
    let found = of(worker);
    for name in [
        "Worker_Write_count",
        "Worker_Seal_count",
        "Worker_CapacityTotal",
        "Worker_BytesWrittenAlluxio",
    ] {
        assert!(found.get(name).is_some_and(|value| *value > 0.0), "{name}: {found:#?}");
    }
    let found = of(fuse);
    for name in [
        "Fuse_TotalCalls_count",
        "Fuse_Create_count",
        "Fuse_Write_count",
        "Fuse_Lookup_sum",
    ] {
        assert!(found.get(name).is_some_and(|value| *value > 0.0), "{name}: {found:#?}");
    }

    for (port, role, metric) in [
        (master, "master", "Master.TotalRpcs"),
        (worker, "worker", "Worker.Write"),
        (fuse, "fuse", "Fuse.TotalCalls"),
    ] {
        // Alluxio's paths, with and without a slash at the end.
        assert_eq!(samples(&get(port, "/metrics/prometheus/")).len(), of(port).len());
        let json: serde_json::Value = serde_json::from_str(&get(port, "/metrics/json/")).unwrap();
        assert!(json["histograms"][metric]["count"].as_u64().unwrap() > 0, "{json}");
        assert!(
            json["histograms"][metric]["p99_seconds"].as_f64().unwrap() > 0.0,
            "{json}"
        );
        assert_eq!(get(port, "/healthz"), "ok\n");
        assert_eq!(get(port, "/readyz"), "ready\n");
        assert!(get(port, "/").contains("/metrics/json"));
        assert_eq!(ask(port, "GET", "/nothing").0, 404);
        assert_eq!(ask(port, "POST", "/metrics").0, 405);
        let path = format!("/api/v1/{role}/logLevel");
        assert!(get(port, &path).contains("filter"));
        assert_eq!(
            ask(port, "POST", &format!("{path}?logName=alluxio_master&level=loud")).0,
            400
        );
        assert_eq!(ask(port, "POST", &format!("{path}?level=debgu")).0, 400);
        let (status, refused) = ask(port, "POST", &format!("{path}?logName=alluxio.{role}&level=debug"));
        assert_eq!(status, 400, "{refused}");
        assert!(refused.contains(&format!("alluxio_{role}")), "{refused}");
        let (status, changed) = ask(port, "POST", &format!("{path}?logName=alluxio_ufs&level=debug"));
        assert_eq!(status, 200, "{changed}");
        assert!(changed.contains("\"level\":\"DEBUG\""), "{changed}");
        assert!(get(port, &path).contains("alluxio_ufs=debug"));
    }

    // At debug, as the README says, a request has a line: id, operation, inode, caller.
    let path = "/api/v1/master/logLevel?logName=alluxio_master&level=debug";
    assert_eq!(ask(master, "POST", path).0, 200);
    std::fs::create_dir(mount.file("made at debug")).unwrap();
    let log = cluster.master().log();
    let line = log
        .lines()
        .find(|line| line.contains("op=\"Mkdir\""))
        .unwrap_or_else(|| panic!("{log}"));
    for word in ["request{id=", "inode=", "session=", "caller=\"root\"", "answered"] {
        assert!(line.contains(word), "{word}: {line}");
    }

    let report = cluster.alluxio(&["fsadmin", "report", "metrics"]).ok();
    assert!(
        report.contains("Master.FilesCreated  (Type: COUNTER, Value: 1)\n"),
        "{report}"
    );
    assert!(report.contains("Master.Lookup  (Type: TIMER, Count: "), "{report}");
    let report = cluster
        .alluxio(&["fsadmin", "report", "metrics", "--format", "json"])
        .ok();
    assert!(serde_json::from_str::<serde_json::Value>(&report).unwrap()["counters"].is_object());
    mount.stop();
}

/// One process: the master's port tells of the mount, too.
#[test]
fn local_serves_the_metrics_of_all_its_parts() {
    let (master, worker) = (ports::free(), ports::free());
    let local = LocalBuilder::new()
        .option("alluxio.master.web.port", master.to_string())
        .option("alluxio.worker.web.port", worker.to_string())
        .start();
    std::fs::write(local.mount().join("f"), "x").unwrap();
    let found = samples(&get(master, "/metrics"));
    assert!(
        found["Fuse_Create_count"] >= 1.0 && found["Master_FilesCreated"] >= 1.0,
        "{found:#?}"
    );
    assert!(samples(&get(worker, "/metrics"))["Worker_CapacityTotal"] > 0.0);
}

#[test]
fn a_client_that_misbehaves_is_cut_off() {
    let port = ports::free();
    let cluster = Separate::start(&[("alluxio.master.web.port", &port.to_string())]);
    // A head that is too long, headers that are too many, bytes that are no request.
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    assert!([414, 431].contains(&exchange(port, &long).0));
    let many: String = (0..1000).map(|n| format!("h{n}: x\r\n")).collect();
    assert_eq!(exchange(port, &format!("GET /metrics HTTP/1.1\r\n{many}\r\n")).0, 431);
    assert_eq!(exchange(port, "\0\x01\x02 garbage\r\n\r\n").0, 400);
    // One that never finishes its head does not keep its place, and those who keep all places do not for ever.
    let started = Instant::now();
    let slow: Vec<TcpStream> = (0..70)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHos").unwrap();
            stream
        })
        .collect();
    assert!(get(port, "/healthz") == "ok\n" && started.elapsed() < LONG);
    drop(slow);
    drop(cluster);
}

#[test]
fn a_taken_port_is_an_error_only_for_who_chose_it() {
    let net = NetNs::new();
    let dir = tools::scratch("web-");
    std::fs::create_dir(dir.path().join("ufs")).unwrap();
    let master = |name: &str| {
        let mut command = net.command(tools::alluxio());
        command.args([
            "master",
            "-D",
            &format!("alluxio.work.dir={}", dir.path().join(name).display()),
        ]);
        command.arg("-D").arg(format!(
            "alluxio.master.mount.table.root.ufs={}",
            dir.path().join("ufs").display()
        ));
        command
    };
    let mut first = Process::spawn(
        "master",
        master("first").args(["-D", "alluxio.master.bind.host=127.0.0.1"]),
    );
    first.wait_ready("its port", LONG, || net.listens(19998) && net.listens(19999));
    // Where the RPC port is, there the web port is.
    let table = net.sh("cat /proc/net/tcp", LONG).ok();
    assert!(table.contains("0100007F:4E1F"), "{table}");

    // The default port is taken by another program: the role serves without, and says so.
    let mut command = master("other");
    let mut other = Process::spawn("other master", command.args(["-D", "alluxio.master.rpc.port=20998"]));
    other.wait_ready("its port", LONG, || net.listens(20998));
    assert!(other.log().contains("no metrics over HTTP: "), "{}", other.log());

    // Chosen, it is an error that names the property.
    command.args([
        "-D",
        "alluxio.master.web.port=19999",
        "-D",
        "alluxio.master.rpc.port=21998",
    ]);
    let mut third = Process::spawn("third master", &mut command);
    assert_eq!(third.wait(LONG).code(), Some(1), "{}", third.log());
    assert!(third.log().contains("alluxio.master.web.port"), "{}", third.log());
}

#[test]
fn a_worker_without_a_master_is_alive_but_not_ready_and_gives_up_when_told_to() {
    let dir = tools::scratch("alone-");
    let (web, nobody) = (ports::free(), ports::free());
    let worker = |limit: &str| {
        let mut command = std::process::Command::new(tools::alluxio());
        command.arg("worker");
        for property in [
            format!("alluxio.work.dir={}", dir.path().display()),
            format!("alluxio.master.rpc.port={nobody}"),
            format!("alluxio.worker.rpc.port={}", ports::free()),
            format!("alluxio.worker.web.port={web}"),
            format!("alluxio.worker.master.connect.retry.timeout={limit}"),
        ] {
            command.arg("-D").arg(property);
        }
        Process::spawn("worker", &mut command)
    };
    let mut patient = worker("1hour");
    patient.wait_ready("its web port", LONG, || alluxio_tests::wait::listens(web));
    assert_eq!(get(web, "/healthz"), "ok\n");
    let deadline = Instant::now() + LONG;
    loop {
        let (status, why) = ask(web, "GET", "/readyz");
        assert_eq!(status, 503, "{why}");
        if why.contains("not registered with a master") {
            break;
        }
        assert!(Instant::now() < deadline, "{why}");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(patient);

    let mut hasty = worker("1s");
    assert_eq!(hasty.wait(LONG).code(), Some(1), "{}", hasty.log());
    assert!(
        hasty.log().contains("alluxio.worker.master.connect.retry.timeout"),
        "{}",
        hasty.log()
    );
}

/// Whoever looks or waits hears that the store is away, and needs not wait to lose nothing.
#[test]
fn a_store_that_is_away_is_told_of() {
    let server = Versity::start();
    let proxy = Proxy::start(&server.endpoint());
    let mut local = LocalBuilder::new()
        .ufs("s3://bucket")
        .options(options_for(&proxy.endpoint()))
        .option("alluxio.underfs.s3.request.timeout", "1s")
        .start();
    let port = local.option("alluxio.master.web.port").parse().unwrap();
    let file = local.mount().join("f");
    std::fs::write(&file, "old").unwrap();
    local.alluxio(&["fs", "persist", "/"]).ok();
    let report = || local.alluxio(&["fsadmin", "report", "ufs"]).ok();
    assert!(report().contains("s3://bucket at / answered last at "), "{}", report());
    proxy.fault("", "", Fault::Status(500), usize::MAX);
    std::fs::write(&file, "newer").unwrap();
    wait::until("the report of it", LONG, || {
        report().contains("s3://bucket at / does not answer since ")
    });
    let ready = get(port, "/readyz");
    assert!(
        ready.starts_with("ready\ns3://bucket at / does not answer since "),
        "{ready}"
    );
    let summary = local.alluxio(&["fsadmin", "report"]).ok();
    assert!(summary.contains("Stores Away: 1"), "{summary}");

    // Who waits for it waits as long as he said, and is told for what.
    let asked = std::time::Instant::now();
    let persist = local.alluxio(&["fs", "persist", "-t", "7s", "/f"]);
    assert_eq!(persist.code, 1, "{persist:?}");
    let took = asked.elapsed();
    assert!(
        took >= Duration::from_secs(7) && took < Duration::from_secs(40),
        "{took:?}"
    );
    let said: Vec<&str> = persist.stderr.lines().collect();
    assert!(
        said[0].starts_with("alluxio: persist /f: waiting for ")
            && said[0].contains("1 change to go; s3://bucket at / does not answer since "),
        "{persist:?}"
    );
    let last = said.last().unwrap();
    assert!(last.starts_with("alluxio: persist /f: not done after "), "{persist:?}");

    let said = "persisting: 1 to go, 1 of them files (5B); s3://bucket does not answer";
    local.process().signal(Signal::SIGTERM);
    wait::until("a word of what is waited for", LONG, || local.log().contains(said));
    local.process().signal(Signal::SIGTERM);
    let status = local.process().wait(Duration::from_secs(5));
    assert_eq!(status.code(), Some(128 + 15), "{}", local.log());
    assert_eq!(local.log().matches("to go").count(), 1, "once: {}", local.log());
    proxy.heal();
    let local = local.crash_and_restart();
    local.alluxio(&["fs", "persist", "/"]).ok();
    assert_eq!(std::fs::read(server.bucket("bucket").join("f")).unwrap(), b"newer");
}
