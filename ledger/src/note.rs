//! C2SP signed notes: text, an empty line, signature lines. Written plainly, parsed strictly.
//!
//! Checkpoints, commits and the body of a receipt are notes. Not here: what a note's text means.
//!
//! Invariants: a [`Note`] that parsed has text ending in one line feed and no empty last line; a
//! [`VerifiedNote`] carries at least one valid signature of a key that the caller named, and none that
//! is known and invalid. Nothing depends on leniency of other implementations.

use crate::key::{KeyId, LedgerKey, VerifierKey, is_key_name};
use crate::text;

/// Most bytes a note may have: a commit of some 10,000 segments.
pub const NOTE_BYTES: usize = 4 * 1_024 * 1_024;
/// Most signature lines that are read.
pub const SIGNATURE_LINES: usize = 64;

/// A note is malformed or nobody known signed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The bytes are no signed note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// A key that the caller trusts is named, but its signature does not hold.
    #[error("the signature of {0} is invalid: the text was changed or was never signed by that key")]
    BadSignature(String),
    /// No signature of a key that the caller trusts.
    #[error("no signature of a known key")]
    Unknown,
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine {
    /// Under which name.
    pub name: String,
    /// The key id it claims.
    pub id: KeyId,
    /// What follows the key id.
    pub payload: Vec<u8>,
}

/// A note as it came: well-formed, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<SignatureLine>,
}

impl Note {
    /// Parses a note.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] says what is wrong with its form.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        let malformed = |why| Err(NoteError::Malformed(why));
        if bytes.len() > NOTE_BYTES {
            return malformed("larger than 4 MiB");
        }
        let Ok(all) = std::str::from_utf8(bytes) else { return malformed("not UTF-8") };
        if all.bytes().any(|b| (b < 0x20 && b != b'\n') || b == 0x7f) {
            return malformed("holds a control character other than line feed");
        }
        if !all.ends_with('\n') {
            return malformed("does not end in a line feed");
        }
        let Some(gap) = all.rfind("\n\n") else { return malformed("has no empty line before its signatures") };
        let (text, lines) = (&all[..=gap], &all[gap + 2..]);
        if text.trim_matches('\n').is_empty() || text.ends_with("\n\n") {
            return malformed("its text is empty or ends in an empty line");
        }
        let signatures = lines.lines().map(signature_line).collect::<Option<Vec<_>>>();
        match signatures {
            Some(lines) if lines.is_empty() => malformed("has no signature"),
            Some(lines) if lines.len() > SIGNATURE_LINES => malformed("has more than 64 signatures"),
            Some(signatures) => Ok(Self { text: text.into(), signatures }),
            None => malformed("a signature line is not '\u{2014} name base64'"),
        }
    }

    /// The signed text, with its last line feed. Not verified.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines. Not verified.
    pub fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }

    /// Verifies against the keys that the caller trusts.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] when a trusted key's line does not hold, [`NoteError::Unknown`] when
    /// no line is of a trusted key.
    pub fn verify(self, trusted: &[VerifierKey]) -> Result<VerifiedNote, NoteError> {
        let mut signers: Vec<VerifierKey> = Vec::new();
        for line in &self.signatures {
            let Some(key) = trusted.iter().find(|key| key.name() == line.name && key.id() == line.id) else { continue };
            if !key.verifies(&self.text, &line.payload) {
                return Err(NoteError::BadSignature(line.name.clone()));
            }
            if !signers.contains(key) {
                signers.push(key.clone());
            }
        }
        if signers.is_empty() { Err(NoteError::Unknown) } else { Ok(VerifiedNote { text: self.text, signers }) }
    }
}

fn signature_line(line: &str) -> Option<SignatureLine> {
    let (name, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = text::decode(encoded)?;
    let (id, payload) = bytes.split_first_chunk::<4>()?;
    let whole = is_key_name(name) && !payload.is_empty();
    whole.then(|| SignatureLine { name: name.into(), id: *id, payload: payload.into() })
}

/// A note's text and which of the trusted keys signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedNote {
    text: String,
    signers: Vec<VerifierKey>,
}

impl VerifiedNote {
    /// The text that was signed, with its last line feed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The trusted keys whose signatures hold, each once, in the order of their lines.
    pub fn signers(&self) -> &[VerifierKey] {
        &self.signers
    }
}

/// Signs `text` under `name` with each key, once: more than one while keys rotate.
pub fn sign(text: &str, name: &str, keys: &[&LedgerKey]) -> String {
    debug_assert!(text.ends_with('\n') && !text.ends_with("\n\n"));
    let mut lines: Vec<String> = Vec::with_capacity(keys.len());
    for key in keys {
        let line = key.signature_line(name, text);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    format!("{text}\n{}", lines.concat())
}

#[cfg(test)]
pub(crate) mod tests;
