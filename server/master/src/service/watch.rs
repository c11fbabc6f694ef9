//! The watch hub: what changed goes to every session but the one that did it (DESIGN D8).
//!
//! Each open watch stream has a bounded queue. One that overflows is emptied and told to forget everything (`Reset`), so a
//! slow client costs a bounded amount of memory and never sees a part of the changes. A new stream starts with `Reset`: what
//! its client has cached before, nobody watched over.

use alluxio_common::sync::{Mutex, RwLock};
use alluxio_proto::master::{Empty, WatchBatch, WatchEvent, WatchItem};
use alluxio_proto::{ErrorKind, FsError, SessionId, WatchStream};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Changes that wait for one client: a few megabytes at most.
const QUEUE_ITEMS_MAX: usize = 16 * 1024;
/// Changes in one batch: keeps a frame far below its limit.
const BATCH_ITEMS_MAX: usize = 512;
/// An empty batch is sent after so much silence.
const HEARTBEAT: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<WatchItem>,
    reset: bool,
    closed: bool,
}

/// What waits for one stream.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

impl Queue {
    fn push(&self, events: &[WatchEvent]) {
        let mut waiting = self.waiting.lock();
        if waiting.reset {
            return;
        }
        if waiting.items.len() + events.len() > QUEUE_ITEMS_MAX {
            waiting.items = VecDeque::new();
            waiting.reset = true;
        } else {
            waiting.items.extend(events.iter().map(|event| WatchItem {
                event: Some(event.clone()),
            }));
        }
        drop(waiting);
        self.wake.notify_one();
    }

    fn close(&self) {
        self.waiting.lock().closed = true;
        self.wake.notify_one();
    }

    /// What is waiting; `None` if the stream is to end.
    fn take(&self) -> Option<Vec<WatchItem>> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return None;
        }
        if std::mem::take(&mut waiting.reset) {
            waiting.items.clear();
            return Some(vec![WatchItem {
                event: Some(WatchEvent::Reset(Empty {})),
            }]);
        }
        let count = waiting.items.len().min(BATCH_ITEMS_MAX);
        Some(waiting.items.drain(..count).collect())
    }
}

/// All open watch streams.
#[derive(Debug, Default)]
pub(super) struct WatchHub {
    queues: RwLock<HashMap<u64, (SessionId, Arc<Queue>)>>,
    next: AtomicU64,
}

impl WatchHub {
    /// Tells everybody but `author`.
    pub fn publish(&self, author: SessionId, events: &[WatchEvent]) {
        if events.is_empty() {
            return;
        }
        for (session, queue) in self.queues.read().values() {
            if *session != author || author.get() == 0 {
                queue.push(events);
            }
        }
    }

    /// Tells one session, on all its streams.
    pub fn tell(&self, session: SessionId, event: &WatchEvent) {
        for (of, queue) in self.queues.read().values() {
            if *of == session {
                queue.push(std::slice::from_ref(event));
            }
        }
    }

    /// A new stream of a session.
    pub fn subscribe(self: &Arc<Self>, session: SessionId) -> WatchStream {
        let queue = Arc::new(Queue::default());
        queue.waiting.lock().reset = true;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.queues.write().insert(id, (session, queue.clone()));
        let subscription = Subscription {
            hub: self.clone(),
            id,
            queue,
            ended: false,
        };
        Box::pin(futures::stream::unfold(subscription, |mut subscription| async move {
            if subscription.ended {
                return None;
            }
            let batch = subscription.next_batch().await;
            subscription.ended = batch.is_err();
            Some((batch, subscription))
        }))
    }

    /// Ends the streams of a session.
    pub fn close_session(&self, session: SessionId) {
        for (of, queue) in self.queues.read().values() {
            if *of == session {
                queue.close();
            }
        }
    }

    /// Ends all streams.
    pub fn close_all(&self) {
        self.queues.read().values().for_each(|(_, queue)| queue.close());
    }
}

/// One open stream; dropping it leaves the hub.
struct Subscription {
    hub: Arc<WatchHub>,
    id: u64,
    queue: Arc<Queue>,
    ended: bool,
}

impl Subscription {
    async fn next_batch(&self) -> Result<WatchBatch, FsError> {
        let deadline = tokio::time::Instant::now() + HEARTBEAT;
        loop {
            let Some(items) = self.queue.take() else {
                return Err(FsError::new(
                    ErrorKind::Stale,
                    "the session has ended, or the master stops; open a session again",
                ));
            };
            if !items.is_empty() {
                return Ok(WatchBatch { items });
            }
            if tokio::time::timeout_at(deadline, self.queue.wake.notified())
                .await
                .is_err()
            {
                return Ok(WatchBatch::default());
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.queues.write().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluxio_proto::master::InodeChanged;
    use futures::StreamExt;

    fn changed(inode: u64) -> WatchEvent {
        WatchEvent::Inode(InodeChanged { inode, data: false })
    }

    async fn items(stream: &mut WatchStream) -> Vec<WatchEvent> {
        let batch = stream.next().await.unwrap().unwrap();
        batch.items.into_iter().filter_map(|item| item.event).collect()
    }

    #[tokio::test]
    async fn others_hear_the_author_does_not() {
        let hub = Arc::new(WatchHub::default());
        let (mut a, mut b) = (hub.subscribe(SessionId(1)), hub.subscribe(SessionId(2)));
        assert_eq!(items(&mut a).await, [WatchEvent::Reset(Empty {})]);
        assert_eq!(items(&mut b).await, [WatchEvent::Reset(Empty {})]);
        hub.publish(SessionId(1), &[changed(7)]);
        assert_eq!(items(&mut b).await, [changed(7)]);
        // Nothing but the heartbeat for the author.
        assert_eq!(items(&mut a).await, []);
        hub.publish(SessionId(0), &[changed(8)]);
        assert_eq!(items(&mut a).await, [changed(8)]);
    }

    #[tokio::test]
    async fn overflow_is_one_reset() {
        let hub = Arc::new(WatchHub::default());
        let mut stream = hub.subscribe(SessionId(1));
        assert_eq!(items(&mut stream).await, [WatchEvent::Reset(Empty {})]);
        for inode in 0..=QUEUE_ITEMS_MAX as u64 {
            hub.publish(SessionId(2), &[changed(inode)]);
        }
        assert_eq!(items(&mut stream).await, [WatchEvent::Reset(Empty {})]);
        hub.publish(SessionId(2), &[changed(1)]);
        assert_eq!(items(&mut stream).await, [changed(1)]);
    }

    #[tokio::test]
    async fn end_of_a_session_ends_its_streams() {
        let hub = Arc::new(WatchHub::default());
        let mut stream = hub.subscribe(SessionId(1));
        hub.close_session(SessionId(1));
        assert_eq!(stream.next().await.unwrap().unwrap_err().kind, ErrorKind::Stale);
        assert!(stream.next().await.is_none());
        drop(stream);
        assert!(hub.queues.read().is_empty());
    }
}
