//! What calls of the master cost, without any transport: `cargo run --release -p alluxio-master --example service_bench DIR`.
//!
//! The journal lies in DIR (a tmpfs leaves out the disk), the store is in memory, no worker runs: files are created empty.

use alluxio_common::config::{Configuration, keys};
use alluxio_master::service::{Master, MasterOptions, MetastoreKind};
use alluxio_proto::master::FromReply;
use alluxio_proto::master::{Create, GetAttr, Lookup, MasterRequest, Op, Open, OpenSession, Opened, SessionInfo};
use alluxio_proto::types::{Caller, WriteType};
use alluxio_proto::{FsError, FsResult, MasterApi};
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

const FILES: u32 = 20_000;
const CALLERS: u32 = 16;

#[tokio::main]
async fn main() -> FsResult<()> {
    let base = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "/dev/shm".to_owned()));
    let dir = base.join(format!("service_bench.{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(|error| FsError::from_io("create the folder", &error))?;
    let result = run(&dir).await;
    std::fs::remove_dir_all(&dir).map_err(|error| FsError::from_io("remove the folder", &error))?;
    result
}

async fn run(dir: &std::path::Path) -> FsResult<()> {
    let mut conf = Configuration::default();
    conf.set(keys::master::ROOT_UFS.name, "memory://objects");
    let mut options = MasterOptions::new(&conf);
    options.journal_dir = dir.join("journal");
    options.secret = alluxio_common::secret::SecretFile::new(dir.join("cluster.secret"));
    options.metastore = MetastoreKind::Disk(dir.join("metastore"));
    let master: Arc<dyn MasterApi> = Master::start(&conf, options).await?;
    let session: SessionInfo = ask(&master, 0, Op::OpenSession(OpenSession::default())).await?;
    let session = session.session;

    let started = Instant::now();
    let mut inodes = Vec::new();
    for file in 0..FILES {
        inodes.push(create(&master, session, format!("one{file}")).await?);
    }
    report("create, 1 caller", FILES, started.elapsed());

    let started = Instant::now();
    let each = FILES / CALLERS;
    let callers = (0..CALLERS).map(|caller| {
        let master = master.clone();
        tokio::spawn(async move {
            for file in 0..each {
                create(&master, session, format!("many{caller}.{file}")).await?;
            }
            Ok::<(), FsError>(())
        })
    });
    for caller in futures::future::join_all(callers).await {
        caller.map_err(|error| FsError::new(alluxio_proto::ErrorKind::Internal, error.to_string()))??;
    }
    report("create, 16 callers", each * CALLERS, started.elapsed());

    let started = Instant::now();
    for file in 0..FILES {
        let name = Bytes::from(format!("one{file}"));
        let _: alluxio_proto::types::Attr = ask(&master, session, Op::Lookup(Lookup { parent: 1, name })).await?;
    }
    report("lookup", FILES, started.elapsed());

    let started = Instant::now();
    for inode in &inodes {
        let _: alluxio_proto::types::Attr = ask(&master, session, Op::GetAttr(GetAttr { inode: *inode })).await?;
    }
    report("getattr", FILES, started.elapsed());

    let started = Instant::now();
    for inode in &inodes {
        let open = Open {
            inode: *inode,
            read: true,
            ..Default::default()
        };
        let _: Opened = ask(&master, session, Op::Open(open)).await?;
    }
    report("open for reading", FILES, started.elapsed());
    Ok(())
}

async fn create(master: &Arc<dyn MasterApi>, session: u64, name: String) -> FsResult<u64> {
    let create = Create {
        parent: 1,
        name: name.into(),
        mode: 0o644,
        // Nothing else is to be measured: no upload follows.
        write_type: WriteType::MustCache as i32,
        ..Default::default()
    };
    let opened: Opened = ask(master, session, Op::Create(create)).await?;
    Ok(opened.attr.map_or(0, |attr| attr.inode))
}

async fn ask<T: FromReply>(master: &Arc<dyn MasterApi>, session: u64, op: Op) -> FsResult<T> {
    let request = MasterRequest {
        session,
        op_id: 0,
        lowest_op: 0,
        caller: Some(Caller {
            user: "root".to_owned(),
            groups: Vec::new(),
        }),
        op: Some(op),
    };
    let reply = master.call(request).await?;
    T::from_reply(reply).ok_or_else(|| FsError::new(alluxio_proto::ErrorKind::Internal, "another answer"))
}

fn report(what: &str, count: u32, took: Duration) {
    let each_us = took.as_secs_f64() * 1e6 / f64::from(count);
    println!(
        "{what:<20} {each_us:>8.1} us each, {:>9.0} per second",
        f64::from(count) / took.as_secs_f64()
    );
}
