//! git, rsync and tar: whole trees with everything that belongs to a file.

use super::{Place, everywhere};
use alluxio_tests::tree;

/// A tree with hard links, symbolic links, a FIFO, sparse files, extended attributes, ACLs, odd names, modes and times.
const RICH_TREE: &str = r#"
    mkdir -p "$T"/dir/sub "$T"/empty
    head -c 300000 /dev/urandom > "$T"/dir/large; echo small > "$T"/dir/small; : > "$T"/nothing
    ln "$T"/dir/small "$T"/dir/sub/second-name; ln "$T"/dir/large "$T"/third
    ln -s dir/small "$T"/link; ln -s /nowhere/at/all "$T"/dangling
    mkfifo "$T"/fifo
    truncate -s 5M "$T"/sparse; printf middle | dd of="$T"/sparse bs=1 seek=3000000 conv=notrunc status=none
    printf x > "$T/name with spaces"; printf y > "$T"/$'odd\nname\xff'
    chmod 4711 "$T"/dir/small; chmod 2750 "$T"/dir/sub; chmod 1777 "$T"/empty; chown 1:2 "$T"/nothing
    setfattr -n user.comment -v 'a value' "$T"/dir/large; setfattr -n user.on-dir -v dir "$T"/dir
    setfattr -n trusted.root -v only "$T"/dir/small
    setfacl -m u:daemon:rw,g:bin:r "$T"/nothing; setfacl -d -m u:daemon:rx "$T"/dir/sub
    touch -h -d '2001-02-03 04:05:06.789123456' "$T"/link
    touch -d '1999-12-31 23:59:59.123456789' "$T"/nothing "$T"/empty "$T"/dir/large
"#;

/// Prints what differs between two trees in contents or anything else; nothing if they are the same.
const SAME: &str = r#"rsync -aHAXnic --delete "#;

#[test]
fn git_clones_collects_and_checks() {
    everywhere(
        "git",
        "3MB",
        |place: &Place<'_>| {
            tree::make(&place.scratch.join("source"), 400, 3_000, 21);
            place.sh(
            r#"
            git config --global user.email a@b; git config --global user.name n; git config --global init.defaultBranch main
            git config --global --add safe.directory '*'
            cd "$S"/source; git init -q .; git add -A; git commit -qm first
            git clone -q file://"$S"/source "$M"/repo
            cd "$M"/repo; test -z "$(git status --porcelain)"; git fsck --strict --full
            for i in 1 2 3; do for f in d0000/*; do echo "line $i" >> $f; done; git commit -qam "change $i"; done
            git checkout -q -b other HEAD~2; git mv d0001 moved; git commit -qm moved; git merge -q -m merged main
            git gc -q --aggressive --prune=now; git fsck --strict --full; test -z "$(git status --porcelain)"
            # --local insists on hard links.
            git clone -q --local "$M"/repo "$M"/linked; cd "$M"/linked; git fsck --strict --full
            test "$(git rev-parse HEAD)" = "$(git -C "$M"/repo rev-parse HEAD)"
            test "$(git ls-files | wc -l)" = 400
            "#,
        );
        },
        |place| {
            place.sh(r#"for repo in repo linked; do git -C "$M"/$repo fsck --strict --full; test -z "$(git -C "$M"/$repo status --porcelain)"; done"#);
        },
    );
}

#[test]
fn rsync_has_nothing_to_send_the_second_time() {
    everywhere(
        "rsync",
        "2MB",
        |place: &Place<'_>| {
            place.sh(&format!("T=\"$S\"/source; {RICH_TREE}"));
            tree::make(&place.scratch.join("source/many"), 300, 10_000, 3);
            place.sh(r#"rsync -aHAX "$S"/source/ "$M"/copy/"#);
            let second = place.sh(r#"rsync -aHAX --itemize-changes --stats "$S"/source/ "$M"/copy/"#);
            assert!(
                second.contains("Number of regular files transferred: 0\n")
                    && second.contains("Total transferred file size: 0 bytes\n"),
                "the second rsync sends: {second}"
            );
            let differences = place.sh(&format!("{SAME} \"$S\"/source/ \"$M\"/copy/"));
            assert_eq!(differences, "", "{}", place.mode.name());
            // What rsync does not compare.
            place.sh(r#"
            test "$(stat -c %h "$M"/copy/third)" = 2
            test "$(stat -c %i "$M"/copy/third)" = "$(stat -c %i "$M"/copy/dir/large)"
            getfattr -d -m - "$M"/copy/dir/large | grep -q 'user.comment="a value"'
            lists() { cd "$1"; find . -print0 | sort -z | xargs -0 getfacl -p; }
            test "$(lists "$S"/source)" = "$(lists "$M"/copy)"
            "#);
        },
        |place| {
            let differences = place.sh(&format!("{SAME} \"$S\"/source/ \"$M\"/copy/"));
            assert_eq!(differences, "", "after a restart, {}", place.mode.name());
        },
    );
}

#[test]
fn tar_brings_back_everything() {
    everywhere(
        "tar",
        "500KB",
        |place: &Place<'_>| {
            place.sh(&format!("T=\"$M\"/source; {RICH_TREE}"));
            let differences = place.sh(&format!(
                r#"
            tar --xattrs --xattrs-include='*' --acls --sparse -C "$M"/source -cf "$M"/archive.tar .
            mkdir "$M"/back "$S"/native
            tar --xattrs --xattrs-include='*' --acls --sparse -C "$M"/back -xpf "$M"/archive.tar
            tar --xattrs --xattrs-include='*' --acls --sparse -C "$S"/native -xpf "$M"/archive.tar
            test "$(stat -c %s "$M"/archive.tar)" -lt 2000000
            tar -C "$M"/back --compare -f "$M"/archive.tar
            {SAME} "$M"/source/ "$M"/back/; {SAME} "$S"/native/ "$M"/back/
            "#
            ));
            assert_eq!(differences, "", "{}", place.mode.name());
        },
        |place| {
            let differences = place.sh(&format!(
                r#"{SAME} "$S"/native/ "$M"/source/; {SAME} "$S"/native/ "$M"/back/"#
            ));
            assert_eq!(differences, "", "after a restart, {}", place.mode.name());
        },
    );
}
