//! From what was typed to a file system: which masters, as whom, and whether anybody is there.

use super::CommandError;
use alluxio_client::{AlluxioUri, FileSystem, MasterClient, RemoteMaster, RemoteWorkers};
use alluxio_common::config::{Configuration, keys};
use alluxio_common::rpc::{Address, ClientOptions};
use alluxio_proto::master::{GetAttr, KeepAlive};
use alluxio_proto::types::{Attr, Caller};
use alluxio_proto::{ErrorKind, FsError, SessionId};
use std::sync::Arc;
use std::time::Duration;

/// How long a command waits for a master to be there at all. Once it was, `alluxio.user.rpc.retry.max.duration` counts: a
/// person who forgot to start a master should not wait for two minutes, a copy of hours should survive a fail-over.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// How often a session is renewed while a worker, not the master, is busy for it.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Inode of the root.
const ROOT: u64 = 1;

/// Paths of one command, all on one cluster.
#[derive(Debug)]
pub struct Targets {
    masters: Vec<String>,
    /// Absolute paths in the namespace, in the order given.
    pub paths: Vec<String>,
}

impl Targets {
    /// Parses what was typed.
    pub fn parse<'a>(typed: impl IntoIterator<Item = &'a String>) -> Result<Self, CommandError> {
        let mut all = Targets {
            masters: Vec::new(),
            paths: Vec::new(),
        };
        for text in typed {
            let uri = AlluxioUri::parse(text).map_err(|error| CommandError::Usage(error.message))?;
            if all.masters.is_empty() {
                all.masters = uri.masters;
            } else if !uri.masters.is_empty() && uri.masters != all.masters {
                let why = format!("{text}: all paths of a command must be on the same masters");
                return Err(CommandError::Usage(why));
            }
            all.paths.push(uri.path);
        }
        Ok(all)
    }

    /// Connects to the masters that the paths name, else to the configured ones.
    pub async fn connect(&self, conf: &Configuration) -> Result<FileSystem, CommandError> {
        let masters = if self.masters.is_empty() {
            configured_masters(conf)
        } else {
            self.masters.clone()
        };
        Ok(connect(conf, &masters).await?)
    }
}

/// The masters that the configuration names.
pub fn configured_masters(conf: &Configuration) -> Vec<String> {
    let all = conf.list(&keys::master::MASTER_RPC_ADDRESSES);
    if !all.is_empty() {
        return all;
    }
    let host = conf.string(&keys::master::MASTER_HOSTNAME);
    let port = conf.port(&keys::master::MASTER_RPC_PORT);
    match Address::tcp(&host, port) {
        Address::Tcp(address) => vec![address],
        Address::Unix(_) => Vec::new(),
    }
}

async fn connect(conf: &Configuration, masters: &[String]) -> Result<FileSystem, FsError> {
    let mut options = client_options(conf);
    // The first call connects, for so long; later ones are repeated by the client above.
    options.reconnect.total = FIRST_ANSWER;
    let addresses = masters.iter().cloned().map(Address::Tcp).collect();
    let mut master = RemoteMaster::new(addresses, options.clone()).client();
    if let Some(total) = conf.duration(&keys::user::RPC_RETRY_MAX) {
        master = master.with_retry_total(total);
    }
    let caller = caller(conf);
    let found: Result<Attr, FsError> = master.once(&caller, GetAttr { inode: ROOT }).await;
    match found {
        Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Timeout) => {
            return Err(no_master(masters, &error));
        }
        // Whoever answers is there; what it says is of no interest yet.
        _ => {}
    }
    keep_alive(master.clone(), caller.clone());
    let workers = Arc::new(RemoteWorkers::new(options, master.retry_policy()));
    let files = FileSystem::new(master, workers, caller);
    Ok(files.with_rename_across_mounts(conf.bool(&keys::user::RENAME_ACROSS_MOUNTS)))
}

fn no_master(masters: &[String], error: &FsError) -> FsError {
    let where_ = masters.join(" or ");
    let what = format!(
        "reach the master at {where_}: {error}; is one running? Start one with `alluxio local` or `alluxio master`, or name \
         it with -D alluxio.master.hostname=HOST"
    );
    FsError::new(error.kind, what)
}

/// How this process calls others.
pub fn client_options(conf: &Configuration) -> ClientOptions {
    let mut options = ClientOptions::default();
    let set = |field: &mut Duration, key| {
        if let Some(duration) = conf.duration(key) {
            *field = duration;
        }
    };
    set(&mut options.call_timeout, &keys::user::RPC_TIMEOUT);
    set(&mut options.connect_timeout, &keys::user::RPC_CONNECT_TIMEOUT);
    set(&mut options.keepalive, &keys::general::KEEPALIVE);
    set(&mut options.reconnect.base, &keys::user::RPC_RETRY_BASE);
    set(&mut options.reconnect.max, &keys::user::RPC_RETRY_MAX_SLEEP);
    options
}

/// Renews the session, should there be one, until the command ends. That a renewal fails shows in what needs the session.
fn keep_alive(master: MasterClient, caller: Caller) {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(KEEP_ALIVE).await;
            if master.session() != SessionId(0) {
                let _ = master.once(&caller, KeepAlive {}).await;
            }
        }
    });
}

/// As whom commands act: the user and groups of the process, or `alluxio.security.login.username`.
pub fn caller(conf: &Configuration) -> Caller {
    let login = conf.string(&keys::general::LOGIN_USERNAME);
    if !login.is_empty() {
        return named_caller(login);
    }
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    let mut groups = vec![group_name(nix::unistd::getegid())];
    for gid in nix::unistd::getgroups().unwrap_or_default() {
        let name = group_name(gid);
        if !groups.contains(&name) {
            groups.push(name);
        }
    }
    let user = user.map_or_else(|| uid.to_string(), |user| user.name);
    Caller { user, groups }
}

/// Another user than that of the process, with the groups that this host knows for it.
fn named_caller(user: String) -> Caller {
    let known = nix::unistd::User::from_name(&user).ok().flatten();
    let groups = known.map(|known| {
        let name = std::ffi::CString::new(user.as_str()).unwrap_or_default();
        nix::unistd::getgrouplist(&name, known.gid).unwrap_or_else(|_| vec![known.gid])
    });
    let groups = groups.unwrap_or_default().into_iter().map(group_name).collect();
    Caller { user, groups }
}

fn group_name(gid: nix::unistd::Gid) -> String {
    nix::unistd::Group::from_gid(gid)
        .ok()
        .flatten()
        .map_or_else(|| gid.to_string(), |group| group.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(paths: &[&str]) -> Result<Targets, CommandError> {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        Targets::parse(&paths)
    }

    #[test]
    fn paths_of_one_command_are_on_one_cluster() {
        let targets = parse(&["alluxio://a:1/x", "/y", "alluxio://a:1/z/"]).unwrap();
        assert_eq!(targets.masters, ["a:1"]);
        assert_eq!(targets.paths, ["/x", "/y", "/z"]);
        assert!(matches!(
            parse(&["alluxio://a:1/x", "alluxio://b:1/y"]),
            Err(CommandError::Usage(_))
        ));
        assert!(matches!(parse(&["/a/../b"]), Err(CommandError::Usage(why)) if why.contains("..")));
    }

    #[test]
    fn masters_come_from_the_configuration() {
        let mut conf = Configuration::default();
        assert_eq!(configured_masters(&conf), ["localhost:19998"]);
        conf.set("alluxio.master.hostname", "::1");
        conf.set("alluxio.master.rpc.port", "7");
        assert_eq!(configured_masters(&conf), ["[::1]:7"]);
        conf.set("alluxio.master.rpc.addresses", "a:1, b:2");
        assert_eq!(configured_masters(&conf), ["a:1", "b:2"]);
    }

    #[test]
    fn the_caller_is_the_process_unless_told_otherwise() {
        let own = caller(&Configuration::default());
        assert!(!own.user.is_empty() && !own.groups.is_empty());
        let mut conf = Configuration::default();
        conf.set("alluxio.security.login.username", "no such user here");
        assert_eq!(caller(&conf).user, "no such user here");
    }
}
