//! The TLS of every client in this crate.

/// Makes ring the process's provider of cryptography, unless another has been chosen. Clients cannot be built without.
pub(crate) fn install_provider() {
    // An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
