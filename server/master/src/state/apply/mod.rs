//! Applying commands: one file per noun. Here: the frame around each command, and what all of them share.

use alluxio_journal::StateMachine;
use alluxio_proto::{ErrorKind, FsError, NAME_BYTES_MAX, SessionId};
use bytes::{Bytes, BytesMut};
use std::io::{self, Read};

use super::fault::{Fault, Outcomes, refuse, show};
use super::inode::Inode;
use super::records::{Applied, Outcome};
use super::tx::Tx;
use super::view::View;
use super::{Command, Committed, State, snapshot, tables};
use crate::metastore::Batch;

impl StateMachine for State {
    type Command = Command;
    type Outcome = Outcome;

    fn apply(&self, position: &[u8], commands: Vec<Command>) -> io::Result<Vec<Outcome>> {
        let _one_batch_at_a_time = self.applying.lock();
        let before = self.globals.read().clone();
        let mut tx = Tx::new(Committed {
            store: self.store.as_ref(),
            cache: &self.cache,
            globals: &before,
        });
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            outcomes.push(run(&mut tx, command)?);
        }
        let written = tx.finish(position)?;
        let mut globals = self.globals.write();
        self.store.write(written.batch)?;
        for (id, inode) in written.inodes {
            self.cache.put_inode(id.into(), inode);
        }
        for (key, edge) in written.edges {
            self.cache.put_edge(key, edge);
        }
        *globals = written.globals;
        Ok(outcomes)
    }

    fn position(&self) -> io::Result<Option<Vec<u8>>> {
        let value = self.store.get(&tables::single(tables::POSITION))?;
        // Behind the format byte, which `open` of a newer version would have to change.
        Ok(value.map(|value| value.get(1..).unwrap_or_default().to_vec()))
    }

    fn sync(&self) -> io::Result<()> {
        self.store.sync()
    }

    fn snapshot(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(snapshot::Writer::new(self.store.snapshot()?)))
    }

    fn restore(&self, position: &[u8], snapshot: &mut dyn Read) -> io::Result<()> {
        let _one_batch_at_a_time = self.applying.lock();
        let mut globals = self.globals.write();
        // Without a position, `open` throws away what is there: a restore that is cut short leaves an empty state.
        let key = tables::single(tables::POSITION);
        self.store.write(Batch {
            changes: vec![(key.clone(), None)],
        })?;
        self.store.sync()?;
        self.store.clear()?;
        self.cache.clear();
        snapshot::load(self.store.as_ref(), snapshot)?;
        let mut value = vec![tables::FORMAT];
        value.extend_from_slice(position);
        self.store.sync()?;
        self.store.write(Batch {
            changes: vec![(key, Some(value.into()))],
        })?;
        self.store.sync()?;
        *globals = super::load_globals(self.store.as_ref())?;
        Ok(())
    }
}

fn run(_tx: &mut Tx<'_>, command: Command) -> io::Result<Outcome> {
    Ok(Outcome {
        result: Err(FsError::new(
            ErrorKind::NotSupported,
            "the state machine does not apply commands yet",
        )),
        events: Vec::new(),
        session: SessionId(command.session),
        repeated: false,
    })
}

/// Refuses what cannot be one path component.
pub(super) fn check_name(name: &[u8]) -> Outcomes<()> {
    if name.len() > NAME_BYTES_MAX {
        return refuse(
            ErrorKind::NameTooLong,
            format!("a name of {} bytes; {NAME_BYTES_MAX} are allowed", name.len()),
        );
    }
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return refuse(ErrorKind::InvalidArgument, format!("{:?} is no name", show(name)));
    }
    Ok(())
}

/// `dir/name`, or `name` in the root.
pub(super) fn child_path(dir: &[u8], name: &[u8]) -> Bytes {
    let mut path = BytesMut::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !dir.is_empty() {
        path.extend_from_slice(b"/");
    }
    path.extend_from_slice(name);
    path.freeze()
}

/// See [`State::generation`]. Both parts only grow, so the sum tells of a change of either.
pub(super) fn generation(view: &impl View, dir: &Inode) -> Outcomes<u64> {
    Ok(dir.generation + view.mount(dir.mount())?.epoch)
}

/// See [`State::is_tree_busy`].
pub(super) fn is_tree_busy(view: &impl View, dir: &Inode) -> Outcomes<bool> {
    let _ = (view, dir);
    Ok(false)
}
