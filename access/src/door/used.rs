//! When keys were used last.
//!
//! Exactly in memory since the start, and on record once a day for each key. Not here: what was done with them
//! ([`crate::record`]).

use super::Door;
use crate::registry::change::Change;
use crate::registry::names::FactId;
use std::sync::PoisonError;

/// How long the use of a key on record speaks for further ones, in microseconds.
const DAY: i64 = 24 * 3_600_000_000;
/// How many keys one entry names.
const MOST_USED: usize = 1_000;

impl Door {
    /// Notes that a key was used.
    pub(crate) fn used(&self, credential: FactId, now: i64) {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner).insert(credential, now);
    }

    /// When a key was used last, as far as this process knows.
    pub(super) fn last_use(&self, credential: &FactId) -> Option<i64> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner).get(credential).copied()
    }

    /// Puts on record which keys were used, each at most once a day.
    pub(super) async fn note_use(&self, now: i64) {
        let mut credentials: Vec<FactId> = {
            let registry = self.0.book.read();
            let used = self.0.used.lock().unwrap_or_else(PoisonError::into_inner);
            // Used since it was last put on record, and that is a day ago.
            let is_due = |(id, last): &(&FactId, &i64)| {
                let on_record = registry.credential(id).map(|found| found.used_at);
                on_record.is_some_and(|at| at.is_none_or(|at| now - at >= DAY && **last > at))
            };
            used.iter().filter(is_due).take(MOST_USED).map(|(id, _)| id.clone()).collect()
        };
        if credentials.is_empty() {
            return;
        }
        credentials.sort();
        if let Err(error) = self.0.book.note(Change::UseCredentials { credentials }).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "which keys were used could not be put on record");
        }
    }
}
