//! Locks: between sessions, over restarts, past the end of their owners.

use super::harness::*;
use alluxio_common::config::keys;
use alluxio_proto::master::*;
use alluxio_proto::{ErrorKind, FsResult};
use futures::StreamExt;
use std::time::Duration;

const FILE: u64 = 77;

fn lock(owner: u64, mode: LockMode, start: u64, last: u64) -> FileLock {
    FileLock {
        inode: FILE,
        kind: LockKind::Range as i32,
        owner,
        mode: mode as i32,
        start,
        last,
        pid: 4711,
    }
}

impl Client {
    async fn set(&self, lock: FileLock, wait_id: u64) -> FsResult<bool> {
        let set = SetLock {
            lock: Some(lock),
            wait_id,
            keep_stronger: false,
        };
        let reply: LockReply = self.ask(Op::SetLock(set)).await?;
        Ok(!reply.queued)
    }

    async fn resume(&self, locks: &[FileLock]) -> SessionInfo {
        let open = OpenSession {
            resume: self.session,
            host: HOST.into(),
            locks: locks.to_vec(),
            ..Default::default()
        };
        self.ask(Op::OpenSession(open)).await.unwrap()
    }
}

fn kind<T: std::fmt::Debug>(result: FsResult<T>) -> ErrorKind {
    result.unwrap_err().kind
}

#[tokio::test]
async fn who_waits_is_told_when_it_is_granted() {
    let harness = Harness::start().await;
    let (a, b) = (harness.client().await, harness.client().await);
    let mut stream = b.watch().await;
    stream.next().await.unwrap().unwrap();
    assert!(a.set(lock(1, LockMode::Write, 0, 9), 0).await.unwrap());
    assert_eq!(
        kind(b.set(lock(1, LockMode::Read, 5, 5), 0).await),
        ErrorKind::WouldBlock
    );
    assert!(!b.set(lock(1, LockMode::Read, 5, 5), 8).await.unwrap());
    assert_eq!(harness.master.metrics().value("Master.LocksWaiting"), Some(1));
    assert!(a.set(lock(1, LockMode::Unlocked, 3, 9), 0).await.unwrap());
    let granted = WatchEvent::LockGranted(LockGranted { wait_id: 8 });
    let mut heard = Vec::new();
    while heard.is_empty() {
        heard = stream.next().await.unwrap().unwrap().items;
    }
    assert_eq!(heard[0].event, Some(granted));
    assert!(
        b.set(lock(1, LockMode::Read, 5, 5), 8).await.unwrap(),
        "asking again changes nothing"
    );
    assert_eq!(harness.master.metrics().value("Master.LocksHeld"), Some(2));
    assert_eq!(harness.master.metrics().value("Master.LocksWaiting"), Some(0));

    // A wait that is withdrawn leaves no trace; one that is not there says so.
    assert!(!a.set(lock(1, LockMode::Write, 5, 5), 3).await.unwrap());
    let cancel = || a.ask::<LockReply>(Op::CancelLock(CancelLock { wait_id: 3 }));
    assert!(cancel().await.unwrap().queued);
    assert!(!cancel().await.unwrap().queued);

    // The end of a session is the end of its locks.
    let _: Empty = b.ask(Op::CloseSession(CloseSession {})).await.unwrap();
    assert!(a.set(lock(1, LockMode::Write, 5, 5), 0).await.unwrap());
    assert_eq!(kind(b.set(lock(1, LockMode::Read, 50, 50), 0).await), ErrorKind::Stale);
}

#[tokio::test]
async fn who_is_in_the_way_and_where_it_would_never_end() {
    let harness = Harness::start().await;
    let (a, b) = (harness.client().await, harness.client().await);
    assert!(a.set(lock(1, LockMode::Write, 10, LOCK_END), 0).await.unwrap());
    let ask = async |client: &Client, wanted: FileLock| {
        let get = GetLock { lock: Some(wanted) };
        client.ask::<LockReply>(Op::GetLock(get)).await.unwrap().conflict
    };
    let seen = ask(&b, lock(1, LockMode::Read, 0, 20)).await.unwrap();
    assert_eq!(
        (seen.start, seen.last, seen.pid, seen.mode()),
        (10, LOCK_END, 4711, LockMode::Write)
    );
    assert_eq!(ask(&b, lock(1, LockMode::Read, 0, 9)).await, None);
    assert_eq!(ask(&a, lock(1, LockMode::Read, 0, 20)).await, None, "its own");
    let mut far = harness.client().await;
    let open = OpenSession {
        host: "elsewhere".into(),
        ..Default::default()
    };
    far.session = far.ask::<SessionInfo>(Op::OpenSession(open)).await.unwrap().session;
    assert_eq!(
        ask(&far, lock(1, LockMode::Read, 0, 20)).await.unwrap().pid,
        0,
        "no pid of ours"
    );

    assert!(b.set(lock(1, LockMode::Write, 0, 0), 0).await.unwrap());
    assert!(!a.set(lock(1, LockMode::Read, 0, 0), 1).await.unwrap());
    assert_eq!(
        kind(b.set(lock(1, LockMode::Read, 10, 10), 1).await),
        ErrorKind::Deadlock
    );

    for nonsense in [
        lock(1, LockMode::Read, 3, 2),
        lock(1, LockMode::Read, 0, LOCK_END + 1),
        FileLock {
            kind: 9,
            ..lock(1, LockMode::Read, 0, 0)
        },
        FileLock {
            mode: 9,
            ..lock(1, LockMode::Read, 0, 0)
        },
    ] {
        assert_eq!(kind(a.set(nonsense, 0).await), ErrorKind::InvalidArgument);
    }
    let without = harness.client_of(0);
    assert_eq!(
        kind(without.set(lock(1, LockMode::Read, 0, 0), 0).await),
        ErrorKind::InvalidArgument
    );
}

#[tokio::test]
async fn locks_outlive_a_restart_of_the_master() {
    let mut conf = conf();
    conf.set(keys::user::SESSION_TIMEOUT.name, "60s");
    let ufs = std::sync::Arc::new(alluxio_ufs::memory());
    let harness = Harness::over(conf, ufs, true).await;
    let (a, b) = (harness.client().await, harness.client().await);
    let bystander = harness.client().await;
    assert!(a.set(lock(1, LockMode::Write, 0, 9), 0).await.unwrap());
    assert!(b.set(lock(1, LockMode::Read, 20, 29), 0).await.unwrap());
    let sessions = [&a, &b, &bystander].map(|client| client.session);
    drop((a, b, bystander));
    let harness = harness.restart().await;
    let [a, b, bystander] = sessions.map(|session| harness.client_of(session));

    // Nobody gets a lock, nor undoes one that was not named yet.
    assert_eq!(
        kind(bystander.set(lock(1, LockMode::Read, 90, 90), 0).await),
        ErrorKind::Unavailable
    );
    assert_eq!(
        kind(a.set(lock(1, LockMode::Unlocked, 0, 9), 0).await),
        ErrorKind::Unavailable
    );
    let info = a.resume(&[lock(1, LockMode::Write, 0, 9)]).await;
    assert!(info.resumed && info.locks_refused.is_empty());
    assert!(
        a.set(lock(1, LockMode::Unlocked, 9, 9), 0).await.unwrap(),
        "it has named them"
    );
    assert_eq!(
        kind(a.set(lock(1, LockMode::Read, 90, 90), 0).await),
        ErrorKind::Unavailable
    );

    // A claim on what another holds is refused, the rest is taken.
    let false_claim = lock(1, LockMode::Read, 5, 5);
    let info = b.resume(&[lock(1, LockMode::Read, 20, 29), false_claim]).await;
    assert_eq!(info.locks_refused, [false_claim]);
    assert_eq!(harness.master.metrics().value("Master.LockClaimsRefused"), Some(1));
    assert_eq!(
        kind(bystander.set(lock(1, LockMode::Read, 0, 0), 0).await),
        ErrorKind::WouldBlock
    );
    assert_eq!(
        kind(bystander.set(lock(1, LockMode::Write, 29, 29), 0).await),
        ErrorKind::WouldBlock
    );
    assert!(bystander.set(lock(1, LockMode::Write, 9, 9), 0).await.unwrap());
    // Naming once more, as after a broken connection, brings back nothing.
    assert!(a.set(lock(1, LockMode::Unlocked, 0, LOCK_END), 0).await.unwrap());
    a.resume(&[lock(1, LockMode::Write, 0, 9)]).await;
    assert!(bystander.set(lock(1, LockMode::Write, 0, 0), 0).await.unwrap());
}

#[tokio::test]
async fn a_session_that_does_not_come_back_holds_nobody_up_for_long() {
    let mut conf = conf();
    conf.set(keys::user::SESSION_TIMEOUT.name, "1s");
    let ufs = std::sync::Arc::new(alluxio_ufs::memory());
    let harness = Harness::over(conf, ufs, true).await;
    let (dead, mute) = (harness.client().await, harness.client().await);
    for client in [&dead, &mute] {
        let inode = client.session;
        let own = FileLock {
            inode,
            ..lock(1, LockMode::Write, 0, 9)
        };
        assert!(client.set(own, 0).await.unwrap());
    }
    let (dead_session, mute_session) = (dead.session, mute.session);
    drop((dead, mute));
    let harness = harness.restart().await;
    let (client, mute) = (harness.client().await, harness.client_of(mute_session));
    let wanted = FileLock {
        inode: dead_session,
        ..lock(1, LockMode::Write, 0, 9)
    };
    assert_eq!(kind(client.set(wanted, 0).await), ErrorKind::Unavailable);
    eventually("the lock of the dead is free", || async {
        // It lives, but does not name its locks: its session is ended, too.
        let alive: FsResult<Empty> = mute.ask(Op::KeepAlive(KeepAlive {})).await;
        let got = client.set(wanted, 0).await;
        assert!(got.is_err() || alive.is_err(), "granted before all are accounted for");
        got.is_ok()
    })
    .await;
    let of_mute = FileLock {
        inode: mute_session,
        ..wanted
    };
    assert!(client.set(of_mute, 0).await.unwrap());
}

#[tokio::test]
async fn an_expired_session_lets_go() {
    let mut conf = conf();
    conf.set(keys::user::SESSION_TIMEOUT.name, "300ms");
    let harness = Harness::with(conf).await;
    let (dead, client) = (harness.client().await, harness.client().await);
    assert!(dead.set(lock(1, LockMode::Write, 0, 9), 0).await.unwrap());
    let mut stream = client.watch().await;
    assert!(!client.set(lock(1, LockMode::Write, 0, 9), 4).await.unwrap());
    let granted = WatchEvent::LockGranted(LockGranted { wait_id: 4 });
    let told = async {
        loop {
            let batch = stream.next().await.unwrap().unwrap();
            if batch.items.iter().any(|item| item.event.as_ref() == Some(&granted)) {
                return;
            }
        }
    };
    let alive = async {
        loop {
            let _: Empty = client.ask(Op::KeepAlive(KeepAlive {})).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = told => {}
        () = alive => {}
        () = tokio::time::sleep(LONG) => panic!("the dead session keeps its lock"),
    }
}
