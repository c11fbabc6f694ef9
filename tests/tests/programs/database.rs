//! Databases: locks, mmap, fsync, rename and many small writes in one file.

use super::{Place, everywhere};

/// Two processes add to the same counter; each transaction reads what the other wrote.
const SQLITE: &str = r#"
import sqlite3, subprocess, sys
path, mode = sys.argv[1], sys.argv[2]
TURNS = 60
def connect():
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    assert db.execute('pragma journal_mode=' + mode).fetchone()[0] == mode, mode
    return db
if len(sys.argv) > 3:
    db = connect()
    for turn in range(TURNS):
        db.execute('begin immediate')
        value = db.execute('select value from counter').fetchone()[0]
        db.execute('update counter set value = ?', (value + 1,))
        db.execute('insert into log values (?, ?, ?)', (value, sys.argv[3], 'x' * (turn * 7 % 500)))
        db.execute('commit')
    sys.exit(0)
db = connect()
db.execute('create table counter (value integer)'); db.execute('insert into counter values (0)')
db.execute('create table log (value integer primary key, who text, filler text)')
workers = [subprocess.Popen([sys.executable, *sys.argv, who]) for who in ('a', 'b')]
assert [worker.wait() for worker in workers] == [0, 0]
assert db.execute('select value from counter').fetchone()[0] == 2 * TURNS
assert db.execute('select count(*), min(value), max(value) from log').fetchone() == (2 * TURNS, 0, 2 * TURNS - 1)
assert db.execute('pragma integrity_check').fetchone()[0] == 'ok'
# Rolled back, nothing is left of it.
db.execute('begin'); db.execute('delete from log'); db.execute('rollback')
assert db.execute('select count(*) from log').fetchone()[0] == 2 * TURNS
db.close()
again = sqlite3.connect(path)
assert again.execute('pragma integrity_check').fetchone()[0] == 'ok'
again.execute('vacuum')
assert again.execute('select count(*) from log').fetchone()[0] == 2 * TURNS
"#;

#[test]
fn sqlite_in_both_journal_modes_with_two_processes() {
    everywhere(
        "sqlite",
        "100KB",
        |place: &Place<'_>| {
            std::fs::write(place.scratch.join("work.py"), SQLITE).unwrap();
            for journal in ["delete", "wal"] {
                place.sh(&format!(
                r#"python3 "$S"/work.py "$M"/{journal}.db {journal}; test "$(sqlite3 "$M"/{journal}.db 'select value from counter')" = 120"#
            ));
            }
        },
        |place| {
            for journal in ["delete", "wal"] {
                place.sh(&format!(
                r#"test "$(sqlite3 "$M"/{journal}.db 'pragma integrity_check; select count(*), min(value), max(value) from log')" = $'ok\n120|0|119'"#
            ));
            }
        },
    );
}

/// What the two scripts of the PostgreSQL test have in common.
const POSTGRESQL: &str = r#"
    bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
    as() { cd /; runuser -u postgres -- "$@"; }
    server() { as "$bin"/pg_ctl -D "$M"/pg -w -t 60 -l "$S"/socket/log -o "-k $S/socket -c listen_addresses=" "$@"; }
    sql() { as "$bin"/psql -h "$S"/socket -d postgres -qAtX -v ON_ERROR_STOP=1 -c "$1"; }
    trap 'server -m immediate stop || true; tail -50 "$S"/socket/log' ERR
"#;

const POSTGRESQL_WORK: &str = r#"
    mkdir "$M"/pg "$S"/socket; chown postgres "$M"/pg "$S"/socket; chmod 700 "$M"/pg
    as "$bin"/initdb -D "$M"/pg -A trust -E UTF8 --locale=C > /dev/null
    server start > /dev/null
    as "$bin"/pgbench -h "$S"/socket -q -i -s 2 postgres 2> /dev/null
    as "$bin"/pgbench -h "$S"/socket -c 2 -j 2 -T 20 postgres
    sql 'checkpoint'
    before=$(sql 'select count(*), sum(delta) from pgbench_history')
    test "${before%|*}" -gt 0
    server -m fast stop > /dev/null
    server start > /dev/null
    test "$(sql 'select count(*), sum(delta) from pgbench_history')" = "$before"
    test "$(sql 'select sum(abalance) from pgbench_accounts')" = "${before#*|}"
    # As after a crash of the database: the log is replayed.
    sql "insert into pgbench_history (tid, bid, aid, delta) values (1, 1, 1, 0)"
    server -m immediate stop > /dev/null
    server start > /dev/null
    test "$(sql 'select count(*) from pgbench_history')" = "$((${before%|*} + 1))"
    sql 'create extension amcheck'
    sql "select bt_index_check(oid) from pg_class where relkind = 'i' and relname like 'pgbench%'" > /dev/null
    sql 'select count(*), sum(delta) from pgbench_history' > "$S"/history
    server -m fast stop > /dev/null
"#;

const POSTGRESQL_AFTER: &str = r#"
    server start > /dev/null
    test "$(sql 'select count(*), sum(delta) from pgbench_history')" = "$(cat "$S"/history)"
    test "$(sql 'select sum(abalance) from pgbench_accounts')" = "$(cut -d'|' -f2 "$S"/history)"
    sql "select bt_index_check(oid) from pg_class where relkind = 'i' and relname like 'pgbench%'" > /dev/null
    server -m fast stop > /dev/null
"#;

#[test]
fn postgresql_serves_stops_and_serves_again() {
    let work = |place: &Place<'_>| {
        let printed = place.sh(&[POSTGRESQL, POSTGRESQL_WORK].concat());
        let found = |word: &str| printed.lines().find(|line| line.starts_with(word)).unwrap_or_default();
        println!("postgresql, {}: {}", place.mode.name(), found("tps"));
        assert!(found("number of failed transactions").contains(": 0 "), "{printed}");
    };
    everywhere("postgresql", "30MB", work, |place| {
        place.sh(&[POSTGRESQL, POSTGRESQL_AFTER].concat());
    });
}
