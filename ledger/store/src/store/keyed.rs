//! What is asked of a store about keys: to open what waits for them, to let go of one, to say what is under each.
//!
//! Not here: keys themselves ([`crate::keys`]), tails that cannot be opened ([`crate::locked`]). Invariant: nothing of a
//! tenant is left that only a key opens which is on its way out, but in segments.

use super::{AppendRequest, Store};
use crate::bundles;
use crate::error::StoreError;
use crate::handle::AppendHandle;
use crate::keys::KeyName;
use crate::precheck;
use crate::seal;
use crate::stream::Stream;
use ledger::name::TenantId;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

impl Store {
    /// Opens what could not be opened when the log was read: keys are at hand now. What still cannot be waits on.
    ///
    /// # Errors
    /// Bytes of the log are not what was written under their key; other streams were still opened.
    pub async fn unlock(&self) -> Result<(), StoreError> {
        let mut result = Ok(());
        for stream in self.all_streams() {
            let opened = match stream.unlock(&self.shared.content.keys) {
                Ok(()) => self.pay_break(&stream).await,
                locked => locked,
            };
            match opened {
                Ok(()) | Err(StoreError::Key(_)) => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Whether something can be appended to a stream, as far as its keys go.
    ///
    /// # Errors
    /// A key is not at hand; or what is sealed cannot be read.
    pub async fn can_write(&self, handle: &AppendHandle) -> Result<(), StoreError> {
        self.pay_break(&handle.stream).await?;
        precheck::warm(&self.shared, &handle.stream).await?;
        handle.stream.use_log_key(&self.shared)
    }

    /// Before a tenant's keys are destroyed: seals all that is durable of it; from here on its entries are written to the
    /// log as its keys say now, and none is on its way there under another. Evidence bundles go: some may be from before it
    /// had a key.
    ///
    /// # Errors
    /// A seal failed: what it was of is in the log still; or bundles could not be deleted.
    pub async fn settle_tenant(&self, tenant: &TenantId) -> Result<(), StoreError> {
        bundles::forget(&self.shared, tenant).await?;
        let streams: Vec<Arc<Stream>> =
            self.all_streams().into_iter().filter(|stream| stream.tenant == *tenant).collect();
        for stream in &streams {
            stream.use_log_key(&self.shared)?;
        }
        // Answered after the group before it, whose entries may have the key of before.
        self.append(AppendRequest::default()).await?;
        self.seal_each(streams).await
    }

    /// Under which keys a tenant's segments are: by name (none is plain), segments, entries and bytes.
    ///
    /// # Errors
    /// A footer cannot be read.
    pub async fn key_use(&self, tenant: &TenantId) -> Result<BTreeMap<Option<KeyName>, (u64, u64, u64)>, StoreError> {
        let mut found: BTreeMap<Option<KeyName>, (u64, u64, u64)> = BTreeMap::new();
        for stream in self.all_streams().into_iter().filter(|stream| stream.tenant == *tenant) {
            precheck::warm(&self.shared, &stream).await?;
            for segment in &stream.view().sealed.segments {
                let (segments, entries, bytes) = found.entry(segment.statistics.key.clone()).or_default();
                *segments += 1;
                *entries += segment.reference.rows;
                *bytes += segment.reference.bytes;
            }
        }
        Ok(found)
    }

    pub(super) fn all_streams(&self) -> Vec<Arc<Stream>> {
        self.shared.streams.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Seals what is durable of these streams; the first failure is told, the others were still tried.
    pub(super) async fn seal_each(&self, streams: Vec<Arc<Stream>>) -> Result<(), StoreError> {
        let mut result = Ok(());
        for stream in streams {
            result = result.and(seal::now(&self.shared, &self.seals, stream, self.epoch).await);
        }
        result
    }
}
