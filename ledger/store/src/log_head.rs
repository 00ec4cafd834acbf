//! Signed heads of the store log with their right edge, and the other records beside them, as text.
//!
//! Not here: who writes them ([`crate::seal`], [`crate::recover`]), who checks them ([`crate::fsck`]).
//! Invariant: each has one spelling; a head that was read folds to its root.

use crate::error::StoreError;
use ledger::key::VerifierKey;
use ledger::note::Note;
use ledger::tree::{Edge, Hash};

/// The format that this program writes and the newest that it reads.
pub(crate) const FORMAT: &str = "piperoll-store/v1";

/// The signed text that says how far the store log was flushed: a head and its edge.
pub(crate) fn head_text(origin: &str, edge: &Edge) -> String {
    let mut text = format!("piperoll-log/v1\norigin {origin}\nhead {} {}\n", edge.size(), edge.root());
    edge.nodes().iter().for_each(|node| text.push_str(&format!("edge {node}\n")));
    text
}

/// Reads a signed head of this size.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read_head(bytes: &[u8], size: u64, trusted: &VerifierKey) -> Result<Edge, &'static str> {
    let note = Note::parse(bytes).and_then(|note| note.verify(std::slice::from_ref(trusted)));
    let note = note.map_err(|_| "the flushed head of the store log is not signed by this ledger's key")?;
    let nodes: Option<Vec<Hash>> =
        note.text().lines().filter_map(|line| line.strip_prefix("edge ")).map(Hash::from_base64).collect();
    let edge = Edge::from_parts(size, nodes.unwrap_or_default());
    let edge = edge.map_err(|_| "the flushed head of the store log has a malformed edge")?;
    if head_text(trusted.name(), &edge) == note.text() {
        Ok(edge)
    } else {
        Err("the flushed head of the store log does not fold to its root")
    }
}

/// The record of a store's format, and of the origin of its log.
pub(crate) fn format_text(origin: &str) -> String {
    format!("{FORMAT}\norigin {origin}\n")
}

/// A store of another format is one of a newer program: there was none before the first.
pub(crate) fn newer(error: StoreError) -> StoreError {
    match error {
        StoreError::Foreign { found, .. } if found.starts_with("piperoll-store/v") && !is_ours(&found) => {
            let found = found.split(", ").next().unwrap_or_default().chars().take(64).collect();
            StoreError::Newer { found, reads: FORMAT }
        }
        other => other,
    }
}

fn is_ours(found: &str) -> bool {
    found.strip_prefix(FORMAT).is_some_and(|rest| rest.is_empty() || rest.starts_with(", "))
}

/// The record of the key that signs, under the origin of the store log. Of several, the highest number counts.
pub(crate) fn key_text(key: &VerifierKey) -> String {
    format!("piperoll-log-key/v1\nkey {key}\n")
}

/// The record of the one log that may extend a store. Of several, the highest number counts.
pub(crate) fn owner_text(log_id: &str) -> String {
    format!("piperoll-owner/v1\nlog {log_id}\n")
}

/// The record of a writer's epoch.
pub(crate) fn epoch_text(epoch: u64) -> String {
    format!("piperoll-epoch/v1\nepoch {epoch}\n")
}
