//! Telling tenants in other stores than the main one of changes that concern them.
//!
//! The `control` stream is the list of what is to be told: for each store a cursor says through which entry it was, and
//! goes on when the store took what came before. Not here: what is told ([`told_to`]), tenants in the main store, who are
//! told in the group of the change itself.
//!
//! Invariants: nothing is left out, however long a store is out of reach; a store that does not answer holds up nobody
//! else. Where the cursor stands is on record once a minute: if we crash before that, the last minute is told again under
//! the same ids, which a store knows for longer.

use super::super::change::Change;
use super::super::entry::Author;
use super::super::names::FactId;
use super::super::told::{told_to, written};
use super::{Book, BookError, platform};
use ledger::draft::Draft;
use ledger::name::{StreamKind, TenantId};
use ledger_store::StoreError;
use std::collections::BTreeMap;

/// How long a cursor's place on record speaks for it, in microseconds.
const MINUTE: i64 = 60_000_000;
/// Changes that are looked at together.
const CHANGES: usize = 1_000;
/// Bytes that go to a store together.
const BYTES: usize = 4 * 1_024 * 1_024;

/// How far one store's tenants were told.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// All entries of `control` below this one.
    through: u64,
    /// Whether something was told since that was put on record.
    is_ahead: bool,
    marked: i64,
}

/// The cursors, by store.
pub(super) type Cursors = BTreeMap<TenantId, tokio::sync::Mutex<Cursor>>;

/// A change, with what its entry says besides.
struct Said {
    seq: u64,
    change: Change,
    request: FactId,
    author: Author,
    at: i64,
}

/// Why reading entries stopped.
enum Halt {
    Enough,
    Failed(BookError),
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl Book {
    /// Tells the tenants of a store what they were not told yet. Does nothing while that is under way.
    ///
    /// # Errors
    /// The store does not accept; what was not told is told the next time.
    pub async fn tell(&self, store: &TenantId) -> Result<(), BookError> {
        let Some(cursor) = self.cursors.get(store) else { return Ok(()) };
        let Ok(mut cursor) = cursor.try_lock() else { return Ok(()) };
        let (size, marked) = {
            let registry = self.read();
            (registry.size(), registry.told(store))
        };
        cursor.through = cursor.through.max(marked);
        while cursor.through < size {
            let (said, through) = self.said(cursor.through, size).await?;
            for one in said {
                let tenants: Vec<TenantId> = {
                    let registry = self.read();
                    let concerned = registry.concerned(&one.change).into_iter();
                    concerned.filter(|tenant| registry.placement(tenant) == store).collect()
                };
                let (mut drafts, mut bytes) = (Vec::new(), 0);
                for tenant in tenants {
                    let draft = told_to(&tenant, one.seq, &one.change, &one.request, &one.author, one.at)?;
                    bytes += draft.fields_bytes();
                    drafts.push(draft);
                    if bytes >= BYTES {
                        self.stores.write(store, std::mem::take(&mut drafts)).await?;
                        bytes = 0;
                    }
                    cursor.is_ahead = true;
                }
                if !drafts.is_empty() {
                    self.stores.write(store, drafts).await?;
                }
                cursor.through = one.seq + 1;
            }
            cursor.through = through;
        }
        let now = self.ambient.now_micros();
        if cursor.is_ahead && now - cursor.marked >= MINUTE {
            let (store, through) = (store.to_string(), cursor.through);
            self.note(Change::Told { store, through }).await?;
            (cursor.is_ahead, cursor.marked) = (false, now);
        }
        Ok(())
    }

    /// The next changes from an entry on, and through which entry that is.
    async fn said(&self, from: u64, size: u64) -> Result<(Vec<Said>, u64), BookError> {
        let handle = self.main().reader(&platform(), StreamKind::Control)?;
        let (mut said, mut through) = (Vec::new(), from);
        let each = |seq, draft: &Draft| {
            if seq >= size || said.len() >= CHANGES {
                return Err(Halt::Enough);
            }
            let change = Change::of_entry(seq, draft).map_err(|e| Halt::Failed(e.into()))?;
            if let (Some((_, change)), Some((request, author, at))) = (change, written(draft)) {
                said.push(Said { seq, change, request, author, at });
            }
            through = seq + 1;
            Ok(())
        };
        match handle.entries(from, each).await {
            Ok(()) | Err(Halt::Enough) => Ok((said, through)),
            Err(Halt::Failed(error)) => Err(error),
        }
    }
}
