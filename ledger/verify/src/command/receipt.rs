//! `piperoll-verify receipt`: what the receipt of an accepted batch proves, and a narrower one to hand on.
//!
//! Not here: the positions of events, which stand in the answer that the receipt came with. Invariant: a receipt is
//! narrowed only after it held.

use super::{Common, keys_for};
use crate::error::{Usage, VerifyError};
use crate::input;
use crate::json::Json;
use crate::report::Answer;
use clap::Args;
use ledger::checkpoint::StreamHead;
use ledger::group::Durability;
use ledger::receipt::{Receipt, ReceiptError, VerifiedReceipt};

/// What this command checks.
pub const KIND: &str = "receipt";

/// Check the receipt of an accepted batch
///
/// A receipt proves that the heads of the streams that it names are under a signed checkpoint of the store's log.
/// An event that the answer gave sequence 12 is covered when the receipt names its stream with a size above 12.
#[derive(Debug, Args)]
#[command(after_help = "\
Example (jq -j, not -r: a line feed more would be another file):
  jq -j .receipt answer.json > batch.receipt
  piperoll-verify receipt batch.receipt --key 'demo/_main/log/0+3f21c8aa+AV…'

To hand one tenant its own part, with the other tenants shown as hashes only:
  piperoll-verify receipt batch.receipt --key … --narrow demo/acme/audit/0 > acme.receipt")]
pub struct Arguments {
    /// The receipt; - reads standard input
    #[arg(value_name = "FILE")]
    file: String,
    /// Print the same receipt for this stream alone; what it proves is told on standard error
    #[arg(long, value_name = "ORIGIN")]
    narrow: Option<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Arguments {
    /// Whether a narrower receipt is to be printed.
    pub fn narrows(&self) -> bool {
        self.narrow.is_some()
    }
}

/// Runs the command.
///
/// # Errors
/// The file is no receipt, nobody known signed its checkpoint, or it does not lead there.
pub fn run(arguments: &Arguments) -> Result<Answer, VerifyError> {
    let bytes = input::read(&arguments.file, input::DOCUMENT_BYTES)?;
    let path = input::shown(&arguments.file);
    let parsed = match Receipt::parse(&bytes) {
        Ok(_) if bytes.ends_with(b"\n\n") => {
            Err(ReceiptError::Malformed("it ends in an empty line; was it saved by jq -r? use jq -j"))
        }
        parsed => parsed,
    };
    let receipt = parsed.map_err(|error| VerifyError::receipt(path, KIND, error, vec![]))?;
    let text = receipt.to_text();
    let trust = arguments.common.trust()?;
    let (keys, lines) = keys_for(&trust, text.split_once("\n\n").map_or("", |(_, checkpoint)| checkpoint));
    let verify = |receipt: &Receipt| {
        receipt.verify(&keys).map_err(|error| VerifyError::receipt(path, KIND, error, lines.clone()))
    };
    let mut verified = verify(&receipt)?;
    let Some(wanted) = &arguments.narrow else {
        return Ok(answer(&verified, trust.signers(verified.checkpoint.signers())));
    };
    if !verified.heads.iter().any(|head| head.origin == *wanted) {
        let named = verified.heads.iter().map(|head| head.origin.clone()).collect();
        return Err(Usage::NotNamed { wanted: wanted.clone(), named }.into());
    }
    let narrowed = receipt.narrow(|origin| origin == wanted);
    verified = verify(&narrowed)?;
    let signers = trust.signers(verified.checkpoint.signers());
    Ok(answer(&verified, signers).with_text("receipt", narrowed.to_text()))
}

fn answer(verified: &VerifiedReceipt, signers: Vec<crate::trust::Signer>) -> Answer {
    let log = verified.checkpoint.head();
    let meaning = match verified.durability {
        Durability::Wal => "wal (on the writer's local disk, synced)",
        Durability::Object => "object (in the object store)",
    };
    let head = |head: &StreamHead| {
        Json::object([
            ("origin", head.origin.as_str().into()),
            ("size", head.size.into()),
            ("root", head.root.to_base64().into()),
        ])
    };
    let covered = |head: &StreamHead| match head.size {
        0 => format!("{}  no entries", head.origin),
        size => format!("{}  sequence 0 to {}", head.origin, size - 1),
    };
    Answer::of(KIND, signers)
        .shown_as("covers", Json::List(verified.heads.iter().map(head).collect()), verified.heads.iter().map(covered).collect())
        .shown_as("durability", verified.durability.as_str().into(), vec![meaning.into()])
        .fact("epoch", verified.epoch)
        .fact("log", log.origin.as_str())
        .fact("log size", log.size)
        .proves(format!(
            "the signer committed, in the store log {} of {} groups, to these streams with all their entries up to here",
            log.origin, log.size
        ))
        .proves("durability and epoch, as the signer states them")
        .leaves_open("which event stands where: the answer that came with the receipt says so, and `inclusion` proves it")
        .leaves_open("what came later: a log that is lost after this is a declared break, which `piperoll verify` names")
}
