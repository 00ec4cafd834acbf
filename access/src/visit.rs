//! What one request touched and was refused: noted by the door while a handler runs, put on record by the guard.
//!
//! Not here: where it is recorded ([`crate::record`]). Invariant: what is noted is there until the guard takes it.

use crate::policy::Action;
use crate::progress::Progress;
use crate::registry::names::FactId;
use ledger::name::{StreamKind, TenantId};
use ledger::tree::Hash;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A stream of a tenant that was opened, or something else that was done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// Whose.
    pub tenant: TenantId,
    /// Which stream.
    pub stream: StreamKind,
    /// What was done.
    pub action: Action,
    /// The right that it rests on.
    pub right: FactId,
    /// Whether that is an elevation.
    pub is_elevation: bool,
    /// Whether all was seen, and not only some rows or sections.
    pub is_whole: bool,
    /// Events that were brought to it, and their bytes.
    pub brought: (u64, u64),
}

/// Something that was asked for and refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Whose it was said to be.
    pub tenant: TenantId,
    /// Whether there is such a tenant.
    pub exists: bool,
    /// Which stream.
    pub stream: StreamKind,
    /// What was asked for.
    pub action: Action,
}

/// Counts what a question looked at of one tenant's segments.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Metered>);

#[derive(Debug, Default)]
struct Metered {
    bytes: AtomicU64,
    progress: Progress,
    segments: Mutex<HashSet<Hash>>,
}

impl Meter {
    /// Counts bytes.
    pub fn add(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that a segment was opened, by the hash of its bytes.
    pub fn open(&self, segment: Hash) {
        held(&self.0.segments).insert(segment);
    }

    /// How many segments were opened.
    pub fn segments(&self) -> u64 {
        held(&self.0.segments).len() as u64
    }

    /// How far the request has come for which it counts.
    pub fn progress(&self) -> &Progress {
        &self.0.progress
    }

    /// Whether both count together.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The bytes that were counted so far.
    pub fn read(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }
}

/// What one request did.
#[derive(Debug, Clone, Default)]
pub struct Visit(Arc<Notes>);

#[derive(Debug, Default)]
struct Notes {
    touched: Mutex<Vec<Touch>>,
    denied: Mutex<Vec<Denied>>,
    more: Mutex<Map<String, Value>>,
    rows: AtomicU64,
    scanned: Mutex<BTreeMap<TenantId, Meter>>,
    progress: Progress,
}

fn held<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Visit {
    /// Notes what the record should say of the request besides.
    pub fn note(&self, key: &str, value: impl Into<Value>) {
        held(&self.0.more).insert(key.into(), value.into());
    }

    /// Counts rows, or events, that the request brought or got.
    pub fn count(&self, rows: u64) {
        self.0.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// How far it has come.
    pub fn progress(&self) -> &Progress {
        &self.0.progress
    }

    /// What counts the bytes that are looked at of a tenant.
    pub(crate) fn meter(&self, tenant: &TenantId) -> Meter {
        let new = || Meter(Arc::new(Metered { progress: self.progress().clone(), ..Metered::default() }));
        held(&self.0.scanned).entry(tenant.clone()).or_insert_with(new).clone()
    }

    /// How many bytes of each tenant were looked at.
    pub(crate) fn scanned(&self) -> Vec<(TenantId, u64)> {
        held(&self.0.scanned).iter().map(|(tenant, meter)| (tenant.clone(), meter.read())).collect()
    }

    pub(crate) fn touch(&self, touch: Touch) {
        held(&self.0.touched).push(touch);
    }

    /// Nothing came of what was to be brought to a stream: there is nothing to record.
    pub fn brought_nothing(&self, tenant: &TenantId, stream: StreamKind) {
        let is_of = |touch: &Touch| touch.tenant == *tenant && touch.stream == stream;
        held(&self.0.touched).retain(|touch| !(is_of(touch) && touch.action == Action::AppendEvents));
    }

    pub(crate) fn deny(&self, denied: Denied) {
        held(&self.0.denied).push(denied);
    }

    pub(crate) fn take_touched(&self) -> Vec<Touch> {
        std::mem::take(&mut held(&self.0.touched))
    }

    /// Whether it touched something, and all of it holds.
    pub(crate) fn all(&self, holds: impl Fn(&Touch) -> bool) -> bool {
        let touched = held(&self.0.touched);
        !touched.is_empty() && touched.iter().all(holds)
    }

    pub(crate) fn take_denied(&self) -> Vec<Denied> {
        std::mem::take(&mut held(&self.0.denied))
    }

    pub(crate) fn notes(&self) -> Map<String, Value> {
        held(&self.0.more).clone()
    }

    pub(crate) fn rows(&self) -> u64 {
        self.0.rows.load(Ordering::Relaxed)
    }
}
