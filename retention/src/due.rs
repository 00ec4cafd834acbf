//! What is taken from streams, as the store is asked for it: entries by a plan, or sections by a redaction.
//!
//! Not here: why ([`crate::plan`], [`crate::redact`]). Invariant: what was on record as the intent, and no more, is asked
//! for.

use crate::plan::StreamPlan;
use access::registry::change::RedactionFact;
use access::registry::sections_of;
use ledger::proof::Span;
use ledger::sections::Sections;
use ledger::{Hash, StreamKind, TenantId};
use ledger_store::{EraseOrder, EraseWhat, Store, StoreError};
use std::collections::BTreeMap;

/// A stream, by name.
pub(crate) type Named = (TenantId, StreamKind);
/// A stream from which something is to be taken.
pub(crate) type Asked = (Named, Due);

/// What is to be taken from a stream.
#[derive(Debug, Clone)]
pub(crate) enum Due {
    /// Entries, as planned.
    Entries(StreamPlan),
    /// Sections of entries.
    Sections(Vec<(Span, Sections)>),
    /// Nothing: it is only asked what became of it.
    Nothing,
}

/// What a redaction takes, by stream, ascending.
pub(crate) fn rows_of(fact: &RedactionFact) -> BTreeMap<Named, Vec<(Span, Sections)>> {
    let mut rows: BTreeMap<Named, Vec<(Span, Sections)>> = BTreeMap::new();
    for goes in &fact.goes {
        let sections = sections_of(&goes.sections).unwrap_or_default();
        let of_stream = rows.entry((fact.tenant.clone(), goes.stream)).or_default();
        of_stream.extend(goes.ranges.iter().map(|(first, last)| (Span::new(*first, last + 1), sections)));
    }
    rows.values_mut().for_each(|rows| rows.sort_by_key(|(span, _)| span.start));
    rows
}

/// Seals a stream of which something may not be sealed yet.
///
/// # Errors
/// The seal failed.
pub(crate) async fn seal_first(store: &Store, ((tenant, stream), due): &Asked) -> Result<(), StoreError> {
    match due {
        Due::Sections(_) => store.seal(tenant, *stream).await,
        Due::Entries(_) | Due::Nothing => Ok(()),
    }
}

/// What the store is asked for.
pub(crate) fn order_of(((tenant, kind), due): &Asked, basis: u64, plan: Hash) -> EraseOrder {
    let what = match due {
        Due::Entries(planned) => EraseWhat::Entries(planned.spans()),
        Due::Sections(rows) => EraseWhat::Sections(rows.clone()),
        Due::Nothing => EraseWhat::Entries(vec![]),
    };
    EraseOrder { tenant: tenant.clone(), kind: *kind, what, basis, plan }
}
