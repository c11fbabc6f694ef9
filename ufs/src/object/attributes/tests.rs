use bytes::Bytes;

use super::*;

fn pairs(pairs: &[(&str, &str)]) -> Metadata {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn read(of: &[(&str, &str)]) -> UfsAttributes {
    from_metadata(&pairs(of), FileKind::File).attributes
}

#[test]
fn there_and_back() {
    let attributes = UfsAttributes {
        mode: Some(0o4755),
        owner: Some("Jürgen ,\"x\"".to_owned()),
        group: Some("root".to_owned()),
        mtime_ns: Some(-5),
        atime_ns: Some(1_600_000_000_000_000_007),
        xattrs: Some(vec![(Bytes::from_static(b"user.a b"), Bytes::from_static(b"\0\xff"))]),
        write_id: Some("w-1".to_owned()),
        carried: None,
    };
    for kind in [FileKind::File, FileKind::Directory, FileKind::Symlink] {
        let metadata = to_metadata(&attributes, kind);
        assert!(metadata.iter().all(|(_, value)| value.is_ascii()));
        let found = from_metadata(&metadata, kind);
        assert_eq!(found.attributes, attributes);
        assert_eq!(found.is_link, kind == FileKind::Symlink);
    }
}

#[test]
fn others_read_what_we_write() {
    let attributes = UfsAttributes {
        mode: Some(0o755),
        owner: Some("root".to_owned()),
        group: Some("4321".to_owned()),
        mtime_ns: Some(1_600_000_000_000_000_005),
        atime_ns: Some(1_600_000_000_000_000_000),
        xattrs: Some(vec![(Bytes::from_static(b"user.k"), Bytes::from_static(b"v"))]),
        ..UfsAttributes::default()
    };
    let expected = pairs(&[
        ("mode", "33261"),
        ("uid", "0"),
        ("gid", "4321"),
        ("mtime", "1600000000.000000005"),
        ("atime", "1600000000"),
        ("alluxio-owner", "0:root"),
        ("xattr", "%7B%22user%2Ek%22%3A%22dg%3D%3D%22%7D"),
    ]);
    assert_eq!(to_metadata(&attributes, FileKind::File), expected);
}

#[test]
fn what_s3fs_writes_is_read() {
    let found = read(&[
        ("mode", "33184"),
        ("uid", "4321"),
        ("gid", "0"),
        ("mtime", "1600000000.000000123"),
        ("ctime", "1600000001"),
        ("atime", "1600000002"),
        ("xattr", "%7b%22user.k%22%3a%22dg%3d%3d%22%7d"),
    ]);
    assert_eq!(found.mode, Some(0o640));
    assert_eq!(
        (found.owner.as_deref(), found.group.as_deref()),
        (Some("4321"), Some("root"))
    );
    assert_eq!(found.mtime_ns, Some(1_600_000_000_000_000_123));
    assert_eq!(found.atime_ns, Some(1_600_000_002_000_000_000));
    assert_eq!(found.xattrs, Some(vec![("user.k".into(), "v".into())]));
    let link = from_metadata(&pairs(&[("mode", "41471")]), FileKind::File);
    assert!(link.is_link && link.attributes.mode == Some(0o777));
    let folder = |mode| {
        from_metadata(&pairs(&[("mode", mode)]), FileKind::Directory)
            .attributes
            .mode
    };
    assert_eq!((folder("16872"), folder("33188")), (Some(0o750), None));
}

#[test]
fn what_rclone_writes_is_read() {
    let found = read(&[
        ("mode", "100640"),
        ("uid", "4321"),
        ("gid", "4321"),
        ("mtime", "1600000000.123456789"),
        ("atime", "2020-09-13T14:26:42.5+02:00"),
        ("btime", "2020-09-13T12:26:40Z"),
    ]);
    assert_eq!((found.mode, found.owner.as_deref()), (Some(0o640), Some("4321")));
    assert_eq!(found.mtime_ns, Some(1_600_000_000_123_456_789));
    assert_eq!(found.atime_ns, Some(1_600_000_002_500_000_000));
    let link = from_metadata(&pairs(&[("mode", "120777")]), FileKind::File);
    assert_eq!(link, Found::default(), "its links are files with names of their own");
    let folder = from_metadata(&pairs(&[("mode", "40750")]), FileKind::Directory);
    assert_eq!(folder.attributes.mode, Some(0o750));
}

#[test]
fn what_older_software_wrote_is_read() {
    let found = read(&[
        ("alluxio-mode", "750"),
        ("alluxio-owner", "J%C3%BCrgen"),
        ("alluxio-mtime", "-5"),
    ]);
    assert_eq!((found.mode, found.owner.as_deref()), (Some(0o750), Some("Jürgen")));
    assert_eq!(found.mtime_ns, Some(-5));
}

#[test]
fn the_number_of_an_owner_goes_before_a_name_that_is_outdated() {
    // s3fs has changed the owner since.
    let found = read(&[("uid", "4321"), ("alluxio-owner", "0:root")]);
    assert_eq!(found.owner.as_deref(), Some("4321"));
    let found = read(&[("uid", "4321"), ("alluxio-owner", "4321:nobody-here-has-this-name")]);
    assert_eq!(found.owner.as_deref(), Some("4321"), "a name that means nobody here");
    assert_eq!(read(&[("alluxio-owner", ":carol")]).owner.as_deref(), Some("carol"));
}

#[test]
fn nonsense_is_left_out() {
    for hostile in [
        "",
        "rwx",
        "-1",
        "99999999999999999999",
        "1e9",
        " 420",
        "0x1ff",
        "644",
        "65536",
        "\u{7f}",
        "NaN",
        "12288",
        "49152",
    ] {
        let found = read(&[("mode", hostile), ("alluxio-mode", "9")]);
        assert_eq!(found.mode, None, "{hostile:?}");
    }
    for hostile in ["", "-1", "4294967295", "4294967296", "root", "1.5", "+1"] {
        assert_eq!(
            read(&[("uid", hostile), ("gid", hostile)]),
            UfsAttributes::default(),
            "{hostile:?}"
        );
    }
    for hostile in [
        "",
        "-",
        ".",
        ".5",
        "1,5",
        "1e9",
        "9999999999999",
        "--1",
        "inf",
        "2020-13-01T00:00:00Z",
        "9999-01-01T00:00:00Z",
        "T",
    ] {
        assert_eq!(
            read(&[("mtime", hostile), ("atime", hostile)]),
            UfsAttributes::default(),
            "{hostile:?}"
        );
    }
    for hostile in [
        "",
        "%",
        "[]",
        "%7B",
        "{\"user.a\":1}",
        "{\"trusted.a\":\"dg==\"}",
        "{\"user.\":\"dg==\"}",
        "{\"user.a\":\"!\"}",
    ] {
        assert_eq!(
            read(&[("xattr", hostile)]).xattrs.unwrap_or_default(),
            [],
            "{hostile:?}"
        );
    }
    assert_eq!(
        read(&[("alluxio-owner", "%FF"), ("alluxio-group", "5:a%00b")]),
        UfsAttributes::default()
    );
}

#[test]
fn what_is_too_much_for_the_store_is_left_out() {
    let xattrs = |bytes| UfsAttributes {
        mode: Some(0o644),
        xattrs: Some(vec![(Bytes::from_static(b"user.k"), Bytes::from(vec![7; bytes]))]),
        ..UfsAttributes::default()
    };
    let mut little = to_metadata(&xattrs(100), FileKind::File);
    assert!(fit(&mut little) && little.len() == 2);
    let mut much = to_metadata(&xattrs(3000), FileKind::File);
    assert!(!fit(&mut much));
    assert_eq!(much, pairs(&[("mode", "33188")]));
}

#[test]
fn a_marker_says_whether_to_look() {
    assert!(says_attributes(&vec![mark()]) && is_marked(&vec![mark()]));
    assert!(
        says_attributes(&pairs(&[("mode", "16877"), ("uid", "0")])),
        "s3fs made it"
    );
    assert!(!says_attributes(&pairs(&[("theirs", "x")])));
}
