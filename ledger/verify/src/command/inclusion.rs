//! `piperoll-verify inclusion`: that one entry is in the tree of a signed checkpoint.
//!
//! Not here: making a leaf from an event's row (FORMAT.md of `ledger`). Invariant: the leaf comes from the caller,
//! never from the proof.

use super::{Common, keys_for};
use crate::error::VerifyError;
use crate::input;
use crate::report::Answer;
use clap::Args;
use ledger::tlog_proof::{TlogProof, TlogProofError};
use ledger::tree::{Hash, leaf_hash};

/// What this command checks.
pub const KIND: &str = "inclusion proof";

/// Check that one entry is in a tree (C2SP tlog-proof)
///
/// The proof holds a position, hashes and a signed checkpoint. What it proves something about is the leaf, which
/// you bring: as its hash, or as its data. FORMAT.md of the ledger says how a leaf is made from an entry.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  curl -s 'localhost:7117/v1/tenants/acme/audit/proof/inclusion?seq=12' > 12.tlog-proof
  piperoll-verify inclusion 12.tlog-proof --leaf-hash 'iH2pXn6i…=' --key 'demo/_main/log/0+3f21c8aa+AV…'")]
pub struct Arguments {
    /// The proof; - reads standard input
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    leaf: Leaf,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Leaf {
    /// The entry's leaf hash
    #[arg(long, value_name = "BASE64", value_parser = hash)]
    leaf_hash: Option<Hash>,
    /// A file with the leaf's data, which is hashed here
    #[arg(long = "leaf", value_name = "FILE")]
    leaf_data: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("must be 32 bytes in base64, 44 characters with the padding")]
struct NoHash;

fn hash(text: &str) -> Result<Hash, NoHash> {
    Hash::from_base64(text).ok_or(NoHash)
}

impl Leaf {
    fn hash(&self) -> Result<Option<Hash>, VerifyError> {
        let read = |path| input::read(path, input::LEAF_BYTES).map(|data| leaf_hash(&data));
        self.leaf_data.as_deref().map(read).transpose().map(|hashed| hashed.or(self.leaf_hash))
    }
}

/// Runs the command.
///
/// # Errors
/// The file is no proof, nobody known signed its checkpoint, or it does not prove this leaf.
pub fn run(arguments: &Arguments) -> Result<Answer, VerifyError> {
    let bytes = input::read(&arguments.file, input::DOCUMENT_BYTES)?;
    let path = input::shown(&arguments.file);
    let proof = TlogProof::parse(&bytes).map_err(|error| VerifyError::proof(path, KIND, error, vec![]))?;
    let trust = arguments.common.trust()?;
    let (keys, lines) = keys_for(&trust, proof.checkpoint());
    // The arguments' parser demands one of the two.
    let wanted = arguments.leaf.hash()?.ok_or(TlogProofError::Malformed("no leaf was given"));
    let checked = wanted.and_then(|leaf| Ok((leaf, proof.verify(&leaf, &keys)?)));
    let (leaf, checkpoint) = checked.map_err(|error| VerifyError::proof(path, KIND, error, lines))?;
    let head = checkpoint.head();
    let answer = Answer::of(KIND, trust.signers(checkpoint.signers()))
        .fact("origin", head.origin.as_str())
        .fact("seq", proof.index())
        .fact("leaf", leaf.to_base64())
        .fact("size", head.size)
        .fact("root", head.root.to_base64())
        .proves(format!(
            "this leaf stands at sequence {} among the {} entries that the signer states {} to have",
            proof.index(),
            head.size,
            head.origin
        ));
    let answer = match &arguments.leaf.leaf_data {
        Some(_) => answer.proves("the leaf's data is that of the file that you gave"),
        None => {
            answer.leaves_open("which event the leaf hash stands for: recompute it from the entry, as FORMAT.md says")
        }
    };
    let answer = answer.leaves_open("whether other entries were left out: `consistency` compares heads over time");
    Ok(match proof.extra() {
        Some(extra) => {
            answer.leaves_open(format!("the proof's {} extra bytes, which no signature covers", extra.len()))
        }
        None => answer,
    })
}
