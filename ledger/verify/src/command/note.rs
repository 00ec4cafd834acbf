//! `piperoll-verify note`: which keys signed a note, and what it says.
//!
//! Not here: what the text means. Invariant: a line of a given key that does not hold fails the whole note.

use super::Common;
use crate::error::VerifyError;
use crate::input;
use crate::report::Answer;
use crate::trust;
use clap::Args;
use ledger::note::Note;

/// What this command checks.
pub const KIND: &str = "note";

/// Check any signed note: which keys signed it, and what it says
///
/// A C2SP signed note is a text, an empty line, and signature lines. Checkpoints and commits are such notes, and
/// have commands of their own that also look at what the text says.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  piperoll-verify note 00000000000000000007 --key 'demo/_main/log/0+3f21c8aa+AV…'")]
pub struct Arguments {
    /// The note; - reads standard input
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Runs the command.
///
/// # Errors
/// The file is no note, or no given key signed it.
pub fn run(arguments: &Arguments) -> Result<Answer, VerifyError> {
    let bytes = input::read(&arguments.file, input::DOCUMENT_BYTES)?;
    let path = input::shown(&arguments.file);
    let note = Note::parse(&bytes).map_err(|error| VerifyError::form(path, "signed note", error))?;
    let trust = arguments.common.trust()?;
    let (lines, keys) = (trust::lines_of(&note), trust.for_note(&note));
    let known = |name: &str, id| keys.iter().any(|key| key.name() == name && key.id() == id);
    let strangers: Vec<String> = note
        .signatures()
        .iter()
        .zip(&lines)
        .filter(|(line, _)| !known(&line.name, line.id))
        .map(|(_, words)| words.clone())
        .collect();
    let verified = note.verify(&keys).map_err(|error| VerifyError::note(path, KIND, error, lines))?;
    let answer = Answer::of(KIND, trust.signers(verified.signers()))
        .proves("each key named above signed exactly this text, byte for byte")
        .leaves_open("when it was signed, and whether what it says is true");
    let answer = match strangers.is_empty() {
        true => answer,
        false => answer.leaves_open(format!("the lines of keys that you did not give: {}", strangers.join(", "))),
    };
    Ok(answer.with_text("text", verified.text().into()))
}
