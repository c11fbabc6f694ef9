//! inotify: on the mount where something changes, all of it; on another mount, what FUSE can tell a kernel.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use alluxio_tests::{Agent, Mount, Separate, process, tools};
use std::path::Path;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// inotify by ctypes: `watch(path)` begins, `heard(name)` waits until an event of this name came and lists all up to it.
const LISTENER: &str = r#"
import ctypes, errno, os, select, struct
libc = ctypes.CDLL(None, use_errno=True)
NAMES = {1: 'ACCESS', 2: 'MODIFY', 4: 'ATTRIB', 8: 'CLOSE_WRITE', 16: 'CLOSE_NOWRITE', 32: 'OPEN', 64: 'MOVED_FROM', 128: 'MOVED_TO',
         256: 'CREATE', 512: 'DELETE', 1024: 'DELETE_SELF', 2048: 'MOVE_SELF', 32768: 'IGNORED'}
queue = libc.inotify_init()

def watch(path):
    return 'ok' if libc.inotify_add_watch(queue, path.encode(), 0xfff) >= 0 else errno.errorcode[ctypes.get_errno()]

def heard(last):
    seen = []
    while last not in seen and select.select([queue], [], [], 30)[0]:
        data = os.read(queue, 65536)
        while data:
            _, mask, _, length = struct.unpack_from('iIII', data)
            name = data[16:16 + length].rstrip(b'\0').decode()
            what = NAMES.get(mask & 0xffff, hex(mask))
            seen.append(what + ' ' + name if name else what)
            data = data[16 + length:]
    return ','.join(event for event in seen if event.split()[0] not in ('ACCESS', 'OPEN', 'CLOSE_NOWRITE'))
"#;

fn listener(program: &Path, mount: &Mount, name: &str) -> Agent {
    let mut agent = Agent::new();
    let program = tools::text(program);
    assert_eq!(
        agent.order(&format!("exec(open({program:?}).read(), globals()) or 'ok'")),
        "ok"
    );
    let path = mount.file(name);
    assert_eq!(agent.order(&format!("watch({:?})", tools::text(&path))), "ok");
    agent
}

#[test]
fn changes_are_heard_where_they_are_made_and_removals_everywhere() {
    let cluster = Separate::start(&[]);
    let (a, b) = (cluster.mount("a"), cluster.mount("b"));
    std::fs::write(a.file("watched"), "x").unwrap();
    let dir = tools::scratch("inotify-");
    let program = dir.path().join("listener.py");
    std::fs::write(&program, LISTENER).unwrap();
    let mut here = listener(&program, &a, "");
    let mut there = listener(&program, &b, "watched");
    std::fs::write(a.file("new"), "x").unwrap();
    let (from, to) = (a.file("new"), a.file("moved"));
    process::sh(&format!("mv {} {}", from.display(), to.display()), LONG).ok();
    std::fs::remove_file(a.file("moved")).unwrap();
    let heard = here.order("heard('DELETE moved')");
    let expected = "CREATE new,MODIFY new,CLOSE_WRITE new,MOVED_FROM new,MOVED_TO moved,DELETE moved";
    assert_eq!(heard, expected);
    // The other kernel is told that a name and its inode are gone, and tells who watches the inode.
    std::fs::remove_file(a.file("watched")).unwrap();
    let heard = there.order("heard('IGNORED')");
    assert!(heard.contains("DELETE_SELF"), "{heard}");
}
