//! Documents that are generated from code. A test in the crate that owns each one checks that it is current.

use anyhow::Context;

/// Writes `docs/configuration.md`.
pub fn write() -> anyhow::Result<()> {
    let path = crate::setup::root().join("docs/configuration.md");
    std::fs::write(&path, alluxio_common::config::docs::render())
        .with_context(|| format!("write {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}
