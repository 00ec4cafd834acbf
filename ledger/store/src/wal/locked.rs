//! A run of a tenant's entries as it stands in the log under a key: leaf hashes in the clear, all else encrypted.
//!
//! Not here: the frames around it ([`super::frame`]), what a stream does whose entries cannot be opened
//! ([`crate::stream`]). Invariant: what is copied forward unopened keeps its bytes, so no nonce meets other content.

use super::frame::{Cursor, put_bytes, put_entry_secrets};
use crate::entry::Entry;
use crate::keys::{ContentKeys, KeyError, LogKey};
use ledger::draft::Draft;
use ledger::leaf::Seed;
use ledger::name::{StreamKind, TenantId};
use ledger::tree::Hash;

/// A run as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockedRun {
    /// The data key, wrapped under the tenant's.
    pub wrapped: Vec<u8>,
    /// The entries' leaf hashes.
    pub leaves: Vec<Hash>,
    /// Seeds, indexes and fields of the entries.
    pub sealed: Vec<u8>,
}

/// What binds a run to its place: tenant, stream, first position and count.
fn beside(tenant: &TenantId, kind: StreamKind, first: u64, entries: usize) -> Vec<u8> {
    format!("piperoll-log/v1\n{tenant}\n{kind}\n{first}\n{entries}\n").into_bytes()
}

/// Writes entries under a key.
pub(super) fn put_under(
    out: &mut Vec<u8>,
    (tenant, kind, first): (&TenantId, StreamKind, u64),
    entries: &[&Entry],
    key: &LogKey,
) {
    put_bytes(out, &key.wrapped);
    entries.iter().for_each(|entry| out.extend_from_slice(&entry.leaf.0));
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let beside = beside(tenant, kind, first, entries.len());
    key.cipher.seal(&beside, out, |out| entries.iter().for_each(|entry| put_entry_secrets(out, entry)));
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

impl LockedRun {
    /// Writes the run as it was read.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.wrapped);
        self.leaves.iter().for_each(|leaf| out.extend_from_slice(&leaf.0));
        put_bytes(out, &self.sealed);
    }

    /// Bytes that its entries occupy once they are opened, roughly: what bounds of memory count.
    pub(crate) fn bytes(&self) -> usize {
        self.sealed.len() + 136 * self.leaves.len()
    }

    /// The entries; none when the bytes are not what was written under that key.
    ///
    /// # Errors
    /// The key is not at hand.
    pub(crate) fn open(
        &self,
        keys: &ContentKeys,
        (tenant, kind, first): (&TenantId, StreamKind, u64),
    ) -> Result<Option<Vec<Entry>>, KeyError> {
        let beside = beside(tenant, kind, first, self.leaves.len());
        let Some(plain) = keys.open_log((tenant, kind), &self.wrapped, &beside, &self.sealed)? else { return Ok(None) };
        let mut cursor = Cursor(&plain);
        let mut entry = |leaf: &Hash| {
            let (seed, index) = (Seed(cursor.array()?), cursor.u32()?);
            Some(Entry::kept(Draft::decode(cursor.bytes()?).ok()?, seed, index, *leaf))
        };
        let entries = self.leaves.iter().map(&mut entry).collect::<Option<Vec<_>>>();
        Ok(entries.filter(|_| cursor.0.is_empty()))
    }
}
