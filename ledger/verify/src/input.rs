//! Reads the files that the user names, each within a bound.
//!
//! Not here: what a file means. Invariants: nothing is written; memory is bounded by the bound.

use crate::error::VerifyError;
use std::fs::File;
use std::io::Read;

/// Most bytes of a signed document: what `ledger` accepts of a note, and a proof before it.
pub const DOCUMENT_BYTES: u64 = 8 << 20;
/// Most bytes of a pack of commits: twice the largest note, and a line for each.
pub const PACK_BYTES: u64 = 9 << 20;
/// Most bytes of a leaf's data (C2SP tlog-tiles: its length is a `u16`).
pub const LEAF_BYTES: u64 = 65_535;

/// Reads a file; `-` reads standard input.
///
/// # Errors
/// It cannot be read, or is larger than the bound.
pub fn read(path: &str, limit: u64) -> Result<Vec<u8>, VerifyError> {
    let unreadable = |source| VerifyError::Unreadable { path: shown(path).into(), source };
    let mut bytes = Vec::new();
    let read = match path {
        "-" => std::io::stdin().lock().take(limit + 1).read_to_end(&mut bytes),
        path => File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)),
    };
    read.map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(VerifyError::TooLarge { path: shown(path).into(), limit });
    }
    Ok(bytes)
}

/// How a path is named in messages.
pub fn shown(path: &str) -> &str {
    if path == "-" { "standard input" } else { path }
}
