//! `piperoll-verify commit`: the commits of a stream, in order, are one chain without gap.
//!
//! Not here: whether segments hold what commits say, which takes a Parquet reader (`piperoll verify`). Invariant: a
//! chain begins at commit 0; a fault names the file.

use super::Common;
use crate::error::{Usage, VerifyError};
use crate::input;
use crate::json::Json;
use crate::report::Answer;
use crate::trust::{self, Signer};
use clap::Args;
use ledger::commit::SegmentRef;
use ledger::note::Note;
use ledger::pack;
use ledger::time::format_micros;
use ledger::tree::Hash;
use ledger::verify::{ChainVerifier, LiveSegment};

/// What this command checks.
pub const KIND: &str = "chain of commits";

/// Check the commits of a stream, in order: the chain of its segments
///
/// Each commit is a signed note that names the SHA-256 of the one before, the segments that it adds and removes,
/// and the head of the stream at its last sealed entry.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  cd store/tenant=acme/stream=audit/_ledger/commits
  piperoll-verify commit pack/* 0* --key 'demo/_main/log/0+3f21c8aa+AV…'

Old commits are packed together, byte for byte; new ones lie by themselves. Either may be named, and both.
Whether the segments hold what the commits say, `piperoll verify` finds out: it reads the Parquet files.")]
pub struct Arguments {
    /// The commits or packs of commits, from number 0 on, in order
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// The number that a commit's text states; its signature is checked elsewhere.
fn stated(text: &str, key: &str) -> Option<String> {
    let value = text.lines().take(5).find_map(|line| line.strip_prefix(key))?;
    value.strip_prefix(' ').map(str::to_string)
}

/// Runs the command.
///
/// # Errors
/// A file cannot be read, or the chain does not hold.
pub fn run(arguments: &Arguments) -> Result<Answer, VerifyError> {
    let trust = arguments.common.trust()?;
    let mut chain: Option<ChainVerifier> = None;
    let mut signers: Vec<Signer> = Vec::new();
    let mut newest = 0;
    let mut hashes: Vec<Hash> = Vec::new();
    for file in &arguments.files {
        let bytes = input::read(file, input::PACK_BYTES)?;
        let path = input::shown(file);
        for bytes in commits_of(path, &bytes)? {
            let note = Note::parse(bytes).map_err(|error| VerifyError::form(path, "commit", error))?;
            let origin = stated(note.text(), "origin").unwrap_or_default();
            let number = stated(note.text(), "number").and_then(|number| number.parse().ok()).unwrap_or(0);
            if chain.is_none() && number > 0 {
                return Err(Usage::NotFromTheFirst { number }.into());
            }
            // While commits are being packed, some are in a pack and by themselves.
            if usize::try_from(number).ok().and_then(|number| hashes.get(number)) == Some(&Hash::of(bytes)) {
                continue;
            }
            let lines = trust::lines_of(&note);
            let chain = chain.get_or_insert_with(|| ChainVerifier::new(&origin, trust.for_origin(&origin)));
            let commit = chain.commit(bytes).map_err(|fault| VerifyError::chain(path, KIND, fault, lines))?;
            newest = commit.commit().time;
            hashes.push(commit.hash());
            // The chain holds, so the note does: which keys it was, once more by name.
            let keys = trust.for_note(&note);
            let signed = note.verify(&keys).map_err(|error| VerifyError::note(path, KIND, error, vec![]))?;
            for signer in trust.signers(signed.signers()) {
                if !signers.contains(&signer) {
                    signers.push(signer);
                }
            }
        }
    }
    // The arguments' parser demands a file.
    chain.map(|chain| answer(&chain, newest, signers)).ok_or(Usage::NotFromTheFirst { number: 0 }.into())
}

/// The commits in a file: one, or those of a pack.
fn commits_of<'b>(path: &str, bytes: &'b [u8]) -> Result<Vec<&'b [u8]>, VerifyError> {
    if !bytes.starts_with(b"piperoll-pack/") {
        return Ok(vec![bytes]);
    }
    let unpacked = pack::unpack(bytes).map_err(|error| VerifyError::form(path, "pack of commits", error))?;
    Ok(unpacked.1)
}

fn segment(held: &LiveSegment) -> (Json, String) {
    let SegmentRef { path, first, span: _, rows, bytes, sha256, root } = &held.segment;
    let last = held.segment.end().saturating_sub(1);
    let json = Json::object([
        ("path", path.as_str().into()),
        ("first", (*first).into()),
        ("last", last.into()),
        ("rows", (*rows).into()),
        ("bytes", (*bytes).into()),
        ("sha256", sha256.to_base64().into()),
        ("root", root.to_base64().into()),
        ("added_by", held.added_by.into()),
    ]);
    let some = if held.segment.is_whole() { String::new() } else { format!("{rows} entries of ") };
    (json, format!("{path}  {some}sequence {first} to {last}, {bytes} bytes, added by commit {}", held.added_by))
}

fn answer(chain: &ChainVerifier, newest: i64, signers: Vec<Signer>) -> Answer {
    let (segments, shown): (Vec<Json>, Vec<String>) = chain.live().map(segment).unzip();
    let size = chain.edge().size();
    let last = chain.last_hash().map_or(Json::Null, |hash| hash.to_base64().into());
    let last_shown = chain.last_hash().map(|hash| hash.to_base64()).into_iter().collect();
    let which = match chain.commits() {
        1 => "commit 0 is".into(),
        commits => format!("commits 0 to {} are", commits - 1),
    };
    let covered = match chain.gone() {
        None => format!("the segments that remain cover the {size} entries of the head without gap or overlap"),
        Some(gone) => format!(
            "of the {size} entries of the head the segments that remain hold {}, and {} were purged, the last of them \
             with commit {}",
            size - gone.entries,
            gone.entries,
            gone.commit
        ),
    };
    let answer = Answer::of(KIND, signers)
        .fact("origin", chain.origin())
        .fact("commits", chain.commits())
        .shown_as("last commit", last, last_shown)
        .fact("recorded to", format_micros(newest))
        .fact("size", size)
        .fact("root", chain.edge().root().to_base64())
        .fact("epoch", chain.epoch())
        .shown_as("segments", Json::List(segments), shown)
        .proves(format!("{which} signed, and each names the hash of the one before"))
        .proves(covered)
        .leaves_open("whether later commits exist: compare the size with a checkpoint of the stream")
        .leaves_open("whether the segments hold what the commits say: `piperoll verify` reads them");
    let answer = match chain.gone() {
        Some(gone) => answer.leaves_open(format!(
            "which entries were purged: {} says it, and must have the SHA-256 {}",
            gone.path(),
            gone.sha256
        )),
        None => answer,
    };
    chain.breaks().iter().fold(answer, |answer, found| {
        let (from, to) = (found.from.generation(), found.to.generation());
        answer.leaves_open(format!(
            "what was acknowledged beyond {} entries in generation {from}: it was declared lost, and generation {to} \
             goes on from there with commit {}; receipts that reach further prove what is missing, and no fork",
            found.size, found.number
        ))
    })
}
