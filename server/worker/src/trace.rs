//! What is noted of each request beside its latency: a span with its operation and inode.

use alluxio_proto::FsResult;
use alluxio_proto::worker::WorkerOp;
use std::time::Duration;
use tracing::Span;

/// The span of a request; nothing is computed for it unless somebody listens.
pub(crate) fn span(op: &WorkerOp) -> Span {
    tracing::debug_span!("request", op = op.name(), inode = op.about_inode())
}

/// The last line of a request. It is written here, so that whoever asks for the log of this crate gets it.
pub(crate) fn answered<T>(span: &Span, took: Duration, result: &FsResult<T>) {
    if span.is_disabled() {
        return;
    }
    span.in_scope(|| match result {
        Ok(_) => tracing::debug!(?took, "answered"),
        Err(error) => tracing::debug!(?took, %error, "refused"),
    });
}
