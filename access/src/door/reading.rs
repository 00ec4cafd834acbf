//! Streams opened for reading, after authorization.
//!
//! Not here: what is allowed ([`Door::may`]). Invariant: whoever holds an [`Opened`] was let in, and that is on record.

use super::Door;
use crate::caller::Caller;
use crate::policy::Action;
use crate::problem::Problem;
use crate::sight::Sight;
use crate::visit::Meter;
use ledger::name::{StreamKind, TenantId};
use ledger_store::StreamHandle;
use std::sync::Arc;

/// A stream that was opened for reading, and what may be seen of it.
#[derive(Clone)]
pub struct Opened {
    /// The stream.
    pub handle: StreamHandle,
    /// What the caller sees of it.
    pub sight: Arc<Sight>,
    /// Counts the bytes that are looked at.
    pub meter: Meter,
}

impl Door {
    /// A stream of a tenant, for reading its events or its proofs.
    ///
    /// # Errors
    /// As [`Door::may`]; [`ProblemKind::NotFound`] when the tenant has no such stream.
    pub async fn read(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        stream: StreamKind,
        action: Action,
    ) -> Result<Opened, Problem> {
        if self.decide(caller, action, tenant, stream).is_some() {
            self.may_scan(caller, action, tenant, stream)?;
            self.0.book.store_of(tenant)?;
        }
        let sight = self.may(caller, action, tenant, stream)?;
        self.may_use_keys(tenant, action)?;
        let handle = self.0.book.store_of(tenant)?.reader(tenant, stream)?;
        Ok(Opened { handle, sight, meter: caller.visit().meter(tenant) })
    }

    /// Whether the caller may read a stream's events.
    pub fn sees(&self, caller: &Caller, tenant: &TenantId, stream: StreamKind) -> bool {
        self.is_granted(caller, Action::ReadEvents, tenant, stream)
    }

    /// Whether the caller may do something, without doing it: nothing is noted.
    pub fn is_granted(&self, caller: &Caller, action: Action, tenant: &TenantId, stream: StreamKind) -> bool {
        self.decide(caller, action, tenant, stream).is_some()
    }

    /// Those of a tenant's streams that the caller may read and that are there.
    ///
    /// # Errors
    /// As [`Door::may`], when the caller may read none of them.
    pub fn read_all(&self, caller: &Caller, tenant: &TenantId, streams: &[StreamKind]) -> Result<Vec<Opened>, Problem> {
        let may = |stream: &StreamKind| self.decide(caller, Action::ReadEvents, tenant, *stream).is_some();
        let granted: Vec<StreamKind> = streams.iter().copied().filter(may).collect();
        if !granted.is_empty() {
            self.may_use_keys(tenant, Action::ReadEvents)?;
        }
        for stream in &granted {
            self.may_scan(caller, Action::ReadEvents, tenant, *stream)?;
        }
        let mut opened = Vec::with_capacity(granted.len());
        for stream in granted.iter().copied() {
            // What is not there is not looked at, and so not put on record.
            if let Ok(handle) = self.0.book.store_of(tenant)?.reader(tenant, stream) {
                let sight = self.may(caller, Action::ReadEvents, tenant, stream)?;
                opened.push(Opened { handle, sight, meter: caller.visit().meter(tenant) });
            }
        }
        if opened.is_empty() {
            // Nothing is granted, or nothing is there: one stream is as good as another to say so.
            let stream = granted.first().or(streams.first()).copied().unwrap_or(StreamKind::Audit);
            self.may(caller, Action::ReadEvents, tenant, stream)?;
        }
        Ok(opened)
    }
}
