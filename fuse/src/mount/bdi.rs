//! Read-ahead of a mount, through its backing device info.
//!
//! FUSE's own negotiation cannot exceed the 128 KiB that the kernel offers; sysfs can. For sequential reads that pass
//! through the daemon it is the largest single gain.

use super::table::Device;
use alluxio_proto::{FsError, FsResult};
use std::path::PathBuf;

/// Raises the read-ahead of a mounted file system; never lowers it. Only after the session has answered the kernel's INIT,
/// which sets it anew.
///
/// # Errors
/// `AccessDenied` for others than root; `NotFound` if nothing with this device is mounted.
pub fn raise_read_ahead(device: Device, kib: u32) -> FsResult<()> {
    let path = PathBuf::from(format!("/sys/class/bdi/{device}/read_ahead_kb"));
    let failed = |error: std::io::Error| FsError::from_io(format!("raise read-ahead in {}", path.display()), &error);
    let now = std::fs::read_to_string(&path).map_err(failed)?;
    if now.trim().parse::<u32>().is_ok_and(|now| now >= kib) {
        return Ok(());
    }
    std::fs::write(&path, kib.to_string()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluxio_proto::ErrorKind;

    #[test]
    fn a_device_that_is_not_mounted() {
        let device = Device {
            major: 0,
            minor: 1_048_575,
        };
        let error = raise_read_ahead(device, 4096).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert!(error.message.contains("/sys/class/bdi/0:1048575"), "{error}");
    }
}
