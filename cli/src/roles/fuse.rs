//! A mount in a process of its own: in the foreground, or behind mount(8).

use super::mounting::{MountPart, MountRequest, retry_policy};
use super::web::{self, Web};
use super::{notify_ready, parts, run};
use alluxio_client::{AlluxioUri, MasterClient, RemoteWorkers};
use alluxio_common::config::{Configuration, Sources, keys};
use alluxio_fuse::mount::{HelperRequest, MountOptions, Readiness, run_helper};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a mount waits for a master that is not there yet: fstab may be earlier than the network.
const FIRST_ANSWER: Duration = Duration::from_secs(20);

/// `alluxio fuse mount`: serves until unmounted or told to stop.
///
/// # Errors
/// Of starting.
pub fn mount(conf: &Configuration, options: &MountOptions, path: &str, dir: &Path) -> FsResult<()> {
    let uri = AlluxioUri::parse(path)?;
    let name = conf.string(&keys::fuse::FUSE_FS_NAME);
    let source = if !name.is_empty() {
        name
    } else if uri.masters.is_empty() {
        format!("alluxio:{}", uri.path)
    } else {
        path.to_owned()
    };
    let request = MountRequest {
        path: &uri.path,
        dir,
        source: &source,
        options,
    };
    let (path, shown, masters) = (&uri.path, dir.display(), masters_of(conf, &uri));
    serve(conf, &uri, &request, || {
        say(&format!(
            "alluxio: {path} of the master at {masters} is mounted on {shown}. Ctrl-C or `alluxio fuse umount {shown}` ends it."
        ));
        notify_ready();
    })?;
    say(&format!("alluxio: {shown} is unmounted."));
    Ok(())
}

/// Tells who started a mount in the foreground; that nobody reads it is no reason to end.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The masters that a mount goes to.
fn masters_of(conf: &Configuration, uri: &AlluxioUri) -> String {
    let masters = match uri.masters.is_empty() {
        true => crate::commands::configured_masters(conf),
        false => uri.masters.clone(),
    };
    masters.join(" or ")
}

/// The mount helper: `mount -t alluxio SOURCE DIR -o OPTIONS`. Returns the exit status.
pub fn helper(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    run_helper(arguments, |request, readiness| serve_helper(&request, readiness))
}

fn serve_helper(request: &HelperRequest, readiness: &mut Readiness) -> FsResult<()> {
    let invalid =
        |error: alluxio_common::config::ConfigError| FsError::new(ErrorKind::InvalidArgument, error.to_string());
    let conf = Configuration::load(&Sources::from_environment()).map_err(invalid)?;
    let default = if request.verbose {
        crate::logging::Default::Info
    } else {
        crate::logging::Default::Warn
    };
    alluxio_common::logging::start(&conf, default)
        .map_err(|error| FsError::new(ErrorKind::InvalidArgument, error.to_string()))?;
    let mount = MountRequest {
        path: &request.uri.path,
        dir: &request.dir,
        source: &request.source,
        options: &request.options,
    };
    serve(&conf, &request.uri, &mount, || {
        if let Err(error) = readiness.ready() {
            tracing::info!(%error, "tell mount(8) that the mount serves");
        }
    })
}

fn serve(conf: &Configuration, uri: &AlluxioUri, request: &MountRequest<'_>, ready: impl FnOnce()) -> FsResult<()> {
    run(|stop| async move {
        let patience = retry_policy(conf, request.options);
        let workers = RemoteWorkers::new(parts::client_options(conf), patience);
        let api = Arc::new(parts::remote_master(conf, &uri.masters));
        let retry_total = conf.duration(&keys::user::RPC_RETRY_MAX).unwrap_or(Duration::MAX);
        // The first answer is waited for less long: a person looks on.
        let first = MasterClient::new(api.clone()).with_retry_total(FIRST_ANSWER.min(retry_total));
        reach(&first, uri, conf).await?;
        let master = MasterClient::new(api).with_retry_total(retry_total);
        let web = if conf.bool(&keys::fuse::FUSE_WEB_ENABLED) {
            Web::start(conf, &web::FUSE).await?
        } else {
            None
        };
        let mut mount = MountPart::start(conf, request, master, Arc::new(workers)).await?;
        if let Some(web) = &web {
            web.add(mount.metrics().clone());
            web.ready_when(|| Ok(()));
        }
        ready();
        let result = tokio::select! {
            result = mount.ended() => result,
            () = stop.cancelled() => Ok(()),
        };
        if let Some(web) = &web {
            web.ready_when(|| Err("ending".to_owned()));
        }
        mount.stop().await;
        if let Some(web) = web {
            web.stop().await;
        }
        result
    })
}

/// Whether a master answers at all.
async fn reach(master: &MasterClient, uri: &AlluxioUri, conf: &Configuration) -> FsResult<()> {
    use alluxio_proto::master::GetAttr;
    let caller = crate::commands::caller(conf);
    let answer: FsResult<alluxio_proto::types::Attr> = master
        .read(
            &caller,
            GetAttr {
                inode: alluxio_proto::InodeId::ROOT.get(),
            },
        )
        .await;
    match answer {
        Err(error) if error.is_retryable() => Err(error.context(format!(
            "reach the master at {}; is one running?",
            masters_of(conf, uri)
        ))),
        _ => Ok(()),
    }
}
