//! HTTP clients: whom they trust, and through which proxy they go.

use std::sync::Arc;
use std::time::Duration;

use alluxio_common::config::{Configuration, keys::underfs as keys};
use reqwest::{Certificate, NoProxy, Proxy};

use super::settings::Environment;
use crate::{UfsError, UfsErrorKind, UfsResult};

/// Connecting takes one round trip; more than this is a host that is not there.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Below the minute after which common servers close an idle connection themselves.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);
const IDLE_CONNECTIONS_MAX: usize = 64;

/// Authorities and proxies of one mount.
#[derive(Clone)]
pub(super) struct Web {
    /// Instead of the host's; `None`: those.
    authorities: Option<Arc<[Certificate]>>,
    proxies: Vec<Proxy>,
}

impl std::fmt::Debug for Web {
    /// A proxy's URL may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Web")
            .field("authorities", &self.authorities.as_ref().map(|all| all.len()))
            .field("proxies", &self.proxies.len())
            .finish()
    }
}

impl Web {
    /// # Errors
    /// [`UfsErrorKind::Invalid`] if the bundle of authorities cannot be read, or a proxy is no URL.
    pub fn new(conf: &Configuration, env: &Environment) -> UfsResult<Self> {
        let bundle = Some(conf.string(&keys::S3_CA_BUNDLE)).filter(|path| !path.is_empty());
        let authorities = match bundle.or_else(|| env("AWS_CA_BUNDLE")) {
            Some(path) => Some(authorities(&path)?),
            None => None,
        };
        Ok(Self {
            authorities,
            proxies: proxies(conf, env)?,
        })
    }

    /// A client for stores and services that may be anywhere.
    ///
    /// # Errors
    /// [`UfsErrorKind::Other`] if TLS cannot be set up.
    pub fn client(&self, connect_timeout: Duration, plain: bool) -> UfsResult<reqwest::Client> {
        let mut builder = plainly(connect_timeout);
        for proxy in &self.proxies {
            builder = builder.proxy(proxy.clone());
        }
        match &self.authorities {
            Some(authorities) => builder = builder.tls_certs_only(authorities.iter().cloned()),
            // No need to load, or even to have, the host's root certificates.
            None if plain => builder = builder.tls_certs_only([]),
            None => {}
        }
        built(builder)
    }
}

/// A client for what is beside this host: metadata services know no proxies and no TLS.
///
/// # Errors
/// [`UfsErrorKind::Other`] if it cannot be set up.
pub(super) fn nearby(connect_timeout: Duration) -> UfsResult<reqwest::Client> {
    built(plainly(connect_timeout).tls_certs_only([]))
}

fn plainly(connect_timeout: Duration) -> reqwest::ClientBuilder {
    crate::tls::install_provider();
    reqwest::Client::builder()
        .no_proxy()
        .http1_only()
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .tcp_nodelay(true)
        // A signature fits one host only; where a bucket has moved to is followed by who signs.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("alluxio/", env!("CARGO_PKG_VERSION")))
}

fn built(builder: reqwest::ClientBuilder) -> UfsResult<reqwest::Client> {
    builder
        .build()
        .map_err(|error| UfsError::new(UfsErrorKind::Other, format!("set up an HTTP client: {error:?}")))
}

fn authorities(path: &str) -> UfsResult<Arc<[Certificate]>> {
    let wrong = |why: String| {
        let key = keys::S3_CA_BUNDLE.name;
        let why = format!("read certificate authorities from {path} ({key}, AWS_CA_BUNDLE): {why}");
        UfsError::new(UfsErrorKind::Invalid, why)
    };
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let all = Certificate::from_pem_bundle(&bytes).map_err(|error| wrong(error.to_string()))?;
    if all.is_empty() {
        return Err(wrong("it holds no certificate in PEM".to_owned()));
    }
    Ok(all.into())
}

/// Our keys name one for everything; the environment has one for each scheme, as everywhere.
fn proxies(conf: &Configuration, env: &Environment) -> UfsResult<Vec<Proxy>> {
    let either = |name: &str| env(&name.to_ascii_lowercase()).or_else(|| env(name));
    let except = either("NO_PROXY").and_then(|names| NoProxy::from_string(&names));
    let wrong = |from: &str| UfsError::new(UfsErrorKind::Invalid, format!("{from}: it is no URL of a proxy"));
    let (host, port) = (conf.string(&keys::S3_PROXY_HOST), conf.int(&keys::S3_PROXY_PORT));
    if !host.is_empty() {
        let key = keys::S3_PROXY_HOST.name;
        if host.contains("://") || host.contains('/') || port == 0 {
            let port_key = keys::S3_PROXY_PORT.name;
            let why = format!("{key}={host}: a host is expected, and its port in {port_key}");
            return Err(UfsError::new(UfsErrorKind::Invalid, why));
        }
        let proxy = Proxy::all(format!("http://{host}:{port}")).map_err(|_| wrong(key))?;
        return Ok(vec![proxy.no_proxy(except)]);
    }
    let mut all = Vec::new();
    type Make = fn(String) -> reqwest::Result<Proxy>;
    let named: [(&str, Make); 3] = [
        ("HTTPS_PROXY", |url| Proxy::https(url)),
        ("HTTP_PROXY", |url| Proxy::http(url)),
        ("ALL_PROXY", |url| Proxy::all(url)),
    ];
    for (name, make) in named {
        let Some(url) = either(name) else { continue };
        // The value may hold a password.
        all.push(make(url).map_err(|_| wrong(name))?.no_proxy(except.clone()));
    }
    Ok(all)
}

/// An error with all that lies beneath it: reqwest's first line alone says little.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
