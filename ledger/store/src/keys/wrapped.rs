//! A data key, wrapped under a tenant's key: the bytes that stand beside what it encrypts.
//!
//! Not here: what it encrypts. Invariant: it opens only for the ledger, stream and period that it was made for.

use super::KeyName;
use crate::cipher::{SEALED_MORE, SECRET_BYTES, Secret};
use ledger::name::{StreamKind, TenantId};

/// How its bytes begin, with the version.
const TAG: [u8; 4] = *b"PRK\x01";

/// What a data key is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose<'p> {
    pub ledger: &'p str,
    pub tenant: &'p TenantId,
    pub kind: StreamKind,
    /// A month, as segments' folders are named, or `log`.
    pub period: &'p str,
}

impl Purpose<'_> {
    fn beside(&self) -> Vec<u8> {
        let Self { ledger, tenant, kind, period } = self;
        format!("piperoll-data-key/v1\n{ledger}\n{tenant}\n{kind}\n{period}\n").into_bytes()
    }
}

/// Wraps a data key.
pub(super) fn wrap(name: &KeyName, key: &Secret, nonce: [u8; 12], of: &Purpose<'_>, data: &Secret) -> Vec<u8> {
    let mut out = TAG.to_vec();
    // At most 32.
    out.push(name.as_str().len() as u8);
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(&key.seal(nonce, &of.beside(), data.bytes()));
    out
}

/// Under which key a data key was wrapped, and its ciphertext; none for other bytes.
pub(super) fn parts(wrapped: &[u8]) -> Option<(KeyName, &[u8])> {
    let (length, rest) = wrapped.strip_prefix(&TAG)?.split_first()?;
    let (name, sealed) = rest.split_at_checked((*length).into())?;
    let name = std::str::from_utf8(name).ok()?.parse().ok()?;
    (sealed.len() == SECRET_BYTES + SEALED_MORE).then_some((name, sealed))
}

/// Whether a data key was wrapped in a later form than this program reads.
pub(super) fn is_newer(wrapped: &[u8]) -> bool {
    wrapped.strip_prefix(&TAG[..3]).and_then(<[u8]>::first).is_some_and(|version| *version > TAG[3])
}

/// The data key; none when it was not wrapped under this key for this purpose.
pub(super) fn opened(key: &Secret, of: &Purpose<'_>, sealed: &[u8]) -> Option<Secret> {
    Secret::of(&key.open(&of.beside(), sealed)?)
}
