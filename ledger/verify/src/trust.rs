//! The keys that the caller trusts, and under which names they are believed.
//!
//! One secret signs for all origins of a ledger, and a key id covers the name; so a key given under one origin is
//! also tried under the others of the same ledger. Not here: checking a signature (`ledger`).
//!
//! Invariants: a key is never believed under a name of another ledger; a witness's key (cosignatures) only under
//! its own.

use crate::error::hex;
use crate::json::Json;
use ledger::handover::Handover;
use ledger::key::VerifierKey;
use ledger::name::{LedgerName, Origin};
use ledger::note::Note;

/// The keys that were given.
#[derive(Debug, Clone)]
pub struct Trust {
    given: Vec<VerifierKey>,
}

/// A key that signed, and as what it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    key: VerifierKey,
    /// The name it was given under, when it is another.
    given_as: Option<String>,
}

/// The ledger that a name belongs to: an origin's first part, what its bundles and reports are signed under, or the whole
/// name.
fn ledger_of(name: &str) -> Option<&str> {
    if name.parse::<Origin>().is_ok() {
        return name.split('/').next();
    }
    let own = name.strip_suffix("/_bundles").or(name.strip_suffix("/_reports")).unwrap_or(name);
    own.parse::<LedgerName>().is_ok().then_some(own)
}

impl Trust {
    /// Trust in these keys.
    pub fn new(given: Vec<VerifierKey>) -> Self {
        Self { given }
    }

    /// The same, and trust in the keys that took over from a trusted one, or that a trusted one took over from, in the order
    /// in which they did; keys that no record names come before them.
    pub fn following(mut self, mut handovers: Vec<Handover>) -> Self {
        handovers.sort_by_key(|handover| handover.number);
        let is = |one: &VerifierKey, key: &VerifierKey| one == key || under(one, key.name()).as_ref() == Some(key);
        // Each round follows one step further.
        for _ in 0..handovers.len() {
            for Handover { key, before, .. } in &handovers {
                let [knows, knew] = [key, before].map(|key| self.given.iter().any(|one| is(one, key)));
                if knows != knew {
                    self.given.push(if knows { before.clone() } else { key.clone() });
                }
            }
        }
        let named: Vec<VerifierKey> = handovers.into_iter().flat_map(|of| [of.before, of.key]).collect();
        self.given.sort_by_key(|one| named.iter().position(|key| is(one, key)));
        self
    }

    /// The keys under every name that a note's lines bear and that they may be believed under.
    pub fn for_note(&self, note: &Note) -> Vec<VerifierKey> {
        let mut keys = self.given.clone();
        for line in note.signatures() {
            keys.extend(self.given.iter().filter_map(|key| under(key, &line.name)));
        }
        keys.dedup();
        keys
    }

    /// The keys under one origin.
    pub fn for_origin(&self, origin: &str) -> Vec<VerifierKey> {
        let named = self.given.iter().filter(|key| key.name() == origin).cloned();
        named.chain(self.given.iter().filter_map(|key| under(key, origin))).collect()
    }

    /// A key that signed, with the name it was given under.
    pub fn signer(&self, key: &VerifierKey) -> Signer {
        let given_as = match self.given.contains(key) {
            true => None,
            false => self.given.iter().find(|given| given.under(key.name()) == *key).map(|key| key.name().to_string()),
        };
        Signer { key: key.clone(), given_as }
    }

    /// All that signed.
    pub fn signers(&self, keys: &[VerifierKey]) -> Vec<Signer> {
        keys.iter().map(|key| self.signer(key)).collect()
    }
}

/// The key under another name of the same ledger; none where it must not be believed there.
fn under(key: &VerifierKey, name: &str) -> Option<VerifierKey> {
    let is_ledgers_own = key.under(key.name()) == *key;
    let same = ledger_of(key.name()).is_some_and(|ledger| Some(ledger) == ledger_of(name));
    (is_ledgers_own && same && key.name() != name).then(|| key.under(name))
}

/// The signature lines of a note as people read them, verified or not.
pub fn lines_of(note: &Note) -> Vec<String> {
    note.signatures().iter().map(|line| format!("{} (key id {})", line.name, hex(line.id))).collect()
}

impl Signer {
    /// What is said of it.
    pub fn words(&self) -> String {
        let (id, name) = (hex(self.key.id()), self.key.name());
        match &self.given_as {
            None => format!("by the key {id} under the name {name}"),
            Some(given) => format!(
                "by the key {id} under the name {name}; it is the public key that you gave under the name {given}"
            ),
        }
    }

    /// The same for programs.
    pub fn to_json(&self) -> Json {
        let given = self.given_as.clone().unwrap_or_else(|| self.key.name().into());
        Json::object([
            ("name", self.key.name().into()),
            ("key_id", hex(self.key.id()).into()),
            ("vkey", self.key.to_string().into()),
            ("given_as", given.into()),
        ])
    }
}
