//! RENAME_EXCHANGE: two names swap what they name.

use alluxio_proto::ErrorKind;

use super::Work;
use super::presence::Presence;
use super::rename::End;
use crate::state::fault::{Outcomes, refuse};
use crate::state::inode::Inode;

/// Name in the under-storage for the moment in which one of the two is nowhere; followed by a number that is used once.
const DETOUR: &str = ".alluxio.exchange.";

impl Work<'_, '_> {
    pub(super) fn exchange(&mut self, mut a: Inode, at_a: End, mut b: Inode, at_b: End) -> Outcomes<()> {
        let (of_a, of_b) = (self.presence_at(&a, &at_a)?, self.presence_at(&b, &at_b)?);
        if of_a.inherited(&a).next().is_some() || of_b.inherited(&b).next().is_some() {
            return refuse(
                ErrorKind::Busy,
                "a file that one of the two replaced is still being uploaded; try again",
            );
        }
        self.exchange_in_ufs((&mut a, &of_a, &at_a), (&mut b, &of_b, &at_b))?;
        self.put_name(&mut a, &at_a, &at_b);
        self.put_name(&mut b, &at_b, &at_a);
        let (is_dir_a, is_dir_b) = (a.is_dir(), b.is_dir());
        self.tx.put_inode(b);
        self.put_and_answer(a);
        for (end, gained, lost) in [(&at_a, is_dir_b, is_dir_a), (&at_b, is_dir_a, is_dir_b)] {
            let mut dir = self.edit(end.dir)?;
            dir.nlink = (dir.nlink + u32::from(gained)).saturating_sub(u32::from(lost));
            dir.note_entries_changed(self.now_ns);
            self.tx.put_inode(dir);
            self.inode_changed(end.dir.get(), false);
        }
        Ok(())
    }

    /// What there is by this name: nothing, if the under-storage has the inode under another one.
    fn presence_at(&self, inode: &Inode, at: &End) -> Outcomes<Presence> {
        match inode.is_stored_at(at.dir, &at.name) {
            true => self.presence(inode),
            false => Ok(Presence::nothing()),
        }
    }

    fn exchange_in_ufs(
        &mut self,
        (a, of_a, at_a): (&mut Inode, &Presence, &End),
        (b, of_b, at_b): (&mut Inode, &Presence, &End),
    ) -> Outcomes<()> {
        if !of_a.own {
            self.vacate(a, of_a, at_a.path.clone(), at_a.dir)?;
        }
        if !of_b.own {
            self.vacate(b, of_b, at_b.path.clone(), at_b.dir)?;
        }
        match (of_a.own, of_b.own) {
            (true, true) => {
                let number = self.tx.globals.counters.intent_high;
                let mut detour = at_a.path[..at_a.path.len() - at_a.name.len()].to_vec();
                detour.extend_from_slice(format!("{DETOUR}{number}").as_bytes());
                let detour = End {
                    path: detour.into(),
                    ..at_a.clone()
                };
                self.new_rename(a, at_a, &detour)?;
                self.new_rename(b, at_b, at_a)?;
                self.new_rename(a, &detour, at_b)
            }
            (true, false) => self.new_rename(a, at_a, at_b),
            (false, true) => self.new_rename(b, at_b, at_a),
            (false, false) => Ok(()),
        }
    }
}
