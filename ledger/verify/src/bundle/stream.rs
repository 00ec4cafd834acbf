//! One stream of a bundle: its checkpoint, and the walk over what is shown and what stands for the rest.
//!
//! Not here: reading lines ([`super::entries`]). Invariants: every position of the tree is accounted for once, in order;
//! nothing is counted as proven before the walk has come to the checkpoint's root.

use super::Parts;
use super::archive::{Archive, broken};
use super::entries::{self, Seen, Whose};
use super::member;
use crate::error::{Failure, VerifyError};
use crate::trust::Trust;
use ledger::bundle::{BundleError, Consistency, DOCUMENT_BYTES, Manifest, Member, RangeHead, Stead, Subtree};
use ledger::checkpoint::{Checkpoint, StreamHead};
use ledger::name::{Origin, StreamKind};
use ledger::note::Note;
use ledger::proof::Span;
use ledger::tlog_proof::TlogProof;
use ledger::tree::Edge;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read};

/// Longest line of a range: a word, two numbers, a hash.
const RANGE_LINE_BYTES: u64 = 512;

/// What was found of a stream.
#[derive(Debug, Clone)]
pub struct Found {
    /// Which.
    pub stream: StreamKind,
    /// The head that all of it leads to.
    pub head: StreamHead,
    /// The positions that the bundle speaks of.
    pub span: Span,
    /// Entries of these that are shown.
    pub entries: u64,
    /// Positions of these that are in the ledger, and not shown.
    pub withheld: u64,
    /// Positions of these that were purged.
    pub gone: u64,
    /// Entries that lack sections here, and in the ledger.
    pub masked: u64,
    /// Entries of which sections were redacted.
    pub redacted: u64,
    /// Whether it was shown that the period begins with the range, and that it ends with it.
    pub bounded: (bool, bool),
    /// Entries with a proof of their own.
    pub proofs: u64,
    /// Sizes of earlier heads that were shown to be beginnings of this one.
    pub compared: Vec<u64>,
}

/// Earlier heads of a stream that the tree is to be compared with.
pub type Kept = Vec<StreamHead>;

/// Checks a stream.
///
/// # Errors
/// What does not hold.
pub fn check(
    archive: &Archive,
    manifest: &Manifest,
    stream: StreamKind,
    parts: &mut Parts<'_>,
    trust: &Trust,
    kept: &Kept,
) -> Result<Found, VerifyError> {
    let folder = format!("streams/{stream}");
    let name = format!("{folder}/checkpoint");
    let member = parts.take(&name)?;
    let note = member::whole(archive, member, DOCUMENT_BYTES)?;
    let checkpoint = open(&name, &note, trust)?;
    let head = checkpoint.head().clone();
    let whose = format!("{}/{}/{stream}/", manifest.ledger, manifest.tenant);
    if head.origin.parse::<Origin>().is_err() || !head.origin.starts_with(&whose) {
        return Err(broken(&name, format!("it is of {}, not of {whose}…", head.origin)));
    }
    let mut proofs = BTreeMap::new();
    for member in parts.below(&format!("{folder}/proofs/")) {
        let (seq, path) = read_proof(archive, member, &note)?;
        proofs.insert(seq, (member, path));
    }
    let mut walk = Walk::begin(archive, parts.numbered(&format!("{folder}/range-"), ""), &head)?;
    let entries = parts.numbered(&format!("{folder}/entries-"), ".ndjson");
    let columns: Vec<&Member> = parts.numbered(&format!("{folder}/entries-"), ".parquet");
    columns.into_iter().try_for_each(|member| member::compare(archive, member))?;
    walk.bounds = (manifest.from, manifest.until);
    walk.masks = manifest.withheld;
    walk.proofs = proofs;
    walk.kept = kept.clone();
    let whose = Whose { tenant: manifest.tenant.as_str(), stream };
    entries::read(archive, &entries, whose, |member, line, seen| {
        walk.entry(seen).map_err(|wrong| match wrong {
            Wrong::Here(why) => broken(&member.name, format!("line {line}, entry {}: {why}", seen.seq)),
            Wrong::There(error) => error,
        })
    })?;
    let mut found = walk.end(stream)?;
    for member in parts.below(&format!("{folder}/from-")) {
        found.compared.push(check_consistency(archive, member, &head, kept)?);
    }
    Ok(found)
}

fn open(name: &str, bytes: &[u8], trust: &Trust) -> Result<Checkpoint, VerifyError> {
    let wrong = |error: &dyn std::fmt::Display| broken(name, error.to_string());
    let note = Note::parse(bytes).map_err(|error| wrong(&error))?;
    Checkpoint::open(bytes, &trust.for_note(&note)).map_err(|error| wrong(&error))
}

/// For a text of a bundle that cannot be read.
pub fn form(name: &str, error: BundleError) -> VerifyError {
    match error {
        BundleError::Newer => VerifyError::Newer { path: name.into(), kind: "file of a bundle" },
        BundleError::Malformed(why) => broken(name, why),
    }
}

fn read_proof(archive: &Archive, member: &Member, checkpoint: &[u8]) -> Result<(u64, TlogProof), VerifyError> {
    let name = &member.name;
    let bytes = member::whole(archive, member, DOCUMENT_BYTES)?;
    let proof = TlogProof::parse(&bytes).map_err(|error| broken(name, error.to_string()))?;
    let seq = name.rsplit('/').next().and_then(|name| name.strip_suffix(".tlog-proof"));
    if seq != Some(proof.index().to_string().as_str()) {
        return Err(broken(name, "it proves another entry than its name says"));
    }
    if proof.checkpoint().as_bytes() != checkpoint {
        return Err(broken(name, "it leads to another checkpoint than that of its stream"));
    }
    Ok((proof.index(), proof))
}

fn check_consistency(archive: &Archive, member: &Member, head: &StreamHead, kept: &Kept) -> Result<u64, VerifyError> {
    let wrong = |why: String| broken(&member.name, why);
    let bytes = member::whole(archive, member, DOCUMENT_BYTES)?;
    let proof = Consistency::parse(&bytes).map_err(|error| form(&member.name, error))?;
    let size = member.name.rsplit("/from-").next().and_then(|name| name.strip_suffix(".consistency"));
    if size != Some(proof.from.0.to_string().as_str()) {
        return Err(wrong("it is about another size than its name says".into()));
    }
    if proof.origin != head.origin || proof.to != (head.size, head.root) {
        return Err(wrong("it leads to another head than that of its stream".into()));
    }
    if proof.from.0 == 0 || !proof.holds() {
        return Err(wrong(format!("its hashes do not lead from the head of {} entries to this one", proof.from.0)));
    }
    match kept.iter().find(|own| own.size == proof.from.0 && own.root != proof.from.1) {
        Some(own) => Err(fork(own.size)),
        None => Ok(proof.from.0),
    }
}

fn fork(size: u64) -> VerifyError {
    VerifyError::fails(super::KIND, Failure::Fork { size })
}

/// The lines of a range, over all of its files.
struct Lines {
    sources: VecDeque<Source>,
}

struct Source {
    name: String,
    reader: BufReader<Box<dyn Read>>,
    line: u64,
}

impl Lines {
    fn next(&mut self) -> Result<Option<(String, u64, String)>, VerifyError> {
        while let Some(source) = self.sources.front_mut() {
            let mut text = Vec::new();
            let read = source.reader.by_ref().take(RANGE_LINE_BYTES).read_until(b'\n', &mut text);
            read.map_err(|error| broken(&source.name, format!("it cannot be unpacked: {error}")))?;
            if text.is_empty() {
                self.sources.pop_front();
                continue;
            }
            source.line += 1;
            let (name, line) = (source.name.clone(), source.line);
            let text = String::from_utf8(text).ok().and_then(|text| text.strip_suffix('\n').map(str::to_string));
            let text = text.ok_or_else(|| broken(&name, format!("line {line} is no line of a range")))?;
            return Ok(Some((name, line, text)));
        }
        Ok(None)
    }
}

/// Why an entry is wrong: by itself, or for something that stands elsewhere.
enum Wrong {
    Here(String),
    There(VerifyError),
}

impl From<VerifyError> for Wrong {
    fn from(error: VerifyError) -> Self {
        Self::There(error)
    }
}

/// The walk over a tree from its first leaf to its last.
struct Walk<'m> {
    head: StreamHead,
    range: RangeHead,
    lines: Lines,
    next: Option<(String, u64, Subtree)>,
    edge: Edge,
    newest: i64,
    last_seq: Option<u64>,
    bounds: (Option<i64>, Option<i64>),
    masks: ledger::sections::Sections,
    proofs: BTreeMap<u64, (&'m Member, TlogProof)>,
    kept: Kept,
    entries: u64,
    counts: [u64; 3],
    masked: u64,
    redacted: u64,
    bounded: (bool, bool),
    proven: u64,
    compared: Vec<u64>,
}

impl<'m> Walk<'m> {
    fn begin(archive: &Archive, members: Vec<&Member>, head: &StreamHead) -> Result<Self, VerifyError> {
        let mut sources = VecDeque::new();
        for member in &members {
            // Read once to be compared, and again as it is walked: what is believed was compared before.
            member::compare(archive, member)?;
            let reader: Box<dyn Read> = Box::new(archive.read(&member.name)?);
            sources.push_back(Source { name: member.name.clone(), reader: BufReader::new(reader), line: 0 });
        }
        let first = members.first().map_or_else(|| "streams/…/range-000000".into(), |member| member.name.clone());
        let mut lines = Lines { sources };
        let mut texts: [String; RangeHead::LINES] = Default::default();
        for text in &mut texts {
            let (_, _, line) = lines.next()?.ok_or_else(|| broken(&first, "it is missing or cut short"))?;
            *text = line;
        }
        let range = RangeHead::parse(std::array::from_fn(|at| texts[at].as_str())).map_err(|e| form(&first, e))?;
        if range.origin != head.origin || range.size != head.size {
            return Err(broken(&first, "it is of another tree than the checkpoint"));
        }
        let (edge, proofs, kept, entries, counts, masked, redacted, proven, compared) = Default::default();
        let mut walk = Self {
            head: head.clone(),
            range,
            lines,
            next: None,
            edge,
            newest: i64::MIN,
            last_seq: None,
            bounds: (None, None),
            masks: Default::default(),
            proofs,
            kept,
            entries,
            counts,
            masked,
            redacted,
            bounded: (false, false),
            proven,
            compared,
        };
        walk.advance()?;
        Ok(walk)
    }

    fn advance(&mut self) -> Result<(), VerifyError> {
        self.next = match self.lines.next()? {
            None => None,
            Some((name, line, text)) => {
                let node = Subtree::parse(&text).map_err(|error| match error {
                    BundleError::Newer => form(&name, error),
                    BundleError::Malformed(why) => broken(&name, format!("line {line}: {why}")),
                })?;
                Some((name, line, node))
            }
        };
        Ok(())
    }

    /// Folds the subtrees that stand before a position.
    fn stead(&mut self, end: u64) -> Result<(), VerifyError> {
        while let Some((name, line, node)) = self.next.clone() {
            if node.first >= end {
                return Ok(());
            }
            let wrong = |why: &str| Err(broken(&name, format!("line {line}: {why}")));
            if node.first != self.edge.size() {
                return wrong("leaves before it, or its own, are accounted for twice or not at all");
            }
            let span = node.span();
            if span.end > self.head.size {
                return wrong("it reaches beyond the tree");
            }
            let (own, of) = (&self.range.span, node.stead == Stead::Outside);
            let is_placed = if of {
                span.end <= own.start || span.start >= own.end
            } else {
                span.start >= own.start && span.end <= own.end
            };
            if !is_placed {
                return wrong("it stands for leaves on the other side of the range's bound");
            }
            self.counts[node.stead as usize] += span.len();
            self.edge.push_node(node.height, node.hash, |_| {});
            self.compare()?;
            self.advance()?;
        }
        Ok(())
    }

    /// Compares with a head that was kept of just this size.
    fn compare(&mut self) -> Result<(), VerifyError> {
        let size = self.edge.size();
        for kept in self.kept.iter().filter(|kept| kept.size == size) {
            if kept.root != self.edge.root() {
                return Err(fork(size));
            }
            self.compared.push(size);
        }
        Ok(())
    }

    fn entry(&mut self, seen: Seen) -> Result<(), Wrong> {
        let here = |why: String| Err(Wrong::Here(why));
        if self.last_seq.is_some_and(|last| last >= seen.seq) {
            return here("it does not come after the one before it".into());
        }
        self.last_seq = Some(seen.seq);
        if seen.seq >= self.head.size {
            return here("the tree has no such entry".into());
        }
        self.stead(seen.seq)?;
        if self.edge.size() != seen.seq {
            return here("leaves before it, or its own, are accounted for twice or not at all".into());
        }
        if seen.recorded_at < self.newest {
            return here("it was recorded before the one before it".into());
        }
        self.newest = seen.recorded_at;
        if !self.masks.and(seen.shown).is_empty() {
            return here("it shows a section that the manifest says is withheld".into());
        }
        self.place(&seen)?;
        if let Some((member, proof)) = self.proofs.remove(&seen.seq) {
            if !ledger::proof::check_inclusion(seen.seq, self.head.size, proof.path(), &seen.leaf, &self.head.root) {
                return Err(broken(&member.name, "its hashes do not lead from the entry to the checkpoint").into());
            }
            self.proven += 1;
        }
        self.edge.push(seen.leaf);
        Ok(self.compare()?)
    }

    /// Counts an entry of the range, or takes a neighbour for what it shows.
    fn place(&mut self, seen: &Seen) -> Result<(), Wrong> {
        let here = |why: &str| Err(Wrong::Here(why.into()));
        let (span, (from, until)) = (self.range.span, self.bounds);
        if seen.seq >= span.start && seen.seq < span.end {
            if from.is_some_and(|from| seen.recorded_at < from) || until.is_some_and(|until| seen.recorded_at >= until)
            {
                return here("it was recorded outside of the period");
            }
            self.entries += 1;
            self.masked += u64::from(!seen.withheld.is_empty());
            self.redacted += u64::from(!seen.redacted.is_empty());
            return Ok(());
        }
        if !seen.shown.is_empty() {
            return here("it is outside of the range and shows more than its skeleton");
        }
        if seen.seq + 1 == span.start && from.is_some_and(|from| seen.recorded_at < from) {
            self.bounded.0 = true;
        } else if seen.seq == span.end && until.is_some_and(|until| seen.recorded_at >= until) {
            self.bounded.1 = true;
        } else {
            return here("it is outside of the range and no neighbour that bounds the period");
        }
        Ok(())
    }

    fn end(mut self, stream: StreamKind) -> Result<Found, VerifyError> {
        self.stead(self.head.size)?;
        let place = format!("streams/{stream}");
        if let Some((name, line, _)) = &self.next {
            return Err(broken(name, format!("line {line}: it reaches beyond the tree")));
        }
        if self.edge.size() != self.head.size {
            let missing = self.edge.size();
            return Err(broken(&place, format!("nothing is shown of entry {missing}, and nothing stands for it")));
        }
        if self.edge.root() != self.head.root {
            let why = "entries and range do not fold to the checkpoint's root: something in them was changed";
            return Err(broken(&place, why));
        }
        if let Some((seq, (member, _))) = self.proofs.first_key_value() {
            return Err(broken(&member.name, format!("entry {seq} is not shown")));
        }
        let (span, size) = (self.range.span, self.head.size);
        let (from, until) = self.bounds;
        if (from.is_none() && span.start != 0) || (until.is_none() && span.end != size) {
            return Err(broken(&place, "the range does not reach as far as the manifest's period"));
        }
        // Where the tree begins or ends, no neighbour is needed.
        let bounded = (self.bounded.0 || span.start == 0, self.bounded.1 || span.end == size);
        Ok(Found {
            stream,
            span,
            entries: self.entries,
            withheld: self.counts[Stead::Withheld as usize],
            gone: self.counts[Stead::Gone as usize],
            masked: self.masked,
            redacted: self.redacted,
            bounded,
            proofs: self.proven,
            compared: self.compared,
            head: self.head,
        })
    }
}
