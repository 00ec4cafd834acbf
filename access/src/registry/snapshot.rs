//! A snapshot of the registry: the changes alone, in order, without the many entries that only say who looked.
//!
//! A start reads it and folds what came after it. It is a cache: worth believing because a later entry of the stream names
//! its hash, and because anybody can make it anew from the stream, which `piperoll fsck` does. Not here: when it is
//! written (`book::kept`).
//!
//! Invariant: the same entries give the same bytes.

use super::change::Change;
use super::names::{PrincipalId, When};
use super::{Registry, Stamp};
use ledger::tree::Hash;
use serde::{Deserialize, Serialize};

const FORM: &str = "piperoll-registry/v1";
/// The largest snapshot that is read.
const MOST_BYTES: usize = 1 << 30;

/// A snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the snapshot: {why}")]
pub struct SnapshotError {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    form: String,
    size: u64,
    root: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    seq: u64,
    at: When,
    by: PrincipalId,
    change: Change,
}

/// A snapshot as text: one line that says of what, then one for each change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotText {
    lines: String,
}

impl SnapshotText {
    /// Adds a change.
    pub fn add(&mut self, stamp: &Stamp, change: &Change) {
        let line = Line { seq: stamp.seq, at: When(stamp.at), by: stamp.by.clone(), change: change.clone() };
        // A change was made of JSON, so it can be made JSON.
        self.lines.push_str(&serde_json::to_string(&line).unwrap_or_default());
        self.lines.push('\n');
    }

    /// The bytes, for a tree of this size and root, and their hash.
    pub fn finish(&self, size: u64, root: &Hash) -> (Vec<u8>, Hash) {
        let head = Head { form: FORM.into(), size, root: root.to_base64() };
        let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
        bytes.push(b'\n');
        bytes.extend_from_slice(self.lines.as_bytes());
        let hash = Hash::of(&bytes);
        (bytes, hash)
    }

    /// What a snapshot says it is of: size and root of the stream's tree.
    ///
    /// # Errors
    /// It is none.
    pub fn head_of(bytes: &[u8]) -> Result<(u64, Hash), SnapshotError> {
        let wrong = |why: &str| SnapshotError { line: 1, why: why.into() };
        if bytes.len() > MOST_BYTES {
            return Err(wrong("it is larger than any snapshot that is read"));
        }
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let head: Head = serde_json::from_slice(line).map_err(|e| wrong(&e.to_string()))?;
        if head.form != FORM {
            return Err(wrong("it is of a form that this program does not know"));
        }
        Ok((head.size, Hash::from_base64(&head.root).ok_or_else(|| wrong("the root is no hash"))?))
    }

    /// Reads the lines of a snapshot back, and what they come to.
    ///
    /// # Errors
    /// A line is none, or is out of order.
    pub fn open(bytes: &[u8]) -> Result<(Self, Registry), SnapshotError> {
        let (size, _) = Self::head_of(bytes)?;
        let mut registry = Registry::default();
        let text = std::str::from_utf8(bytes).map_err(|e| SnapshotError { line: 0, why: e.to_string() })?;
        let (_, lines) = text.split_once('\n').unwrap_or_default();
        for (at, line) in lines.lines().enumerate() {
            let wrong = |why: String| SnapshotError { line: at + 2, why };
            let Line { seq, at, by, change } = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
            if seq < registry.size() || seq >= size {
                return Err(wrong(format!("entry {seq} is out of order")));
            }
            registry.apply(Stamp { seq, at: at.0, by, reason: String::new() }, &change);
        }
        registry.pass(size.saturating_sub(1));
        Ok((Self { lines: lines.into() }, registry))
    }
}
