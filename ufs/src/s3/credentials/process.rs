//! `credential_process`: a program of the user's that prints credentials.

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncReadExt;

use super::Credential;
use super::chain::Chain;
use super::metadata::expiration;
use crate::UfsResult;

/// It may ask a service; one that asks a person gets no answer.
const PROCESS_TIME_MAX: Duration = Duration::from_secs(60);
/// Of its output no more is read.
const OUTPUT_BYTES_MAX: u64 = 64 << 10;
/// Of what it says on standard error no more is shown.
const SHOWN_CHARS_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<String>,
}

pub(super) async fn of(command: &str, profile: &str) -> UfsResult<(Credential, String)> {
    let source = format!("credential_process of profile {profile:?}");
    let failed = |why: String| Chain::denied(format!("{source}: {why}; run the command by hand"));
    let mut child = tokio::process::Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("run /bin/sh: {error}")))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let run = async {
        let (printed, said) = futures::join!(read(stdout), read(stderr));
        (child.wait().await, printed, said)
    };
    let (status, printed, said) = tokio::time::timeout(PROCESS_TIME_MAX, run)
        .await
        .map_err(|_| failed(format!("it did not end within {PROCESS_TIME_MAX:?}")))?;
    let status = status.map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        let said: String = String::from_utf8_lossy(&said)
            .trim()
            .chars()
            .take(SHOWN_CHARS_MAX)
            .collect();
        return Err(failed(format!("it ended with {status}: {said}")));
    }
    // What it printed is secret, so an error of the parser, which may quote it, is not shown.
    let printed: Printed = serde_json::from_slice(&printed).map_err(|error| {
        failed(format!(
            "what it printed is not what is expected, at line {}",
            error.line()
        ))
    })?;
    if printed.version != 1 {
        return Err(failed(format!(
            "it printed version {}, and 1 is known",
            printed.version
        )));
    }
    let expires = expiration(printed.expiration.as_deref(), &source)?;
    let token = printed.session_token.as_deref();
    let credential = Credential::new(
        &printed.access_key_id,
        &printed.secret_access_key,
        token,
        expires,
        &source,
    )?;
    Ok((credential, source))
}

async fn read(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> Vec<u8> {
    let mut all = Vec::new();
    if let Some(pipe) = pipe {
        // What came before an error is what there is.
        let _ = pipe.take(OUTPUT_BYTES_MAX).read_to_end(&mut all).await;
    }
    all
}
