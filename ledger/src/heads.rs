//! Heads kept elsewhere: what a store's writer puts, signed, where it may not delete (FORMAT.md §7).
//!
//! Whoever holds such a note can show that a stream, or the store log, was rolled back behind it or replaced. Not
//! here: when one is made and where it is kept (`ledger-store`).
//!
//! Invariants: a text has one spelling; [`KeptHeads::open`] answers only what the store log's own key signed.

use crate::checkpoint::StreamHead;
use crate::key::{LedgerKey, VerifierKey, is_key_name};
use crate::note::{self, Note, NoteError};
use crate::text;
use crate::time;
use crate::tree::Hash;
use std::fmt::Write as _;

/// First line of the text: name and version of the form.
pub const HEADS_TAG: &str = "piperoll-heads/v1";

/// A note of kept heads cannot be read or believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadsError {
    /// The text is no note of kept heads.
    #[error("not a note of kept heads: {0}")]
    Malformed(&'static str),
    /// A later version of the form.
    #[error("written in a newer format than {HEADS_TAG}; upgrade to read it")]
    Newer,
    /// It is not signed by the ledger.
    #[error("the note of kept heads does not verify")]
    Note(#[source] NoteError),
}

/// What a store's heads were at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptHeads {
    /// When, in microseconds since 1970-01-01 UTC.
    pub time: i64,
    /// The store log's head.
    pub log: StreamHead,
    /// How far the store log had been put into the store, when it had.
    pub flushed: Option<(u64, Hash)>,
    /// Streams that had moved: all that was durable. Ascending by origin.
    pub durable: Vec<StreamHead>,
    /// Streams that had moved: what the store's commits held. Ascending by origin.
    pub sealed: Vec<StreamHead>,
}

impl KeptHeads {
    /// The text that is signed.
    pub fn to_text(&self) -> String {
        let log = &self.log;
        let mut out = format!("{HEADS_TAG}\ntime {}\n", time::format_micros(self.time));
        let _ = writeln!(out, "log {} {} {}", log.origin, log.size, log.root);
        if let Some((size, root)) = &self.flushed {
            let _ = writeln!(out, "flushed {size} {root}");
        }
        for (word, heads) in [("durable", &self.durable), ("sealed", &self.sealed)] {
            for head in heads {
                let _ = writeln!(out, "{word} {} {} {}", head.origin, head.size, head.root);
            }
        }
        out
    }

    /// Parses what [`KeptHeads::to_text`] writes, and nothing else.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(given: &str) -> Result<Self, HeadsError> {
        let malformed = HeadsError::Malformed;
        let mut lines = given.lines().peekable();
        match lines.next() {
            Some(HEADS_TAG) => {}
            Some(other) if other.starts_with("piperoll-heads/v") => return Err(HeadsError::Newer),
            _ => return Err(malformed("it does not begin with piperoll-heads/v1")),
        }
        let time = lines.next().and_then(|line| line.strip_prefix("time ")).and_then(|t| time::parse_micros(t).ok());
        let time = time.ok_or(malformed("it has no time"))?;
        let log = lines.next().and_then(|line| line.strip_prefix("log ")).and_then(head);
        let log = log.ok_or(malformed("it has no head of the store log"))?;
        let flushed = lines.next_if(|line| line.starts_with("flushed "));
        let flushed = flushed.map(|line| line["flushed ".len()..].split_once(' ').and_then(|(s, r)| sized(s, r)));
        let flushed = flushed.map(|found| found.ok_or(malformed("a malformed line `flushed`"))).transpose()?;
        let (mut durable, mut sealed) = (Vec::new(), Vec::new());
        for line in lines {
            let (heads, rest): (&mut Vec<StreamHead>, _) = match line.split_once(' ') {
                Some(("durable", rest)) => (&mut durable, rest),
                Some(("sealed", rest)) => (&mut sealed, rest),
                _ => return Err(HeadsError::Newer),
            };
            heads.push(head(rest).ok_or(malformed("a malformed head of a stream"))?);
        }
        let read = Self { time, log, flushed, durable, sealed };
        let ascending = |heads: &[StreamHead]| heads.is_sorted_by(|a, b| a.origin < b.origin);
        if !ascending(&read.durable) || !ascending(&read.sealed) {
            return Err(malformed("its streams do not ascend by origin, each once"));
        }
        if read.to_text() == given { Ok(read) } else { Err(malformed("it is spelled in another way")) }
    }

    /// Signs the text under the store log's origin: the caller holds that all of it is durable.
    pub fn sign(&self, keys: &[&LedgerKey]) -> String {
        note::sign(&self.to_text(), &self.log.origin, keys)
    }

    /// Parses and verifies a note, with the ledger's keys under whatever name.
    ///
    /// # Errors
    /// The note is malformed or not signed by one of these keys under the store log's origin.
    pub fn open(bytes: &[u8], trusted: &[VerifierKey]) -> Result<Self, HeadsError> {
        let note = Note::parse(bytes).map_err(HeadsError::Note)?;
        let heads = Self::parse(note.text())?;
        let trusted: Vec<VerifierKey> = trusted.iter().map(|key| key.under(&heads.log.origin)).collect();
        note.verify(&trusted).map_err(HeadsError::Note)?;
        Ok(heads)
    }
}

fn sized(size: &str, root: &str) -> Option<(u64, Hash)> {
    Some((text::decimal(size)?, Hash::from_base64(root)?))
}

fn head(line: &str) -> Option<StreamHead> {
    let mut parts = line.split(' ');
    let (origin, size, root) = (parts.next()?, parts.next()?, parts.next()?);
    let (size, root) = sized(size, root)?;
    (is_key_name(origin) && parts.next().is_none()).then(|| StreamHead { origin: origin.into(), size, root })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::log_key;

    fn kept() -> KeptHeads {
        let root = Hash::of(b"root");
        let head = |origin: &str, size| StreamHead { origin: origin.into(), size, root };
        KeptHeads {
            time: 1_790_000_000_500_000,
            log: head("example/_main/log/0", 17),
            flushed: Some((12, root)),
            durable: vec![head("example/acme/audit/0", 500), head("example/globex/audit/0", 3)],
            sealed: vec![head("example/acme/audit/0", 300)],
        }
    }

    #[test]
    fn a_note_opens_under_the_ledgers_key_only() {
        let signed = kept().sign(&[&log_key()]);
        let own = log_key().verifier("whatever");
        assert_eq!(KeptHeads::open(signed.as_bytes(), std::slice::from_ref(&own)).unwrap(), kept());
        let other = LedgerKey::from_secret(&[9; 32]).verifier("whatever");
        assert_eq!(KeptHeads::open(signed.as_bytes(), &[other]), Err(HeadsError::Note(NoteError::Unknown)));
        let changed = signed.replace("300", "301");
        assert!(matches!(KeptHeads::open(changed.as_bytes(), &[own]), Err(HeadsError::Note(_))));
        let few = KeptHeads { flushed: None, durable: vec![], sealed: vec![], ..kept() };
        assert_eq!(KeptHeads::parse(&few.to_text()).unwrap(), few);
    }

    #[test]
    fn a_text_has_one_spelling() {
        let text = kept().to_text();
        for bad in [
            text.replace("log example", "log  example"),
            text.replace("durable example/acme/audit/0 500", "durable example/acme/audit/0 0500"),
            text.replace("flushed 12", "flushed twelve"),
            text.replace(".500000Z", ".5Z"),
            text.replace("durable example/globex", "durable example/abc"),
            text.replace("\nlog", "\n\nlog"),
            format!("{text}\n"),
            text.trim_end().into(),
            text.replace("sealed", "flushed"),
            String::new(),
        ] {
            assert!(KeptHeads::parse(&bad).is_err(), "{bad}");
        }
        assert_eq!(KeptHeads::parse(&text.replace("heads/v1", "heads/v2")), Err(HeadsError::Newer));
        assert_eq!(KeptHeads::parse(&format!("{text}witness x\n")), Err(HeadsError::Newer));
    }
}
