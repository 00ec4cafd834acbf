//! C2SP tlog-proof: one file that proves one leaf, with the checkpoint that it leads to.
//!
//! A header line, an optional `extra` line, the leaf's index, the hashes from its sibling upward, an empty
//! line, the checkpoint verbatim. Not here: making the path ([`crate::proof`]), serving the file (`query`).
//!
//! Invariants: each proof has one spelling; `extra` is covered by no signature, so nothing is decided by it.

use crate::checkpoint::Checkpoint;
use crate::key::VerifierKey;
use crate::note::{NOTE_BYTES, NoteError};
use crate::proof;
use crate::text;
use crate::tree::Hash;
use crate::version;
use std::fmt::Write as _;

/// First line of a proof: name and version of the form.
pub const TLOG_PROOF_TAG: &str = "c2sp.org/tlog-proof@v1";
/// Most hashes of a path: a tree of 2^64 leaves is no higher.
pub const PATH_HASHES: usize = 64;

/// A tlog-proof is malformed or proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// The bytes are a proof of a later version of the form.
    #[error("the proof is written in a newer format: use a newer piperoll to read it")]
    Newer,
    /// The bytes are no such proof.
    #[error("not a tlog-proof: {0}")]
    Malformed(&'static str),
    /// Its checkpoint does not verify.
    #[error("the proof's checkpoint does not verify")]
    Checkpoint(#[source] NoteError),
    /// Its hashes do not lead from the leaf to the checkpoint's root.
    #[error("the hashes do not lead from this leaf at index {index} to the checkpoint's root")]
    Path {
        /// The index that the proof claims.
        index: u64,
    },
}

/// A proof as it came: well-formed, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    extra: Option<Vec<u8>>,
    index: u64,
    path: Vec<Hash>,
    checkpoint: String,
}

impl TlogProof {
    /// A proof of the leaf at `index`: its path from the sibling upward, and the signed checkpoint.
    pub fn new(index: u64, path: Vec<Hash>, checkpoint: String) -> Self {
        Self { extra: None, index, path, checkpoint }
    }

    /// The same proof with extra bytes, which nothing authenticates.
    pub fn with_extra(self, extra: Vec<u8>) -> Self {
        Self { extra: Some(extra), ..self }
    }

    /// The extra bytes. Not authenticated, not even once the proof is verified.
    pub fn extra(&self) -> Option<&[u8]> {
        self.extra.as_deref()
    }

    /// The leaf's index: its sequence number in a stream.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The hashes from the leaf's sibling upward.
    pub fn path(&self) -> &[Hash] {
        &self.path
    }

    /// The checkpoint's bytes as they came. Not verified.
    pub fn checkpoint(&self) -> &str {
        &self.checkpoint
    }

    /// The proof's text.
    pub fn to_text(&self) -> String {
        let mut out = format!("{TLOG_PROOF_TAG}\n");
        if let Some(extra) = &self.extra {
            let _ = writeln!(out, "extra {}", text::encode(extra));
        }
        let _ = writeln!(out, "index {}", self.index);
        for hash in &self.path {
            let _ = writeln!(out, "{hash}");
        }
        out.push('\n');
        out.push_str(&self.checkpoint);
        out
    }

    /// Parses what [`TlogProof::to_text`] writes, and nothing else.
    ///
    /// # Errors
    /// [`TlogProofError::Malformed`] says what is wrong with its form, [`TlogProofError::Newer`] that it is of a
    /// later one.
    pub fn parse(bytes: &[u8]) -> Result<Self, TlogProofError> {
        let malformed = TlogProofError::Malformed;
        if bytes.len() > NOTE_BYTES {
            return Err(malformed("larger than 4 MiB"));
        }
        let all = std::str::from_utf8(bytes).map_err(|_| malformed("not UTF-8"))?;
        let (body, checkpoint) = all.split_once("\n\n").ok_or(malformed("has no empty line before its checkpoint"))?;
        let mut lines = body.split('\n').peekable();
        match lines.next() {
            Some(TLOG_PROOF_TAG) => {}
            Some(tag) if version::is_newer(tag, TLOG_PROOF_TAG) => return Err(TlogProofError::Newer),
            _ => return Err(malformed("the first line is not c2sp.org/tlog-proof@v1")),
        }
        let extra = lines.next_if(|line| line.starts_with("extra ")).map(|line| &line["extra ".len()..]);
        let extra = match extra.map(text::decode) {
            Some(None) => return Err(malformed("extra is not padded base64")),
            Some(Some(extra)) => Some(extra),
            None => None,
        };
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(text::decimal);
        let index = index.ok_or(malformed("no index, or one that is not a plain decimal"))?;
        let path: Option<Vec<Hash>> = lines.map(Hash::from_base64).collect();
        let path = path.ok_or(malformed("a line of the path is not 32 bytes of base64"))?;
        if path.len() > PATH_HASHES {
            return Err(malformed("the path has more than 64 hashes"));
        }
        Ok(Self { extra, index, path, checkpoint: checkpoint.into() })
    }

    /// Verifies that `leaf` is at the proof's index in the tree of its checkpoint.
    ///
    /// # Errors
    /// The checkpoint is not signed by a trusted key, or the path does not lead to it.
    pub fn verify(&self, leaf: &Hash, trusted: &[VerifierKey]) -> Result<Checkpoint, TlogProofError> {
        let opened = Checkpoint::open(self.checkpoint.as_bytes(), trusted).map_err(TlogProofError::Checkpoint)?;
        let head = opened.head();
        if proof::check_inclusion(self.index, head.size, &self.path, leaf, &head.root) {
            Ok(opened)
        } else {
            Err(TlogProofError::Path { index: self.index })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::StreamHead;
    use crate::note::tests::log_key;
    use crate::proof::inclusion_path;
    use crate::tree::{leaf_hash, root_of};
    use proptest::prelude::*;

    const ORIGIN: &str = "audit.example/t/acme";
    /// The fact sheet's proof of leaf 7 of 13, with a witness's line.
    const VECTOR: &str = "c2sp.org/tlog-proof@v1
extra aGk=
index 7
Z283gvWzpftDcO1JVyztxSP0pmMiJpyF8q8FCdF7Ck0=
mFu102uSeACHaHHaklp+gqvoOp3bpYgpIKAHpV6is3Y=
vdHF/1WxnLaw58dhv5psyqJ/u/wHt08fq7bpEaC9KrM=
0LdDhSa4DYLPUcCWqLZaLBnAngz/lEGdQjYr6UrsW2Q=

audit.example/t/acme
13
qO9IRMjh1bpJyBHNuG6VeR9dMsp9lwmv2ij99l6UmlM=

\u{2014} audit.example/t/acme JM0MIh8LdYZYO3DS28wWPtJM3/0M+W0hXRSzCjJajT2CVbWfJxQUVkZHHQ9I3Qzj2bgxRJdyVdZN+akSqDv+A6xKcg4=
\u{2014} witness.example/w1 BNLYMwAAAABqsTuAz3FV0SHVWSI7s/l5H3iRxwNesHIsWUez03L+Wdd/fS0xDcDT8MgaWXPySJi/3r39ieNyp6kHZOsMnymwt+C0Ag==
";

    fn trusted() -> [VerifierKey; 1] {
        [log_key().verifier(ORIGIN)]
    }

    fn leaves(size: u64) -> Vec<Hash> {
        (0..size).map(|n| leaf_hash(format!("leaf-{n}").as_bytes())).collect()
    }

    fn made(index: u64, size: u64) -> TlogProof {
        let leaves = leaves(size);
        let spans = inclusion_path(index, size).unwrap();
        let path = spans.iter().map(|s| root_of(leaves[s.start as usize..s.end as usize].iter().copied())).collect();
        let head = StreamHead { origin: ORIGIN.into(), size, root: root_of(leaves.iter().copied()) };
        TlogProof::new(index, path, head.sign(&[&log_key()]))
    }

    #[test]
    fn the_fact_sheets_proof() {
        let proof = TlogProof::parse(VECTOR.as_bytes()).unwrap();
        assert_eq!((proof.to_text().as_str(), proof.index(), proof.extra()), (VECTOR, 7, Some(&b"hi"[..])));
        assert_eq!(proof.verify(&leaf_hash(b"leaf-7"), &trusted()).unwrap().head().size, 13);
        let witness = "witness.example/w1+04d2d833+BD1AF8PoQ4lakrcKp00bfrycmCzPLsSWjMDNVfEq9GYM".parse().unwrap();
        let both = [trusted()[0].clone(), witness];
        assert_eq!(proof.verify(&leaf_hash(b"leaf-7"), &both).unwrap().signers().len(), 2);
        let alone = &both[1..];
        let unsigned = TlogProofError::Checkpoint(NoteError::Unknown);
        assert_eq!(proof.verify(&leaf_hash(b"leaf-7"), alone), Err(unsigned), "a witness alone does not do");
        assert_eq!(proof.verify(&leaf_hash(b"leaf-8"), &trusted()), Err(TlogProofError::Path { index: 7 }));
        let ours = made(7, 13);
        assert_eq!(ours.path(), proof.path());
        assert!(VECTOR.starts_with(&ours.with_extra(b"hi".to_vec()).to_text()));
    }

    #[test]
    fn other_spellings_are_refused() {
        for (from, to) in [
            ("@v1", "@v0"),
            ("extra aGk=", "extra aGk"),
            ("extra aGk=", "extra aGl="),
            ("extra aGk=", "extra"),
            ("extra aGk=", "extra aGk=\nextra aGk="),
            ("extra aGk=\nindex 7", "index 7\nextra aGk="),
            ("index 7", "index 07"),
            ("index 7", "index +7"),
            ("index 7", "index  7"),
            ("index 7\n", ""),
            ("index 7", "index 18446744073709551616"),
            ("index 7\n", "index 7\r\n"),
            ("Ck0=\n", "Ck0\n"),
            ("Ck0=\n", "Ck1=\n"),
            ("Ck0=\n", "Ck0= \n"),
            ("W2Q=\n\n", "W2Q=\n"),
        ] {
            let text = VECTOR.replacen(from, to, 1);
            let read = TlogProof::parse(text.as_bytes()).and_then(|p| p.verify(&leaf_hash(b"leaf-7"), &trusted()));
            assert!(read.is_err(), "{from:?} as {to:?}");
        }
        let newer = VECTOR.replacen("@v1", "@v2", 1);
        assert_eq!(TlogProof::parse(newer.as_bytes()), Err(TlogProofError::Newer));
        let long = VECTOR.replacen("index 7\n", &format!("index 7\n{}", format!("{}\n", Hash([0; 32])).repeat(61)), 1);
        assert!(matches!(TlogProof::parse(long.as_bytes()), Err(TlogProofError::Malformed(_))));
        // The empty line ends the proof even when the path is empty; a blank more belongs to the checkpoint.
        let padded = VECTOR.replacen("W2Q=\n\n", "W2Q=\n\n\n", 1);
        let read = TlogProof::parse(padded.as_bytes()).unwrap().verify(&leaf_hash(b"leaf-7"), &trusted());
        assert!(matches!(read, Err(TlogProofError::Checkpoint(NoteError::Malformed(_)))), "{read:?}");
    }

    proptest! {
        #[test]
        fn proofs_round_trip_and_hold_for_their_leaf_alone(size in 1u64..80, at in 0u64..80, extra in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20))) {
            let index = at % size;
            let proof = extra.into_iter().fold(made(index, size), TlogProof::with_extra);
            prop_assert_eq!(&TlogProof::parse(proof.to_text().as_bytes()).unwrap(), &proof);
            let leaves = leaves(size);
            prop_assert!(proof.verify(&leaves[index as usize], &trusted()).is_ok());
            let other = (index + 1) % size;
            prop_assert!(other == index || proof.verify(&leaves[other as usize], &trusted()).is_err());
        }

        #[test]
        fn one_flipped_bit_is_found(position in any::<prop::sample::Index>(), bit in 0u8..8) {
            // The extra line is the one thing that nothing protects.
            let mut bytes = made(7, 13).to_text().into_bytes();
            let at = position.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let read = TlogProof::parse(&bytes).and_then(|p| p.verify(&leaf_hash(b"leaf-7"), &trusted()));
            prop_assert!(read.is_err());
        }

        #[test]
        fn what_parses_is_written_back(bytes in proptest::collection::vec(any::<u8>(), 0..200), tail in "(extra |index )?[ -~\n]{0,120}") {
            for bytes in [bytes, format!("{TLOG_PROOF_TAG}\n{tail}").into_bytes()] {
                if let Ok(proof) = TlogProof::parse(&bytes) {
                    prop_assert_eq!(proof.to_text().into_bytes(), bytes);
                }
            }
        }
    }
}
