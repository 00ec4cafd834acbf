//! API keys: `prl_<kind>_<id>_<secret>`.
//!
//! Kind and id are there to be seen, in logs of the caller and by scanners for leaked secrets; the secret is 256 random
//! bits, shown once. Its hash is kept, and no slow one: a guess at 256 bits is hopeless at any speed.
//!
//! Not here: whose a key is ([`crate::registry`]). Invariant: a secret has no `Debug` and no `Display`.

use crate::registry::change::PrincipalKind;
use crate::registry::names::FactId;
use ledger::tree::Hash;

const PREFIX: &str = "prl";
const SECRET_DIGITS: usize = 64;
/// The longest that a key can be.
pub const LONGEST: usize = 256;

/// A key as it was presented.
pub struct Presented<'k> {
    /// Which credential it claims to be.
    pub id: FactId,
    secret: &'k str,
}

impl<'k> Presented<'k> {
    /// Reads a key; none if it is none.
    pub fn parse(key: &'k str) -> Option<Self> {
        if key.len() > LONGEST {
            return None;
        }
        let mut parts = key.splitn(4, '_');
        let (prefix, _kind, id, secret) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = secret.len() == SECRET_DIGITS && secret.bytes().all(|byte| byte.is_ascii_hexdigit());
        (prefix == PREFIX && is_hex).then_some(Self { id: id.parse().ok()?, secret })
    }

    /// Whether it is the key of this hash. Hashes are compared, so time tells nothing of the secret.
    pub fn matches(&self, hash: &[u8; 32]) -> bool {
        Hash::of(self.secret.as_bytes()).as_bytes() == hash
    }
}

/// Makes a key of random bytes: its text, and the hash that is kept.
pub fn make(kind: PrincipalKind, id: &FactId, random: &[u8; 32]) -> (String, String) {
    let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let hash = Hash::of(secret.as_bytes()).to_hex();
    (format!("{PREFIX}_{}_{id}_{secret}", kind.code()), hash)
}

/// Reads a kept hash.
pub fn parse_hash(text: &str) -> Option<[u8; 32]> {
    ledger::Hash::from_hex(text).map(|hash| hash.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shows_kind_and_id_and_is_known_by_its_hash() {
        let id: FactId = "k0a1b2c3d4e5".parse().unwrap();
        let (key, hash) = make(PrincipalKind::Service, &id, &[7; 32]);
        assert!(key.starts_with("prl_svc_k0a1b2c3d4e5_0707"), "{key}");
        let presented = Presented::parse(&key).unwrap();
        let hash = parse_hash(&hash).unwrap();
        assert!(presented.id == id && presented.matches(&hash));
        let other = key.replace("_07", "_08");
        assert!(!Presented::parse(&other).unwrap().matches(&hash));
        let cut = &key[..key.len() - 1];
        for bad in ["", "prl", "prl_svc_k1", "prl_svc__07", cut, &key.replace("prl_", "xyz_"), &"a".repeat(9_000)] {
            assert!(Presented::parse(bad).is_none(), "{bad}");
        }
        assert!(parse_hash(&"é".repeat(32)).is_none());
    }
}
