//! A process that does on order what a test wants to see another process do: open, lock, read, write, map.
//!
//! It is a Python that evaluates one expression a line; a failing system call is answered by the name of its errno.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Longer than anything takes that is not meant to wait.
pub const PROMPT: Duration = Duration::from_secs(60);

const PROGRAM: &str = r#"
import ctypes, errno, fcntl, os, signal, struct, sys
READ, WRITE, NONE = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
RO, RW = os.O_RDONLY, os.O_RDWR | os.O_CREAT
KINDS = {READ: 'READ', WRITE: 'WRITE', NONE: 'NONE'}

def interrupted(*_):
    raise InterruptedError(errno.EINTR, 'interrupted')
signal.signal(signal.SIGINT, interrupted)

def pack(kind, start, length):
    return struct.pack('hhqqi4x', kind, 0, start, length, 0)

def lock(fd, kind, start=0, length=0, wait=False, ofd=False):
    command = (38 if wait else 37) if ofd else (fcntl.F_SETLKW if wait else fcntl.F_SETLK)
    fcntl.fcntl(fd, command, pack(kind, start, length))
    return 'ok'

def test(fd, kind, start=0, length=0, ofd=False):
    found = struct.unpack('hhqqi4x', fcntl.fcntl(fd, 36 if ofd else fcntl.F_GETLK, pack(kind, start, length)))
    return 'NONE' if found[0] == NONE else '%s %d %d %d' % (KINDS[found[0]], found[2], found[3], found[4])

def flock(fd, how):
    fcntl.flock(fd, how)
    return 'ok'

# Python's own mappings keep a descriptor of their own.
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
LIBC.msync.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

def checked(result):
    if result in (-1, 2 ** 64 - 1):
        raise OSError(ctypes.get_errno(), 'failed')
    return result

def mapped(fd, length):
    return checked(LIBC.mmap(None, length, 3, 1, fd, 0))

def store(at, data):
    ctypes.memmove(at, data, len(data))
    return 'ok'

def msync(at, length):
    checked(LIBC.msync(at, length, 4))
    return 'ok'

def unmap(at, length):
    checked(LIBC.munmap(at, length))
    return 'ok'

SH, EX, UN, NB = fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN, fcntl.LOCK_NB
ANSWERS = os.fdopen(os.dup(1), 'w', 1)

for line in sys.stdin:
    try:
        answer = eval(line)
    except OSError as error:
        answer = 'EDEADLK' if error.errno == errno.EDEADLK else errno.errorcode.get(error.errno, error.errno)
    ANSWERS.write(str(answer) + '\n')
"#;

/// The process. Ended with its guard.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<String>,
}

impl Default for Agent {
    fn default() -> Self {
        Self::new()
    }
}

impl Agent {
    /// Starts one.
    pub fn new() -> Agent {
        let mut child = Command::new("python3")
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start python3");
        let (orders, out) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let (send, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Agent { child, orders, answers }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Orders something; its answer is to be taken later.
    pub fn start(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("order an agent");
    }

    /// The answer to what was ordered.
    #[track_caller]
    pub fn answer(&mut self) -> String {
        self.answers.recv_timeout(PROMPT).expect("an agent answers")
    }

    /// Orders something, and answers what it came to.
    #[track_caller]
    pub fn order(&mut self, order: &str) -> String {
        self.start(order);
        self.answer()
    }

    /// Whether it is still at it after so long.
    pub fn is_busy_for(&mut self, time: Duration) -> bool {
        matches!(self.answers.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.id()).expect("a pid fits"));
        nix::sys::signal::kill(pid, signal).expect("signal an agent");
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGKILL);
        self.child.wait().expect("reap an agent");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may be gone, or wait in a system call that only a signal ends.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
