//! Encryption with AES-256-GCM: the one place that names a cipher.
//!
//! Not here: which key is for what ([`crate::keys`]), Parquet's own use of the same cipher (`parquet`, told which key).
//!
//! Invariants: a secret is wiped when it is dropped, and is in no `Debug`; a nonce is random, or a count under a key
//! that no other process has, so none is used twice under one key.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use zeroize::Zeroizing;

/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;
/// Bytes that encryption adds: a nonce before, a tag behind.
pub const SEALED_MORE: usize = NONCE_LEN + TAG_BYTES;
const TAG_BYTES: usize = 16;

/// A key of 256 bits.
pub struct Secret(Zeroizing<[u8; SECRET_BYTES]>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// A new secret from a source that cannot be guessed.
    pub fn random(fill: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        fill(&mut bytes[..]);
        Self(bytes)
    }

    /// The secret with these bytes; none unless there are as many as it takes.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let mut own = Zeroizing::new([0; SECRET_BYTES]);
        (bytes.len() == SECRET_BYTES).then(|| own.copy_from_slice(bytes))?;
        Some(Self(own))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    fn key(&self) -> LessSafeKey {
        // It cannot fail: the length is the algorithm's.
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.0[..]).expect("a key of 256 bits"))
    }

    /// Encrypts some bytes, under a nonce that was drawn for them: nonce, ciphertext, tag. What is given beside them
    /// must be given again to open them.
    pub fn seal(&self, nonce: [u8; NONCE_LEN], beside: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(plain.len() + SEALED_MORE);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        seal_behind(&self.key(), nonce, beside, &mut out, NONCE_LEN);
        out
    }

    /// Decrypts what was sealed; none when key, bytes, or what was given beside them are others.
    pub fn open(&self, beside: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut bytes = Zeroizing::new(rest.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.key().open_in_place(nonce, Aad::from(beside), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

/// Encrypts what stands in `out` from `from` on, and puts the tag behind it.
fn seal_behind(key: &LessSafeKey, nonce: [u8; NONCE_LEN], beside: &[u8], out: &mut Vec<u8>, from: usize) {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(beside), &mut out[from..]);
    // It fails only above 64 GiB.
    out.extend_from_slice(tag.expect("far fewer bytes than the cipher takes").as_ref());
}

/// Encrypts many blocks under one secret that this process drew and nobody else writes with: nonces count up.
pub(crate) struct Counting {
    key: LessSafeKey,
    next: AtomicU64,
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counting")
    }
}

impl Counting {
    /// Begins to count under a new secret.
    pub(crate) fn new(secret: &Secret) -> Self {
        Self { key: secret.key(), next: AtomicU64::new(0) }
    }

    /// Appends a block to `out`, encrypted where it stands: nonce, ciphertext, tag.
    pub(crate) fn seal(&self, beside: &[u8], out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let mut nonce = [0; NONCE_LEN];
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        nonce[NONCE_LEN - 8..].copy_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&nonce);
        let from = out.len();
        write(out);
        seal_behind(&self.key, nonce, beside, out, from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_words_only() {
        let (secret, other) = (Secret::of(&[7; 32]).unwrap(), Secret::of(&[8; 32]).unwrap());
        let sealed = secret.seal([1; 12], b"beside", b"a secret");
        assert_eq!(sealed.len(), 8 + SEALED_MORE);
        assert_eq!(secret.open(b"beside", &sealed).unwrap().as_slice(), b"a secret");
        assert!(secret.open(b"others", &sealed).is_none() && other.open(b"beside", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(secret.open(b"beside", &changed).is_none(), "{at}");
        }
        assert!((0..SEALED_MORE).all(|length| secret.open(b"beside", &sealed[..length]).is_none()));
        assert!(Secret::of(&[7; 31]).is_none());
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[test]
    fn counted_blocks_never_share_a_nonce() {
        let secret = Secret::of(&[7; 32]).unwrap();
        let counting = Counting::new(&secret);
        let mut nonces = std::collections::HashSet::new();
        for block in 0..1_000u32 {
            let mut out = vec![9];
            counting.seal(b"", &mut out, |out| out.extend_from_slice(&block.to_be_bytes()));
            assert!(nonces.insert(out[1..13].to_vec()) && out[0] == 9);
            assert_eq!(secret.open(b"", &out[1..]).unwrap().as_slice(), block.to_be_bytes());
        }
    }
}
