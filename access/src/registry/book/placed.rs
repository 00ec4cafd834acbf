//! Which store an entry goes to: the one that its tenant lives in.
//!
//! Not here: the stores ([`crate::Stores`]), who may place a tenant where (`crate::authority`).

use super::super::change::Change;
use super::{Book, BookError};
use ledger::draft::Draft;
use ledger::name::TenantId;
use ledger_store::{Store, StoreError};

impl Book {
    /// The store that a tenant lives in.
    ///
    /// # Errors
    /// It is not open now.
    pub fn store_of(&self, tenant: &TenantId) -> Result<&Store, StoreError> {
        // Who lives in the main store is not looked up when there is no other.
        if !self.stores.are_several() {
            return Ok(self.main());
        }
        self.stores.get(self.read().placement(tenant))
    }

    /// Appends entries that Piperoll itself writes to the streams that they are of: what goes to one store in one
    /// group, that of the main store first.
    ///
    /// # Errors
    /// A store is not open or does not accept.
    pub(crate) async fn append(&self, drafts: Vec<Draft>) -> Result<(), StoreError> {
        for (store, drafts) in self.by_store(drafts) {
            self.stores.write(&store, drafts).await?;
        }
        Ok(())
    }

    /// Sorts entries by the stores that their tenants live in, the main one first.
    pub(in super::super) fn by_store(&self, drafts: Vec<Draft>) -> Vec<(TenantId, Vec<Draft>)> {
        let mut sorted: Vec<(TenantId, Vec<Draft>)> = vec![(self.main().name().clone(), Vec::new())];
        let registry = self.read();
        for draft in drafts {
            let tenant = draft.tenant().parse::<TenantId>();
            let store = tenant.as_ref().map_or(self.main().name(), |tenant| registry.placement(tenant));
            match sorted.iter_mut().find(|(name, _)| name == store) {
                Some((_, drafts)) => drafts.push(draft),
                None => sorted.push((store.clone(), vec![draft])),
            }
        }
        sorted.retain(|(_, drafts)| !drafts.is_empty());
        sorted
    }

    /// Tells tenants in other stores what they could not be told before.
    pub async fn tell(&self) {
        self.untold.tell(self).await;
    }

    /// Puts the stores on record, if they are others than those that are.
    ///
    /// # Errors
    /// Tenants live in one that is not there any more, or the store does not accept.
    pub async fn note_stores(&self) -> Result<(), BookError> {
        let facts = self.stores.facts();
        let gone = {
            let registry = self.read();
            let gone = registry.residents.iter().find(|(store, _)| !facts.contains_key(*store));
            gone.and_then(|(store, all)| Some((store.clone(), all.len(), all.first()?.clone())))
        };
        if let Some((store, count, first)) = gone {
            return Err(BookError::NoStore { store, count, first });
        }
        if self.read().stores() != facts {
            let stores = facts.iter().map(|(name, fact)| (name.to_string(), fact.clone())).collect();
            self.note(Change::SetStores { stores }).await?;
        }
        Ok(())
    }
}
