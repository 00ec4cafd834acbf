//! Reading what a check of a store reads besides: entries, and what readers kept of them.
//!
//! Not here: checking any of it. Invariant: nothing is handed over but what the commits name.

use super::Fsck;
use crate::columns::Rows;
use crate::error::StoreError;
use crate::layout::StreamPrefix;
use crate::segment;
use bytes::Bytes;
use ledger::draft::Draft;
use ledger::name::{Origin, StreamKind, TenantId};
use ledger::verify::ChainVerifier;

impl Fsck {
    /// Hands over each sealed entry of a stream, in order, until the newest or until `each` fails. To be believed as far
    /// as a check of the stream found it sound.
    ///
    /// # Errors
    /// The stream cannot be read, or what `each` answers.
    pub async fn entries<E: From<StoreError>>(
        &self,
        tenant: &TenantId,
        kind: StreamKind,
        mut each: impl FnMut(u64, &Draft) -> Result<(), E>,
    ) -> Result<(), E> {
        let prefix = StreamPrefix::new(tenant, kind);
        let first = Origin::stream(&self.ledger, tenant, kind, 0);
        let trusted = self.keys.iter().map(|key| key.under(first.as_str())).collect();
        let mut chain = ChainVerifier::new(first.as_str(), trusted);
        self.chain(&prefix, &mut chain, &mut Vec::new()).await?;
        for held in chain.live() {
            let path = prefix.below(&held.segment.path);
            let bytes = segment::fetch(&self.objects, &path).await?;
            let mut failed = None;
            segment::read_all(&self.content, &path, bytes, |batch| {
                let rows = Rows::of(batch)?;
                for row in 0..rows.len() {
                    if failed.is_none() {
                        failed = each(rows.seq(row), &rows.draft(row)?).err();
                    }
                }
                Ok(())
            })?;
            failed.map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    /// What a reader of a stream kept of it ([`crate::StreamHandle::keep_fold`]).
    ///
    /// # Errors
    /// The store failed.
    pub async fn kept_fold(&self, tenant: &TenantId, kind: StreamKind) -> Result<Option<Bytes>, StoreError> {
        segment::fetch_if_there(&self.objects, &StreamPrefix::new(tenant, kind).fold()).await
    }
}
