//! Which store an entry goes to: the one that its tenant lives in.
//!
//! Not here: the stores ([`crate::Stores`]), who may place a tenant where (`crate::authority`).

use super::super::Stamp;
use super::super::change::{Change, StoreFact};
use super::super::entry::Author;
use super::{Book, BookError};
use ledger::name::TenantId;
use ledger_store::{Store, StoreError};
use std::collections::BTreeMap;

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

    /// The name of the store that a tenant lives in.
    pub(crate) fn placement(&self, tenant: &TenantId) -> TenantId {
        self.read().placement(tenant).clone()
    }

    /// Puts the stores on record, if they are others than those that are. Of those in `moved`, somebody said that their
    /// objects were copied whole to where they are now.
    ///
    /// # Errors
    /// Tenants live in one that is not there any more, or the store does not accept.
    pub async fn note_stores(&self, moved: &[TenantId]) -> Result<(), BookError> {
        let facts = self.stores.facts();
        let gone = {
            let registry = self.read();
            let gone = registry.residents.iter().find(|(store, _)| !facts.contains_key(*store));
            gone.and_then(|(store, all)| Some((store.clone(), all.len(), all.first()?.clone())))
        };
        if let Some((store, count, first)) = gone {
            return Err(BookError::NoStore { store, count, first });
        }
        self.check_moved(moved)?;
        if self.read().stores() != facts {
            let stores: BTreeMap<String, StoreFact> =
                facts.iter().map(|(name, fact)| (name.to_string(), fact.clone())).collect();
            let change = Change::SetStores { stores };
            let mut after = self.read().clone();
            after.apply(
                Stamp { seq: after.size(), at: 0, by: Author::system().principal, reason: String::new() },
                &change,
            );
            if let Some(why) = after.misplaced() {
                return Err(BookError::Misplaced(why));
            }
            self.note(change).await?;
        }
        Ok(())
    }

    /// A store that tenants live in is where it was: at an empty place their histories would begin a second time.
    fn check_moved(&self, moved: &[TenantId]) -> Result<(), BookError> {
        let registry = self.read();
        for (store, fact) in self.stores.facts() {
            let before = registry.stores().get(store).map(|before| before.location.clone());
            let is_elsewhere = before.as_ref().is_some_and(|before| *before != fact.location);
            if is_elsewhere && registry.residents.contains_key(store) && !moved.contains(store) {
                let (store, from, to) = (store.clone(), before.unwrap_or_default(), fact.location.clone());
                return Err(BookError::Moved { store, from, to });
            }
        }
        Ok(())
    }
}
