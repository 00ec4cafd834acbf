//! What purges and redactions took out of a stream, as long as its files are still in the store.
//!
//! Not here: taking it out ([`crate::erase`]), deleting the files once the time to undo is over ([`crate::upkeep`]).
//! Invariants: nothing is changed; a file is given only if it has the SHA-256 that a signed commit names.

use super::Fsck;
use crate::commits::{Reader, Stored};
use crate::error::StoreError;
use crate::layout::StreamPrefix;
use crate::segment;
use bytes::Bytes;
use ledger::commit::SegmentRef;
use ledger::name::{Origin, StreamKind, TenantId};
use ledger::tree::Hash;
use ledger::verify::ChainVerifier;

/// What one commit took out of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenOut {
    /// The commit's number.
    pub commit: u64,
    /// When it was made, in microseconds.
    pub time: i64,
    /// The entry of the registry that recorded the intent.
    pub basis: u64,
    /// Whether sections of entries went, and not entries.
    pub is_redaction: bool,
    /// The segments as they were before: what stayed of them stands in others since.
    pub segments: Vec<SegmentRef>,
}

impl Fsck {
    /// What each purge and redaction took out of a stream, oldest first.
    ///
    /// # Errors
    /// The commits cannot be read, or do not hold.
    pub async fn taken_out(&self, tenant: &TenantId, kind: StreamKind) -> Result<Vec<TakenOut>, StoreError> {
        let prefix = StreamPrefix::new(tenant, kind);
        let first = Origin::stream(&self.ledger, tenant, kind, 0);
        let trusted = self.keys.iter().map(|key| key.under(first.as_str())).collect();
        let mut chain = ChainVerifier::new(first.as_str(), trusted);
        let stored = Stored::list(&self.objects, &prefix, 0).await?;
        let mut commits = Reader::new(&self.objects, &prefix, &stored);
        let mut all = Vec::new();
        for number in 0..stored.end() {
            let bytes = commits.read(number).await?;
            let erases = bytes.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"basis "));
            let before = if erases { chain.state().live } else { vec![] };
            let history = |fault| StoreError::History { origin: first.to_string(), fault: Box::new(fault) };
            let signed = chain.commit(&bytes).map_err(history)?;
            let commit = signed.commit();
            if let Some(erasure) = &commit.erasure {
                let segments = before.into_iter().filter(|held| erasure.removes.contains(&held.path)).collect();
                let is_redaction = erasure.gone().is_none();
                all.push(TakenOut { commit: number, time: commit.time, basis: erasure.basis, is_redaction, segments });
            }
        }
        Ok(all)
    }

    /// The file of a segment that was taken out; none once it was deleted.
    ///
    /// # Errors
    /// The store failed, or the file is not what the commits name.
    pub async fn taken(
        &self,
        tenant: &TenantId,
        kind: StreamKind,
        segment: &SegmentRef,
    ) -> Result<Option<Bytes>, StoreError> {
        let path = StreamPrefix::new(tenant, kind).below(&segment.path);
        let found = segment::fetch_if_there(&self.objects, &path).await?;
        match found {
            Some(bytes) if Hash::of(&bytes) != segment.sha256 => {
                Err(StoreError::Damaged { path: path.to_string(), why: "it is not the file that the commits name" })
            }
            found => Ok(found),
        }
    }
}
