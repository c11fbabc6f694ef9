//! One suite for every store.

use super::*;

fn stores() -> Vec<(StoreKind, tempfile::TempDir, Arc<dyn MetaStore>)> {
    let make = |kind| {
        let dir = tempfile::tempdir().unwrap();
        let store = open(kind, dir.path(), CACHE_BYTES_DEFAULT).unwrap();
        (kind, dir, store)
    };
    StoreKind::ALL.into_iter().map(make).collect()
}

fn put(store: &dyn MetaStore, rows: &[(&str, Option<&str>)]) {
    let change = |(key, value): &(&str, Option<&str>)| {
        (
            Bytes::copy_from_slice(key.as_bytes()),
            value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        )
    };
    store
        .write(Batch {
            changes: rows.iter().map(change).collect(),
        })
        .unwrap();
}

fn text(rows: Vec<(Bytes, Bytes)>) -> Vec<String> {
    let show =
        |(key, value): (Bytes, Bytes)| format!("{}={}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value));
    rows.into_iter().map(show).collect()
}

#[test]
fn scans_in_key_order_within_bounds() {
    for (kind, _dir, store) in stores() {
        put(
            store.as_ref(),
            &[("b", Some("2")), ("a", Some("1")), ("ab", Some("3")), ("c", Some("4"))],
        );
        assert_eq!(text(store.scan(b"a", b"b", 10).unwrap()), ["a=1", "ab=3"], "{kind:?}");
        assert_eq!(text(store.scan(b"a\0", b"z", 2).unwrap()), ["ab=3", "b=2"], "{kind:?}");
        assert_eq!(
            text(store.scan(b"c", b"a", 2).unwrap()),
            Vec::<String>::new(),
            "{kind:?}"
        );
    }
}

#[test]
fn a_snapshot_does_not_see_later_writes() {
    for (kind, _dir, store) in stores() {
        put(store.as_ref(), &[("a", Some("1")), ("b", Some("2"))]);
        let view = store.snapshot().unwrap();
        put(store.as_ref(), &[("a", Some("9")), ("b", None), ("c", Some("3"))]);
        assert_eq!(text(view.map(|row| row.unwrap()).collect()), ["a=1", "b=2"], "{kind:?}");
        assert_eq!(store.get(b"b").unwrap(), None, "{kind:?}");
        assert_eq!(store.get(b"a").unwrap().as_deref(), Some(&b"9"[..]), "{kind:?}");
    }
}

#[test]
fn clear_leaves_nothing_and_can_be_written_after() {
    for (kind, _dir, store) in stores() {
        put(store.as_ref(), &[("a", Some("1")), ("b", Some("2"))]);
        store.clear().unwrap();
        assert_eq!(store.snapshot().unwrap().count(), 0, "{kind:?}");
        put(store.as_ref(), &[("b", Some("3"))]);
        assert_eq!(text(store.scan(b"a", b"z", 9).unwrap()), ["b=3"], "{kind:?}");
    }
}

#[test]
fn what_was_synced_is_there_after_reopening() {
    for (kind, dir, store) in stores() {
        if kind == StoreKind::Heap {
            continue;
        }
        put(store.as_ref(), &[("a", Some("1"))]);
        store.sync().unwrap();
        drop(store);
        let again = open(kind, dir.path(), CACHE_BYTES_DEFAULT).unwrap();
        assert_eq!(again.get(b"a").unwrap().as_deref(), Some(&b"1"[..]), "{kind:?}");
    }
}

#[test]
fn prefix_end_is_just_behind_the_prefix() {
    assert_eq!(prefix_end(b"ab"), b"ac");
    assert_eq!(prefix_end(&[b'a', 0xff]), b"b");
    assert_eq!(prefix_end(&[0xff]), [0xff]);
}
