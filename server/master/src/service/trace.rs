//! What is noted of each request beside its latency: a span with its id, operation, inode and caller.

use alluxio_proto::FsResult;
use alluxio_proto::master::{MasterRequest, Op};
use std::time::Duration;
use tracing::Span;

/// The span of a request; nothing is computed for it unless somebody listens.
pub(super) fn span(request: &MasterRequest, op: &Op) -> Span {
    tracing::debug_span!(
        "request",
        id = request.op_id,
        op = op.name(),
        inode = op.about_inode(),
        session = request.session,
        caller = request.caller.as_ref().map(|caller| caller.user.as_str()),
    )
}

/// The last line of a request. It is written here, so that whoever asks for the log of this crate gets it.
pub(super) fn answered<T>(span: &Span, took: Duration, result: &FsResult<T>) {
    if span.is_disabled() {
        return;
    }
    span.in_scope(|| match result {
        Ok(_) => tracing::debug!(?took, "answered"),
        Err(error) => tracing::debug!(?took, %error, "refused"),
    });
}
