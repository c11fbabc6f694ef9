//! `alluxio fsadmin report`: the cluster, its space, its under-storages, in Alluxio's words.

use super::connect::Targets;
use super::{CommandError, Done};
use crate::args::{Format, FsadminCommand, ReportArgs, ReportCategory};
use crate::output::{self, Out, clock_time, human_size, percent, text};
use alluxio_common::config::{Configuration, keys};
use alluxio_proto::master::{
    DamagedRange, GetMounts, GetReport, MountInfo, MountTable, Report, ReportTier, ReportWorker, StoreAway, StuckChange,
};
use alluxio_proto::{ErrorKind, FsError};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Runs one command.
pub fn fsadmin(conf: &Configuration, command: FsadminCommand, out: &mut Out) -> Done {
    crate::logging::start(conf, crate::logging::Default::Error)?;
    match command {
        FsadminCommand::Report(args) => crate::runtime()?.block_on(report(conf, &args, out)),
        FsadminCommand::Intents(args) => crate::runtime()?.block_on(super::intents::intents(conf, &args, out)),
    }
}

async fn report(conf: &Configuration, args: &ReportArgs, out: &mut Out) -> Done {
    let filtered = args.live || args.lost || !args.workers.is_empty();
    if filtered && args.category != ReportCategory::Capacity {
        let why = "report: -live, -lost and -workers choose workers of `report capacity`";
        return Err(CommandError::Usage(why.to_owned()));
    }
    let fs = Targets::parse([])?.connect(conf).await?;
    if args.category == ReportCategory::Ufs {
        let table: MountTable = fs
            .ask(GetMounts::default())
            .await
            .map_err(|error| error.context("list mounts"))?;
        return match args.format {
            Format::Json => Ok(out.json_pretty(&mounts_json(&table.mounts))?),
            Format::Text => {
                out.line("Alluxio under storage system information:")?;
                print_lines(out, ufs_lines(&table.mounts, &conf.string(&keys::user::DATE_FORMAT)))
            }
        };
    }
    let report: Report = fs
        .ask(GetReport::default())
        .await
        .map_err(|error| error.context("ask the master how the cluster is"))?;
    if args.category == ReportCategory::Metrics {
        return metrics(conf, report.web_port, args.format, out).await;
    }
    match (args.category, args.format) {
        (ReportCategory::Capacity, format) => {
            let workers = chosen(&report.workers, args)?;
            match format {
                Format::Json => Ok(out.json_pretty(&workers.into_iter().map(worker_json).collect())?),
                Format::Text => print_lines(out, capacity_lines(&workers, range(args))),
            }
        }
        (_, Format::Json) => Ok(out.json_pretty(&summary_json(&report))?),
        (_, Format::Text) => {
            let pattern = conf.string(&keys::user::DATE_FORMAT);
            print_lines(out, summary_lines(&report, now_ms(), &pattern))
        }
    }
}

/// Asks the web port of the master that answered, wherever that is.
async fn metrics(conf: &Configuration, port: u32, format: Format, out: &mut Out) -> Done {
    let port = u16::try_from(port).unwrap_or_default();
    let mut failed = FsError::new(ErrorKind::Unavailable, "report metrics: no master is known");
    for master in super::configured_masters(conf) {
        let host = master.rsplit_once(':').map_or(master.as_str(), |(host, _)| host);
        match crate::roles::web::get(host.trim_matches(['[', ']']), port, "/metrics/json").await {
            Ok(page) => {
                let page: Value = serde_json::from_slice(&page)
                    .map_err(|error| CommandError::failed(format!("read the metrics of {host}:{port}: {error}")))?;
                return match format {
                    Format::Json => Ok(out.json_pretty(&page)?),
                    Format::Text => print_lines(out, metric_lines(&page)),
                };
            }
            Err(error) => failed = error,
        }
    }
    let hint = "see alluxio.master.web.port and alluxio.master.web.bind.host";
    Err(failed.context(format!("report metrics ({hint})")).into())
}

/// `NAME  (Type: COUNTER, Value: 3)`, sorted.
fn metric_lines(page: &Value) -> Vec<String> {
    let seconds = |metric: &Value, field: &str| metric[field].as_f64().unwrap_or(0.0);
    let mut lines = Vec::new();
    for (group, kind, field) in [("gauges", "GAUGE", "value"), ("counters", "COUNTER", "count")] {
        for (name, metric) in page[group].as_object().into_iter().flatten() {
            lines.push(format!("{name}  (Type: {kind}, Value: {})", metric[field]));
        }
    }
    for (name, metric) in page["histograms"].as_object().into_iter().flatten() {
        let count = metric["count"].as_u64().unwrap_or(0);
        let mean = if count == 0 {
            0.0
        } else {
            seconds(metric, "sum_seconds") / count as f64
        };
        let (p50, p99) = (seconds(metric, "p50_seconds"), seconds(metric, "p99_seconds"));
        lines.push(format!(
            "{name}  (Type: TIMER, Count: {count}, Mean: {mean:.6}s, P50: <={p50}s, P99: <={p99}s)"
        ));
    }
    lines.sort();
    lines
}

fn print_lines(out: &mut Out, lines: Vec<String>) -> Done {
    for line in lines {
        out.line(line)?;
    }
    Ok(())
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Sums by tier, the tiers in the order of their speed.
fn tiers<'a>(workers: impl IntoIterator<Item = &'a ReportWorker>, of: fn(&ReportTier) -> u64) -> Vec<(String, u64)> {
    let mut sums = BTreeMap::new();
    for tier in workers.into_iter().flat_map(|worker| &worker.tiers) {
        let rank = ["MEM", "SSD", "HDD"]
            .iter()
            .position(|alias| *alias == tier.alias)
            .unwrap_or(3);
        *sums.entry((rank, tier.alias.clone())).or_insert(0u64) += of(tier);
    }
    sums.into_iter().map(|((_, alias), bytes)| (alias, bytes)).collect()
}

fn tier_lines(lines: &mut Vec<String>, indent: &str, tiers: Vec<(String, u64)>) {
    for (alias, bytes) in tiers {
        lines.push(format!("{indent}Tier: {alias}  Size: {}", human_size(bytes)));
    }
}

fn summary_lines(report: &Report, now_ms: u64, pattern: &str) -> Vec<String> {
    let (live, lost): (Vec<_>, Vec<_>) = report.workers.iter().partition(|worker| worker.live);
    let capacity: u64 = live.iter().map(|worker| worker.capacity_bytes).sum();
    let used: u64 = live.iter().map(|worker| worker.used_bytes).sum();
    let port = report.master_address.rsplit(':').next().unwrap_or_default();
    let started = i64::try_from(report.start_ms).unwrap_or(i64::MAX);
    let mut lines = vec![
        "Alluxio cluster summary: ".to_owned(),
        format!("    Master Address: {}", report.master_address),
        format!("    Web Port: {}", report.web_port),
        format!("    Rpc Port: {port}"),
        format!("    Started: {}", output::local_time(started, pattern)),
        format!("    Uptime: {}", clock_time(now_ms.saturating_sub(report.start_ms))),
        format!("    Version: {}", report.version),
        format!("    Safe Mode: {}", report.safe_mode),
        format!("    Cluster Id: {}", report.cluster_id),
        format!("    Paths: {}", report.inodes),
        format!("    Not Yet Persisted: {}", report.persist_pending),
        format!("    Clients: {}", report.sessions),
        format!(
            "    Journal Entries: {} (snapshot at {})",
            report.journal_index, report.journal_snapshot_index
        ),
        format!("    Live Workers: {}", live.len()),
        format!("    Lost Workers: {}", lost.len()),
        format!("    Total Capacity: {}", human_size(capacity)),
    ];
    tier_lines(
        &mut lines,
        "        ",
        tiers(live.iter().copied(), |tier| tier.capacity_bytes),
    );
    lines.push(format!("    Used Capacity: {}", human_size(used)));
    tier_lines(
        &mut lines,
        "        ",
        tiers(live.iter().copied(), |tier| tier.used_bytes),
    );
    lines.push(format!(
        "    Free Capacity: {}",
        human_size(capacity.saturating_sub(used))
    ));
    if !report.away.is_empty() {
        lines.push(format!("    Stores Away: {}", report.away.len()));
        let away = output::away_lines(&report.away, pattern);
        lines.extend(away.into_iter().map(|line| format!("        {line}")));
    }
    if report.copies_waiting > 0 {
        lines.push(format!(
            "    Copies Between Mounts Without a Worker: {}",
            report.copies_waiting
        ));
    }
    lines.extend(stuck_lines(report));
    lines.extend(damage_lines(&report.workers));
    lines
}

/// Nothing if nothing is damaged.
fn damage_lines(workers: &[ReportWorker]) -> Vec<String> {
    let host = |worker: &ReportWorker| worker.address.clone().unwrap_or_default().host;
    let each = workers.iter().flat_map(|worker| {
        let host = host(worker);
        worker.damaged.iter().map(move |range| {
            let path = match range.path.is_empty() {
                true => format!("inode {}", range.inode),
                false => text(&range.path),
            };
            let end = range.offset + range.length;
            format!("        {path}: bytes {} to {end} on {host}", range.offset)
        })
    });
    let mut lines: Vec<String> = each.collect();
    if !lines.is_empty() {
        lines.insert(
            0,
            format!(
                "    Damaged Ranges (in no under-storage, kept as they are): {}",
                lines.len()
            ),
        );
    }
    lines
}

/// Changes of under-storages that do not get done.
fn stuck_lines(report: &Report) -> Vec<String> {
    if report.stuck_count == 0 {
        return Vec::new();
    }
    let mut lines = vec![format!("    Stuck Changes: {}", report.stuck_count)];
    lines.extend(report.stuck.iter().map(|stuck| {
        let state = match (stuck.given_up, stuck.refused) {
            (true, _) => "given up",
            (false, true) => "refused for good",
            (false, false) => "tried again and again",
        };
        format!("        {} {} ({state}): {}", stuck.what, stuck.path, stuck.error)
    }));
    lines
}

pub fn stuck_json(stuck: &StuckChange) -> Value {
    json!({
        "intent": stuck.intent,
        "what": stuck.what,
        "path": stuck.path,
        "error": stuck.error,
        "attempts": stuck.attempts,
        "refused": stuck.refused,
        "givenUp": stuck.given_up,
        "sinceMs": stuck.since_ms,
    })
}

fn away_json(away: &StoreAway) -> Value {
    json!({
        "path": text(&away.path),
        "uri": away.uri,
        "sinceMs": away.since_ms,
        "error": away.error,
    })
}

fn summary_json(report: &Report) -> Value {
    json!({
        "clusterId": report.cluster_id,
        "masterAddress": report.master_address,
        "webPort": report.web_port,
        "startTimeMs": report.start_ms,
        "version": report.version,
        "safeMode": report.safe_mode,
        "paths": report.inodes,
        "notYetPersisted": report.persist_pending,
        "clients": report.sessions,
        "journalIndex": report.journal_index,
        "journalSnapshotIndex": report.journal_snapshot_index,
        "storesAway": report.away.iter().map(away_json).collect::<Value>(),
        "copiesWithoutWorker": report.copies_waiting,
        "stuckChanges": report.stuck_count,
        "stuck": report.stuck.iter().map(stuck_json).collect::<Value>(),
        "workers": report.workers.iter().map(worker_json).collect::<Value>(),
    })
}

fn worker_json(worker: &ReportWorker) -> Value {
    let address = worker.address.clone().unwrap_or_default();
    let tier = |tier: &ReportTier| {
        json!({
            "alias": tier.alias, "path": tier.path, "capacityBytes": tier.capacity_bytes, "usedBytes": tier.used_bytes,
        })
    };
    let damaged = |range: &DamagedRange| {
        json!({
            "inode": range.inode, "path": text(&range.path), "version": range.version, "offset": range.offset,
            "length": range.length,
        })
    };
    json!({
        "workerId": address.worker_id,
        "host": address.host,
        "port": address.port,
        "live": worker.live,
        "lastContactMs": worker.last_contact_ms,
        "capacityBytes": worker.capacity_bytes,
        "usedBytes": worker.used_bytes,
        "startTimeMs": worker.start_ms,
        "version": worker.version,
        "tiers": worker.tiers.iter().map(tier).collect::<Value>(),
        "damaged": worker.damaged.iter().map(damaged).collect::<Value>(),
    })
}

fn chosen<'a>(workers: &'a [ReportWorker], args: &ReportArgs) -> Result<Vec<&'a ReportWorker>, CommandError> {
    let host = |worker: &ReportWorker| worker.address.clone().unwrap_or_default().host;
    let mut chosen: Vec<_> = workers
        .iter()
        .filter(|worker| {
            let named = args.workers.is_empty() || args.workers.contains(&host(worker));
            named && (!args.live || worker.live) && (!args.lost || !worker.live)
        })
        .collect();
    if chosen.is_empty() && !args.workers.is_empty() {
        let why = format!("report capacity: no worker on {}", args.workers.join(" or "));
        return Err(CommandError::failed(why));
    }
    chosen.sort_by_key(|worker| worker.last_contact_ms);
    Ok(chosen)
}

fn range(args: &ReportArgs) -> &'static str {
    match (args.live, args.lost, args.workers.is_empty()) {
        (true, ..) => "live",
        (_, true, _) => "lost",
        (.., false) => "specified",
        _ => "all",
    }
}

fn capacity_lines(workers: &[&ReportWorker], range: &str) -> Vec<String> {
    let all = || workers.iter().copied();
    let capacity: u64 = all().map(|worker| worker.capacity_bytes).sum();
    let used: u64 = all().map(|worker| worker.used_bytes).sum();
    let mut lines = vec![
        format!("Capacity information for {range} workers: "),
        format!("    Total Capacity: {}", human_size(capacity)),
    ];
    tier_lines(&mut lines, "        ", tiers(all(), |tier| tier.capacity_bytes));
    lines.push(format!("    Used Capacity: {}", human_size(used)));
    tier_lines(&mut lines, "        ", tiers(all(), |tier| tier.used_bytes));
    if capacity != 0 {
        let share = percent(used, capacity, 0).min(100);
        lines.push(format!("    Used Percentage: {share}%"));
        lines.push(format!("    Free Percentage: {}%", 100 - share));
    }
    if workers.is_empty() {
        return lines;
    }
    lines.push(String::new());
    let header = ["Worker Name", "Last Heartbeat", "Storage", "Total", "MEM", "SSD", "HDD"];
    lines.push(row(header.map(str::to_owned)));
    for worker in workers {
        let of = |of: fn(&ReportTier) -> u64, alias: &str| {
            let bytes = worker.tiers.iter().filter(|tier| tier.alias == alias).map(of).sum();
            human_size(bytes)
        };
        let three = |of_tier| ["MEM", "SSD", "HDD"].map(|alias| of(of_tier, alias));
        let host = worker.address.clone().unwrap_or_default().host;
        let [mem, ssd, hdd] = three(|tier| tier.capacity_bytes);
        let heard = format!("{}s ago", worker.last_contact_ms / 1000);
        lines.push(row([
            host,
            heard,
            "capacity".into(),
            human_size(worker.capacity_bytes),
            mem,
            ssd,
            hdd,
        ]));
        let [mem, ssd, hdd] = three(|tier| tier.used_bytes);
        let mut used = human_size(worker.used_bytes);
        if worker.capacity_bytes != 0 {
            used += &format!(" ({}%)", percent(worker.used_bytes, worker.capacity_bytes, 0));
        }
        lines.push(row([String::new(), String::new(), "used".into(), used, mem, ssd, hdd]));
    }
    lines
}

fn row(cells: [String; 7]) -> String {
    let [name, heard, storage, total, mem, ssd, hdd] = cells;
    let line = format!("{name:<16} {heard:<16} {storage:<13} {total:<16} {mem:<13} {ssd:<13} {hdd:<13}");
    line.trim_end().to_owned()
}

/// The mount table, and beneath it what is known of whether the stores answer.
fn ufs_lines(mounts: &[MountInfo], pattern: &str) -> Vec<String> {
    let mut lines = mount_lines(mounts);
    let state = |mount: &MountInfo| {
        if let Some(away) = &mount.away {
            return output::away_lines(std::slice::from_ref(away), pattern).remove(0);
        }
        let answered = match i64::try_from(mount.answered_ms) {
            Ok(0) | Err(_) => "was not asked for anything since the master started".to_owned(),
            Ok(answered_ms) => format!("answered last at {}", output::local_time(answered_ms, pattern)),
        };
        format!("{} at {} {answered}", mount.uri, text(&mount.path))
    };
    lines.push(String::new());
    lines.push("State, as the master's own calls and the workers' uploads show it:".to_owned());
    lines.extend(mounts.iter().map(|mount| format!("    {}", state(mount))));
    lines
}

/// The mount table as Alluxio prints it, but for `-` in place of its `-1B` where a store knows no capacity.
pub fn mount_lines(mounts: &[MountInfo]) -> Vec<String> {
    let uri_width = mounts.iter().map(|mount| mount.uri.len()).max().unwrap_or(0);
    let path_width = mounts.iter().map(|mount| mount.path.len()).max().unwrap_or(0);
    let not = |yes: bool| if yes { "" } else { "not " };
    let line = |mount: &MountInfo| {
        // Object stores have neither.
        let (mut capacity, mut used) = ("-".to_owned(), "-".to_owned());
        if mount.ufs_capacity_bytes > 0 {
            let share = percent(mount.ufs_used_bytes, mount.ufs_capacity_bytes, 0);
            capacity = human_size(mount.ufs_capacity_bytes);
            used = format!("{}({share}%)", human_size(mount.ufs_used_bytes));
        }
        let options: Vec<String> = mount
            .options
            .iter()
            .map(|option| format!("{}={}", option.key, option.value))
            .collect();
        format!(
            "{:<uri_width$}  on  {:<path_width$}  ({}, capacity={capacity}, used={used}, {}read-only, {}shared, properties={{{}}}){}",
            mount.uri,
            text(&mount.path),
            mount.ufs_type,
            not(mount.read_only),
            not(mount.shared),
            options.join(", "),
            if mount.wants_credentials {
                "  WANTS CREDENTIALS"
            } else {
                ""
            }
        )
    };
    mounts.iter().map(line).collect()
}

/// The mount table for programs.
pub fn mounts_json(mounts: &[MountInfo]) -> Value {
    let mount = |mount: &MountInfo| {
        let options: serde_json::Map<String, Value> = mount
            .options
            .iter()
            .map(|option| (option.key.clone(), option.value.clone().into()))
            .collect();
        json!({
            "mountId": mount.mount_id,
            "path": text(&mount.path),
            "uri": mount.uri,
            "type": mount.ufs_type,
            "readOnly": mount.read_only,
            "shared": mount.shared,
            "capacityBytes": (mount.ufs_capacity_bytes > 0).then_some(mount.ufs_capacity_bytes),
            "usedBytes": (mount.ufs_capacity_bytes > 0).then_some(mount.ufs_used_bytes),
            "away": mount.away.as_ref().map(away_json),
            "answeredMs": (mount.answered_ms > 0).then_some(mount.answered_ms),
            "options": options,
            "wantsCredentials": mount.wants_credentials,
        })
    };
    mounts.iter().map(mount).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluxio_proto::types::{Property, WorkerAddress};

    fn worker(host: &str, live: bool) -> ReportWorker {
        ReportWorker {
            address: Some(WorkerAddress {
                host: host.into(),
                port: 29999,
                ..Default::default()
            }),
            live,
            last_contact_ms: 1500,
            capacity_bytes: 16 << 30,
            used_bytes: 4 << 30,
            tiers: vec![ReportTier {
                alias: "SSD".into(),
                path: "/c".into(),
                capacity_bytes: 16 << 30,
                used_bytes: 4 << 30,
            }],
            ..Default::default()
        }
    }

    #[test]
    fn summary() {
        let report = Report {
            cluster_id: "c1".into(),
            master_address: "m:19998".into(),
            web_port: 19999,
            start_ms: 1000,
            version: "0.1.0".into(),
            inodes: 3,
            persist_pending: 1,
            sessions: 2,
            journal_index: 9,
            workers: vec![worker("a", true), worker("b", false)],
            ..Default::default()
        };
        assert_eq!(
            summary_lines(&report, 62_000, "'then'").join("\n"),
            "Alluxio cluster summary: 
    Master Address: m:19998
    Web Port: 19999
    Rpc Port: 19998
    Started: then
    Uptime: 0 day(s), 0 hour(s), 1 minute(s), and 1 second(s)
    Version: 0.1.0
    Safe Mode: false
    Cluster Id: c1
    Paths: 3
    Not Yet Persisted: 1
    Clients: 2
    Journal Entries: 9 (snapshot at 0)
    Live Workers: 1
    Lost Workers: 1
    Total Capacity: 16.00GB
        Tier: SSD  Size: 16.00GB
    Used Capacity: 4096.00MB
        Tier: SSD  Size: 4096.00MB
    Free Capacity: 12.00GB"
        );
    }

    #[test]
    fn capacity() {
        let (a, b) = (worker("a", true), worker("b", false));
        assert_eq!(
            capacity_lines(&[&a, &b], "all").join("\n"),
            "Capacity information for all workers: 
    Total Capacity: 32.00GB
        Tier: SSD  Size: 32.00GB
    Used Capacity: 8.00GB
        Tier: SSD  Size: 8.00GB
    Used Percentage: 25%
    Free Percentage: 75%

Worker Name      Last Heartbeat   Storage       Total            MEM           SSD           HDD
a                1s ago           capacity      16.00GB          0B            16.00GB       0B
                                  used          4096.00MB (25%)  0B            4096.00MB     0B
b                1s ago           capacity      16.00GB          0B            16.00GB       0B
                                  used          4096.00MB (25%)  0B            4096.00MB     0B"
        );
        assert_eq!(capacity_lines(&[], "lost").len(), 3);
    }

    #[test]
    fn metrics_are_lines() {
        let page = json!({
            "gauges": { "Master.TotalPaths": { "value": 3 } },
            "counters": { "Master.FilesCreated": { "count": 2 } },
            "histograms": { "Master.Lookup": {
                "count": 4, "sum_seconds": 0.002, "p50_seconds": 0.0003, "p99_seconds": 0.003,
            } },
        });
        assert_eq!(
            metric_lines(&page),
            [
                "Master.FilesCreated  (Type: COUNTER, Value: 2)",
                "Master.Lookup  (Type: TIMER, Count: 4, Mean: 0.000500s, P50: <=0.0003s, P99: <=0.003s)",
                "Master.TotalPaths  (Type: GAUGE, Value: 3)",
            ]
        );
    }

    #[test]
    fn a_store_that_is_away_is_shown() {
        let away = StoreAway {
            path: "/s3".into(),
            uri: "s3://b".into(),
            since_ms: 5,
            error: "connection refused".into(),
        };
        let line = "s3://b at /s3 does not answer since then: connection refused";
        let mount = |path: &str, away: Option<&StoreAway>, answered_ms| MountInfo {
            path: path.to_owned().into(),
            uri: "s3://b".into(),
            away: away.cloned(),
            answered_ms,
            ..Default::default()
        };
        let mounts = [mount("/s3", Some(&away), 4), mount("/b", None, 4), mount("/c", None, 0)];
        assert_eq!(
            ufs_lines(&mounts, "'then'")[5..],
            [
                format!("    {line}"),
                "    s3://b at /b answered last at then".to_owned(),
                "    s3://b at /c was not asked for anything since the master started".to_owned(),
            ]
        );
        let report = Report {
            away: vec![away],
            copies_waiting: 3,
            ..Default::default()
        };
        let lines = summary_lines(&report, 0, "'then'");
        assert_eq!(
            lines[lines.len() - 3..],
            [
                "    Stores Away: 1".to_owned(),
                format!("        {line}"),
                "    Copies Between Mounts Without a Worker: 3".to_owned()
            ]
        );
    }

    #[test]
    fn mounts() {
        let mounts = [
            MountInfo {
                path: "/".into(),
                uri: "/srv/data".into(),
                ufs_type: "posix".into(),
                ufs_capacity_bytes: 100 << 30,
                ufs_used_bytes: 10 << 30,
                ..Default::default()
            },
            MountInfo {
                path: "/s3".into(),
                uri: "s3://bucket/p".into(),
                ufs_type: "object".into(),
                read_only: true,
                shared: true,
                options: vec![Property {
                    key: "s3a.secretKey".into(),
                    value: "******".into(),
                }],
                ..Default::default()
            },
        ];
        assert_eq!(
            mount_lines(&mounts),
            [
                "/srv/data      on  /    (posix, capacity=100.00GB, used=10.00GB(10%), not read-only, not shared, properties={})",
                "s3://bucket/p  on  /s3  (object, capacity=-, used=-, read-only, shared, properties={s3a.secretKey=******})",
            ]
        );
        assert_eq!(mounts_json(&mounts)[1]["options"]["s3a.secretKey"], "******");
        assert_eq!(mounts_json(&mounts)[1]["capacityBytes"], Value::Null);
    }
}
