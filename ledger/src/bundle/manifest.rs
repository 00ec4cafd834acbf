//! What a bundle is, and the hash of each of its members, signed by the ledger.
//!
//! Not here: the members. Invariants: one spelling; names of members are plain and ascend.

use super::{BundleError, MEMBERS};
use crate::key::{LedgerKey, VerifierKey};
use crate::name::{LedgerName, StreamKind, TenantId};
use crate::note::{self, Note, NoteError};
use crate::sections::Sections;
use crate::tree::Hash;
use crate::{text, time, version};
use std::fmt::Write as _;

/// First line of the text: name and version of the form.
pub const MANIFEST_TAG: &str = "piperoll-bundle/v1";
/// Name of the member.
pub const MANIFEST: &str = "manifest";
/// Longest text of one of its lines, in bytes.
pub const TEXT_BYTES: usize = 1_024;
const WORDS: [&str; 13] = [
    "id", "ledger", "tenant", "time", "by", "audience", "from", "until", "where", "withheld", "previous", "stream",
    "file",
];

/// One of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name in the archive.
    pub name: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// Their hash.
    pub sha256: Hash,
}

/// A manifest cannot be read or believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is no manifest.
    #[error(transparent)]
    Form(#[from] BundleError),
    /// It is no signed note, or of nobody who is trusted.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// What a bundle says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Of which ledger.
    pub ledger: LedgerName,
    /// Of which tenant.
    pub tenant: TenantId,
    /// When it was made, in microseconds since 1970-01-01 UTC.
    pub time: i64,
    /// Who asked for it.
    pub by: String,
    /// For whom it is.
    pub audience: String,
    /// Entries recorded from then on.
    pub from: Option<i64>,
    /// And before then.
    pub until: Option<i64>,
    /// The condition that entries had to fulfil.
    pub condition: Option<String>,
    /// Sections that are withheld of every entry.
    pub withheld: Sections,
    /// SHA-256 of the manifest of the bundle before it.
    pub previous: Option<Hash>,
    /// The streams in it, ascending.
    pub streams: Vec<StreamKind>,
    /// Every other file, ascending by name.
    pub members: Vec<Member>,
}

/// The name that a ledger's bundles are signed under.
pub fn signed_under(ledger: &LedgerName) -> String {
    format!("{ledger}/_bundles")
}

/// Whether a text may stand on one of the lines.
pub fn is_text(text: &str) -> bool {
    (1..=TEXT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn is_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    (1..=256).contains(&name.len())
        && name.bytes().all(is_plain)
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && name != MANIFEST
}

impl Manifest {
    /// The text that is signed.
    pub fn to_text(&self) -> String {
        let mut out = format!("{MANIFEST_TAG}\nid {}\nledger {}\ntenant {}\n", self.id, self.ledger, self.tenant);
        let mut line = |word: &str, value: &str| {
            let _ = writeln!(out, "{word} {value}");
        };
        line("time", &time::format_micros(self.time));
        line("by", &self.by);
        line("audience", &self.audience);
        for (word, at) in [("from", self.from), ("until", self.until)] {
            at.into_iter().for_each(|at| line(word, &time::format_micros(at)));
        }
        self.condition.iter().for_each(|condition| line("where", condition));
        self.withheld.iter().for_each(|section| line("withheld", section.as_str()));
        self.previous.iter().for_each(|previous| line("previous", &previous.to_hex()));
        self.streams.iter().for_each(|stream| line("stream", stream.as_str()));
        for Member { name, bytes, sha256 } in &self.members {
            line("file", &format!("{} {bytes} {name}", sha256.to_hex()));
        }
        out
    }

    /// The signed note.
    pub fn sign(&self, keys: &[&LedgerKey]) -> String {
        note::sign(&self.to_text(), &signed_under(&self.ledger), keys)
    }

    /// Reads a manifest that a trusted key signed; `trusted` gives the keys that are believed under a name.
    ///
    /// # Errors
    /// It is malformed, of a newer form, or nobody trusted signed it.
    pub fn open(
        bytes: &[u8],
        trusted: impl FnOnce(&str) -> Vec<VerifierKey>,
    ) -> Result<(Self, Vec<VerifierKey>), ManifestError> {
        let note = Note::parse(bytes)?;
        let manifest = Self::parse(note.text())?;
        let verified = note.verify(&trusted(&signed_under(&manifest.ledger)))?;
        Ok((manifest, verified.signers().to_vec()))
    }

    /// Reads what [`Manifest::to_text`] writes, and nothing else.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn parse(given: &str) -> Result<Self, BundleError> {
        let malformed = BundleError::Malformed;
        let mut lines = given.lines().peekable();
        match lines.next() {
            Some(MANIFEST_TAG) => {}
            Some(tag) if version::is_newer(tag, MANIFEST_TAG) => return Err(BundleError::Newer),
            _ => return Err(malformed("the first line is not piperoll-bundle/v1")),
        }
        if lines.clone().any(|line| version::has_newer_word(line, &WORDS)) {
            return Err(BundleError::Newer);
        }
        let mut valued = |word: &str| {
            let is_it = |line: &&str| line.strip_prefix(word).is_some_and(|rest| rest.starts_with(' '));
            lines.next_if(is_it).map(|line| &line[word.len() + 1..])
        };
        let at = |text: &str| time::parse_micros(text).ok();
        let is_id = |id: &&str| id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let id = valued("id").filter(is_id).ok_or(malformed("no id of 32 hexadecimal digits"))?.to_string();
        let ledger = valued("ledger").and_then(|text| text.parse().ok()).ok_or(malformed("no ledger"))?;
        let tenant = valued("tenant").and_then(|text| text.parse().ok()).ok_or(malformed("no tenant"))?;
        let time = valued("time").and_then(at).ok_or(malformed("no time"))?;
        let by = valued("by").filter(|text| is_text(text)).ok_or(malformed("it does not say by whom"))?.to_string();
        let audience = valued("audience").filter(|text| is_text(text)).ok_or(malformed("no audience"))?.to_string();
        let mut bound =
            |word| valued(word).map(|text| at(text).ok_or(malformed("a bound that is no time"))).transpose();
        let (from, until) = (bound("from")?, bound("until")?);
        let condition = valued("where").map(ToString::to_string);
        if condition.as_ref().is_some_and(|text| !is_text(text)) {
            return Err(malformed("a condition that is no text of one line"));
        }
        let mut withheld = Sections::default();
        while let Some(name) = valued("withheld") {
            withheld = withheld | Sections::named(name).ok_or(malformed("an unknown section"))?;
        }
        let previous = valued("previous").map(|text| Hash::from_hex(text).ok_or(malformed("previous is no hash")));
        let previous = previous.transpose()?;
        let mut streams = Vec::new();
        while let Some(name) = valued("stream") {
            streams.push(name.parse().map_err(|_| malformed("an unknown stream"))?);
        }
        let mut members = Vec::new();
        while let Some(file) = valued("file") {
            members.push(Member::parse(file).ok_or(malformed("a file without hash, bytes and plain name"))?);
        }
        if members.len() > MEMBERS {
            return Err(malformed("more than 65,536 files"));
        }
        if !streams.is_sorted_by(|a: &StreamKind, b| a < b) || !members.is_sorted_by(|a, b| a.name < b.name) {
            return Err(malformed("streams or files that do not ascend"));
        }
        let read = Self {
            id,
            ledger,
            tenant,
            time,
            by,
            audience,
            from,
            until,
            condition,
            withheld,
            previous,
            streams,
            members,
        };
        if read.to_text() == given { Ok(read) } else { Err(malformed("it is not in its one spelling")) }
    }
}

impl Member {
    fn parse(text: &str) -> Option<Self> {
        let (sha256, rest) = text.split_once(' ')?;
        let (bytes, name) = rest.split_once(' ')?;
        let name = Some(name).filter(|name| is_name(name))?.to_string();
        Some(Self { name, bytes: text::decimal(bytes)?, sha256: Hash::from_hex(sha256)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let member = |name: &str| Member { name: name.into(), bytes: 5, sha256: Hash::of(name.as_bytes()) };
        Manifest {
            id: "0123456789abcdef0123456789abcdef".into(),
            ledger: "example".parse().unwrap(),
            tenant: "acme".parse().unwrap(),
            time: 1_790_000_000_500_000,
            by: "auditor".into(),
            audience: "Big Buyer, Inc. \u{fc}".into(),
            from: Some(1_790_000_000_000_000),
            until: None,
            condition: Some("action = 'x'".into()),
            withheld: Sections::named("origin").unwrap(),
            previous: None,
            streams: vec![StreamKind::Audit, StreamKind::Access],
            members: vec![member("README.txt"), member("keys/1")],
        }
    }

    #[test]
    fn a_manifest_reads_back_and_nothing_else_does() {
        let key = LedgerKey::from_secret(&[7; 32]);
        let own = |name: &str| vec![key.verifier(name)];
        let signed = manifest().sign(&[&key]);
        assert_eq!(Manifest::open(signed.as_bytes(), own).unwrap().0, manifest());
        let text = manifest().to_text();
        assert_eq!(Manifest::parse(&text).unwrap(), manifest());
        for (old, new) in [
            ("id 0", "id x"),
            ("time 2026", "time 26"),
            ("audience Big", "audience  \u{1}"),
            ("stream audit\nstream access", "stream access\nstream audit"),
            ("withheld origin", "withheld skeleton"),
            ("withheld origin", "withheld origin\nwithheld origin"),
            ("README.txt", "../x"),
            ("README.txt", "a//b"),
            ("README.txt", "manifest"),
            ("README.txt", "z"),
            (" 5 ", " 05 "),
            ("\nfile", "\n file"),
            ("by auditor\n", ""),
        ] {
            let bad = text.replacen(old, new, 1);
            assert_ne!(bad, text, "{old}");
            assert!(matches!(Manifest::parse(&bad), Err(BundleError::Malformed(_))), "{bad}");
        }
        assert_eq!(Manifest::parse(&text.replace("/v1", "/v2")), Err(BundleError::Newer));
        assert_eq!(
            Manifest::parse(&text.replace("previous", "next").replace("by ", "bye x\nby ")),
            Err(BundleError::Newer)
        );
    }

    #[test]
    fn only_the_ledgers_own_signature_counts() {
        let (key, other) = (LedgerKey::from_secret(&[7; 32]), LedgerKey::from_secret(&[8; 32]));
        let signed = manifest().sign(&[&key]);
        let open = |bytes: &str, key: &LedgerKey| Manifest::open(bytes.as_bytes(), |name| vec![key.verifier(name)]);
        assert!(matches!(open(&signed, &other), Err(ManifestError::Note(NoteError::Unknown))));
        let changed = signed.replace("auditor", "nobody!");
        assert!(matches!(open(&changed, &key), Err(ManifestError::Note(NoteError::BadSignature(_)))));
        // Signed, but as something else.
        let elsewhere = note::sign(&manifest().to_text(), "example/_reports", &[&key]);
        assert!(matches!(open(&elsewhere, &key), Err(ManifestError::Note(NoteError::Unknown))));
    }
}
