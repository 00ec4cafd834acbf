//! The stores of one ledger, by name. The main one holds what the platform records of itself, the registry above all.
//!
//! Which tenant lives where is the registry's to say ([`crate::registry`]); opening a store is the program's. Not here:
//! what a store does (`ledger-store`).
//!
//! Invariants: the main store is open as long as the service is; a store that is not open yet refuses what is meant for
//! it and disturbs nothing else; once open it stays the same until the service stops.

use crate::registry::MAIN_STORE;
use crate::registry::change::StoreFact;
use ledger::draft::Draft;
use ledger::name::{StreamKind, TenantId};
use ledger_store::{AppendRequest, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// The stores of one ledger.
#[derive(Clone)]
pub struct Stores(Arc<Inner>);

struct Inner {
    main: Store,
    others: BTreeMap<TenantId, OnceLock<Store>>,
    facts: BTreeMap<TenantId, StoreFact>,
}

impl Stores {
    /// The main store, which is open, and others, which may be opened later. `facts` says of each, the main one
    /// included, where it is.
    pub fn new(main: Store, facts: BTreeMap<TenantId, StoreFact>) -> Self {
        let others = facts.keys().filter(|name| name.as_str() != MAIN_STORE);
        let others = others.map(|name| (name.clone(), OnceLock::new())).collect();
        Self(Arc::new(Inner { main, others, facts }))
    }

    /// Notes that a store is open. The first that is opened under a name stays.
    pub fn opened(&self, store: Store) {
        if let Some(place) = self.0.others.get(store.name()) {
            let _ = place.set(store);
        }
    }

    /// The main store.
    pub fn main(&self) -> &Store {
        &self.0.main
    }

    /// A store by its name.
    ///
    /// # Errors
    /// There is none of this name in the settings, or it is not open now.
    pub fn get(&self, name: &TenantId) -> Result<&Store, StoreError> {
        if name == self.0.main.name() {
            return Ok(&self.0.main);
        }
        self.0.others.get(name).and_then(OnceLock::get).ok_or_else(|| StoreError::NotOpen(name.clone()))
    }

    /// Appends entries that Piperoll itself writes, all of tenants of one store, in one group.
    ///
    /// # Errors
    /// The store is not open or does not accept.
    pub(crate) async fn write(&self, store: &TenantId, drafts: Vec<Draft>) -> Result<(), StoreError> {
        if drafts.is_empty() {
            return Ok(());
        }
        let store = self.get(store)?;
        let mut parts: BTreeMap<(TenantId, StreamKind), Vec<Draft>> = BTreeMap::new();
        for draft in drafts {
            // A draft's tenant was checked when its field was set.
            let tenant = draft.tenant().parse().map_err(StoreError::Name)?;
            parts.entry((tenant, draft.stream())).or_default().push(draft);
        }
        // A tenant whose key is not at hand takes nothing from the others' record.
        let (mut ready, mut failed) = (Vec::with_capacity(parts.len()), Ok(()));
        for ((tenant, stream), drafts) in parts {
            let handle = store.appender(&tenant, stream);
            match store.can_write(&handle).await {
                Err(StoreError::Key(error)) => failed = Err(StoreError::Key(error)),
                can => can.map(|()| ready.push((handle, drafts)))?,
            }
        }
        store.append(AppendRequest { parts: ready, ..Default::default() }).await?;
        failed
    }

    /// Whether there are others than the main one.
    pub fn are_several(&self) -> bool {
        !self.0.others.is_empty()
    }

    /// Those that are open, the main one first.
    pub fn open(&self) -> impl Iterator<Item = &Store> {
        std::iter::once(&self.0.main).chain(self.0.others.values().filter_map(OnceLock::get))
    }

    /// The names of those that are not open now.
    pub fn shut(&self) -> impl Iterator<Item = &TenantId> {
        self.0.others.iter().filter(|(_, place)| place.get().is_none()).map(|(name, _)| name)
    }

    /// Where each is, by name.
    pub fn facts(&self) -> &BTreeMap<TenantId, StoreFact> {
        &self.0.facts
    }
}
