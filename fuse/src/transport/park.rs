//! Requests that wait cost a thread only once they can go on.
//!
//! The thread that read a request polls it once. If it has to wait, it is put down where its waker finds it; the runtime
//! hears of it when it is woken, and not before.

use alluxio_common::sync::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use tokio::runtime::Handle;

/// A future that waits.
pub type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Parked {
    runtime: Handle,
    place: Mutex<Place>,
}

enum Place {
    /// The first poll is under way; whether it was woken meanwhile.
    Polling { woken: bool },
    /// It waits here.
    Here(Waiting),
    /// It is done, or the runtime has it.
    Gone,
}

/// Runs a request: here and now as far as it goes, the rest in the runtime.
pub fn run(runtime: &Handle, mut request: Waiting) {
    let _guard = runtime.enter();
    let parked = Arc::new(Parked {
        runtime: runtime.clone(),
        place: Mutex::new(Place::Polling { woken: false }),
    });
    let waker = Waker::from(Arc::clone(&parked));
    let polled = request.as_mut().poll(&mut Context::from_waker(&waker));
    let mut place = parked.place.lock();
    match (polled, &*place) {
        (Poll::Pending, Place::Polling { woken: false }) => *place = Place::Here(request),
        (Poll::Pending, _) => {
            *place = Place::Gone;
            drop(place);
            runtime.spawn(request);
        }
        (Poll::Ready(()), _) => *place = Place::Gone,
    }
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut place = self.place.lock();
        match &mut *place {
            Place::Polling { woken } => *woken = true,
            here @ Place::Here(_) => {
                let Place::Here(request) = std::mem::replace(here, Place::Gone) else {
                    return;
                };
                // Spawning may poll on other threads, and that may wake us.
                drop(place);
                self.runtime.spawn(request);
            }
            Place::Gone => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use tokio::sync::oneshot;

    #[test]
    fn a_request_is_run_here_and_goes_on_in_the_runtime_when_it_is_woken() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let (told, hears) = mpsc::channel();
        let ends = |told: &mpsc::Sender<_>, step| told.send((step, std::thread::current().id())).unwrap();
        let (go, wait) = oneshot::channel::<()>();
        let tell = told.clone();
        run(
            runtime.handle(),
            Box::pin(async move {
                ends(&tell, 1);
                let _ = wait.await;
                ends(&tell, 2);
            }),
        );
        let here = std::thread::current().id();
        assert_eq!(hears.try_recv().unwrap(), (1, here));
        hears.try_recv().unwrap_err();
        go.send(()).unwrap();
        let (step, thread) = hears.recv().unwrap();
        assert_eq!(step, 2);
        assert_ne!(thread, here);
        // Woken while it is polled for the first time.
        run(
            runtime.handle(),
            Box::pin(async move {
                tokio::task::yield_now().await;
                ends(&told, 3);
            }),
        );
        assert_eq!(hears.recv().unwrap().0, 3);
    }
}
