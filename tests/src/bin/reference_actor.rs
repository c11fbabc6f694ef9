//! A process of the reference test: see `alluxio_tests::reference`.

use anyhow::Context;

/// `reference_actor [UID GID]`: gives up root for that user, then serves requests from standard input.
fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    if let [uid, gid] = arguments.as_slice() {
        let gid = nix::unistd::Gid::from_raw(gid.parse().context("read the group id")?);
        let uid = nix::unistd::Uid::from_raw(uid.parse().context("read the user id")?);
        nix::unistd::setgroups(&[gid])?;
        nix::unistd::setresgid(gid, gid, gid)?;
        nix::unistd::setresuid(uid, uid, uid)?;
    }
    alluxio_tests::reference::actor::serve(std::io::stdin().lock(), std::io::stdout().lock())
}
