//! What goes on for an hour under one entry, and what goes to which store.
//!
//! Not here: when it is written ([`super::Recorder`]).

use crate::registry::Author;
use crate::visit::Touch;
use ledger::draft::Draft;
use ledger::name::{StreamKind, TenantId};

/// What came of requests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub rows: u64,
    pub bytes: u64,
    pub scanned: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.rows += more.rows;
        self.bytes += more.bytes;
        self.scanned += more.scanned;
    }
}

/// Something that goes on, which one entry spoke for at its begin.
#[derive(Debug, Clone)]
pub(super) struct Ongoing {
    pub id: String,
    pub began: i64,
    pub requests: u64,
    pub counts: Counts,
    pub author: Author,
    pub about: About,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct About {
    pub principal: String,
    pub credential: String,
    pub tenant: TenantId,
    pub stream: StreamKind,
    pub action: &'static str,
    pub right: String,
    pub is_elevation: bool,
}

impl About {
    pub(super) fn of(author: &Author, touch: &Touch) -> Self {
        Self {
            principal: author.principal.to_string(),
            credential: author.credential.clone(),
            tenant: touch.tenant.clone(),
            stream: touch.stream,
            action: touch.action.as_str(),
            right: touch.right.to_string(),
            is_elevation: touch.is_elevation,
        }
    }
}

/// What goes to each store, with something for each that is done when it is there.
pub(super) struct Shares<T>(pub Vec<(TenantId, Vec<Draft>, Vec<T>)>);

impl<T> Shares<T> {
    pub(super) fn of(&mut self, store: TenantId) -> (&mut Vec<Draft>, &mut Vec<T>) {
        let at = self.0.iter().position(|(name, _, _)| *name == store).unwrap_or_else(|| {
            self.0.push((store, vec![], vec![]));
            self.0.len() - 1
        });
        let (_, drafts, more) = &mut self.0[at];
        (drafts, more)
    }
}
