//! A commit: the numbered, signed record that adds and removes segments of a stream (FORMAT.md §8).
//!
//! Commits are the hash chain of a stream: each names the SHA-256 of its predecessor's bytes, the head at
//! its last sealed entry, and the right edge at that head. They are signed notes, so that they can be
//! read with `cat` and checked by any note verifier under the stream's own key.
//!
//! Not here: creating them only if absent (`ledger-store`), walking the chain ([`crate::verify`]).
//! Invariant: each commit has one spelling; a parsed commit's edge folds to its head's root.

use crate::gone::GoneRef;
use crate::key::{LedgerKey, VerifierKey};
use crate::name::Origin;
use crate::note::{self, Note, NoteError};
use crate::text;
use crate::time::{format_micros, parse_micros};
use crate::tree::{Edge, Hash};
use crate::version;
use std::fmt::Write as _;

/// First line of a commit: name and version of the form.
pub const COMMIT_TAG: &str = "piperoll-commit/v1";
/// What a line of a commit may begin with.
const WORDS: [&str; 13] = [
    "origin", "number", "previous", "epoch", "time", "add", "sparse", "remove", "gone", "redacted", "basis", "head",
    "edge",
];

/// One segment, as a commit adds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRef {
    /// Its path below the stream's folder.
    pub path: String,
    /// Its first sequence number.
    pub first: u64,
    /// How many positions it spans. Of a sparse segment some entries inside are gone.
    pub span: u64,
    /// How many entries it holds: the first and the last position of the span among them.
    pub rows: u64,
    /// The object's size in bytes.
    pub bytes: u64,
    /// SHA-256 of the object.
    pub sha256: Hash,
    /// RFC 6962 root over its own entries' leaves alone.
    pub root: Hash,
}

impl SegmentRef {
    /// One past its last sequence number.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.span)
    }

    /// Whether it holds an entry at every position of its span.
    pub fn is_whole(&self) -> bool {
        self.span == self.rows
    }

    fn to_line(&self) -> String {
        let Self { path, first, span: _, rows, bytes, sha256, root } = self;
        let rest = format!("{path} {first} {rows} {bytes} {sha256} {root}");
        if self.is_whole() { format!("add {rest}") } else { format!("sparse {rest} {}", self.end()) }
    }

    fn read(parts: &[&str]) -> Option<Self> {
        let [path, first, rows, bytes, sha256, root] = parts[..] else { return None };
        let (first, rows) = (text::decimal(first)?, text::decimal(rows)?);
        first.checked_add(rows).filter(|_| rows > 0 && is_segment_path(path))?;
        let (sha256, root) = (Hash::from_base64(sha256)?, Hash::from_base64(root)?);
        Some(Self { path: path.into(), first, span: rows, rows, bytes: text::decimal(bytes)?, sha256, root })
    }

    fn read_sparse(parts: &[&str]) -> Option<Self> {
        let (end, rest) = parts.split_last()?;
        let whole = Self::read(rest)?;
        // A row at both ends, and something missing between.
        let span = text::decimal(end)?.checked_sub(whole.first).filter(|span| *span > whole.rows && whole.rows > 1)?;
        Some(Self { span, ..whole })
    }
}

/// What a commit took away for good, and what allowed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Paths of segments that it removes: of their content only that stays which stands in what the same commit adds.
    pub removes: Vec<String>,
    /// What went.
    pub what: Erased,
    /// The entry of the registry that recorded the intent, with policies and approval.
    pub basis: u64,
    /// SHA-256 of the plan that was carried out.
    pub plan: Hash,
}

/// What went: a purge takes entries, a redaction sections of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Erased {
    /// Entries: what is gone of the stream since it began, with the hashes that stand for it.
    Entries(GoneRef),
    /// Sections of so many entries. Their commitments stay, and every leaf is what it was.
    Sections(u64),
}

impl Erasure {
    /// What is gone of the stream, if entries went.
    pub fn gone(&self) -> Option<&GoneRef> {
        match &self.what {
            Erased::Entries(gone) => Some(gone),
            Erased::Sections(_) => None,
        }
    }

    /// How many entries lost sections.
    pub fn redacted(&self) -> u64 {
        match self.what {
            Erased::Entries(_) => 0,
            Erased::Sections(entries) => entries,
        }
    }
}

/// What a commit says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Which stream.
    pub origin: String,
    /// Its number, from 0 without gaps.
    pub number: u64,
    /// SHA-256 of the commit before it; none for the first.
    pub previous: Option<Hash>,
    /// The writer's epoch.
    pub epoch: u64,
    /// When it was made, in microseconds: for a seal, when its newest entry was recorded, so that a seal that is
    /// tried again has the same bytes.
    pub time: i64,
    /// Segments that it adds, ascending.
    pub adds: Vec<SegmentRef>,
    /// Paths that it removes: their entries stand in segments that the same commit adds.
    pub removes: Vec<String>,
    /// What it takes away for good.
    pub erasure: Option<Erasure>,
    /// The tree at the last sealed entry.
    pub edge: Edge,
}

/// A commit is malformed or not signed by a trusted key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The text is a commit of a later version of the form, or has parts that only a later one has.
    #[error("the commit is written in a newer format: use a newer piperoll to read it")]
    Newer,
    /// The text is no commit.
    #[error("not a commit: {0}")]
    Malformed(&'static str),
    /// The note around it does not hold.
    #[error("the commit's signed note does not hold")]
    Note(#[source] NoteError),
}

/// What a commit's bytes state, before anything of them is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stated {
    /// The hash of its predecessor.
    pub previous: Option<Hash>,
    /// Size and root of its head.
    pub head: (u64, Hash),
}

/// What a commit's bytes state. That the next commit, or whoever signed it, names their hash is the caller's to know.
pub fn stated(bytes: &[u8]) -> Option<Stated> {
    let valued = |word: &[u8]| {
        let line = bytes.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(word))?;
        std::str::from_utf8(line).ok()
    };
    let (size, root) = valued(b"head ")?.split_once(' ')?;
    let previous = match valued(b"previous ")? {
        "-" => None,
        hash => Some(Hash::from_base64(hash)?),
    };
    Some(Stated { previous, head: (text::decimal(size)?, Hash::from_base64(root)?) })
}

/// Whether a path may stand in a commit: plain characters, no way out of the stream's folder.
pub fn is_segment_path(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    path.len() <= 256
        && path.bytes().all(plain)
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

impl Commit {
    /// Paths of all segments that it removes, for whatever reason.
    pub fn removed(&self) -> impl Iterator<Item = &String> {
        self.removes.iter().chain(self.erasure.iter().flat_map(|erasure| &erasure.removes))
    }

    /// The commit's text, which is what is signed.
    pub fn to_text(&self) -> String {
        let previous = self.previous.map_or("-".into(), |hash| hash.to_base64());
        let mut out = format!(
            "{COMMIT_TAG}\norigin {}\nnumber {}\nprevious {previous}\nepoch {}\ntime {}\n",
            self.origin,
            self.number,
            self.epoch,
            format_micros(self.time)
        );
        for segment in &self.adds {
            let _ = writeln!(out, "{}", segment.to_line());
        }
        for path in &self.removes {
            let _ = writeln!(out, "remove {path} rewritten");
        }
        if let Some(Erasure { removes, what, basis, plan }) = &self.erasure {
            let (reason, line) = match what {
                Erased::Entries(GoneRef { commit: _, epoch: _, sha256, bytes, entries, newest }) => {
                    ("purged", format!("gone {sha256} {bytes} {entries} {}", format_micros(*newest)))
                }
                Erased::Sections(entries) => ("redacted", format!("redacted {entries}")),
            };
            for path in removes {
                let _ = writeln!(out, "remove {path} {reason}");
            }
            let _ = writeln!(out, "{line}\nbasis {basis} {plan}");
        }
        let _ = writeln!(out, "head {} {}", self.edge.size(), self.edge.root());
        for node in self.edge.nodes() {
            let _ = writeln!(out, "edge {node}");
        }
        out
    }

    /// Signs the commit under its origin.
    pub fn sign(&self, key: &LedgerKey) -> SignedCommit {
        let bytes = note::sign(&self.to_text(), &self.origin, &[key]).into_bytes();
        SignedCommit { commit: self.clone(), signer: key.verifier(&self.origin), bytes }
    }

    fn parse(text: &str) -> Result<Self, CommitError> {
        let malformed = CommitError::Malformed;
        let mut lines = text.lines();
        match lines.next() {
            Some(COMMIT_TAG) => {}
            Some(tag) if version::is_newer(tag, COMMIT_TAG) => return Err(CommitError::Newer),
            _ => return Err(malformed("the first line is not piperoll-commit/v1")),
        }
        if lines.clone().any(is_of_newer) {
            return Err(CommitError::Newer);
        }
        let mut valued =
            |key: &str| lines.next().and_then(|line| line.strip_prefix(key)).and_then(|rest| rest.strip_prefix(' '));
        let origin = valued("origin").ok_or(malformed("no origin"))?.to_string();
        let number = valued("number").and_then(text::decimal).ok_or(malformed("no number"))?;
        let previous = match valued("previous") {
            Some("-") => None,
            Some(hash) => Some(Hash::from_base64(hash).ok_or(malformed("previous is no hash"))?),
            None => return Err(malformed("no previous")),
        };
        let epoch = valued("epoch").and_then(text::decimal).ok_or(malformed("no epoch"))?;
        let time = valued("time").and_then(|text| parse_micros(text).ok()).ok_or(malformed("no time"))?;
        let mut body = Body::default();
        for line in lines {
            body.read_line(line).ok_or(malformed(
                "a line is none of add, sparse, remove, gone, redacted, basis, head, edge, or has malformed parts",
            ))?;
        }
        let (size, root) = body.head.ok_or(malformed("no head"))?;
        let edge = Edge::from_parts(size, std::mem::take(&mut body.edge))
            .map_err(|_| malformed("the edge does not fit the head's size"))?;
        if edge.root() != root {
            return Err(malformed("the edge does not fold to the head's root"));
        }
        if body.adds.windows(2).any(|pair| pair[0].end() > pair[1].first) {
            return Err(malformed("its segments do not ascend"));
        }
        let erasure = body.erasure(number, epoch).ok_or(malformed(
            "a purge or redaction without what went, or its basis, or the other way round, or both at once",
        ))?;
        let (adds, removes) = (body.adds, body.removes);
        let commit = Self { origin, number, previous, epoch, time, adds, removes, erasure, edge };
        if commit.to_text() == text { Ok(commit) } else { Err(malformed("not in its one canonical spelling")) }
    }
}

/// Whether a line is one that version 1 does not have: another word, or a removal for another reason.
fn is_of_newer(line: &str) -> bool {
    let parts: Vec<&str> = line.split(' ').collect();
    match parts[..] {
        ["remove", path, reason] => {
            let is_known = matches!(reason, "rewritten" | "purged" | "redacted");
            is_segment_path(path) && version::is_word(reason) && !is_known
        }
        _ => version::has_newer_word(line, &WORDS),
    }
}

#[derive(Default)]
struct Body {
    adds: Vec<SegmentRef>,
    removes: Vec<String>,
    purges: Vec<String>,
    redacts: Vec<String>,
    gone: Option<GoneRef>,
    redacted: Option<u64>,
    basis: Option<(u64, Hash)>,
    head: Option<(u64, Hash)>,
    edge: Vec<Hash>,
}

impl Body {
    /// What the commit took away; none when its lines do not fit each other.
    fn erasure(&mut self, number: u64, epoch: u64) -> Option<Option<Erasure>> {
        let (purges, redacts) = (std::mem::take(&mut self.purges), std::mem::take(&mut self.redacts));
        let (removes, what) = match (self.gone.take(), self.redacted, purges.is_empty(), redacts.is_empty()) {
            (None, None, true, true) if self.basis.is_none() => return Some(None),
            (Some(gone), None, false, true) => (purges, Erased::Entries(GoneRef { commit: number, epoch, ..gone })),
            (None, Some(entries), true, false) if entries > 0 => (redacts, Erased::Sections(entries)),
            _ => return None,
        };
        let (basis, plan) = self.basis?;
        Some(Some(Erasure { removes, what, basis, plan }))
    }

    fn read_line(&mut self, line: &str) -> Option<()> {
        let parts: Vec<&str> = line.split(' ').collect();
        match parts[..] {
            ["add", ..] => self.adds.push(SegmentRef::read(&parts[1..])?),
            ["sparse", ..] => self.adds.push(SegmentRef::read_sparse(&parts[1..])?),
            ["remove", path, "rewritten"] if is_segment_path(path) => self.removes.push(path.into()),
            ["remove", path, "purged"] if is_segment_path(path) => self.purges.push(path.into()),
            ["remove", path, "redacted"] if is_segment_path(path) => self.redacts.push(path.into()),
            ["redacted", entries] if self.redacted.is_none() => self.redacted = Some(text::decimal(entries)?),
            ["gone", sha256, bytes, entries, newest] if self.gone.is_none() => {
                let (sha256, newest) = (Hash::from_base64(sha256)?, parse_micros(newest).ok()?);
                let (bytes, entries) = (text::decimal(bytes)?, text::decimal(entries)?);
                self.gone = Some(GoneRef { commit: 0, epoch: 0, sha256, bytes, entries, newest });
            }
            ["basis", entry, plan] if self.basis.is_none() => {
                self.basis = Some((text::decimal(entry)?, Hash::from_base64(plan)?));
            }
            ["head", size, root] if self.head.is_none() => {
                self.head = Some((text::decimal(size)?, Hash::from_base64(root)?))
            }
            ["edge", node] if self.edge.len() < 64 => self.edge.push(Hash::from_base64(node)?),
            _ => return None,
        }
        Some(())
    }
}

/// A commit together with its exact bytes, whose hash the next commit names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCommit {
    commit: Commit,
    signer: VerifierKey,
    bytes: Vec<u8>,
}

impl SignedCommit {
    /// Parses and verifies a commit's bytes against the stream's trusted keys.
    ///
    /// # Errors
    /// [`CommitError::Note`] when form or signature of the note do not hold, [`CommitError::Malformed`]
    /// when its text is no commit.
    pub fn open(bytes: &[u8], trusted: &[VerifierKey]) -> Result<Self, CommitError> {
        let note = Note::parse(bytes).map_err(CommitError::Note)?;
        // The next commit names the hash of all of these bytes: a line that anybody could add would break it.
        let strangers = note
            .signatures()
            .iter()
            .filter(|line| note.text().lines().nth(1) != Some(&format!("origin {}", line.name)));
        if strangers.count() > 0 {
            return Err(CommitError::Malformed("it carries a signature under another name than its origin"));
        }
        let lines = note.signatures().len();
        let verified = note.verify(trusted).map_err(CommitError::Note)?;
        if verified.signers().len() != lines {
            return Err(CommitError::Malformed("it carries a signature of a key that is not trusted, or one twice"));
        }
        let commit = Commit::parse(verified.text())?;
        // Of several the newest counts.
        let newest = trusted.iter().rev().find(|key| verified.signers().contains(key));
        let signer = newest.cloned().ok_or(CommitError::Note(NoteError::Unknown))?;
        Ok(Self { commit, signer, bytes: bytes.to_vec() })
    }

    /// The origin that a commit's bytes state, before anything of them is verified: under which name its signatures
    /// are to be looked for.
    pub fn stated_origin(bytes: &[u8]) -> Option<Origin> {
        let line = bytes.split(|byte| *byte == b'\n').nth(1)?.strip_prefix(b"origin ")?;
        std::str::from_utf8(line).ok()?.parse().ok()
    }

    /// What it says.
    pub fn commit(&self) -> &Commit {
        &self.commit
    }

    /// The key that signed it; of several the one that was given last.
    pub fn signer(&self) -> &VerifierKey {
        &self.signer
    }

    /// Its exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of its bytes.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn commit() -> Commit {
        let mut edge = Edge::default();
        (0..13u8).for_each(|i| edge.push(Hash::of(&[i])));
        let segment = SegmentRef {
            path: "2026-11/00000000000000000000-1.parquet".into(),
            first: 0,
            span: 13,
            rows: 13,
            bytes: 4_096,
            sha256: Hash::of(b"s"),
            root: edge.root(),
        };
        Commit {
            origin: "example/acme/audit/0".into(),
            number: 7,
            previous: Some(Hash::of(b"p")),
            epoch: 2,
            time: 1_790_000_000_000_000,
            adds: vec![segment],
            removes: vec!["2026-10/x.parquet".into(), "2026-09/y.parquet".into()],
            erasure: None,
            edge,
        }
    }

    /// The same, with a segment of which something is gone.
    fn purge() -> Commit {
        let gone = GoneRef {
            commit: 7,
            epoch: 2,
            sha256: Hash::of(b"g"),
            bytes: 900,
            entries: 3,
            newest: 1_780_000_000_000_000,
        };
        let adds = vec![SegmentRef { rows: 10, ..commit().adds[0].clone() }];
        Commit { adds, erasure: Some(erasure(Erased::Entries(gone))), ..commit() }
    }

    fn erasure(what: Erased) -> Erasure {
        Erasure { removes: vec!["2026-11/z.parquet".into()], what, basis: 41, plan: Hash::of(b"plan") }
    }

    /// The same, with a segment of which some sections are gone.
    fn redaction() -> Commit {
        Commit { erasure: Some(erasure(Erased::Sections(3))), ..commit() }
    }

    fn trusted() -> Vec<VerifierKey> {
        vec![LedgerKey::from_secret(&[5; 32]).verifier("example/acme/audit/0")]
    }

    #[test]
    fn commits_round_trip() {
        let first = Commit { previous: None, number: 0, removes: vec![], ..commit() };
        for commit in [commit(), first, purge(), redaction()] {
            let signed = commit.sign(&LedgerKey::from_secret(&[5; 32]));
            let opened = SignedCommit::open(signed.bytes(), &trusted()).unwrap();
            assert_eq!((opened.commit(), opened.hash()), (&commit, signed.hash()));
        }
    }

    #[test]
    fn commits_have_one_spelling_and_one_signer() {
        let key = LedgerKey::from_secret(&[5; 32]);
        let text = commit().to_text();
        for bad in [
            text.replace("number 7", "number 07"),
            text.replace("2026-11/", "../2026-11/"),
            text.replace(" 13 4096", " 0 4096"),
            text.replace("head 13", "head 15"),
            text.replace(" rewritten", ""),
            text.replace("time 2026", "time +2026"),
            text.replacen("edge ", "edge  ", 1),
            text.replace("piperoll-commit/v1", "piperoll-commit/v01"),
        ] {
            let note = note::sign(&bad, "example/acme/audit/0", &[&key]);
            assert!(matches!(SignedCommit::open(note.as_bytes(), &trusted()), Err(CommitError::Malformed(_))), "{bad}");
        }
        for newer in [
            text.replace("/v1", "/v2"),
            text.replace("rewritten", "expired"),
            text.replace("epoch 2\n", "epoch 2\nregion eu\n"),
            format!("{text}frontier {}\n", Hash::of(b"f")),
        ] {
            let note = note::sign(&newer, "example/acme/audit/0", &[&key]);
            assert_eq!(SignedCommit::open(note.as_bytes(), &trusted()), Err(CommitError::Newer), "{newer}");
        }
        let text = purge().to_text();
        let line = |word: &str| text.lines().find(|line| line.starts_with(word)).unwrap().to_owned() + "\n";
        for bad in [
            text.replace(&line("gone"), ""),
            text.replace(&line("basis"), ""),
            text.replace("2026-11/z.parquet purged", "2026-11/z.parquet rewritten"),
            text.replace(&line("gone"), &line("gone").repeat(2)),
            // Nothing is missing, or not at both ends.
            text.replacen(" 13\n", " 10\n", 1),
            text.replacen(" 0 10 ", " 0 1 ", 1),
        ] {
            let note = note::sign(&bad, "example/acme/audit/0", &[&key]);
            assert!(matches!(SignedCommit::open(note.as_bytes(), &trusted()), Err(CommitError::Malformed(_))), "{bad}");
        }
        let text = redaction().to_text();
        let line = |word: &str| text.lines().find(|line| line.starts_with(word)).unwrap().to_owned() + "\n";
        for bad in [
            text.replace(&line("redacted"), ""),
            text.replace(&line("basis"), ""),
            text.replace("redacted 3", "redacted 0"),
            text.replace("2026-11/z.parquet redacted", "2026-11/z.parquet purged"),
            text.replace(
                "2026-11/z.parquet redacted\n",
                "2026-11/z.parquet redacted\nremove 2026-11/w.parquet purged\n",
            ),
        ] {
            let note = note::sign(&bad, "example/acme/audit/0", &[&key]);
            assert!(matches!(SignedCommit::open(note.as_bytes(), &trusted()), Err(CommitError::Malformed(_))), "{bad}");
        }
        let text = commit().to_text();
        let junk = [0x5a; 68];
        let line = format!("\u{2014} example/acme/audit/0 {}\n", crate::text::encode(&junk));
        let added = note::sign(&text, "example/acme/audit/0", &[&key]) + &line;
        assert!(matches!(SignedCommit::open(added.as_bytes(), &trusted()), Err(CommitError::Malformed(_))));
        let elsewhere = note::sign(&text, "example/globex/audit/0", &[&key]);
        let both = [trusted(), vec![key.verifier("example/globex/audit/0")]].concat();
        assert!(matches!(SignedCommit::open(elsewhere.as_bytes(), &both), Err(CommitError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn one_flipped_bit_is_found(position in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = commit().sign(&LedgerKey::from_secret(&[5; 32])).bytes().to_vec();
            let at = position.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(SignedCommit::open(&bytes, &trusted()).is_err());
        }

        #[test]
        fn no_text_panics(text in "(add|remove|head|edge|origin|number)?[ -~\n]{0,200}") {
            let _ = Commit::parse(&format!("{COMMIT_TAG}\n{text}\n"));
        }
    }
}
