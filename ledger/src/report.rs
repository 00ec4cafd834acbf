//! Signed reports: a note that names the hash of an answer, so that it can be shown to others (FORMAT.md §7).
//!
//! Not here: what an answer says. Invariants: a text has one spelling; what is signed is the hash of the very bytes that
//! were given out.

use crate::key::LedgerKey;
use crate::name::LedgerName;
use crate::note::{self, Note, NoteError};
use crate::{Hash, VerifierKey, time};

/// First line of the text: name and version of the form.
pub const REPORT_TAG: &str = "piperoll-report/v1";

/// A report's note cannot be read or believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The text is no note of a report.
    #[error("not the note of a report: {0}")]
    Malformed(&'static str),
    /// It is not signed by the ledger.
    #[error("the note of the report does not verify")]
    Note(#[source] NoteError),
}

/// What a signed report says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportNote {
    /// What kind of report: letters and hyphens.
    pub kind: String,
    /// When it was made, in microseconds since 1970-01-01 UTC.
    pub time: i64,
    /// The hash of its bytes.
    pub sha256: Hash,
}

/// The name that a ledger's reports are signed under.
fn signed_under(ledger: &LedgerName) -> String {
    format!("{ledger}/_reports")
}

impl ReportNote {
    /// The text that is signed.
    pub fn to_text(&self) -> String {
        let Self { kind, time, sha256 } = self;
        format!("{REPORT_TAG}\nkind {kind}\ntime {}\nsha256 {}\n", time::format_micros(*time), sha256.to_hex())
    }

    /// The signed note.
    pub fn sign(&self, ledger: &LedgerName, keys: &[&LedgerKey]) -> String {
        note::sign(&self.to_text(), &signed_under(ledger), keys)
    }

    /// Reads a note that one of the ledger's keys signed.
    ///
    /// # Errors
    /// It is malformed, or nobody trusted signed it.
    pub fn open(bytes: &[u8], ledger: &LedgerName, keys: &[VerifierKey]) -> Result<Self, ReportError> {
        let trusted: Vec<VerifierKey> = keys.iter().map(|key| key.under(&signed_under(ledger))).collect();
        let note = Note::parse(bytes).and_then(|note| note.verify(&trusted)).map_err(ReportError::Note)?;
        Self::parse(note.text())
    }

    fn parse(text: &str) -> Result<Self, ReportError> {
        let malformed = ReportError::Malformed;
        let mut lines = text.lines();
        (lines.next() == Some(REPORT_TAG))
            .then_some(())
            .ok_or(malformed("it does not begin with piperoll-report/v1"))?;
        let mut valued = |word: &str| lines.next()?.strip_prefix(word)?.strip_prefix(' ');
        let kind = valued("kind").ok_or(malformed("it has no kind"))?.to_string();
        let time = valued("time").and_then(|text| time::parse_micros(text).ok()).ok_or(malformed("it has no time"))?;
        let sha256 = valued("sha256").and_then(Hash::from_hex).ok_or(malformed("it has no hash"))?;
        let read = Self { kind, time, sha256 };
        if read.to_text() == text { Ok(read) } else { Err(malformed("it is not in its one spelling")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_back_and_nothing_else_does() {
        let ledger: LedgerName = "example".parse().unwrap();
        let key = LedgerKey::from_secret(&[7; 32]);
        let report = ReportNote { kind: "residency".into(), time: 1_786_699_613_589_793, sha256: Hash::of(b"{}") };
        let signed = report.sign(&ledger, &[&key]);
        let keys = [key.verifier("example")];
        assert_eq!(ReportNote::open(signed.as_bytes(), &ledger, &keys).unwrap(), report);
        let other = LedgerKey::from_secret(&[8; 32]).verifier("example");
        assert!(matches!(ReportNote::open(signed.as_bytes(), &ledger, &[other]), Err(ReportError::Note(_))));
        assert!(ReportNote::open(signed.as_bytes(), &"other".parse().unwrap(), &keys).is_err());
        let changed = signed.replace("residency", "residence");
        assert!(ReportNote::open(changed.as_bytes(), &ledger, &keys).is_err());
        for text in ["", "piperoll-report/v2\n", "piperoll-report/v1\nkind a\ntime 2026-01-01T00:00:00Z\n"] {
            assert!(ReportNote::parse(text).is_err(), "{text}");
        }
        let sloppy =
            report.to_text().replace("time 2026-08-14T09:26:53.589793Z", "time 2026-08-14T11:26:53.589793+02:00");
        assert_eq!(ReportNote::parse(&sloppy), Err(ReportError::Malformed("it is not in its one spelling")));
    }
}
