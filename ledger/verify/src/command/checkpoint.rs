//! `piperoll-verify checkpoint`: whose tree it is, how large, with which root, and who signed that.
//!
//! Not here: whether two checkpoints agree ([`super::consistency`]). Invariant: the log's own key must have signed;
//! witnesses alone do not do.

use super::{Common, open_checkpoint};
use crate::error::VerifyError;
use crate::input;
use crate::report::Answer;
use clap::Args;

/// What this command checks.
pub const KIND: &str = "checkpoint";

/// Check a checkpoint: whose tree it is, how large, with which root
///
/// Keep checkpoints that you have checked: a kept one is what later shows that the history behind it was not
/// replaced (`consistency`, or `piperoll verify --head FILE` on the store's files).
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  curl -s localhost:7117/v1/tenants/acme/audit/checkpoint > acme.checkpoint
  piperoll-verify checkpoint acme.checkpoint --key 'demo/_main/log/0+3f21c8aa+AV…'")]
pub struct Arguments {
    /// The checkpoint; - reads standard input
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Runs the command.
///
/// # Errors
/// The file is no checkpoint, or the log's key among those given did not sign it.
pub fn run(arguments: &Arguments) -> Result<Answer, VerifyError> {
    let bytes = input::read(&arguments.file, input::DOCUMENT_BYTES)?;
    let trust = arguments.common.trust()?;
    let checkpoint = open_checkpoint(&trust, input::shown(&arguments.file), KIND, &bytes)?;
    let head = checkpoint.head();
    Ok(Answer::of(KIND, trust.signers(checkpoint.signers()))
        .fact("origin", head.origin.as_str())
        .fact("size", head.size)
        .fact("root", head.root.to_base64())
        .proves(format!("the signer states that {} had {} entries with this root", head.origin, head.size))
        .leaves_open("when that was stated, and whether another head was shown to somebody else: compare with theirs")
        .leaves_open("what the entries say: `inclusion` checks one, `piperoll verify` all that are in a store's files"))
}
