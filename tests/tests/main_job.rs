//! The main job: one command mounts a namespace over S3 and local disk, and ordinary programs use it.

use alluxio_tests::process::sh;
use alluxio_tests::s3::boto3;
use alluxio_tests::{LocalBuilder, S3Server, Versity, tools, tree};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_secs(60);

/// `cp -a` of a real tree, `diff`, and every regular file is an object under its own name with the same bytes.
#[test]
fn a_tree_copied_onto_s3_is_there_file_by_file() {
    let server = Versity::start();
    let output = LocalBuilder::new().ufs("s3://bucket/p").options(server.options()).run(
        "cp -a /usr/include \"$M\"/ && diff -r --no-dereference /usr/include \"$M\"/include",
        LONG,
    );
    output.ok();
    let stored = server.bucket("bucket").join("p/include");
    // A link is an object that holds its target.
    let links = sh("find /usr/include -type l -printf '%P %l\\n'", SHORT).ok();
    for (name, target) in links.lines().filter_map(|line| line.split_once(' ')) {
        assert_eq!(std::fs::read(stored.join(name)).unwrap(), target.as_bytes(), "{name}");
        std::fs::remove_file(stored.join(name)).unwrap();
    }
    tree::assert_same_files("/usr/include".as_ref(), &stored);

    // Another S3 client sees the same.
    let sums = boto3(
        &server.endpoint(),
        "for page in s3.get_paginator('list_objects_v2').paginate(Bucket='bucket', Prefix='p/include/linux/'):\n\
         \x20   for o in page.get('Contents', []):\n\
         \x20       if o['Key'].endswith('/'): continue\n\
         \x20       body = s3.get_object(Bucket='bucket', Key=o['Key'])['Body'].read()\n\
         \x20       print(hashlib.md5(body).hexdigest() + '  ' + o['Key'][len('p/include/'):])\n",
    );
    assert!(sums.lines().count() > 100, "few objects under linux/: {sums}");
    let list = tools::scratch("sums-");
    std::fs::write(list.path().join("sums"), sums).unwrap();
    sh(
        &format!(
            "cd /usr/include && md5sum --quiet -c {}",
            list.path().join("sums").display()
        ),
        SHORT,
    )
    .ok();
}

/// The same over a folder, which shows that nothing is special about S3.
#[test]
fn a_tree_copied_onto_a_folder_is_there_file_by_file() {
    let dir = tools::scratch("ufs-");
    let ufs = dir.path().join("ufs");
    std::fs::create_dir(&ufs).unwrap();
    let source = dir.path().join("source");
    tree::make(&source, 300, 10_000, 5);
    sh(
        &format!(
            "cd {} && ln -s d0000/f000001 link && chmod 640 d0000/f000002 && : > empty",
            source.display()
        ),
        SHORT,
    )
    .ok();
    let line = format!(
        "cp -a {0} \"$M\"/s && diff -r --no-dereference {0} \"$M\"/s && stat -c %a \"$M\"/s/d0000/f000002",
        source.display()
    );
    let printed = LocalBuilder::new().ufs(ufs.to_str().unwrap()).run(&line, LONG).ok();
    assert_eq!(printed.trim(), "640");
    tree::assert_same_files(&source, &ufs.join("s"));
}

/// Objects put by another client before and after mounting are listed and read back.
#[test]
fn objects_of_other_clients_appear() {
    let server = Versity::start();
    let put = |key: &str, seed: u64| {
        let path = server.bucket("bucket").join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, tree::contents(seed, 300_000)).unwrap();
    };
    put("before/a b", 1);
    put("before/100%", 2);
    let local = LocalBuilder::new()
        .ufs("s3://bucket")
        .options(server.options())
        .option("alluxio.user.file.metadata.sync.interval", "1s")
        .start();
    let read = |name: &str| std::fs::read(local.mount().join(name));
    assert_eq!(read("before/a b").unwrap(), tree::contents(1, 300_000));
    assert_eq!(read("before/100%").unwrap(), tree::contents(2, 300_000));
    let names = sh(&format!("ls {}/before", local.mount().display()), SHORT).ok();
    assert_eq!(names, "100%\na b\n");

    let put_by_client = |key: &str, seed: u64| {
        let file = tools::scratch("body-");
        std::fs::write(file.path().join("body"), tree::contents(seed, 300_000)).unwrap();
        let body = file.path().join("body");
        boto3(
            &server.endpoint(),
            &format!(
                "s3.put_object(Bucket='bucket', Key='{key}', Body=open('{}', 'rb').read())",
                body.display()
            ),
        );
    };
    put_by_client("before/later", 3);
    put("new/dir/file", 4);
    boto3(
        &server.endpoint(),
        "s3.put_object(Bucket='bucket', Key='before/by-boto', Body=b'x' * 70000)",
    );
    alluxio_tests::wait::until("the new objects are listed", Duration::from_secs(10), || {
        let names = sh(
            &format!("ls {0}/before {0}/new/dir 2>/dev/null || true", local.mount().display()),
            SHORT,
        )
        .ok();
        ["later", "by-boto", "file"]
            .iter()
            .all(|name| names.lines().any(|line| line == *name))
    });
    assert_eq!(read("before/later").unwrap(), tree::contents(3, 300_000));
    assert_eq!(read("new/dir/file").unwrap(), tree::contents(4, 300_000));
    assert_eq!(read("before/by-boto").unwrap(), vec![b'x'; 70_000]);

    // Replaced behind our back: the new bytes, never a mixture.
    put_by_client("before/later", 9);
    alluxio_tests::wait::until("the replaced object is read", Duration::from_secs(10), || {
        read("before/later").is_ok_and(|bytes| {
            assert!(
                bytes == tree::contents(3, 300_000) || bytes == tree::contents(9, 300_000),
                "bytes of two versions are mixed"
            );
            bytes == tree::contents(9, 300_000)
        })
    });
    // Deleted behind our back.
    boto3(
        &server.endpoint(),
        "s3.delete_object(Bucket='bucket', Key='before/later')",
    );
    alluxio_tests::wait::until("the deleted object is gone", Duration::from_secs(10), || {
        read("before/later").is_err()
    });
}

/// Random writes, appends, truncation, rename over, unlink while open: what a local file system does.
#[test]
fn files_behave_like_files() {
    let server = Versity::start();
    let script = r#"
        cd "$M"
        printf 'hello world' > f; printf 'HELLO' | dd of=f conv=notrunc status=none; test "$(cat f)" = 'HELLO world'
        printf ' again' >> f; test "$(cat f)" = 'HELLO world again'
        truncate -s 5 f; test "$(cat f)" = HELLO
        truncate -s 8 f; test "$(od -An -c f | tr -d ' ')" = 'HELLO\0\0\0'
        printf old > t; printf new > n; mv n t; test "$(cat t)" = new; test ! -e n
        exec 3<> o; printf kept >&3; rm o; test ! -e o; test "$(cat /proc/self/fd/3)" = kept; exec 3>&-
        mkdir -p d/e; ! rmdir d 2>/dev/null; printf x > d/e/x; mv d d2; test "$(cat d2/e/x)" = x
        ln -s d2/e/x l; test "$(readlink l)" = d2/e/x; test "$(cat l)" = x
        chmod 600 t; touch -d '2001-02-03 04:05:06.789 UTC' t
        test "$(stat -c '%a %.3Y' t)" = "600 $(date -d '2001-02-03 04:05:06.789 UTC' +%s.789)"
        dd if=/dev/zero of=sparse bs=1 count=1 seek=10000000 status=none; test "$(stat -c %s sparse)" = 10000001
        (echo one; echo two) > sub; test "$(cat sub)" = "$(printf 'one\ntwo')"
        printf v1 > ow; cat ow > /dev/null; printf version2 > ow; test "$(cat ow)" = version2
    "#;
    LocalBuilder::new()
        .ufs("s3://bucket/x")
        .options(server.options())
        .run(script, LONG)
        .ok();
    let object = |key: &str| {
        std::fs::read(server.bucket("bucket").join("x").join(key))
            .unwrap_or_else(|error| panic!("object {key}: {error}"))
    };
    assert_eq!(object("f"), b"HELLO\0\0\0");
    assert_eq!(object("t"), b"new");
    assert_eq!(object("d2/e/x"), b"x");
    assert_eq!(object("sub"), b"one\ntwo\n");
    assert_eq!(object("ow"), b"version2");
    assert!(
        !server.bucket("bucket").join("x/o").exists(),
        "an unlinked file reached the store"
    );
    assert!(
        !server.bucket("bucket").join("x/n").exists(),
        "a renamed file is still under its old name"
    );
}

/// `git clone` of a repository with 5,000 files, `git status` and `git fsck` clean.
#[test]
fn git_clones_and_checks() {
    let server = Versity::start();
    let dir = tools::scratch("git-");
    let source = dir.path().join("source");
    tree::make(&source, 5_000, 600, 21);
    sh(
        &format!(
            "cd {} && git init -q -b main . && git config user.email a@b && git config user.name n && git add -A && git commit -qm all",
            source.display()
        ),
        LONG,
    )
    .ok();
    let line = format!(
        "git clone -q file://{} \"$M\"/repo && cd \"$M\"/repo && test -z \"$(git status --porcelain)\" && git fsck --strict && git ls-files | wc -l",
        source.display()
    );
    let printed = LocalBuilder::new()
        .ufs("s3://bucket/git")
        .options(server.options())
        .run(&line, LONG)
        .ok();
    assert_eq!(printed.trim().lines().last(), Some("5000"));
    let stored = server.bucket("bucket").join("git/repo");
    assert_eq!(
        std::fs::read_dir(&stored)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('d'))
            .count(),
        50
    );
}

/// A vim-style save: write a temporary file, sync, rename over; and a backup by rename.
#[test]
fn editors_save() {
    let script = r#"
        cd "$M"; printf one > doc
        mv doc doc~; printf two > doc; sync doc; rm doc~; test "$(cat doc)" = two
        printf three > .doc.swp; sync .doc.swp; mv .doc.swp doc; test "$(cat doc)" = three
        test "$(ls -A)" = doc
    "#;
    LocalBuilder::new().run(script, SHORT).ok();
}

/// The exit status is the command's.
#[test]
fn the_exit_status_is_the_commands() {
    assert_eq!(LocalBuilder::new().run("exit 0", SHORT).code, 0);
    assert_eq!(LocalBuilder::new().run("exit 7", SHORT).code, 7);
    assert_eq!(LocalBuilder::new().run("kill -9 $$", SHORT).code, 137);
}

/// Without a command: SIGTERM persists what is due, unmounts, exits 0.
#[test]
fn sigterm_persists_and_unmounts() {
    let server = Versity::start();
    let local = LocalBuilder::new()
        .ufs("s3://bucket/t")
        .options(server.options())
        .start();
    let mount = local.mount().to_owned();
    for index in 0..50 {
        std::fs::write(mount.join(format!("f{index}")), tree::contents(index, 5_000)).unwrap();
    }
    let (code, log) = local.stop(SHORT);
    assert_eq!(code, 0, "{log}");
    assert!(!alluxio_tests::mounts::is_mounted(&mount));
    for index in 0..50 {
        assert_eq!(
            std::fs::read(server.bucket("bucket").join(format!("t/f{index}"))).unwrap(),
            tree::contents(index, 5_000)
        );
    }
}
