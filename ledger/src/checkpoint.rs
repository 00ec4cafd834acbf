//! Heads and checkpoints: C2SP tlog-checkpoint, three lines and signatures.
//!
//! Not here: deciding what may be signed; the rule "durable first, and never two that disagree" is
//! kept by `ledger-store`.
//!
//! Invariant: each head has exactly one text.

use crate::key::{LedgerKey, VerifierKey, is_key_name};
use crate::note::{self, Note, NoteError};
use crate::text;
use crate::tree::Hash;

/// What a tree was at one moment: origin, size, root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHead {
    /// Whose tree; also the name of its key.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// The tree's root.
    pub root: Hash,
}

impl StreamHead {
    /// The head in checkpoint text form: origin, size, root, each on its line.
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }

    /// Parses what [`StreamHead::to_text`] writes, and nothing else.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] says which line is wrong.
    pub fn parse(head: &str) -> Result<Self, NoteError> {
        let malformed = |why| Err(NoteError::Malformed(why));
        let lines: Vec<&str> = head.split('\n').collect();
        let [origin, size, root, ""] = lines[..] else {
            return malformed("a head has three lines: origin, size, root");
        };
        if !is_key_name(origin) || origin == "cosignature/v1" {
            return malformed("the origin is no key name");
        }
        let Some(size) = text::decimal(size) else { return malformed("the size is not a plain decimal") };
        let Some(root) = Hash::from_base64(root) else { return malformed("the root is not 32 bytes of base64") };
        Ok(Self { origin: origin.into(), size, root })
    }

    /// Signs the head: the caller holds that it is durable and agrees with all that was signed before.
    pub fn sign(&self, keys: &[&LedgerKey]) -> String {
        note::sign(&self.to_text(), &self.origin, keys)
    }
}

/// A head that a trusted key signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    head: StreamHead,
    signers: Vec<VerifierKey>,
}

impl Checkpoint {
    /// Parses and verifies a checkpoint. The log's own signature must be there: witnesses alone do not do.
    ///
    /// # Errors
    /// As for notes; [`NoteError::Unknown`] also when no signer is named as the origin is.
    pub fn open(bytes: &[u8], trusted: &[VerifierKey]) -> Result<Self, NoteError> {
        let note = Note::parse(bytes)?;
        let head = StreamHead::parse(note.text())?;
        let verified = note.verify(trusted)?;
        if !verified.signers().iter().any(|key| key.name() == head.origin) {
            return Err(NoteError::Unknown);
        }
        Ok(Self { head, signers: verified.signers().to_vec() })
    }

    /// The signed head.
    pub fn head(&self) -> &StreamHead {
        &self.head
    }

    /// The trusted keys that signed it.
    pub fn signers(&self) -> &[VerifierKey] {
        &self.signers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::log_key;

    fn head() -> StreamHead {
        StreamHead {
            origin: "audit.example/t/acme".into(),
            size: 13,
            root: Hash::from_base64("qO9IRMjh1bpJyBHNuG6VeR9dMsp9lwmv2ij99l6UmlM=").unwrap(),
        }
    }

    #[test]
    fn a_checkpoint_opens_under_its_own_key_only() {
        let signed = head().sign(&[&log_key()]);
        let own = log_key().verifier("audit.example/t/acme");
        assert_eq!(Checkpoint::open(signed.as_bytes(), std::slice::from_ref(&own)).unwrap().head(), &head());
        let other = log_key().verifier("audit.example/t/globex");
        assert_eq!(Checkpoint::open(signed.as_bytes(), std::slice::from_ref(&other)), Err(NoteError::Unknown));
        // A text signed under another name than its origin is no checkpoint of that origin.
        let foreign = note::sign(&head().to_text(), other.name(), &[&log_key()]);
        assert_eq!(Checkpoint::open(foreign.as_bytes(), &[own, other]), Err(NoteError::Unknown));
    }

    #[test]
    fn a_second_implementation_reads_our_checkpoints() {
        let signed = head().sign(&[&log_key()]);
        let text = signed.split_once("\n\n").unwrap().0.to_string() + "\n";
        let theirs = tlog_tiles::Checkpoint::from_bytes(text.as_bytes()).unwrap();
        assert_eq!((theirs.origin(), theirs.size(), theirs.hash().0), ("audit.example/t/acme", 13, head().root.0));
    }

    #[test]
    fn heads_have_one_spelling() {
        assert_eq!(StreamHead::parse(&head().to_text()).unwrap(), head());
        let text = head().to_text();
        for bad in [
            text.replace("13", "013"),
            text.replace("13", "+13"),
            text.replace("13", ""),
            text.replace("13", "18446744073709551616"),
            text.replace("UmlM=", "UmlN="),
            text.replace("UmlM=", "UmlM"),
            format!("{text}\n"),
            format!("{text}extension\n"),
            text.trim_end().into(),
            text.replacen("audit.example/t/acme", "cosignature/v1", 1),
            text.replacen("audit.example", "audit example", 1),
            text.replacen("audit.example", "audit+example", 1),
        ] {
            assert!(StreamHead::parse(&bad).is_err(), "{bad:?}");
        }
    }
}
