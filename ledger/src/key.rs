//! Ed25519 keys as C2SP signed notes name them: key id, verifier key line, witness cosignatures.
//!
//! One secret serves a whole ledger; under each origin it has another key id, because the id covers
//! the name. Not here: where secrets are kept, how one hands over to the next ([`crate::handover`]).
//!
//! Invariant: no secret is ever printed; `Debug` of [`LedgerKey`] shows nothing of it.

use crate::text;
use crate::tree::Hash;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use std::fmt;
use std::str::FromStr;

/// Four bytes that hint which key made a signature: `SHA-256(name ‖ 0A ‖ type ‖ key)[0..4]`.
pub type KeyId = [u8; 4];

const ED25519: u8 = 1;
const COSIGNATURE_V1: u8 = 4;

fn key_id(name: &str, algorithm: u8, public: &[u8; 32]) -> KeyId {
    let hash = Hash::of(&[name.as_bytes(), &[b'\n', algorithm], public].concat());
    [hash.0[0], hash.0[1], hash.0[2], hash.0[3]]
}

/// Whether a name may stand in a key or a signature line: not empty, no white space, no control, no `+`.
pub(crate) fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// The ledger's secret signing key.
#[derive(Clone)]
pub struct LedgerKey(SigningKey);

impl fmt::Debug for LedgerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LedgerKey(secret)")
    }
}

impl LedgerKey {
    /// The key made from these 32 secret bytes (RFC 8032).
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// The public half, to be used under `name`.
    pub fn verifier(&self, name: &str) -> VerifierKey {
        VerifierKey::ed25519(name, self.0.verifying_key())
    }

    /// Whether this is the secret of a public key.
    pub fn is_of(&self, public: &VerifierKey) -> bool {
        self.verifier(public.name()) == *public
    }

    /// One signature line over a note's text, under `name`.
    pub fn signature_line(&self, name: &str, note_text: &str) -> String {
        let id = key_id(name, ED25519, self.0.verifying_key().as_bytes());
        let signature = self.0.sign(note_text.as_bytes());
        format!("\u{2014} {name} {}\n", text::encode(&[&id[..], &signature.to_bytes()].concat()))
    }
}

/// The key that signs, and those that it took the place of and that sign along what others are given, until everybody has
/// learnt of the new one.
#[derive(Debug, Clone)]
pub struct LedgerKeys {
    /// The key that signs.
    pub current: LedgerKey,
    /// Those before it, newest first.
    pub before: Vec<LedgerKey>,
}

impl From<LedgerKey> for LedgerKeys {
    fn from(current: LedgerKey) -> Self {
        Self { current, before: vec![] }
    }
}

impl LedgerKeys {
    /// All of them, newest first.
    pub fn all(&self) -> Vec<&LedgerKey> {
        std::iter::once(&self.current).chain(&self.before).collect()
    }
}

/// A verifier key is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("verifier key is malformed: {0}")]
pub struct KeyError(&'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Ed25519,
    CosignatureV1,
}

/// A public key under a name: `name+<8 hex key id>+base64(type ‖ key)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: Box<str>,
    id: KeyId,
    algorithm: Algorithm,
    public: VerifyingKey,
}

impl VerifierKey {
    fn ed25519(name: &str, public: VerifyingKey) -> Self {
        Self { name: name.into(), id: key_id(name, ED25519, public.as_bytes()), algorithm: Algorithm::Ed25519, public }
    }

    /// The name it signs under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its key id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The same public key under another origin of the same ledger.
    pub fn under(&self, name: &str) -> Self {
        Self::ed25519(name, self.public)
    }

    /// Whether `payload` is this key's valid signature over a note's text.
    pub fn verifies(&self, note_text: &str, payload: &[u8]) -> bool {
        match self.algorithm {
            Algorithm::Ed25519 => self.verifies_bytes(note_text.as_bytes(), payload),
            Algorithm::CosignatureV1 => {
                let Some((time, signature)) = payload.split_first_chunk::<8>() else { return false };
                let signed = format!("cosignature/v1\ntime {}\n{note_text}", u64::from_be_bytes(*time));
                self.verifies_bytes(signed.as_bytes(), signature)
            }
        }
    }

    fn verifies_bytes(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.public.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = match self.algorithm {
            Algorithm::Ed25519 => ED25519,
            Algorithm::CosignatureV1 => COSIGNATURE_V1,
        };
        let [a, b, c, d] = self.id;
        let key = text::encode(&[&[algorithm][..], self.public.as_bytes()].concat());
        write!(f, "{}+{a:02x}{b:02x}{c:02x}{d:02x}+{key}", self.name)
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;
    fn from_str(line: &str) -> Result<Self, KeyError> {
        let mut parts = line.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError("expected name+keyid+key"));
        };
        if !is_key_name(name) {
            return Err(KeyError("the name is empty or holds white space"));
        }
        let bytes = text::decode(key).ok_or(KeyError("the key is not padded base64"))?;
        let (algorithm, public) = match bytes.split_first() {
            Some((&ED25519, key)) => (Algorithm::Ed25519, key),
            Some((&COSIGNATURE_V1, key)) => (Algorithm::CosignatureV1, key),
            _ => return Err(KeyError("the key's type is none of Ed25519 (1) and Ed25519 cosignature (4)")),
        };
        let public: [u8; 32] = public.try_into().map_err(|_| KeyError("an Ed25519 key has 32 bytes"))?;
        let public = VerifyingKey::from_bytes(&public).map_err(|_| KeyError("the key is no point of Ed25519"))?;
        let found = Self { name: name.into(), id: key_id(name, bytes[0], public.as_bytes()), algorithm, public };
        if found.to_string() == line && !id.is_empty() {
            Ok(found)
        } else {
            Err(KeyError("the key id does not match name and key"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "audit.example/t/acme+24cd0c22+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
    const WITNESS: &str = "witness.example/w1+04d2d833+BD1AF8PoQ4lakrcKp00bfrycmCzPLsSWjMDNVfEq9GYM";

    #[test]
    fn verifier_keys_round_trip() {
        for line in [LOG, WITNESS] {
            assert_eq!(line.parse::<VerifierKey>().unwrap().to_string(), line);
        }
        let secret = crate::note::tests::hex32("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        assert_eq!(LedgerKey::from_secret(&secret).verifier("audit.example/t/acme").to_string(), LOG);
    }

    #[test]
    fn malformed_verifier_keys_are_refused() {
        let swapped = LOG.replace("24cd0c22", "24cd0c23");
        let renamed = LOG.replace("acme", "acmf");
        for bad in [
            "",
            "a+b",
            &swapped,
            &renamed,
            &LOG[..LOG.len() - 1],
            &LOG.to_uppercase(),
            &format!("{LOG}\n"),
            &LOG.replace("audit", "au dit"),
        ] {
            assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", LedgerKey::from_secret(&[1; 32])), "LedgerKey(secret)");
    }
}
