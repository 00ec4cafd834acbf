//! With which keys a store is signed, and what they sign besides.
//!
//! Not here: how one hands over to the next ([`crate::signing`]). Invariant: a report is named by its hash, never read.

use super::Store;
use crate::error::StoreError;
use crate::signing;
use ledger::handover::Handover;
use ledger::key::{LedgerKeys, VerifierKey};

impl Store {
    /// The public key that signs now, under the origin of the store log.
    pub fn verifier(&self) -> VerifierKey {
        self.shared.signing.now().current().verifier(self.shared.log_origin.as_str())
    }

    /// The public keys that ever signed this store, under the origin of the store log, oldest first.
    pub fn verifiers(&self) -> Vec<VerifierKey> {
        self.shared.signing.now().trusted(self.shared.log_origin.as_str())
    }

    /// What handed over to the second key and to every later one, oldest first, with the text of the record.
    pub fn handovers(&self) -> Vec<(Handover, String)> {
        self.shared.signing.now().known().handovers.clone()
    }

    /// Is signed with the first of these keys from now on, the others sign along what is given to others. A key that did
    /// not sign before takes over from the one that signs now, which must be among them; the caller has put it where the
    /// next start finds it.
    ///
    /// # Errors
    /// As it cannot take over, or the store does not answer: then call this again.
    pub async fn sign_with(&self, keys: LedgerKeys) -> Result<(), StoreError> {
        signing::go_over(&self.shared, keys).await
    }

    /// Signs that a report of this kind, with this hash, was given out now.
    pub fn sign_report(&self, kind: &str, sha256: ledger::Hash) -> String {
        let report = ledger::report::ReportNote { kind: kind.into(), time: self.shared.ambient.now_micros(), sha256 };
        report.sign(&self.shared.ledger, &self.shared.signing.now().all())
    }
}
