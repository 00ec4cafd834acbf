//! The commands, one file each, and what they share: the keys, `--json`, and how a checkpoint is opened.
//!
//! Not here: what is shown how ([`crate::report`]). Invariant: each command answers with what holds, or with why
//! there is no such answer.

mod bundle;
mod checkpoint;
mod commit;
mod consistency;
mod inclusion;
mod note;
mod receipt;

use crate::error::VerifyError;
use crate::input;
use crate::report::Answer;
use crate::trust::{self, Trust};
use clap::{Args, Subcommand};
use ledger::checkpoint::Checkpoint;
use ledger::handover::Handover;
use ledger::key::VerifierKey;
use ledger::note::Note;

/// What to check.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check an evidence bundle: each file, each entry, and that nothing of its range is missing
    Bundle(bundle::Arguments),
    /// Check any signed note: which keys signed it, and what it says
    Note(note::Arguments),
    /// Check a checkpoint: whose tree it is, how large, with which root
    Checkpoint(checkpoint::Arguments),
    /// Check that one entry is in a tree (C2SP tlog-proof)
    Inclusion(inclusion::Arguments),
    /// Check that an earlier tree is the beginning of a later one: nothing was changed or removed
    Consistency(consistency::Arguments),
    /// Check the receipt of an accepted batch
    Receipt(receipt::Arguments),
    /// Check the commits of a stream, in order: the chain of its segments
    Commit(commit::Arguments),
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// A public key that you trust, as name+id+key; may be given more than once
    #[arg(long = "key", value_name = "VKEY", required = true)]
    keys: Vec<VerifierKey>,
    /// A record by which one key handed over to another (the service gives them out at /v1/keys): who trusts one of the two
    /// trusts both; may be given more than once
    #[arg(long = "handover", value_name = "FILE")]
    handovers: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Common {
    fn trust(&self) -> Result<Trust, VerifyError> {
        let mut handovers = Vec::new();
        for path in &self.handovers {
            let read = Handover::open(&input::read(path, input::DOCUMENT_BYTES)?);
            handovers.push(read.map_err(|error| VerifyError::form(path, "handover", error))?);
        }
        Ok(Trust::new(self.keys.clone()).following(handovers))
    }
}

impl Command {
    /// What the command checks, as its answers name it.
    pub fn document(&self) -> &'static str {
        match self {
            Self::Bundle(_) => crate::bundle::KIND,
            Self::Note(_) => note::KIND,
            Self::Checkpoint(_) => checkpoint::KIND,
            Self::Inclusion(_) => inclusion::KIND,
            Self::Consistency(_) => consistency::KIND,
            Self::Receipt(_) => receipt::KIND,
            Self::Commit(_) => commit::KIND,
        }
    }

    /// Whether JSON was asked for.
    pub fn json(&self) -> bool {
        match self {
            Self::Bundle(arguments) => arguments.json,
            Self::Note(arguments) => arguments.common.json,
            Self::Checkpoint(arguments) => arguments.common.json,
            Self::Inclusion(arguments) => arguments.common.json,
            Self::Consistency(arguments) => arguments.common.json,
            Self::Receipt(arguments) => arguments.common.json,
            Self::Commit(arguments) => arguments.common.json,
        }
    }

    /// Whether a document was asked for, to be kept in a file.
    pub fn wants_text(&self) -> bool {
        matches!(self, Self::Receipt(arguments) if arguments.narrows())
    }

    /// Runs it.
    ///
    /// # Errors
    /// Why there is no "it holds".
    pub fn run(self) -> Result<Answer, VerifyError> {
        match self {
            Self::Bundle(arguments) => bundle::run(&arguments),
            Self::Note(arguments) => note::run(&arguments),
            Self::Checkpoint(arguments) => checkpoint::run(&arguments),
            Self::Inclusion(arguments) => inclusion::run(&arguments),
            Self::Consistency(arguments) => consistency::run(&arguments),
            Self::Receipt(arguments) => receipt::run(&arguments),
            Self::Commit(arguments) => commit::run(&arguments),
        }
    }
}

/// The keys that may be believed for a note somewhere in a document, and its signature lines for messages.
/// What is no note has neither; the check itself will say so.
fn keys_for(trust: &Trust, note: &str) -> (Vec<VerifierKey>, Vec<String>) {
    match Note::parse(note.as_bytes()) {
        Ok(note) => (trust.for_note(&note), trust::lines_of(&note)),
        Err(_) => (vec![], vec![]),
    }
}

/// Opens a checkpoint, with the signer that is named as its origin first among its signers.
fn open_checkpoint(trust: &Trust, path: &str, kind: &'static str, bytes: &[u8]) -> Result<Checkpoint, VerifyError> {
    let parsed = Note::parse(bytes).map_err(|error| VerifyError::form(path, kind, error))?;
    let lines = trust::lines_of(&parsed);
    let keys = trust.for_note(&parsed);
    Checkpoint::open(bytes, &keys).map_err(|error| VerifyError::note(path, kind, error, lines))
}
