//! What each metric counts, for people who look at a dashboard. A name that is missing says its name.

/// Sorted by name. No full stop: the encoder adds one.
const HELP: &[(&str, &str)] = &[
    ("Cluster.CapacityTotal", "Bytes that all live workers may hold"),
    ("Cluster.CapacityUsed", "Bytes that all live workers hold"),
    ("Cluster.Workers", "Workers that are heard of"),
    ("Fuse.TotalCalls", "Seconds that requests of the kernel took"),
    ("Master.AsyncPersistFail", "Failed tries to persist a file"),
    ("Master.AsyncPersistSuccess", "Uploads that were made"),
    (
        "Master.DetachedTrees",
        "Removed trees whose inodes are still to be freed",
    ),
    ("Master.DirectoriesCreated", "Directories made"),
    ("Master.FileBlockInfosGot", "Questions where a file's data is"),
    ("Master.FileInfosGot", "Attributes asked for"),
    ("Master.FilesCompleted", "Versions of files completed"),
    ("Master.FilesCreated", "Files made"),
    ("Master.FilesFreed", "Files dropped from workers on request"),
    ("Master.FilesOpened", "Files opened"),
    ("Master.FilesPersisted", "Files brought into an under-storage"),
    ("Master.ListStatusOps", "Pages of directories listed"),
    (
        "Master.LockClaimsRefused",
        "Locks that could not be taken up again after a restart",
    ),
    ("Master.LockDeadlocks", "Locks refused because of a deadlock"),
    ("Master.LockWaits", "Locks that had to be waited for"),
    ("Master.LocksGranted", "Locks granted"),
    ("Master.LocksHeld", "Locks held"),
    ("Master.LocksRefused", "Locks refused because there are too many"),
    ("Master.LocksWaiting", "Locks waited for"),
    ("Master.LookupOps", "Names looked up"),
    ("Master.MetadataSyncFail", "Looks at an under-storage that failed"),
    ("Master.MetadataSyncOpsCount", "Looks at an under-storage for changes"),
    (
        "Master.MetadataSyncPathsChanged",
        "Names that had changed in an under-storage",
    ),
    ("Master.MetadataSyncPathsLoaded", "Names loaded from an under-storage"),
    (
        "Master.MetadataSyncPathsRemoved",
        "Names that had gone from an under-storage",
    ),
    ("Master.PathsDeleted", "Names removed"),
    ("Master.PathsMounted", "Under-storages mounted"),
    ("Master.PathsRenamed", "Names changed"),
    ("Master.PathsUnmounted", "Under-storages unmounted"),
    (
        "Master.PersistFailuresPermanent",
        "Changes of under-storages that a person has to look at",
    ),
    ("Master.Sessions", "Clients"),
    ("Master.SessionsExpired", "Clients that were not heard of any more"),
    ("Master.TotalPaths", "Inodes"),
    ("Master.TotalRpcs", "Seconds that requests to the master took"),
    ("Master.UfsChangesDone", "Changes of under-storages made"),
    (
        "Master.UfsChangesFailed",
        "Changes of under-storages that failed and are tried again",
    ),
    (
        "Master.UfsChangesPending",
        "Changes of under-storages that are still to be made",
    ),
    (
        "Master.UfsChangesRefused",
        "Changes that an under-storage refused more than once",
    ),
    (
        "Master.UfsChangesRefusedNow",
        "Changes that an under-storage refuses now",
    ),
    ("Master.UfsListCalls", "Listings asked of under-storages"),
    ("Master.UfsStatusCalls", "Attributes asked of under-storages"),
    ("Rpc.Connections", "Open connections"),
    (
        "Rpc.GarbageConnections",
        "Connections of programs that speak something else",
    ),
    (
        "Rpc.GrpcConnectionsRefused",
        "Connections of gRPC clients, which are not served yet",
    ),
    (
        "Rpc.ProtocolErrors",
        "Connections closed because of a frame that makes no sense",
    ),
    ("Rpc.VersionsRefused", "Connections of another version of the protocol"),
    (
        "Worker.AccessesAnnounced",
        "Writes past the worker that it was asked about before",
    ),
    ("Worker.BlocksEvicted", "Files evicted"),
    ("Worker.BytesReadRemote", "Bytes given to readers"),
    ("Worker.BytesReadUfs", "Bytes fetched from under-storages"),
    ("Worker.BytesWrittenAlluxio", "Bytes taken from writers"),
    ("Worker.BytesWrittenUfs", "Bytes uploaded to under-storages"),
    ("Worker.CapacityTotal", "Bytes that this worker may hold"),
    ("Worker.CapacityUsed", "Bytes that this worker holds"),
    (
        "Worker.ChunksCorrupt",
        "Cached chunks that did not match their checksum",
    ),
    ("Worker.FilesPutAside", "Damaged files put into lost+found"),
];

/// Of metrics by mount and verb, whose names go on with `.UFS:` and those.
const HELP_BY_VERB: &[(&str, &str)] = &[
    ("UfsBytes", "Bytes of bodies sent and received"),
    ("UfsErrors", "Requests to the under-storage that failed"),
    ("UfsHedges", "Requests sent a second time because the first took long"),
    ("UfsLatency", "Seconds until an answer began"),
    ("UfsRequests", "Requests sent, each try for itself"),
    ("UfsRetries", "Requests sent again after a failure"),
];

/// One line about a metric; `times` if it is a histogram.
pub(super) fn of(name: &str, times: bool) -> String {
    if let Some((what, of)) = name.split_once(".UFS:")
        && let Some((_, what)) = what.split_once('.')
        && let Some((_, help)) = HELP_BY_VERB.iter().find(|(known, _)| *known == what)
    {
        return format!("{help} ({of})");
    }
    if let Ok(at) = HELP.binary_search_by(|(known, _)| (*known).cmp(name)) {
        return HELP[at].1.to_owned();
    }
    // Latencies of operations are named after them; see `OpTimers`.
    match name.split_once('.') {
        Some((_, operation)) if times => format!("Seconds that {operation} took"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(HELP.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(of("Worker.CapacityUsed", false), "Bytes that this worker holds");
        let name = "Worker.UfsRetries.UFS:s3://b/p.Verb:GetObject";
        let help = "Requests sent again after a failure (s3://b/p.Verb:GetObject)";
        assert_eq!(of(name, false), help);
    }
}
