//! Clients in environments of their own, against the harness's server.

mod credentials;
mod web;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use alluxio_common::config::Configuration;
use alluxio_tests::s3::memory::{Content, Credential, Object};
use alluxio_tests::s3::{ACCESS_KEY, SECRET_KEY};
use alluxio_tests::{MemoryS3, S3Server};
use bytes::Bytes;

use super::S3Client;
use crate::object::client::{ListRequest, ObjectClient};
use crate::{UfsErrorKind, UfsResult};

/// A server, a user's home, and what its environment says.
struct World {
    server: MemoryS3,
    home: tempfile::TempDir,
    environment: BTreeMap<String, String>,
}

impl World {
    /// Every service is the server, but there is no instance beneath.
    fn new() -> Self {
        Self::over(MemoryS3::start())
    }

    fn over(server: MemoryS3) -> Self {
        server.put("f", Object::plain(Content::from(Bytes::from_static(b"0123456789"))));
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join(".aws/sso/cache")).unwrap();
        let mut environment = BTreeMap::from([
            ("HOME".to_owned(), home.path().display().to_string()),
            ("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned()),
            ("AWS_REGION".to_owned(), "us-east-1".to_owned()),
        ]);
        for service in ["S3", "STS", "SSO"] {
            environment.insert(format!("AWS_ENDPOINT_URL_{service}"), server.endpoint());
        }
        Self {
            server,
            home,
            environment,
        }
    }

    fn set(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// A file in the user's `.aws`.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(".aws").join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn client_with(&self, options: &[(&str, &str)]) -> UfsResult<S3Client> {
        let mut conf = Configuration::default();
        for (key, value) in options {
            conf.set(key, value);
        }
        let environment = self.environment.clone();
        S3Client::in_environment(
            "bucket",
            &conf,
            Arc::new(move |name: &str| environment.get(name).cloned()),
        )
    }

    fn client(&self) -> S3Client {
        self.client_with(&[]).unwrap()
    }
}

/// The server's own keys, as a section of a file.
fn keys_of(section: &str) -> String {
    format!("[{section}]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
}

/// Makes the server forget what it knew and know this pair.
fn rotate(server: &MemoryS3, key_id: &str, secret: &str) {
    server.credentials(|known| {
        known.clear();
        let credential = Credential {
            secret: secret.to_owned(),
            token: None,
            expired: false,
            expires: None,
        };
        known.insert(key_id.to_owned(), credential);
    });
}

async fn list(client: &S3Client) -> UfsResult<usize> {
    let request = ListRequest {
        prefix: "",
        delimited: false,
        token: None,
        limit: 10,
    };
    Ok(client.list(request).await?.items.len())
}

/// What a request of each kind meets: with a body that says why, and without.
async fn works(client: &S3Client) -> UfsResult<()> {
    client.head("f").await?;
    assert_eq!(list(client).await?, 1);
    Ok(())
}

async fn refused(client: &S3Client) -> (UfsErrorKind, String) {
    let error = list(client).await.unwrap_err();
    (error.kind, error.message)
}
