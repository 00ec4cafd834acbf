//! Signed heads of the store log with their right edge, and the other records beside them, as text.
//!
//! Not here: who writes them ([`crate::seal`], [`crate::recover`]), who checks them ([`crate::fsck`]).
//! Invariant: each has one spelling; a head that was read folds to its root.

use ledger::group::Durability;
use ledger::key::VerifierKey;
use ledger::name::Origin;
use ledger::note::Note;
use ledger::tree::{Edge, Hash};
use ledger::version;

/// The format that this program writes and the newest that it reads.
pub(crate) const FORMAT: &str = "piperoll-store/v1";

/// First line of a signed head.
const HEAD_TAG: &str = "piperoll-log/v1";
/// What a line of a signed head may begin with.
const HEAD_WORDS: [&str; 3] = ["origin", "head", "edge"];

/// Why a signed head was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadFault {
    /// It is of a later form.
    #[error("the flushed head of the store log is written in a newer format")]
    Newer,
    /// It does not hold.
    #[error("the flushed head of the store log {0}")]
    Wrong(&'static str),
}

/// What makes a record beside the heads one of a later form than the one that this program writes there, if it is:
/// its version, or a line that only a later form has.
pub(crate) fn newer_record(found: &[u8], ours: &str) -> Option<String> {
    let word = |line: &str| line.split(' ').next().unwrap_or_default().to_string();
    let words: Vec<String> = ours.lines().map(word).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut found = std::str::from_utf8(found).ok()?.lines();
    let (theirs, tag) = (found.next()?, ours.lines().next()?);
    if theirs == tag {
        let unknown = found.find(|line| version::has_newer_word(line, &words))?;
        return Some(format!("this program does not know what its line {:?} means", word(unknown)));
    }
    version::is_newer(theirs, tag).then(|| format!("its format is {theirs}, and this program reads {tag}"))
}

/// The signed text that says how far the store log was flushed: a head and its edge.
pub(crate) fn head_text(origin: &str, edge: &Edge) -> String {
    let mut text = format!("{HEAD_TAG}\norigin {origin}\nhead {} {}\n", edge.size(), edge.root());
    edge.nodes().iter().for_each(|node| text.push_str(&format!("edge {node}\n")));
    text
}

/// Reads a signed head of this size, and who signed it; `trusted` are under its origin.
///
/// # Errors
/// What is wrong with it, or that it is of a later form.
pub(crate) fn read_head(bytes: &[u8], size: u64, trusted: &[VerifierKey]) -> Result<(Edge, VerifierKey), HeadFault> {
    let note = Note::parse(bytes).and_then(|note| note.verify(trusted));
    let note = note.map_err(|_| HeadFault::Wrong("is not signed by this ledger's key"))?;
    let mut lines = note.text().lines();
    let is_newer = match lines.next() {
        Some(HEAD_TAG) => lines.any(|line| version::has_newer_word(line, &HEAD_WORDS)),
        first => first.is_some_and(|tag| version::is_newer(tag, HEAD_TAG)),
    };
    if is_newer {
        return Err(HeadFault::Newer);
    }
    let nodes: Option<Vec<Hash>> =
        note.text().lines().filter_map(|line| line.strip_prefix("edge ")).map(Hash::from_base64).collect();
    let edge = Edge::from_parts(size, nodes.unwrap_or_default());
    let edge = edge.map_err(|_| HeadFault::Wrong("has a malformed edge"))?;
    let signer = note.signers().first().ok_or(HeadFault::Wrong("is signed by nobody"))?;
    if head_text(signer.name(), &edge) == note.text() {
        Ok((edge, signer.clone()))
    } else {
        Err(HeadFault::Wrong("does not fold to its root"))
    }
}

/// Reads a signed head of this size, of the store log's present generation or an earlier one.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read_head_until(
    bytes: &[u8],
    size: u64,
    origin: &Origin,
    keys: impl Fn(&Origin) -> Vec<VerifierKey>,
) -> Result<(Edge, VerifierKey), HeadFault> {
    let stated = bytes.split(|byte| *byte == b'\n').nth(1).and_then(|line| line.strip_prefix(b"origin "));
    let stated = stated.and_then(|text| std::str::from_utf8(text).ok()?.parse::<Origin>().ok());
    let is_earlier = |stated: &Origin| stated.is_same_log(origin) && stated.generation() <= origin.generation();
    let stated = stated.filter(is_earlier).ok_or(HeadFault::Wrong("is of another log"))?;
    read_head(bytes, size, &keys(&stated))
}

/// The record of a store's format, and of the origin of its log.
pub(crate) fn format_text(origin: &str) -> String {
    format!("{FORMAT}\norigin {origin}\n")
}

/// Which log may extend a store, and in which generation. Of several records, the highest number counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Where that log is kept.
    pub durability: Durability,
    /// Its id; `-` where the store itself keeps it.
    pub log: String,
    /// How often the store went on without the log that it had.
    pub generation: u32,
}

/// The tag of such a record and what its lines begin with.
pub(crate) const OWNER_FORM: &str = "piperoll-owner/v1\ndurability\nlog\ngeneration\n";

/// The record of the one log that may extend a store.
pub(crate) fn owner_text(owner: &Owner) -> String {
    let Owner { durability, log, generation } = owner;
    format!("piperoll-owner/v1\ndurability {}\nlog {log}\ngeneration {generation}\n", durability.as_str())
}

/// Reads such a record in its one spelling.
pub(crate) fn read_owner(bytes: &[u8]) -> Option<Owner> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines().skip(1);
    let mut valued = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ');
    let durability = Durability::of(valued("durability")?)?;
    let log = valued("log").filter(|log| !log.is_empty())?.to_string();
    let owner = Owner { durability, log, generation: valued("generation")?.parse().ok()? };
    (owner_text(&owner) == text).then_some(owner)
}

/// The record of a writer's epoch.
pub(crate) fn epoch_text(epoch: u64) -> String {
    format!("piperoll-epoch/v1\nepoch {epoch}\n")
}
