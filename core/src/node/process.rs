//! All kinds of processes in one enum. Every other module knows at most one kind.

use crate::call::Yield;
use crate::proc::accept::Accept;
use crate::proc::backend::Backend;
use crate::proc::checkpointer::Checkpointer;
use crate::proc::pg_receivewal::PgReceivewal;
use crate::proc::postmaster::Postmaster;
use crate::proc::startup::Startup;
use crate::proc::walreceiver::WalReceiver;
use crate::proc::walsender::WalSender;
use crate::proc::walwriter::WalWriter;
use crate::shmem::Role;
use crate::sys::{Become, Cx, Fork};
use alloc::boxed::Box;

/// One process. The variants are boxed, because their sizes differ greatly.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Process {
    Postmaster(Box<Postmaster>),
    Accept(Box<Accept>),
    Backend(Box<Backend>),
    WalSender(Box<WalSender>),
    WalWriter(Box<WalWriter>),
    Checkpointer(Box<Checkpointer>),
    Startup(Box<Startup>),
    WalReceiver(Box<WalReceiver>),
    PgReceivewal(Box<PgReceivewal>),
}

impl Process {
    pub(super) fn postmaster() -> Self {
        Self::Postmaster(Box::default())
    }

    pub(super) fn forked(fork: Fork) -> (Role, Self) {
        match fork {
            Fork::Startup => (Role::Startup, Self::Startup(Box::default())),
            Fork::Checkpointer => (Role::Checkpointer, Self::Checkpointer(Box::default())),
            Fork::WalWriter => (Role::WalWriter, Self::WalWriter(Box::default())),
            Fork::WalReceiver => (Role::WalReceiver, Self::WalReceiver(Box::default())),
            Fork::Backend(conn, refusal) => (
                Role::Backend,
                Self::Accept(Box::new(Accept::new(conn, refusal))),
            ),
        }
    }

    pub(super) fn becoming(becomes: Become) -> Self {
        if becomes.role == Role::WalSender {
            Self::WalSender(Box::new(WalSender::new(becomes)))
        } else {
            Self::Backend(Box::new(Backend::new(becomes)))
        }
    }

    pub(super) const fn as_postmaster(&self) -> Option<&Postmaster> {
        if let Self::Postmaster(postmaster) = self {
            Some(postmaster)
        } else {
            None
        }
    }

    pub(super) const fn as_checkpointer(&self) -> Option<&Checkpointer> {
        if let Self::Checkpointer(checkpointer) = self {
            Some(checkpointer)
        } else {
            None
        }
    }

    pub(super) const fn as_startup(&self) -> Option<&Startup> {
        if let Self::Startup(startup) = self {
            Some(startup)
        } else {
            None
        }
    }

    pub(super) const fn as_backend(&self) -> Option<&Backend> {
        if let Self::Backend(backend) = self {
            Some(backend)
        } else {
            None
        }
    }

    pub(super) const fn as_pg_receivewal(&self) -> Option<&PgReceivewal> {
        if let Self::PgReceivewal(receiver) = self {
            Some(receiver)
        } else {
            None
        }
    }

    pub(super) fn step(&mut self, cx: &mut Cx<'_>) -> Yield {
        match self {
            Self::Postmaster(p) => p.step(cx),
            Self::Accept(p) => p.step(cx),
            Self::Backend(p) => p.step(cx),
            Self::WalSender(p) => p.step(cx),
            Self::WalWriter(p) => p.step(cx),
            Self::Checkpointer(p) => p.step(cx),
            Self::Startup(p) => p.step(cx),
            Self::WalReceiver(p) => p.step(cx),
            Self::PgReceivewal(p) => p.step(cx),
        }
    }
}
