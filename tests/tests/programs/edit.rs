//! An editor's save, and a tester of disks.

use super::{Place, everywhere, files_are_enough};

#[test]
fn vim_saves_with_a_backup() {
    everywhere(
        "vim",
        "8KB",
        |place: &Place<'_>| {
            place.sh(
            r#"
            cd "$M"; printf 'one\nline\n' > doc; chmod 640 doc; chown 1:1 doc
            edit() { vim -es -u NONE -c 'set nocompatible backup writebackup swapfile backupskip=' -c "set backupcopy=$1" -c "$2" -c wq doc < /dev/null; }
            # Vim makes no backups of files beneath /tmp unless it is told to.
            # By rename: the old file becomes the backup.
            before=$(stat -c %i doc); edit no '%s/one/two/'
            test "$(cat doc)" = "$(printf 'two\nline')"; test "$(cat doc~)" = "$(printf 'one\nline')"
            test "$(stat -c %i doc~)" = "$before"; test "$(stat -c '%a %u %g' doc)" = '640 1 1'
            # In place: the file stays the same one.
            before=$(stat -c %i doc); edit yes '%s/two/three/'
            test "$(cat doc)" = "$(printf 'three\nline')"; test "$(cat doc~)" = "$(printf 'two\nline')"
            test "$(stat -c %i doc)" = "$before"
            # No swap file is left.
            test "$(ls -A | sort | tr '\n' ' ')" = 'doc doc~ '
            "#,
        );
        },
        files_are_enough,
    );
}

#[test]
fn fio_finds_what_it_wrote() {
    everywhere(
        "fio",
        "8MB",
        |place: &Place<'_>| {
            for (engine, options) in [
                ("mmap", "--ioengine=mmap --fsync=256"),
                ("libaio", "--ioengine=libaio --direct=1 --iodepth=16"),
                ("psync", "--ioengine=psync --fallocate=posix"),
            ] {
                for pattern in ["write", "randwrite"] {
                    place.sh(&format!(
                    "fio --output-format=terse --name=v --filename=\"$M\"/{engine}-{pattern} --rw={pattern} --bs=4k --size=12m \
                     --verify=crc32c --do_verify=1 --verify_fatal=1 --verify_state_save=0 --randseed=7 {options}"
                ));
                }
            }
        },
        files_are_enough,
    );
}
