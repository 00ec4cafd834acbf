//! Tenants' keys: who wraps them, and the chest in which they are at hand for the store.
//!
//! A tenant's key is random and stands in the registry as its provider wrapped it, under a key of the provider's that is
//! the tenant's alone. So what the provider destroys opens nothing any more, wherever copies lie. Not here: which keys
//! there are ([`crate::registry`]), what is encrypted under them (`ledger-store`), when they are made and destroyed
//! ([`crate::Door`]).
//!
//! Invariants: a key is in memory or wrapped, never in the clear anywhere else; the chest says "destroyed" only of what
//! the registry says it of, so a provider that is the wrong one, or does not answer, destroys nothing.

mod chest;
mod keyring;
mod offline;
mod vault;

pub use chest::KeyChest;
pub(crate) use chest::Missing;
pub use keyring::{Keyring, KeyringError};
pub use offline::content_keys;
pub use vault::{Vault, VaultSettings};

use futures::future::BoxFuture;
use ledger_store::cipher::Secret;

/// Why a provider did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It does not answer, or not now.
    #[error("the key provider does not answer: {0}")]
    Unavailable(String),
    /// It has no such key: it was destroyed, or this is another provider than the one that made it.
    #[error("the key provider has no key {0}")]
    NoKey(String),
    /// It refuses, or what was given to it was not wrapped by it.
    #[error("the key provider refuses: {0}")]
    Refused(String),
}

/// Wraps tenants' keys under keys of its own, each by a name.
pub trait KeyProvider: Send + Sync {
    /// What it is called in the registry.
    fn name(&self) -> &'static str;
    /// Makes a key of this name, if there is none.
    fn create<'k>(&'k self, key: &'k str) -> BoxFuture<'k, Result<(), ProviderError>>;
    /// Makes a newer version of it: what was wrapped before can still be opened.
    fn rotate<'k>(&'k self, key: &'k str) -> BoxFuture<'k, Result<(), ProviderError>>;
    /// Wraps a secret under the newest version. Whoever opens it must say for what (`of`) again.
    fn wrap<'k>(
        &'k self,
        key: &'k str,
        of: &'k str,
        secret: &'k Secret,
    ) -> BoxFuture<'k, Result<String, ProviderError>>;
    /// Opens what was wrapped.
    fn unwrap<'k>(
        &'k self,
        key: &'k str,
        of: &'k str,
        wrapped: &'k str,
    ) -> BoxFuture<'k, Result<Secret, ProviderError>>;
    /// Destroys all versions of a key; one that is not there is as good as destroyed.
    fn destroy<'k>(&'k self, key: &'k str) -> BoxFuture<'k, Result<(), ProviderError>>;
}
