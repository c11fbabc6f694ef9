//! How openings for writing end: by their writer, and with its session.

use super::*;

impl World {
    pub(super) fn close(&mut self, nth: usize, abandon: bool) {
        let Some((inode, unpromised)) = self.opens.get(nth).copied() else {
            return;
        };
        self.opens.remove(nth);
        let last = !self.opens.iter().any(|(other, _)| *other == inode);
        let closed = self.must(CloseWrite {
            inode,
            abandon,
            ..Default::default()
        });
        if !last && !abandon {
            self.promised.insert(inode);
        }
        for item in &closed.recover {
            // What was given up lay over the only copy of what was committed; its home has nothing else.
            let tag = self.committed[&inode];
            self.contents.insert((inode, item.version), tag);
            self.must(Recovered {
                inode,
                version: item.version,
                found: true,
                length: length(Some(tag)),
                mtime_ns: 1,
                ..Default::default()
            });
        }
        if last && unpromised && abandon && self.names_of(inode).len() == 1 && !self.promised.contains(&inode) {
            self.model
                .retain(|_, node| !matches!(node, Node::File(id, _) if *id == inode));
        }
    }

    pub(super) fn kill_session(&mut self, tag: u8) {
        let id = self.session;
        self.must(UseLocks { id });
        let record = self.state.session(SessionId(id)).unwrap().unwrap();
        assert!(record.uses_locks && record.id == id);
        let ended = self.must(EndSession { id });
        let mut unpromised: Vec<u64> = self.opens.drain(..).filter(|open| open.1).map(|open| open.0).collect();
        unpromised.sort_unstable();
        unpromised.dedup();
        unpromised.retain(|inode| !self.names_of(*inode).is_empty());
        let mut said: Vec<u64> = ended
            .recover
            .iter()
            .filter(|item| item.unpromised)
            .map(|item| item.inode)
            .collect();
        said.sort_unstable();
        assert_eq!(said, unpromised, "new files of which nothing was promised");
        self.session = 0;
        for item in &ended.recover {
            let (inode, version) = (item.inode, item.version);
            if item.unpromised {
                // Every other one was closed while it was empty.
                let closed_empty = tag.is_multiple_of(2);
                self.must(Recovered {
                    inode,
                    version,
                    closed_empty,
                    ..Default::default()
                });
                if !closed_empty && self.names_of(inode).len() == 1 && !self.promised.contains(&inode) {
                    self.model
                        .retain(|_, node| !matches!(node, Node::File(id, _) if *id == inode));
                }
                continue;
            }
            self.contents.insert((item.inode, item.version), tag);
            self.must(Recovered {
                inode,
                version,
                found: true,
                length: length(Some(tag)),
                mtime_ns: 1,
                ..Default::default()
            });
            self.committed.insert(inode, tag);
            self.set_content(inode, tag);
        }
        self.nameless.clear();
        assert!(self.state.recovering().unwrap().is_empty());
        assert_eq!(kind_of(self.apply(UseLocks { id })), Err(ErrorKind::NotFound));
        self.session = self.must(OpenSession::default()).id;
        assert!(!self.state.session(SessionId(self.session)).unwrap().unwrap().uses_locks);
    }
}
