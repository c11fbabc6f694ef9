//! A master and a worker with their listeners, to be started and stopped as one.

use super::web::{self, Web};
use crate::output::away_lines;
use alluxio_client::{RemoteMaster, workers::host_name};
use alluxio_common::config::{Configuration, Key, keys};
use alluxio_common::rpc::{Address, ClientOptions, Listener};
use alluxio_master::service::{Master, MasterOptions, MasterService};
use alluxio_proto::types::WorkerAddress;
use alluxio_proto::{ErrorKind, FsError, FsResult, MasterApi};
use alluxio_worker::{Worker, WorkerOptions};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a worker in this process may take to register with the master in this process.
const REGISTER_TIME_MAX: Duration = Duration::from_secs(20);
/// Pause between looks at whether it has.
const REGISTER_PAUSE: Duration = Duration::from_millis(2);

/// A master with its port.
pub struct MasterPart {
    pub service: Arc<MasterService>,
    /// Its web port, unless that is taken.
    pub web: Option<Web>,
    serving: JoinHandle<()>,
    stop: CancellationToken,
}

impl MasterPart {
    /// Takes the port, then starts the master behind it.
    pub async fn start(conf: &Configuration, options: MasterOptions, stop: &CancellationToken) -> FsResult<MasterPart> {
        let listener = listen(conf, &keys::master::MASTER_BIND_HOST, &keys::master::MASTER_RPC_PORT).await?;
        let web = Web::start(conf, &web::MASTER).await?;
        let mut conf = conf.clone();
        if let Some(web) = &web {
            web.add(options.metrics.clone());
            // Reports name the port that it got.
            conf.set(keys::master::MASTER_WEB_PORT.name, &web.port().to_string());
        }
        let service = Master::start(&conf, options).await?;
        if let Some(web) = &web {
            web.ready_when(until(stop));
            let pattern = conf.string(&keys::user::DATE_FORMAT);
            let service = Arc::downgrade(&service);
            // A store that is away is no reason to send clients elsewhere: all masters have the same stores, and what is cached
            // is served.
            web.note(move || match service.upgrade() {
                Some(service) => away_lines(&service.stores_away(), &pattern),
                None => Vec::new(),
            });
        }
        // Not a child of the role's token: requests are served until the clients in this process have ended.
        let stop = CancellationToken::new();
        let serving = tokio::spawn(Arc::clone(&service).serve(listener));
        Ok(MasterPart {
            service,
            web,
            serving,
            stop,
        })
    }

    pub async fn stop(self) {
        if let Some(web) = self.web {
            web.stop().await;
        }
        self.service.shutdown().await;
        self.stop.cancel();
        self.serving.abort();
    }
}

/// A worker with its port and socket.
pub struct WorkerPart {
    pub worker: Arc<Worker>,
    web: Option<Web>,
    serving: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl WorkerPart {
    /// Takes the port, then starts the worker behind it.
    pub async fn start(
        conf: &Configuration,
        master: Arc<dyn MasterApi>,
        ending: &CancellationToken,
    ) -> FsResult<WorkerPart> {
        let listener = listen(conf, &keys::worker::WORKER_BIND_HOST, &keys::worker::WORKER_RPC_PORT).await?;
        let data_dir = PathBuf::from(conf.string(&keys::worker::WORKER_TIER0_PATH));
        let socket = conf.string(&keys::worker::WORKER_DOMAIN_SOCKET_ADDRESS);
        let socket = if socket.is_empty() {
            data_dir.join("worker.sock")
        } else {
            PathBuf::from(socket)
        };
        let address = WorkerAddress {
            worker_id: 0,
            host: worker_host(conf),
            // The worker draws it.
            nonce: 0,
            port: u32::from(conf.port(&keys::worker::WORKER_RPC_PORT)),
            domain_socket: socket.to_string_lossy().into_owned(),
        };
        let web = Web::start(conf, &web::WORKER).await?;
        let options = WorkerOptions::new(conf, data_dir, master, address);
        if let Some(web) = &web {
            web.add(options.metrics.clone());
        }
        let stop = CancellationToken::new();
        let worker = Worker::start(conf, options, stop.clone()).await?;
        if let Some(web) = &web {
            let (worker, ending) = (Arc::downgrade(&worker), until(ending));
            web.ready_when(move || match worker.upgrade() {
                Some(worker) if !worker.is_registered() => Err("not registered with a master yet".to_owned()),
                _ => ending(),
            });
        }
        let framed = tokio::spawn(Arc::clone(&worker).serve(listener));
        let by_socket = Arc::clone(&worker);
        let descriptors = tokio::spawn(async move {
            if let Err(error) = by_socket.serve_fd(&socket).await {
                tracing::warn!(%error, "no descriptors for clients of this host: their reads go through the port");
            }
        });
        Ok(WorkerPart {
            worker,
            web,
            serving: vec![framed, descriptors],
            stop,
        })
    }

    /// The id that the master gave, once it has.
    pub async fn registered(&self) -> FsResult<u64> {
        let wait = async {
            loop {
                if let Some(id) = self.worker.worker_id() {
                    return id.get();
                }
                tokio::time::sleep(REGISTER_PAUSE).await;
            }
        };
        let late = |_| {
            FsError::new(
                ErrorKind::Timeout,
                format!("start the worker: it has not registered within {REGISTER_TIME_MAX:?}; see the log above"),
            )
        };
        tokio::time::timeout(REGISTER_TIME_MAX, wait).await.map_err(late)
    }

    /// Ends when the worker has not registered with a master for as long as the configuration says, counted from its start.
    pub async fn never_registered(&self, conf: &Configuration) -> FsError {
        let key = &keys::worker::WORKER_CONNECT_RETRY;
        let Some(limit) = conf.duration(key) else {
            return std::future::pending().await;
        };
        tokio::time::sleep(limit).await;
        if self.worker.is_registered() {
            return std::future::pending().await;
        }
        let masters = crate::commands::configured_masters(conf).join(" or ");
        let why = format!(
            "register with the master at {masters}: it could not be reached within {limit:?} ({}); is one running?",
            key.name
        );
        FsError::new(ErrorKind::Timeout, why)
    }

    pub async fn stop(self) {
        if let Some(web) = self.web {
            web.stop().await;
        }
        self.stop.cancel();
        self.worker.shutdown().await;
        for task in self.serving {
            task.abort();
        }
    }
}

/// Ready until the role ends.
fn until(ending: &CancellationToken) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
    let ending = ending.clone();
    move || {
        if ending.is_cancelled() {
            return Err("ending".to_owned());
        }
        Ok(())
    }
}

/// What a worker of this configuration calls its host.
pub fn worker_host(conf: &Configuration) -> String {
    let host = conf.string(&keys::worker::WORKER_HOSTNAME);
    if host.is_empty() { host_name() } else { host }
}

/// What this host is called by sessions: as its worker is, as its mounts were told to, and as mounts of before and commands
/// call it.
pub fn own_names(conf: &Configuration) -> Vec<String> {
    let mut names = vec![worker_host(conf), conf.string(&keys::user::USER_HOSTNAME), host_name()];
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    names
}

/// The configured masters, or those that were named.
pub fn remote_master(conf: &Configuration, named: &[String]) -> RemoteMaster {
    let masters = if named.is_empty() {
        crate::commands::configured_masters(conf)
    } else {
        named.to_vec()
    };
    RemoteMaster::new(masters.into_iter().map(Address::Tcp).collect(), client_options(conf))
}

/// How this process calls others.
pub fn client_options(conf: &Configuration) -> ClientOptions {
    crate::commands::client_options(conf)
}

/// Takes a port; the error says which property chooses another.
async fn listen(conf: &Configuration, host: &Key, port: &Key) -> FsResult<Listener> {
    let (host, number) = (conf.string(host), conf.port(port));
    match Listener::bind_tcp(&host, number).await {
        Ok(listener) => {
            let serves = Address::tcp(&host, number);
            match host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
                || host == "localhost"
            {
                true => tracing::info!("serving {serves} ({}): reached from this host only", port.name),
                false => tracing::info!(
                    "serving {serves} ({}): whoever reaches this port is trusted with all files, so let only the cluster's \
                     own network reach it",
                    port.name
                ),
            }
            Ok(listener)
        }
        Err(error) if error.kind == ErrorKind::Busy => Err(port_taken(&host, number, port)),
        other => other,
    }
}

fn port_taken(host: &str, number: u16, port: &Key) -> FsError {
    let why = format!(
        "listen on {host}:{number}: the port is taken; is alluxio running already? Choose another with -D {}=PORT",
        port.name
    );
    FsError::new(ErrorKind::Busy, why)
}

/// Refuses a port that is taken now, before anything is made for the role that wants it. What else is wrong shows when it is
/// listened on.
pub fn check_port_free(conf: &Configuration, host: &str, port: &Key) -> FsResult<()> {
    let number = conf.port(port);
    match std::net::TcpListener::bind((host, number)) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(port_taken(host, number, port)),
        _ => Ok(()),
    }
}
