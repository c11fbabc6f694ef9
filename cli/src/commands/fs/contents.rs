//! Bytes of files: `cat`, `head`, `tail`, `checksum`.

use super::Shell;
use crate::commands::Done;
use alluxio_client::fs::FileReader;
pub use alluxio_client::fs::about;
use alluxio_proto::FsError;
use alluxio_proto::worker::TRANSFER_BYTES_MAX;
use md5::{Digest, Md5};
use std::fmt::Write;

/// Prints files whole.
pub async fn cat(shell: &mut Shell<'_>) -> Done {
    print_parts(shell, |_| 0, u64::MAX).await
}

/// Prints the first bytes of files.
pub async fn head(shell: &mut Shell<'_>, bytes: u64) -> Done {
    print_parts(shell, |_| 0, bytes).await
}

/// Prints the last bytes of files.
pub async fn tail(shell: &mut Shell<'_>, bytes: u64) -> Done {
    print_parts(shell, |length| length.saturating_sub(bytes), bytes).await
}

async fn print_parts(shell: &mut Shell<'_>, start: impl Fn(u64) -> u64, bytes: u64) -> Done {
    for path in shell.expanded("read").await? {
        let done = print_part(shell, &path, &start, bytes).await;
        shell.note(done)?;
    }
    shell.finish().await
}

async fn print_part(shell: &mut Shell<'_>, path: &str, start: &impl Fn(u64) -> u64, bytes: u64) -> Done {
    let mut reader = open(shell, path).await?;
    let mut offset = start(reader.length());
    let end = offset.saturating_add(bytes);
    while offset < end {
        let data = reader.read_at(offset, (end - offset).min(TRANSFER_BYTES_MAX)).await?;
        if data.is_empty() {
            break;
        }
        offset += data.len() as u64;
        shell.out.bytes(&data)?;
    }
    Ok(reader.close().await?)
}

/// Prints MD5 sums.
pub async fn checksum(shell: &mut Shell<'_>) -> Done {
    for path in shell.expanded("read").await? {
        match md5_of(shell, &path).await {
            Ok(sum) => shell.out.line(format!("md5sum: {sum}"))?,
            Err(error) => shell.note(Err(error.into()))?,
        }
    }
    shell.finish().await
}

async fn md5_of(shell: &Shell<'_>, path: &str) -> Result<String, FsError> {
    let mut reader = open(shell, path).await?;
    let mut sum = Md5::new();
    let mut offset = 0;
    loop {
        let data = reader.read_at(offset, TRANSFER_BYTES_MAX).await?;
        if data.is_empty() {
            break;
        }
        offset += data.len() as u64;
        sum.update(&data);
    }
    reader.close().await?;
    Ok(hex(&sum.finalize()))
}

async fn open(shell: &Shell<'_>, path: &str) -> Result<FileReader, FsError> {
    shell.fs.open(path).await.map_err(|error| about(error, "read", path))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_md5sum() {
        assert_eq!(hex(&Md5::digest(b"")), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hex(&Md5::digest(b"abc")), "900150983cd24fb0d6963f7d28e17f72");
    }
}
