//! fanotify(7) as far as the guard needs it: pre-content events, which the kernel raises before bytes of a marked file are
//! read or written, by whomever and on whatever way but mappings and splices, and which hold the program until they are
//! answered; and where we ask for them those of openings, which nobody waits for. By hand, because no crate that we know of hands out the range of an
//! event.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Not in the libc crate: linux/fanotify.h, since Linux 6.14.
const FAN_PRE_ACCESS: u64 = 0x0010_0000;
const FAN_EVENT_INFO_TYPE_RANGE: u8 = 6;
/// Where a refusal has its errno, in groups of pre-content events.
const FAN_ERRNO_SHIFT: u32 = 24;
/// What a marked file tells of at most.
const MASK: u64 = FAN_PRE_ACCESS | libc::FAN_OPEN;
const METADATA_BYTES: usize = size_of::<libc::fanotify_event_metadata>();
/// Events taken from the kernel at once, and descriptors that are kept for them.
const EVENTS_MAX: usize = 32;
/// With its range an event takes the place of two.
const EVENTS_MIN: usize = 2;
/// How long programs wait while there are no descriptors for their events: as long as for room. Each answer frees one.
const SHORT_MAX: Duration = Duration::from_secs(10);
/// The pause between two looks for them.
const SHORT_PAUSE: Duration = Duration::from_millis(2);
/// `struct fanotify_event_info_range`: type, padding, length; padding; offset; count.
const RANGE_BYTES: usize = 24;

/// A group of marks, and the events of files that bear one. When it is gone, all who wait go on.
#[derive(Debug)]
pub(super) struct Group(OwnedFd);

/// Descriptors for the files of events. The kernel makes them when an event is read, and if there are none, whoever waits is told
/// EPERM, and nobody is told of it. So a few are kept, and freed just before: what is left is that another thread takes them within
/// these microseconds.
#[derive(Debug)]
pub(super) struct Reserve {
    kept: Vec<OwnedFd>,
    /// What they are copies of.
    of: OwnedFd,
    short_since: Option<Instant>,
}

impl Reserve {
    /// # Errors
    /// If there is not one descriptor left.
    pub fn new(of: &OwnedFd) -> io::Result<Self> {
        let mut reserve = Self {
            kept: Vec::with_capacity(EVENTS_MAX),
            of: of.try_clone()?,
            short_since: None,
        };
        reserve.fill();
        Ok(reserve)
    }

    fn fill(&mut self) {
        while self.kept.len() < EVENTS_MAX
            && let Ok(more) = self.of.try_clone()
        {
            self.kept.push(more);
        }
    }

    /// Frees as many as may be taken for `waiting` events. `None`: there are none, and it is to be tried again.
    fn lend(&mut self, waiting: usize) -> Option<usize> {
        self.fill();
        let kept = self.kept.len();
        if kept >= EVENTS_MIN {
            self.short_since = None;
        } else if self.short_since.get_or_insert_with(Instant::now).elapsed() < SHORT_MAX {
            return None;
        }
        let lent = waiting.min(kept).max(EVENTS_MIN);
        self.kept.truncate(kept.saturating_sub(lent));
        Some(lent)
    }
}

/// What a marked file tells of.
#[derive(Debug)]
pub(super) enum Event {
    Access(Access),
    Opened(Opened),
}

/// Somebody has opened a marked file. Openings of one process that come close together may be told as one.
#[derive(Debug)]
pub(super) struct Opened {
    pub file: File,
    pub pid: libc::pid_t,
}

/// Somebody is about to read or write a marked file, and waits. Answered when this is dropped.
#[derive(Debug)]
pub(super) struct Access {
    group: Arc<Group>,
    /// Opened by the kernel, for reading only: who asks whether anybody can write the file must not meet us.
    file: File,
    pub pid: libc::pid_t,
    /// What is accessed, widened to pages. `None`: the kernel did not say.
    pub range: Option<Range<u64>>,
    response: u32,
}

impl Group {
    /// # Errors
    /// EPERM without `CAP_SYS_ADMIN`, EINVAL and ENOSYS where the kernel has none of this.
    pub fn new() -> io::Result<Self> {
        // Unlimited: an access or an opening that finds the queue full goes on unseen. Each entry is a thread that waits (of a
        // program, or of the mount while the kernel opens the file), which bounds them.
        let flags = libc::FAN_CLASS_PRE_CONTENT
            | libc::FAN_CLOEXEC
            | libc::FAN_NONBLOCK
            | libc::FAN_UNLIMITED_QUEUE
            | libc::FAN_UNLIMITED_MARKS;
        let of_events = libc::O_RDONLY | libc::O_LARGEFILE | libc::O_CLOEXEC;
        // SAFETY: no memory is involved.
        match unsafe { libc::fanotify_init(flags, of_events as libc::c_uint) } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: a new descriptor that nobody else knows.
            fd => Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) })),
        }
    }

    /// From now on accesses are announced on descriptors that were opened while the file bore a mark, and if asked for, openings of
    /// it are told.
    pub fn mark(&self, file: &File, openings: bool) -> io::Result<()> {
        let mask = if openings { MASK } else { FAN_PRE_ACCESS };
        self.change_mark(file, libc::FAN_MARK_ADD, mask)
    }

    /// Ends that; a file without a mark is left as it is.
    pub fn unmark(&self, file: &File) -> io::Result<()> {
        match self.change_mark(file, libc::FAN_MARK_REMOVE, MASK) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    fn change_mark(&self, file: &File, how: libc::c_uint, mask: u64) -> io::Result<()> {
        // SAFETY: a null path means the file of the descriptor, which is open as long as the call takes.
        let done = unsafe { libc::fanotify_mark(self.0.as_raw_fd(), how, mask, file.as_raw_fd(), std::ptr::null()) };
        match done {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits until somebody accesses a marked file, `stop` can be read, or `pause` is over. Answers whether to look for events.
    pub fn wait(&self, stop: &OwnedFd, pause: Option<Duration>) -> io::Result<Wake> {
        let poll_for = |fd: &OwnedFd| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let mut fds = [poll_for(&self.0), poll_for(stop)];
        let pause_ms = pause.map_or(-1, |pause| i32::try_from(pause.as_millis()).unwrap_or(i32::MAX));
        // SAFETY: `fds` is an array of two that outlives the call.
        let n = unsafe { libc::poll(fds.as_mut_ptr(), 2, pause_ms) };
        match n {
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(Wake::Nothing),
                error => Err(error),
            },
            _ if fds[1].revents != 0 => Ok(Wake::Stop),
            _ if fds[0].revents != 0 => Ok(Wake::Events),
            _ => Ok(Wake::Nothing),
        }
    }

    /// How many events can be read.
    fn waiting(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the kernel writes a number there.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
        match done {
            0 => usize::try_from(bytes).unwrap_or(0) / METADATA_BYTES,
            _ => EVENTS_MAX,
        }
    }

    /// What there is, as far as there are descriptors for it.
    pub fn events(self: &Arc<Self>, reserve: &mut Reserve) -> io::Result<Vec<Event>> {
        let Some(count) = reserve.lend(self.waiting()) else {
            std::thread::sleep(SHORT_PAUSE);
            return Ok(Vec::new());
        };
        let mut buffer = [0u8; EVENTS_MAX * METADATA_BYTES];
        let length = buffer.len().min(count * METADATA_BYTES);
        // SAFETY: the buffer is ours and no shorter than said.
        let n = unsafe { libc::read(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), length) };
        let failed = io::Error::last_os_error();
        reserve.fill();
        let Ok(n) = usize::try_from(n) else {
            return match failed.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Vec::new()),
                _ => Err(failed),
            };
        };
        let (mut out, mut rest) = (Vec::new(), &buffer[..n]);
        while rest.len() >= METADATA_BYTES {
            // SAFETY: the kernel wrote as much at this place, in a type for which all bits are valid; it need not be aligned.
            let event = unsafe { rest.as_ptr().cast::<libc::fanotify_event_metadata>().read_unaligned() };
            let length = (event.event_len as usize).clamp(METADATA_BYTES, rest.len());
            let (this, after) = rest.split_at(length);
            rest = after;
            if event.fd < 0 {
                continue;
            }
            // SAFETY: the kernel made this descriptor for us, and nobody else knows it.
            let file = File::from(unsafe { OwnedFd::from_raw_fd(event.fd) });
            let pid = event.pid;
            out.push(match event.mask & FAN_PRE_ACCESS {
                0 => Event::Opened(Opened { file, pid }),
                _ => Event::Access(Access {
                    group: Arc::clone(self),
                    file,
                    pid,
                    range: range_of(this.get(usize::from(event.metadata_len)..).unwrap_or_default()),
                    response: libc::FAN_ALLOW,
                }),
            });
        }
        Ok(out)
    }
}

/// What made [`Group::wait`] return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    Events,
    Stop,
    Nothing,
}

/// Of the records behind an event.
fn range_of(mut records: &[u8]) -> Option<Range<u64>> {
    while records.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([records[2], records[3]]));
        if records[0] == FAN_EVENT_INFO_TYPE_RANGE && records.len() >= RANGE_BYTES {
            let number = |at: usize| records[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
            let (offset, count) = (number(8), number(16));
            return Some(offset..offset.saturating_add(count));
        }
        records = records.get(length.max(4)..)?;
    }
    None
}

impl Access {
    /// The file that is accessed. Nothing is read or written on it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Who waits is told EIO.
    pub fn fail(&mut self) {
        self.response = libc::FAN_DENY | (libc::EIO as u32) << FAN_ERRNO_SHIFT;
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let response = libc::fanotify_response {
            fd: self.file.as_raw_fd(),
            response: self.response,
        };
        // SAFETY: `response` is what the kernel reads here, and as long as said.
        let done = unsafe {
            libc::write(
                self.group.0.as_raw_fd(),
                (&raw const response).cast(),
                size_of::<libc::fanotify_response>(),
            )
        };
        // ENOENT: who waited was killed.
        if done < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::ENOENT) {
            tracing::warn!(error = %io::Error::last_os_error(), pid = self.pid, "let a program go on that writes past the worker");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_behind_other_records() {
        let mut records = vec![1u8, 0, 8, 0, 9, 9, 9, 9];
        assert_eq!(range_of(&records), None);
        records.extend([FAN_EVENT_INFO_TYPE_RANGE, 0, 24, 0, 0, 0, 0, 0]);
        records.extend(4096u64.to_ne_bytes());
        records.extend(8192u64.to_ne_bytes());
        assert_eq!(range_of(&records), Some(4096..12288));
        assert_eq!(range_of(&[]), None);
        assert_eq!(range_of(&[6, 0, 0]), None);
    }
}
