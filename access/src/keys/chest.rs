//! The keys that are at hand: unwrapped once, kept in memory, and handed to the store.
//!
//! Not here: the providers that unwrap them ([`super::KeyProvider`]). Invariants: until the registry was read nothing is
//! known, and nothing of a tenant is written; a tenant that is to have a key is not written plain.

use crate::registry::{Registry, TenantKeys};
use ledger::name::TenantId;
use ledger_store::cipher::Secret;
use ledger_store::{KeyError, KeyName, KeySource, KeyUse, TenantKey};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What is known of one tenant.
#[derive(Default)]
struct Held {
    keys: HashMap<KeyName, Arc<TenantKey>>,
    destroyed: HashSet<KeyName>,
    current: Option<KeyName>,
    /// Whether it is to have a key and has none yet.
    wants: bool,
    /// Whether its keys are being destroyed: what is sealed is sealed under them, what comes is not.
    closing: bool,
    /// Whether the provider has destroyed them, and that is not on record yet.
    is_gone: bool,
}

#[derive(Default)]
struct State {
    is_read: bool,
    tenants: HashMap<TenantId, Held>,
}

/// The keys that are at hand.
#[derive(Clone, Default)]
pub struct KeyChest(Arc<RwLock<State>>);

impl fmt::Debug for KeyChest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyChest")
    }
}

/// A key that the registry knows and that is not at hand: of whom, its name, and as it was wrapped.
#[derive(Debug)]
pub(crate) struct Missing {
    pub tenant: TenantId,
    pub key: KeyName,
    pub wrapped: String,
    /// Whether its destruction is under way, and may have been carried out.
    pub closing: bool,
}

fn name_of(id: &crate::registry::names::FactId) -> Option<KeyName> {
    id.as_str().parse().ok()
}

impl KeyChest {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what the registry says, and answers what is to be unwrapped. `wants`: whether every tenant is to have a
    /// key, or only some; nobody, where none can be made.
    pub(crate) fn follow(&self, registry: &Registry, wants: Option<bool>) -> Vec<Missing> {
        let mut state = self.write();
        state.is_read = true;
        let mut missing = Vec::new();
        state.tenants.values_mut().for_each(|held| held.wants = false);
        for tenant in wants.into_iter().flat_map(|all| registry.wants_key(all)) {
            state.tenants.entry(tenant.clone()).or_default().wants = true;
        }
        for (tenant, keys) in registry.keyed() {
            let held = state.tenants.entry(tenant.clone()).or_default();
            held.take(keys);
            for key in keys.keys.iter().filter(|key| key.destroyed.is_none()) {
                let Some(name) = name_of(&key.id).filter(|name| !held.keys.contains_key(name) && !held.is_gone) else {
                    continue;
                };
                let (tenant, wrapped) = (tenant.clone(), key.wrapped.clone());
                missing.push(Missing { tenant, key: name, wrapped, closing: held.closing });
            }
        }
        missing
    }

    /// Takes a key that was unwrapped.
    pub(crate) fn put(&self, tenant: &TenantId, name: KeyName, secret: Secret) {
        let mut state = self.write();
        let held = state.tenants.entry(tenant.clone()).or_default();
        if !held.destroyed.contains(&name) && !held.is_gone {
            held.keys.insert(name.clone(), Arc::new(TenantKey { name, secret }));
        }
    }

    /// Forgets a tenant's keys: their provider has destroyed them.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        let mut state = self.write();
        let held = state.tenants.entry(tenant.clone()).or_default();
        held.keys.clear();
        held.is_gone = true;
    }
}

impl Held {
    fn take(&mut self, keys: &TenantKeys) {
        self.closing = keys.destroying.is_some();
        self.current = keys.current().and_then(|key| name_of(&key.id));
        self.destroyed =
            keys.keys.iter().filter(|key| key.destroyed.is_some()).filter_map(|key| name_of(&key.id)).collect();
        self.keys.retain(|name, _| !self.destroyed.contains(name));
        // On record from now on.
        self.is_gone &= self.closing;
    }
}

impl KeySource for KeyChest {
    fn current(&self, tenant: &TenantId, wanted: KeyUse) -> Result<Option<Arc<TenantKey>>, KeyError> {
        if tenant.as_str() == crate::registry::PLATFORM {
            return Ok(None);
        }
        let state = self.read();
        let missing = |key| Err(KeyError::NotAtHand { tenant: tenant.clone(), key });
        if !state.is_read {
            return missing(None);
        }
        let Some(held) = state.tenants.get(tenant) else { return Ok(None) };
        match &held.current {
            None if held.wants => missing(None),
            None => Ok(None),
            Some(_) if held.is_gone || (held.closing && wanted == KeyUse::Log) => Ok(None),
            Some(name) => match held.keys.get(name) {
                Some(key) => Ok(Some(Arc::clone(key))),
                None => missing(Some(name.clone())),
            },
        }
    }

    fn key(&self, tenant: &TenantId, name: &KeyName) -> Result<Arc<TenantKey>, KeyError> {
        let state = self.read();
        let held = state.tenants.get(tenant);
        if let Some(key) = held.and_then(|held| held.keys.get(name)) {
            return Ok(Arc::clone(key));
        }
        let (tenant, key) = (tenant.clone(), name.clone());
        match held.is_some_and(|held| held.destroyed.contains(name) || held.is_gone) {
            true => Err(KeyError::Destroyed { tenant, key }),
            false => Err(KeyError::NotAtHand { tenant, key: Some(key) }),
        }
    }
}
