use super::*;
use crate::store::layout::Layout;
use crate::store::sidecar::{Mark, Sidecar};
use alluxio_proto::{CHUNK_BYTES, InodeId};
use std::sync::atomic::Ordering;

const STAMP: Stamp = Stamp {
    size: 3 * CHUNK_BYTES,
    mtime_ns: 5,
    ctime_ns: 6,
    writes: 0,
};

fn object() -> UfsSource {
    UfsSource {
        mount_id: 1,
        path: "a".into(),
        fingerprint: "etag".into(),
        length: STAMP.size,
    }
}

fn cached() -> Label {
    Label::new(Header::cached(7, 2, STAMP.size, Some(object())))
}

fn checked(mut label: Label, change: impl FnOnce(&mut Label)) -> Label {
    change(&mut label);
    label.check().unwrap();
    label
}

#[test]
fn each_way_ends_where_it_should() {
    let open = checked(cached(), |label| label.open(false, STAMP, 3, "boot"));
    let base = open.base.clone().expect("a base");
    assert_eq!(
        (base.version, base.bytes, base.ufs.clone()),
        (2, STAMP.size, Some(object()))
    );
    assert_eq!(open.state(), State::Open(Under::Base(Some(&base))));
    assert_eq!(open.stamp(), Some(STAMP));
    // Nobody changed it.
    let back = checked(open.clone(), |label| assert!(label.give_back()));
    assert_eq!((back.state(), back.version), (State::Cached { ufs: &object() }, 2));
    // Sealed for good, and uploaded; or not any more what was uploaded.
    let sealed = checked(open.clone(), |label| label.seal(3, STAMP, false, "boot"));
    assert_eq!(sealed.state(), State::Sealed { base: Some(&base) });
    let epoch = sealed.content_epoch();
    let uploaded = checked(sealed.clone(), |label| assert!(label.persisted(3, epoch, object())));
    assert_eq!(uploaded.state(), State::Cached { ufs: &object() });
    let other = checked(sealed, |label| assert!(!label.persisted(3, epoch + 1, object())));
    assert!(matches!(other.state(), State::Sealed { .. }));
    // Committed, and uploaded while it goes on.
    let goes_on = checked(open.clone(), |label| label.commit(3, 4, STAMP, false, "boot"));
    assert_eq!((goes_on.version, goes_on.open_since), (4, 3));
    let epoch = goes_on.content_epoch();
    let goes_on = checked(goes_on, |label| assert!(label.persisted(3, epoch, object())));
    assert_eq!(goes_on.base.as_ref().map(|base| base.version), Some(3));
    let back = checked(goes_on, |label| assert!(label.give_back()));
    assert_eq!((back.state(), back.version), (State::Cached { ufs: &object() }, 3));
    // A descriptor goes out.
    let handed_out = checked(open, Label::hand_out);
    assert_eq!(handed_out.state(), State::Open(Under::Nothing));
    assert!(handed_out.writable_fd_out() && handed_out.source().is_none());
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |label: Label, change: fn(&mut Label)| {
        let change = std::panic::AssertUnwindSafe(|| checked(label, change));
        assert!(std::panic::catch_unwind(change).is_err());
    };
    refused(cached(), |label| label.seal(2, STAMP, false, ""));
    refused(cached(), Label::hand_out);
    refused(cached(), |label| label.open_again(3));
    let open = checked(cached(), |label| label.open(true, STAMP, 3, ""));
    refused(open.clone(), |label| label.open(true, STAMP, 4, ""));
    refused(open, |label| label.header.open_since = label.version + 1);
}

/// A seal that the disk refuses leaves a mapped file one of which anything may have changed.
#[test]
fn what_the_disk_refuses_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open(dir.path()).unwrap();
    let mut entry = Entry::create(&layout, Header::open_new(7, 3)).unwrap();
    entry.set_writable_fd_out().unwrap();
    entry.note_mapped();
    let before = entry.inner.lock().label.clone();
    let sidecar = layout.sidecar(InodeId(7));
    entry.sidecar = Sidecar::new(std::fs::File::open(&sidecar).unwrap());
    let stat = crate::io::stat(&entry.data).unwrap();
    assert!(entry.label_sealed(3, 0, &stat, false, "boot").is_err());
    assert_eq!(entry.inner.lock().label, before);
    let again = std::fs::File::options().read(true).write(true).open(&sidecar);
    entry.sidecar = Sidecar::new(again.unwrap());
    entry.label_sealed(3, 0, &stat, false, "boot").unwrap();
    assert!(!entry.is_open() && !entry.writable_fd_out());
}

/// Bytes that are written from now on are of this boot: a start of the process alone must not take them for lost.
#[test]
fn an_opening_is_of_the_boot_that_it_is_made_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::open(dir.path()).unwrap();
    let content = vec![1; CHUNK_BYTES as usize];
    let header = Header::cached(7, 2, 2 * CHUNK_BYTES, Some(object()));
    let entry = Entry::create(&layout, header).unwrap();
    let (_, _, epoch) = entry.source().unwrap();
    entry.fill(epoch, 0, &content).unwrap();
    drop(entry);
    layout.boot_id = "another".to_owned();
    let entry = Entry::load(&layout, InodeId(7)).unwrap().unwrap();
    assert!(entry.crossed_boot.load(Ordering::Relaxed));
    entry.begin_open(false, Some(STAMP), 3, &layout.boot_id).unwrap();
    entry.write_local(CHUNK_BYTES, &content).unwrap();
    drop(entry);
    let again = Entry::load(&layout, InodeId(7)).unwrap().unwrap();
    assert!(!again.crossed_boot.load(Ordering::Relaxed));
    assert!(again.missing(0..2).is_empty(), "what was written is taken for lost");
}

/// The header of an opening did not reach the disk, and marks of what was written after it did.
#[test]
fn written_marks_under_a_closed_header_are_not_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open(dir.path()).unwrap();
    let content = vec![1; 2 * CHUNK_BYTES as usize];
    let mut headers = vec![Header::cached(7, 2, 2 * CHUNK_BYTES, Some(object()))];
    headers.push(Header {
        inode: 8,
        ufs: None,
        ..headers[0].clone()
    });
    for header in headers {
        let (inode, is_cached) = (InodeId(header.inode), header.ufs.is_some());
        let entry = Entry::create(&layout, header).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&*entry.writer(false).unwrap(), &content, 0).unwrap();
        let sum = alluxio_common::checksum::crc32c(&content[..CHUNK_BYTES as usize]);
        entry
            .sidecar
            .set_marks(0, &[Mark::Local(sum), Mark::Local(sum)])
            .unwrap();
        drop(entry);
        let sealed = Entry::load(&layout, inode).unwrap().unwrap();
        assert!(sealed.is_as_sealed().unwrap());
        sealed.sidecar.set_marks(1, &[Mark::Dirty]).unwrap();
        drop(sealed);
        let after = Entry::load(&layout, inode).unwrap().unwrap();
        match is_cached {
            // The store has it.
            true => assert_eq!(after.missing(0..2).first(), Some(&(1..2))),
            false => assert!(!after.is_as_sealed().unwrap()),
        }
    }
}

/// Headers as format 2 wrote them before states had a name of their own.
#[test]
fn old_headers_are_the_states_that_they_were() {
    let load = |hex: &str| {
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        <Header as prost::Message>::decode(&bytes[..]).unwrap()
    };
    let open_over_a_base = load(OPEN_OVER_A_BASE);
    let State::Open(Under::Base(Some(base))) = open_over_a_base.state() else {
        panic!("{open_over_a_base:?}");
    };
    assert_eq!((base.version, base.bytes), (2, STAMP.size));
    assert_eq!(load(OPEN_NEW).state(), State::Open(Under::Nothing));
    assert_eq!(load(CACHED).state(), State::Cached { ufs: &object() });
    assert!(matches!(load(SEALED).state(), State::Sealed { base: Some(_) }));
    for hex in [OPEN_OVER_A_BASE, OPEN_NEW, CACHED, SEALED] {
        Label::new(load(hex)).check().unwrap();
    }
    let hex_of = |header: &Header| {
        let bytes = prost::Message::encode_to_vec(header);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    assert_eq!(hex_of(&cached()), CACHED);
    assert_eq!(hex_of(&Header::open_new(7, 3)), OPEN_NEW);
    let open = checked(cached(), |label| label.open(false, STAMP, 3, "boot"));
    assert_eq!(hex_of(&open), OPEN_OVER_A_BASE);
    assert_eq!(
        hex_of(&checked(open, |label| label.seal(3, STAMP, false, "boot"))),
        SEALED
    );
}
const CACHED: &str = "080718022080800c4a0f08011201611a04657461672080800c";
const OPEN_NEW: &str = "08071803280130016003";
const OPEN_OVER_A_BASE: &str = "080718032080800c28014204626f6f7452170a0f08011201611a04657461672080800c1080800c18025a2308021080800c220f08011201\
    611a04657461672080800c2880800c300538064080800c6003";
const SEALED: &str = "080718032080800c4204626f6f7452170a0f08011201611a04657461672080800c1080800c18026805";
