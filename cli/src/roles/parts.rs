//! A master and a worker with their listeners, to be started and stopped as one.

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
    serving: JoinHandle<()>,
    stop: CancellationToken,
}

impl MasterPart {
    /// Takes the port, then starts the master behind it.
    pub async fn start(conf: &Configuration, options: MasterOptions, stop: &CancellationToken) -> FsResult<MasterPart> {
        let listener = listen(conf, &keys::master::MASTER_BIND_HOST, &keys::master::MASTER_RPC_PORT).await?;
        let service = Master::start(conf, options).await?;
        // Not a child of the role's token: requests are served until the clients in this process have ended.
        let _ = stop;
        let stop = CancellationToken::new();
        let serving = tokio::spawn(Arc::clone(&service).serve(listener));
        Ok(MasterPart { service, serving, stop })
    }

    pub async fn stop(self) {
        self.service.shutdown().await;
        self.stop.cancel();
        self.serving.abort();
    }
}

/// A worker with its port and socket.
pub struct WorkerPart {
    pub worker: Arc<Worker>,
    serving: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl WorkerPart {
    /// Takes the port, then starts the worker behind it.
    pub async fn start(
        conf: &Configuration,
        master: Arc<dyn MasterApi>,
        _: &CancellationToken,
    ) -> FsResult<WorkerPart> {
        let listener = listen(conf, &keys::worker::WORKER_BIND_HOST, &keys::worker::WORKER_RPC_PORT).await?;
        let data_dir = PathBuf::from(conf.string(&keys::worker::WORKER_TIER0_PATH));
        let socket = conf.string(&keys::worker::WORKER_DOMAIN_SOCKET_ADDRESS);
        let socket = if socket.is_empty() {
            data_dir.join("worker.sock")
        } else {
            PathBuf::from(socket)
        };
        let host = conf.string(&keys::worker::WORKER_HOSTNAME);
        let address = WorkerAddress {
            worker_id: 0,
            host: if host.is_empty() { host_name() } else { host },
            port: u32::from(conf.port(&keys::worker::WORKER_RPC_PORT)),
            domain_socket: socket.to_string_lossy().into_owned(),
        };
        let stop = CancellationToken::new();
        let worker = Worker::start(conf, WorkerOptions::new(conf, data_dir, master, address), stop.clone()).await?;
        let framed = tokio::spawn(Arc::clone(&worker).serve(listener));
        let by_socket = Arc::clone(&worker);
        let descriptors = tokio::spawn(async move {
            if let Err(error) = by_socket.serve_fd(&socket).await {
                tracing::warn!(%error, "no descriptors for clients of this host: their reads go through the port");
            }
        });
        Ok(WorkerPart {
            worker,
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

    pub async fn stop(self) {
        self.stop.cancel();
        self.worker.shutdown().await;
        for task in self.serving {
            task.abort();
        }
    }
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
        Err(error) if error.kind == ErrorKind::Busy => {
            let why = format!(
                "listen on {host}:{number}: the port is taken; is alluxio running already? Choose another with -D {}=PORT",
                port.name
            );
            Err(FsError::new(ErrorKind::Busy, why))
        }
        other => other,
    }
}
