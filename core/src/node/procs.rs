//! The processes of a node, in an array that is sorted by process id. A node has few processes, and
//! reads all of them after every step. An array is faster than a tree for this.

use super::Proc;
use crate::base::Pid;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The processes.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Procs(Vec<(Pid, Box<Proc>)>);

impl Procs {
    fn find(&self, pid: Pid) -> Result<usize, usize> {
        self.0.binary_search_by_key(&pid, |(pid, _)| *pid)
    }

    pub(super) fn get(&self, pid: Pid) -> Option<&Proc> {
        Some(&self.0[self.find(pid).ok()?].1)
    }

    pub(super) fn get_mut(&mut self, pid: Pid) -> Option<&mut Proc> {
        let at = self.find(pid).ok()?;
        Some(&mut self.0[at].1)
    }

    /// Adds a process. Its id must be new.
    pub(super) fn insert(&mut self, pid: Pid, proc: Proc) {
        let at = self.find(pid).expect_err("an id is never reused");
        self.0.insert(at, (pid, Box::new(proc)));
    }

    pub(super) fn remove(&mut self, pid: Pid) -> Option<Proc> {
        let at = self.find(pid).ok()?;
        Some(*self.0.remove(at).1)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Pid, &Proc)> {
        self.0.iter().map(|(pid, proc)| (*pid, &**proc))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Proc> {
        self.0.iter().map(|(_, proc)| &**proc)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Proc> {
        self.0.iter_mut().map(|(_, proc)| &mut **proc)
    }
}
