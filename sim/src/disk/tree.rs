//! The names of files: directories in the page cache, on the platter, and their unsynced changes.
//!
//! Changes become durable in any order. There are two exceptions. Changes of one name become
//! durable in their order, and a rename changes two names. A rename becomes durable as a whole,
//! also between two directories. An fsync of a directory makes all earlier changes of the directory
//! durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use walsim_core::call::DiskError;

/// The root directory.
pub(super) const ROOT: u64 = 1;

/// What a name refers to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Node {
    File(u64),
    Dir(u64),
}

/// A set of nodes, as a sorted list. The set is built anew whenever it is needed, and a sorted list
/// is built faster than a tree.
pub(super) struct Nodes(Vec<Node>);

impl Nodes {
    fn new(mut nodes: Vec<Node>) -> Self {
        nodes.sort_unstable();
        Self(nodes)
    }

    pub(super) fn contains(&self, node: Node) -> bool {
        self.0.binary_search(&node).is_ok()
    }
}

type Names = BTreeMap<Arc<str>, Node>;

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Dir {
    live: Names,
    durable: Names,
    log: Vec<Logged>,
    /// How many system calls were made on the directory. The number is a part of the keys of
    /// choices.
    calls: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Logged {
    number: u64,
    change: Change,
    /// The other directory, if this change is one half of a rename between two directories.
    other: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Change {
    Put(Arc<str>, Node),
    Remove(Arc<str>),
    Move(Arc<str>, Arc<str>),
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Put(name, node) => {
                names.insert(name.clone(), *node);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Move(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }

    fn concerns(&self, name: &str) -> bool {
        self.names().any(|changed| **changed == *name)
    }

    fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let (first, second) = match self {
            Self::Put(name, _) | Self::Remove(name) => (name, None),
            Self::Move(from, to) => (from, Some(to)),
        };
        [first].into_iter().chain(second)
    }
}

impl Dir {
    /// What a name refers to after each prefix of the unsynced changes. Any other order of the
    /// changes gives the same result, because the changes of one name keep their order.
    fn reachable(&self, name: &str) -> BTreeSet<Node> {
        let mut nodes: BTreeSet<Node> = self.durable.get(name).copied().into_iter().collect();
        if self.log.iter().any(|entry| entry.change.concerns(name)) {
            let mut names = self.durable.clone();
            for entry in &self.log {
                entry.change.apply(&mut names);
                nodes.extend(names.get(name));
            }
        }
        nodes
    }
}

/// An unsynced change of a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingChange {
    pub(super) dir: u64,
    /// The position among the unsynced changes of the directory.
    pub(super) index: u64,
    /// The number of unsynced changes of the directory.
    pub(super) of: u64,
}

/// The changes of names that a power loss has undone.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct LostNames {
    /// How many were undone.
    pub(super) changes: u64,
    /// A change was undone, and a later change of the same directory survived.
    pub(super) reordered: bool,
}

/// All directories of a disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Tree {
    dirs: BTreeMap<u64, Dir>,
    changes: u64,
}

/// A directory and a name in it.
pub(super) struct Place<'a> {
    pub(super) dir: u64,
    pub(super) name: &'a str,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self {
            dirs: BTreeMap::from([(ROOT, Dir::default())]),
            changes: 0,
        }
    }

    /// The directory that contains the last component of a path. The component need not exist.
    pub(super) fn place<'a>(&self, path: &'a str) -> Result<Place<'a>, DiskError> {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        let dir = self.dir(parent)?;
        Ok(Place { dir, name })
    }

    /// What a path refers to.
    pub(super) fn look(&self, path: &str) -> Result<Node, DiskError> {
        self.walk(path, |dir| &dir.live)
    }

    /// The directory at a path.
    pub(super) fn dir(&self, path: &str) -> Result<u64, DiskError> {
        match self.look(path)? {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(DiskError::NotDir),
        }
    }

    /// What a path refers to on the platter.
    pub(super) fn look_platter(&self, path: &str) -> Result<Node, DiskError> {
        self.walk(path, |dir| &dir.durable)
    }

    fn walk(&self, path: &str, names: impl Fn(&Dir) -> &Names) -> Result<Node, DiskError> {
        let mut node = Node::Dir(ROOT);
        if path == "." {
            return Ok(node);
        }
        for part in path.split('/') {
            let Node::Dir(dir) = node else {
                return Err(DiskError::NotDir);
            };
            let found = names(&self.dirs[&dir]).get(part);
            node = *found.ok_or(DiskError::NotFound)?;
        }
        Ok(node)
    }

    /// What a path refers to now, and everything to which it could refer after a crash now.
    pub(super) fn reachable(&self, path: &str) -> BTreeSet<Node> {
        let mut nodes = BTreeSet::from([Node::Dir(ROOT)]);
        for part in path.split('/') {
            let dirs = nodes.iter().filter_map(|node| match node {
                Node::Dir(dir) => Some(&self.dirs[dir]),
                Node::File(_) => None,
            });
            nodes = dirs.flat_map(|dir| dir.reachable(part)).collect();
        }
        nodes
    }

    /// All names that a directory has now, or could have after a crash now.
    pub(super) fn reachable_names(&self, dir: u64) -> BTreeSet<Arc<str>> {
        let dir = &self.dirs[&dir];
        let mut names: BTreeSet<Arc<str>> = dir.durable.keys().cloned().collect();
        names.extend(dir.live.keys().cloned());
        for entry in &dir.log {
            if let Change::Put(name, _) | Change::Move(_, name) = &entry.change {
                names.insert(name.clone());
            }
        }
        names
    }

    /// Whether a path would refer to the same file or directory after any crash that could happen
    /// now.
    pub(super) fn is_durable(&self, path: &str) -> bool {
        let mut dir = ROOT;
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            let here = &self.dirs[&dir];
            let found = here.live.get(part);
            let settled = found.is_some()
                && here.durable.get(part) == found
                && !here.log.iter().any(|entry| entry.change.concerns(part));
            if !settled {
                return false;
            }
            match found {
                Some(Node::Dir(next)) => dir = *next,
                Some(Node::File(_)) => return parts.peek().is_none(),
                None => return false,
            }
        }
        true
    }

    pub(super) fn get(&self, place: &Place<'_>) -> Option<Node> {
        self.dirs[&place.dir].live.get(place.name).copied()
    }

    pub(super) fn put(&mut self, place: &Place<'_>, node: Node) {
        if let Node::Dir(number) = node {
            self.dirs.entry(number).or_default();
        }
        self.log(place.dir, Change::Put(place.name.into(), node), None);
    }

    pub(super) fn remove(&mut self, place: &Place<'_>) {
        self.log(place.dir, Change::Remove(place.name.into()), None);
    }

    pub(super) fn rename(&mut self, from: &Place<'_>, to: &Place<'_>, node: Node) {
        if from.dir == to.dir {
            let change = Change::Move(from.name.into(), to.name.into());
            self.log(from.dir, change, None);
        } else {
            self.log(to.dir, Change::Put(to.name.into(), node), Some(from.dir));
            self.changes -= 1;
            self.log(from.dir, Change::Remove(from.name.into()), Some(to.dir));
        }
    }

    fn log(&mut self, dir: u64, change: Change, other: Option<u64>) {
        self.changes += 1;
        let number = self.changes;
        let dir = self.dirs.get_mut(&dir).expect("a place is in a directory");
        change.apply(&mut dir.live);
        dir.log.push(Logged {
            number,
            change,
            other,
        });
    }

    /// Whether the change with this number is not durable yet in the directory.
    pub(super) fn is_pending(&self, dir: u64, number: u64) -> bool {
        let dir = self.dirs.get(&dir);
        dir.is_some_and(|dir| dir.log.iter().any(|entry| entry.number == number))
    }

    /// Makes the name under which a file was created durable, after an fsync of the file. Linux's
    /// file systems do this, too. Later changes of the name stay unsynced.
    pub(super) fn settle_creation(&mut self, inode: u64) {
        let created = self.dirs.iter().find_map(|(number, dir)| {
            let put = dir.log.iter().find(
                |logged| matches!(logged.change, Change::Put(_, Node::File(file)) if file == inode),
            );
            put.map(|logged| (*number, logged.number))
        });
        if let Some((dir, number)) = created {
            self.settle_change(dir, number);
        }
    }

    /// Makes all changes of a directory durable, up to the change with this number.
    pub(super) fn settle(&mut self, dir: u64, upto: u64) {
        let Some(here) = self.dirs.get_mut(&dir) else {
            return;
        };
        let covered = here.log.partition_point(|entry| entry.number <= upto);
        let entries: Vec<Logged> = here.log.drain(..covered).collect();
        for entry in &entries {
            entry.change.apply(&mut here.durable);
        }
        for entry in entries {
            if let Some(other) = entry.other {
                self.settle_change(other, entry.number);
            }
        }
    }

    /// Makes one change of a directory durable, and the earlier changes that it depends on.
    pub(super) fn settle_change(&mut self, dir: u64, number: u64) {
        let Some(here) = self.dirs.get_mut(&dir) else {
            return;
        };
        let Some(last) = here.log.iter().position(|entry| entry.number == number) else {
            return;
        };
        let mut names: BTreeSet<Arc<str>> = here.log[last].change.names().cloned().collect();
        let mut needed = vec![last];
        for (index, entry) in here.log[..last].iter().enumerate().rev() {
            if entry.change.names().any(|name| names.contains(name)) {
                names.extend(entry.change.names().cloned());
                needed.push(index);
            }
        }
        // The indexes are in descending order.
        let mut entries: Vec<Logged> = needed.iter().map(|at| here.log.remove(*at)).collect();
        entries.reverse();
        for entry in &entries {
            entry.change.apply(&mut here.durable);
        }
        for entry in entries {
            if let Some(other) = entry.other {
                self.settle_change(other, entry.number);
            }
        }
    }

    /// Makes everything durable.
    pub(super) fn settle_all(&mut self) {
        let dirs: Vec<u64> = self.dirs.keys().copied().collect();
        for dir in dirs {
            self.settle(dir, u64::MAX);
        }
    }

    /// Loses power. `chosen` says which changes may survive. A change is lost if an earlier change
    /// of the same name is lost. In a directory for which `in_order` is true, it is also lost if
    /// any earlier change of the directory is lost.
    pub(super) fn lose(
        &mut self,
        in_order: impl Fn(u64) -> bool,
        chosen: impl Fn(PendingChange) -> bool,
    ) -> LostNames {
        let mut lost: BTreeSet<(u64, Arc<str>)> = BTreeSet::new();
        let mut cut: BTreeSet<u64> = BTreeSet::new();
        let mut kept = BTreeSet::new();
        for (number, halves) in self.changes_in_order() {
            let survives = halves.iter().all(|(place, change)| {
                let free = |name: &Arc<str>| !lost.contains(&(place.dir, name.clone()));
                chosen(*place) && !cut.contains(&place.dir) && change.names().all(free)
            });
            if survives {
                kept.insert(number);
            } else {
                let names = halves.iter().flat_map(|(place, change)| {
                    change.names().map(|name| (place.dir, name.clone()))
                });
                lost.extend(names);
                let dirs = halves.iter().map(|(place, _)| place.dir);
                cut.extend(dirs.filter(|dir| in_order(*dir)));
            }
        }
        let mut losses = LostNames::default();
        for dir in self.dirs.values_mut() {
            let mut gap = false;
            for entry in dir.log.drain(..) {
                if kept.contains(&entry.number) {
                    entry.change.apply(&mut dir.durable);
                    losses.reordered |= gap;
                } else {
                    losses.changes += 1;
                    gap = true;
                }
            }
            dir.live = dir.durable.clone();
        }
        losses
    }

    /// The unsynced changes of all directories, by number. A rename between two directories has two
    /// halves.
    fn changes_in_order(&self) -> BTreeMap<u64, Vec<(PendingChange, &Change)>> {
        let mut changes: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for (dir, here) in &self.dirs {
            let of = u64::try_from(here.log.len()).expect("a length fits into 64 bits");
            for (index, entry) in (0..).zip(&here.log) {
                let place = PendingChange {
                    dir: *dir,
                    index,
                    of,
                };
                changes
                    .entry(entry.number)
                    .or_default()
                    .push((place, &entry.change));
            }
        }
        changes
    }

    /// Counts a system call on a directory, for the keys of choices.
    pub(super) fn call(&mut self, dir: u64) -> u64 {
        let dir = self.dirs.get_mut(&dir).expect("a place is in a directory");
        dir.calls += 1;
        dir.calls
    }

    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn names(&self, dir: u64) -> impl Iterator<Item = (&str, Node)> {
        let live = &self.dirs[&dir].live;
        live.iter().map(|(name, node)| (&**name, *node))
    }

    pub(super) fn names_on_platter(&self, dir: u64) -> impl Iterator<Item = (&str, Node)> {
        let durable = &self.dirs[&dir].durable;
        durable.iter().map(|(name, node)| (&**name, *node))
    }

    /// All files and directories to which a name refers now or after a crash.
    pub(super) fn referenced(&self) -> Nodes {
        let mut nodes = vec![Node::Dir(ROOT)];
        for dir in self.dirs.values() {
            nodes.extend(dir.live.values());
            nodes.extend(dir.durable.values());
            nodes.extend(dir.log.iter().filter_map(|entry| match &entry.change {
                Change::Put(_, node) => Some(*node),
                Change::Remove(_) | Change::Move(..) => None,
            }));
        }
        Nodes::new(nodes)
    }

    /// All files and directories to which a name refers now.
    pub(super) fn live(&self) -> Nodes {
        let names = self.dirs.values().flat_map(|dir| dir.live.values());
        Nodes::new(names.copied().chain([Node::Dir(ROOT)]).collect())
    }

    /// Whether some directory has no name now.
    pub(super) fn has_nameless(&self, live: &Nodes) -> bool {
        self.dirs.keys().any(|dir| !live.contains(Node::Dir(*dir)))
    }

    /// Frees the directories to which nothing refers.
    pub(super) fn forget(&mut self, referenced: &Nodes) {
        self.dirs
            .retain(|number, _| referenced.contains(Node::Dir(*number)));
    }
}
