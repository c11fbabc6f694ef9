//! An S3 server within the test's process that has AWS's habits and does wrong on demand.
//!
//! Kept exactly: keys, headers, metadata, tags, storage classes, encryption settings. Checked: signatures (SigV4), checksums,
//! conditions, policies, locks, archives, restores. Objects lie in memory, in one file without a name, or are patterns that
//! take no room, so a test may have a bucket of terabytes. Left out: versions, ACLs, aws-chunked bodies, presigned URLs.
//!
//! Beside S3 it is whatever gives keys for a while: STS, the metadata service of instances, that of containers, SSO.
//!
//! Habits, policies, faults and objects can be changed while requests are served; each request is logged.

mod answer;
mod content;
mod http1;
mod identity;
mod listing;
mod objects;
mod request;
mod rules;
mod signature;
mod store;
mod uploads;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

pub use content::Content;
pub use identity::Identity;
pub use rules::{Act, Conditions, Fault, Habits};
pub use signature::Credential;
pub use store::Object;

use content::Spool;
use rules::{Allowed, Rule};
use store::{Bucket, State};

use super::{ACCESS_KEY, S3Server, SECRET_KEY};

/// A request as the log keeps it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Name in S3's API; empty if there is none.
    pub operation: &'static str,
    /// Empty if none is named.
    pub bucket: String,
    /// Exactly as it was asked for.
    pub key: String,
    /// Decoded.
    pub query: BTreeMap<String, String>,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Length of the body.
    pub body_bytes: u64,
    /// What it was answered; 0: nothing.
    pub status: u16,
}

/// What its connections share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    spool: Spool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked while it looked has changed nothing.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The server; it ends with this.
#[derive(Debug)]
pub struct MemoryS3 {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl MemoryS3 {
    /// Starts it with one empty bucket, `bucket`, and the harness's keys.
    pub fn start() -> MemoryS3 {
        Self::start_as(None)
    }

    /// As [`Self::start`], over TLS, with a certificate of [`Self::authority`] for 127.0.0.1, localhost and s3.test.
    pub fn start_tls() -> MemoryS3 {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        use rustls::{ServerConfig, crypto::ring};
        let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate and its key");
        Self::start_as(Some(Arc::new(config).into()))
    }

    /// The authority of the certificate, in PEM, for clients.
    pub fn authority() -> &'static str {
        include_str!("tls/authority.pem")
    }

    fn start_as(tls: Option<tokio_rustls::TlsAcceptor>) -> MemoryS3 {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let credential = Credential {
            secret: SECRET_KEY.to_owned(),
            token: None,
            expired: false,
            expires: None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                buckets: BTreeMap::from([("bucket".to_owned(), Bucket::default())]),
                habits: Habits::default(),
                credentials: BTreeMap::from([(ACCESS_KEY.to_owned(), credential)]),
                rules: Vec::new(),
                allowed: None,
                identity: Identity::default(),
                recent: std::collections::VecDeque::new(),
                faults: Vec::new(),
                log: Vec::new(),
                last_id: 0,
            }),
            spool: Spool::default(),
        });
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen on a free port");
        listener.set_nonblocking(true).expect("a listener for tokio");
        let address = listener.local_addr().expect("the port");
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let served = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = http1::serve(listener, served, tls) => {}
                    // An error says that the guard is gone, too.
                    _ = stopped => {}
                }
            });
        });
        MemoryS3 {
            address,
            scheme,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Changes habits, from the next request on.
    pub fn habits(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut self.shared.state().habits);
    }

    /// Changes the keys that it knows.
    pub fn credentials(&self, change: impl FnOnce(&mut BTreeMap<String, Credential>)) {
        change(&mut self.shared.state().credentials);
    }

    /// Forbids an action of AWS's policies (`PutObject`; `*`: all) on keys that begin so.
    pub fn forbid(&self, action: &str, key_prefix: &str) {
        self.shared.state().rules.push(Rule {
            action: action.to_owned(),
            key_prefix: key_prefix.to_owned(),
        });
    }

    /// Forbids nothing any more.
    pub fn allow_all(&self) {
        let mut state = self.shared.state();
        state.rules.clear();
        state.allowed = None;
    }

    /// Allows these actions of AWS's policies alone, on keys that begin so.
    pub fn allow_only(&self, actions: &[&str], key_prefix: &str) {
        let allowed = actions
            .iter()
            .map(|action| ((*action).to_owned(), key_prefix.to_owned()));
        self.shared.state().allowed = Some(Allowed(allowed.collect()));
    }

    /// Allows these actions beside those of [`Self::allow_only`], on keys that begin so.
    pub fn allow_also(&self, actions: &[&str], key_prefix: &str) {
        let also = actions
            .iter()
            .map(|action| ((*action).to_owned(), key_prefix.to_owned()));
        let mut state = self.shared.state();
        state.allowed.get_or_insert_with(|| Allowed(Vec::new())).0.extend(also);
    }

    /// Changes what gives keys: STS, roles of containers and instances, SSO.
    pub fn identity(&self, change: impl FnOnce(&mut Identity)) {
        change(&mut self.shared.state().identity);
    }

    /// A fault for requests to come; of several that match one request the first strikes.
    pub fn fail(&self, fault: Fault) {
        self.shared.state().faults.push(fault);
    }

    /// No faults any more.
    pub fn heal(&self) {
        self.shared.state().faults.clear();
    }

    /// An object as it is stored.
    pub fn object(&self, key: &str) -> Option<Object> {
        self.shared.state().buckets["bucket"].objects.get(key).cloned()
    }

    /// Makes another bucket.
    pub fn add_bucket(&self, name: &str) {
        self.shared.state().buckets.insert(name.to_owned(), Bucket::default());
    }

    /// As [`Self::object`], of another bucket.
    pub fn object_of(&self, bucket: &str, key: &str) -> Option<Object> {
        self.shared.state().buckets[bucket].objects.get(key).cloned()
    }

    /// Puts an object behind everybody's back.
    pub fn put(&self, key: &str, mut object: Object) {
        let mut state = self.shared.state();
        if object.etag.is_empty() {
            object.etag = format!("{:032x}", state.next_id());
        }
        let bucket = state.buckets.get_mut("bucket").expect("it is there from the start");
        bucket.objects.insert(key.to_owned(), object);
    }

    /// Changes an object where it lies; its ETag stays.
    pub fn change(&self, key: &str, change: impl FnOnce(&mut Object)) {
        let mut state = self.shared.state();
        let bucket = state.buckets.get_mut("bucket").expect("it is there from the start");
        change(bucket.objects.get_mut(key).expect("an object of that key"));
    }

    /// Removes an object behind everybody's back.
    pub fn remove(&self, key: &str) {
        let mut state = self.shared.state();
        let bucket = state.buckets.get_mut("bucket").expect("it is there from the start");
        bucket.objects.remove(key);
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<String> {
        self.shared.state().buckets["bucket"].objects.keys().cloned().collect()
    }

    /// Uploads in parts under way.
    pub fn uploads(&self) -> usize {
        self.shared.state().buckets["bucket"].uploads.len()
    }

    /// All requests so far, or since the log was cleared, in the order of their answers.
    pub fn log(&self) -> Vec<Seen> {
        self.shared.state().log.clone()
    }

    /// Those of one operation.
    pub fn seen(&self, operation: &str) -> Vec<Seen> {
        let log = self.log();
        log.into_iter().filter(|seen| seen.operation == operation).collect()
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.shared.state().log.clear();
    }
}

impl S3Server for MemoryS3 {
    fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }
}

impl Drop for MemoryS3 {
    fn drop(&mut self) {
        // It fails only if the thread has ended by itself.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the S3 server panicked");
        }
    }
}
