//! Keys that are no paths, or hardly: on a server that keeps them exactly.

use alluxio_tests::{LocalBuilder, Moto, S3Server};
use std::collections::BTreeSet;

#[test]
fn hostile_keys_are_shown_or_skipped() {
    let moto = Moto::start();
    moto.python(
        "keys = ['plain', 'a//b', 'k', 'k/x', 'marker/', 'sp ace/x y', 'per%20cent', 'per%/x', 'ümlaut/日本', '../up', 'dot/./x', 'end/..', '#hash', 'plus+plus', 'a-b', 'a/z', \
         'long/' + 'n' * 255, 'toolong/' + 'n' * 256, 'deep/' + '/'.join(['d' * 100] * 10)[:1019]]\n\
         for k in keys: s3.put_object(Bucket='bucket', Key=k, Body=k.encode())\n",
    );
    let local = LocalBuilder::new().ufs("s3://bucket").options(moto.options()).start();
    let names: BTreeSet<String> = std::fs::read_dir(local.mount())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected = [
        "plain",
        "a",
        "k",
        "marker",
        "sp ace",
        "per%20cent",
        "per%",
        "ümlaut",
        "dot",
        "end",
        "#hash",
        "plus+plus",
        "a-b",
        "long",
        "toolong",
        "deep",
    ];
    assert_eq!(names, expected.iter().map(|name| (*name).to_owned()).collect());
    let read = |name: &str| std::fs::read(local.mount().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    for key in [
        "plain",
        "k/x",
        "sp ace/x y",
        "per%20cent",
        "per%/x",
        "ümlaut/日本",
        "#hash",
        "plus+plus",
        "a-b",
        "a/z",
    ] {
        assert_eq!(read(key), key.as_bytes(), "{key}");
    }
    let long = format!("long/{}", "n".repeat(255));
    assert_eq!(read(&long), long.as_bytes());
    // Where a name is both, the folder is shown.
    assert!(std::fs::metadata(local.mount().join("k")).unwrap().is_dir());
    assert!(std::fs::metadata(local.mount().join("marker")).unwrap().is_dir());
    assert_eq!(std::fs::read_dir(local.mount().join("marker")).unwrap().count(), 0);
    // `a//b` cannot be a path: skipped, and its folder still shows what can.
    let in_a: Vec<_> = std::fs::read_dir(local.mount().join("a"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(in_a, ["z"]);
    assert_eq!(std::fs::read_dir(local.mount().join("toolong")).unwrap().count(), 0);
}
