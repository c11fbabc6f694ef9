//! A network namespace with nothing but loopback, so that a test has the default ports for itself.

use crate::process::Process;
use std::process::Command;
use std::time::Duration;

/// A namespace that lives as long as its guard.
#[derive(Debug)]
pub struct NetNs {
    holder: Process,
}

impl NetNs {
    /// Makes one and brings loopback up. Needs root.
    pub fn new() -> NetNs {
        let mut holder = Process::spawn(
            "namespace",
            Command::new("unshare").args(["--net", "sh", "-ec", "ip link set lo up; echo up; exec sleep 3600"]),
        );
        let log = |holder: &Process| holder.log();
        let mut up = false;
        while !up {
            up = log(&holder).contains("up");
            assert!(
                up || holder.ended().is_none(),
                "make a network namespace: {}",
                log(&holder)
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        NetNs { holder }
    }

    /// A command that runs `program` inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.holder.id()))
            .arg("--")
            .arg(program);
        command
    }

    /// Whether something listens on a port inside.
    pub fn listens(&self, port: u16) -> bool {
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.holder.id())).unwrap_or_default()
            + &std::fs::read_to_string(format!("/proc/{}/net/tcp6", self.holder.id())).unwrap_or_default();
        // Local address ends in the port in hex; 0A is LISTEN.
        table.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.len() > 3 && fields[3] == "0A" && fields[1].ends_with(&format!(":{port:04X}"))
        })
    }

    /// Runs a shell line inside.
    #[track_caller]
    pub fn sh(&self, line: &str, limit: Duration) -> crate::process::Output {
        crate::process::run(self.command("sh").arg("-ec").arg(line), limit)
    }
}

impl Default for NetNs {
    fn default() -> Self {
        Self::new()
    }
}
