//! Keys for whoever reads a store's files without a service: the registry is folded from the `control` stream itself.
//!
//! Not here: checking the files (`ledger-store`). Invariant: nothing is made and nothing destroyed.

use super::{KeyChest, KeyProvider};
use crate::door::unwrap_all;
use crate::registry::change::Change;
use crate::registry::{BookError, Registry, platform};
use ledger::name::StreamKind;
use ledger_store::{ContentKeys, Fsck};
use std::sync::Arc;

/// The keys that a registry knows, as far as this provider unwraps them. `control` checks the store that holds the
/// platform's own streams.
///
/// # Errors
/// The registry cannot be read.
pub async fn content_keys(control: &Fsck, provider: &dyn KeyProvider) -> Result<ContentKeys, BookError> {
    let mut registry = Registry::default();
    let whose = platform();
    let fold = control.entries(&whose, StreamKind::Control, |seq, draft| {
        match Change::of_entry(seq, draft)? {
            Some((stamp, change)) => registry.apply(stamp, &change),
            None => registry.pass(seq),
        }
        Ok::<(), BookError>(())
    });
    fold.await?;
    let chest = KeyChest::default();
    let missing = chest.follow(&registry, None);
    unwrap_all(provider, &chest, &registry, missing).await;
    Ok(ContentKeys::new(control.ledger.clone(), Some(Arc::new(chest))))
}
