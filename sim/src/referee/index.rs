//! For each kind of event, the checks that have subscribed to it, as indexes into the list of
//! checks.

use super::{
    ChangeKind, Check, ClientKind, DiskKind, FileClass, ServerKind, Subscription, WireEnd,
};
use walsim_core::shmem::Role;

/// Indexes of checks, in ascending order.
type Who = Vec<usize>;

const ROLES: usize = 7;

/// For each kind of event, the checks that have subscribed to it.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Index {
    /// For each role, the subscribers to its steps. The last entry is for steps in which no process
    /// ran.
    step: [Who; ROLES + 1],
    change: [Who; 9],
    disk: [[Who; 6]; 4],
    server: [Who; 8],
    client: [Who; 4],
    messages: Vec<(WireEnd, Option<u8>, usize)>,
    quiescence: Who,
    end: Who,
}

impl Index {
    /// # Panics
    /// If a check subscribes to the same event twice.
    pub(super) fn new(checks: &[Box<dyn Check>]) -> Self {
        let mut index = Self::default();
        for (number, check) in checks.iter().enumerate() {
            for subscription in check.subscriptions() {
                index.add(number, *subscription);
            }
        }
        for list in index.lists() {
            let code = |check: usize| checks[check].about().code;
            let twice = list.windows(2).find(|pair| pair[0] == pair[1]);
            assert!(
                twice.is_none(),
                "{:?} subscribes twice to one event",
                twice.map(|pair| code(pair[0]))
            );
        }
        index
    }

    fn add(&mut self, check: usize, subscription: Subscription) {
        match subscription {
            Subscription::Step(roles) => roles
                .iter()
                .for_each(|role| self.step[*role as usize].push(check)),
            Subscription::EveryStep => self.step.iter_mut().for_each(|who| who.push(check)),
            Subscription::Change(kind) => self.change[kind as usize].push(check),
            Subscription::Disk(kind, class) => self.disk[kind as usize][class as usize].push(check),
            Subscription::Server(kind) => self.server[kind as usize].push(check),
            Subscription::Client(kind) => self.client[kind as usize].push(check),
            Subscription::Message(end, tag) => self.messages.push((end, tag, check)),
            Subscription::Quiescence => self.quiescence.push(check),
            Subscription::End => self.end.push(check),
        }
    }

    fn lists(&self) -> impl Iterator<Item = &Who> {
        let disk = self.disk.iter().flatten();
        let lists = self
            .step
            .iter()
            .chain(&self.change)
            .chain(&self.server)
            .chain(&self.client);
        lists.chain(disk).chain([&self.quiescence, &self.end])
    }

    pub(super) fn steps(&self, role: Option<Role>) -> &[usize] {
        &self.step[role.map_or(ROLES, |role| role as usize)]
    }

    pub(super) fn change(&self, kind: ChangeKind) -> &[usize] {
        &self.change[kind as usize]
    }

    pub(super) fn disk(&self, kind: DiskKind, class: FileClass) -> &[usize] {
        &self.disk[kind as usize][class as usize]
    }

    pub(super) fn server(&self, kind: ServerKind) -> &[usize] {
        &self.server[kind as usize]
    }

    pub(super) fn client(&self, kind: ClientKind) -> &[usize] {
        &self.client[kind as usize]
    }

    pub(super) fn messages(&self, end: WireEnd, tag: u8) -> impl Iterator<Item = usize> {
        let wanted =
            move |at: &WireEnd, of: &Option<u8>| *at == end && of.is_none_or(|of| of == tag);
        self.messages
            .iter()
            .filter(move |(at, of, _)| wanted(at, of))
            .map(|(_, _, check)| *check)
    }

    /// Whether any check has subscribed to messages at this end.
    pub(super) fn sees(&self, end: WireEnd) -> bool {
        self.messages.iter().any(|(at, _, _)| *at == end)
    }

    pub(super) const fn listens(&self) -> bool {
        !self.messages.is_empty()
    }

    pub(super) fn quiescence(&self) -> &[usize] {
        &self.quiescence
    }

    pub(super) fn end(&self) -> &[usize] {
        &self.end
    }
}
