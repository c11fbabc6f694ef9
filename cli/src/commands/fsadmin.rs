//! `alluxio fsadmin report`: the cluster, its space, its under-storages, in Alluxio's words.

use super::connect::Targets;
use super::{CommandError, Done};
use crate::args::{Format, FsadminCommand, ReportArgs, ReportCategory};
use crate::output::{self, Out, clock_time, human_size, percent, text};
use alluxio_common::config::{Configuration, keys};
use alluxio_proto::master::{GetMounts, GetReport, MountInfo, MountTable, Op, Report, ReportTier, ReportWorker};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Runs one command.
pub fn fsadmin(conf: &Configuration, command: FsadminCommand, out: &mut Out) -> Done {
    crate::logging::start("error");
    let FsadminCommand::Report(args) = command;
    crate::runtime()?.block_on(report(conf, &args, out))
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
            .ask(Op::GetMounts(GetMounts { for_worker: 0 }))
            .await
            .map_err(|error| error.context("list mounts"))?;
        return match args.format {
            Format::Json => Ok(out.json_pretty(&mounts_json(&table.mounts))?),
            Format::Text => {
                out.line("Alluxio under storage system information:")?;
                print_lines(out, mount_lines(&table.mounts))
            }
        };
    }
    let report: Report = fs
        .ask(Op::GetReport(GetReport {}))
        .await
        .map_err(|error| error.context("ask the master how the cluster is"))?;
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
    lines
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
        let heard = (worker.last_contact_ms / 1000).to_string();
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

/// The mount table as Alluxio prints it.
pub fn mount_lines(mounts: &[MountInfo]) -> Vec<String> {
    let uri_width = mounts.iter().map(|mount| mount.uri.len()).max().unwrap_or(0);
    let path_width = mounts.iter().map(|mount| mount.path.len()).max().unwrap_or(0);
    let not = |yes: bool| if yes { "" } else { "not " };
    let line = |mount: &MountInfo| {
        // Object stores have neither; Alluxio shows -1 then.
        let size = |bytes| {
            if bytes == 0 {
                "-1B".to_owned()
            } else {
                human_size(bytes)
            }
        };
        let mut used = size(mount.ufs_used_bytes);
        if mount.ufs_capacity_bytes > 0 {
            used += &format!("({}%)", percent(mount.ufs_used_bytes, mount.ufs_capacity_bytes, 0));
        }
        let options: Vec<String> = mount
            .options
            .iter()
            .map(|option| format!("{}={}", option.key, option.value))
            .collect();
        format!(
            "{:<uri_width$}  on  {:<path_width$}  ({}, capacity={}, used={used}, {}read-only, {}shared, properties={{{}}})",
            mount.uri,
            text(&mount.path),
            mount.ufs_type,
            size(mount.ufs_capacity_bytes),
            not(mount.read_only),
            not(mount.shared),
            options.join(", ")
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
            "options": options,
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
a                1                capacity      16.00GB          0B            16.00GB       0B
                                  used          4096.00MB (25%)  0B            4096.00MB     0B
b                1                capacity      16.00GB          0B            16.00GB       0B
                                  used          4096.00MB (25%)  0B            4096.00MB     0B"
        );
        assert_eq!(capacity_lines(&[], "lost").len(), 3);
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
                "s3://bucket/p  on  /s3  (object, capacity=-1B, used=-1B, read-only, shared, properties={s3a.secretKey=******})",
            ]
        );
        assert_eq!(mounts_json(&mounts)[1]["options"]["s3a.secretKey"], "******");
        assert_eq!(mounts_json(&mounts)[1]["capacityBytes"], Value::Null);
    }
}
