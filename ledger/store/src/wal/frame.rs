//! The log's frames, encoded and decoded.
//!
//! Integers are little-endian; names have their length as `u16` before them. Not here: files and reading order.
//! Invariant: decoding is bounded by the frame's own length and never panics.

use super::locked::{self, LockedRun};
use crate::entry::Entry;
use crate::keys::LogKey;
use ledger::draft::Draft;
use ledger::leaf::Seed;
use ledger::name::{StreamKind, TenantId};
use ledger::tree::Hash;

/// Bytes before a frame's body: length and checksum.
pub(super) const HEADER: usize = 8;
/// Longest body: far above the largest group of requests.
pub(super) const LONGEST_BODY: usize = 256 << 20;
const BATCH: u8 = 1;
const GROUP: u8 = 2;
const TAKEOVER: u8 = 3;
/// A batch some of whose parts are under a key.
const KEYED: u8 = 4;
/// Forms of a part in such a batch.
const PLAIN: u8 = 0;
const UNDER_KEY: u8 = 1;

/// What is remembered of a request that had an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    /// Hash of principal and key.
    pub key: [u8; 32],
    /// Hash of the request's body.
    pub body: [u8; 32],
    /// When it may be forgotten, in microseconds.
    pub expires: i64,
    /// The answer, as the one who asked encoded it.
    pub answer: Vec<u8>,
}

impl Fact {
    /// Roughly what remembering it takes, in memory and in the log.
    pub(crate) fn bytes(&self) -> usize {
        self.answer.len() + 128
    }
}

/// A run of one stream's entries.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    /// Whose.
    pub tenant: &'a TenantId,
    /// Which stream.
    pub kind: StreamKind,
    /// Sequence number of the first.
    pub first: u64,
    /// The entries.
    pub run: Run<'a>,
}

/// How the entries of a part are written.
#[derive(Debug)]
pub(crate) enum Run<'a> {
    /// In the clear.
    Plain(Vec<&'a Entry>),
    /// Under a key.
    Under(Vec<&'a Entry>, &'a LogKey),
    /// As they were read, unopened.
    Locked(&'a LockedRun),
}

impl<'a> Run<'a> {
    /// Entries under a key, if there is one.
    pub(crate) fn of(entries: Vec<&'a Entry>, key: Option<&'a LogKey>) -> Self {
        match key {
            Some(key) => Self::Under(entries, key),
            None => Self::Plain(entries),
        }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Plain(entries) | Self::Under(entries, _) => entries.len(),
            Self::Locked(run) => run.leaves.len(),
        }
    }
}

/// What one request brought, or what is copied forward.
#[derive(Debug, Default)]
pub(crate) struct Batch<'a> {
    /// Facts of idempotency.
    pub facts: Vec<&'a Fact>,
    /// Runs of entries.
    pub parts: Vec<Part<'a>>,
}

/// A run of entries as it was read.
#[derive(Debug)]
pub(crate) struct ReadPart {
    /// Whose.
    pub tenant: TenantId,
    /// Which stream.
    pub kind: StreamKind,
    /// Sequence number of the first.
    pub first: u64,
    /// The entries.
    pub run: ReadRun,
}

/// Entries as they were read.
#[derive(Debug)]
pub(crate) enum ReadRun {
    /// In the clear.
    Plain(Vec<Entry>),
    /// Under a key.
    Locked(LockedRun),
}

impl ReadRun {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Plain(entries) => entries.len(),
            Self::Locked(run) => run.leaves.len(),
        }
    }
}

/// A batch as it was read.
#[derive(Debug, Default)]
pub(crate) struct ReadBatch {
    /// Facts of idempotency.
    pub facts: Vec<Fact>,
    /// Runs of entries.
    pub parts: Vec<ReadPart>,
}

/// Ends a group: which one, what it moved, and where the one before it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupFrame {
    /// Its index in the store log.
    pub index: u64,
    /// The writer's epoch.
    pub epoch: u64,
    /// End of the group before it.
    pub previous_file: u64,
    /// Offset of that end.
    pub previous_offset: u64,
    /// Root of the store log before it.
    pub previous_root: Hash,
    /// The lowest file of the log that holds something which is nowhere else.
    pub oldest: u64,
    /// Origins, sizes and roots of the streams that it moved, ascending by origin.
    pub heads: Vec<(String, u64, Hash)>,
}

/// Says that a writer of a higher epoch goes on from here. Only a log of objects has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Takeover {
    /// The new writer's epoch.
    pub epoch: u64,
    /// The object before it.
    pub previous_file: u64,
    /// How long that is.
    pub previous_offset: u64,
    /// As in a group.
    pub oldest: u64,
}

/// Bytes of a takeover's frame; the smallest group is longer.
pub(super) const TAKEOVER_BYTES: usize = HEADER + 1 + 4 * 8;

/// One frame as it was read.
#[derive(Debug)]
pub(super) enum Frame {
    Batch(ReadBatch),
    Group(GroupFrame),
    Takeover(Takeover),
}

/// Appends a frame whose body `write` makes.
pub(super) fn seal(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    write(out);
    let body = &out[start + HEADER..];
    let (length, crc) = ((body.len() as u32).to_le_bytes(), crc32c::crc32c(body).to_le_bytes());
    out[start..start + 4].copy_from_slice(&length);
    out[start + 4..start + HEADER].copy_from_slice(&crc);
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(&(name.len() as u16).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// What of an entry must not be read without a key.
pub(super) fn put_entry_secrets(out: &mut Vec<u8>, entry: &Entry) {
    out.extend_from_slice(&entry.seed.0);
    out.extend_from_slice(&entry.index.to_le_bytes());
    out.extend_from_slice(&(entry.draft.fields_bytes() as u32).to_le_bytes());
    entry.draft.put_fields(out);
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    out.extend_from_slice(&entry.seed.0);
    out.extend_from_slice(&entry.index.to_le_bytes());
    out.extend_from_slice(&entry.leaf.0);
    out.extend_from_slice(&(entry.draft.fields_bytes() as u32).to_le_bytes());
    entry.draft.put_fields(out);
}

impl Batch<'_> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let is_keyed = self.parts.iter().any(|part| !matches!(part.run, Run::Plain(_)));
        out.push(if is_keyed { KEYED } else { BATCH });
        out.extend_from_slice(&(self.facts.len() as u32).to_le_bytes());
        for fact in &self.facts {
            out.extend_from_slice(&fact.key);
            out.extend_from_slice(&fact.body);
            out.extend_from_slice(&fact.expires.to_le_bytes());
            put_bytes(out, &fact.answer);
        }
        out.extend_from_slice(&(self.parts.len() as u32).to_le_bytes());
        for part in &self.parts {
            put_name(out, part.tenant.as_str());
            put_name(out, part.kind.as_str());
            out.extend_from_slice(&part.first.to_le_bytes());
            out.extend_from_slice(&(part.run.len() as u32).to_le_bytes());
            if is_keyed {
                out.push(if matches!(part.run, Run::Plain(_)) { PLAIN } else { UNDER_KEY });
            }
            match &part.run {
                Run::Plain(entries) => entries.iter().for_each(|entry| put_entry(out, entry)),
                Run::Under(entries, key) => {
                    locked::put_under(out, (part.tenant, part.kind, part.first), entries, key);
                }
                Run::Locked(run) => run.put(out),
            }
        }
    }
}

impl GroupFrame {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(GROUP);
        for number in [self.index, self.epoch, self.previous_file, self.previous_offset] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.previous_root.0);
        out.extend_from_slice(&self.oldest.to_le_bytes());
        out.extend_from_slice(&(self.heads.len() as u32).to_le_bytes());
        for (origin, size, root) in &self.heads {
            put_name(out, origin);
            out.extend_from_slice(&size.to_le_bytes());
            out.extend_from_slice(&root.0);
        }
    }
}

impl Takeover {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(TAKEOVER);
        for number in [self.epoch, self.previous_file, self.previous_offset, self.oldest] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

/// Takes values from the front of a body.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Positions are below 2^63 (FORMAT.md §13), so that whoever counts on from one does not overflow.
    fn position(&mut self) -> Option<u64> {
        self.u64().filter(|position| *position <= i64::MAX as u64)
    }

    fn name(&mut self) -> Option<&'a str> {
        let length = u16::from_le_bytes(self.array()?);
        std::str::from_utf8(self.take(length.into())?).ok()
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn fact(&mut self) -> Option<Fact> {
        let (key, body) = (self.array()?, self.array()?);
        Some(Fact { key, body, expires: i64::from_le_bytes(self.array()?), answer: self.bytes()?.into() })
    }

    fn entry(&mut self) -> Option<Entry> {
        let (seed, index, leaf) = (Seed(self.array()?), self.u32()?, Hash(self.array()?));
        let draft = Draft::decode(self.bytes()?).ok()?;
        Some(Entry::kept(draft, seed, index, leaf))
    }

    fn part(&mut self, is_keyed: bool) -> Option<ReadPart> {
        let tenant = self.name()?.parse().ok()?;
        let kind = self.name()?.parse().ok()?;
        let (first, count) = (self.position()?, self.u32()?);
        let form = if is_keyed { self.take(1)?[0] } else { PLAIN };
        let run = match form {
            PLAIN => ReadRun::Plain((0..count).map(|_| self.entry()).collect::<Option<Vec<_>>>()?),
            UNDER_KEY => ReadRun::Locked(LockedRun {
                wrapped: self.bytes()?.into(),
                leaves: (0..count).map(|_| Some(Hash(self.array()?))).collect::<Option<Vec<_>>>()?,
                sealed: self.bytes()?.into(),
            }),
            _ => return None,
        };
        Some(ReadPart { tenant, kind, first, run })
    }

    fn batch(&mut self, is_keyed: bool) -> Option<ReadBatch> {
        let facts = (0..self.u32()?).map(|_| self.fact()).collect::<Option<Vec<_>>>()?;
        let parts = (0..self.u32()?).map(|_| self.part(is_keyed)).collect::<Option<Vec<_>>>()?;
        // A batch without a key has one spelling: that of the first kind.
        let has_key = parts.iter().any(|part| matches!(part.run, ReadRun::Locked(_)));
        (has_key == is_keyed).then_some(ReadBatch { facts, parts })
    }

    fn group(&mut self) -> Option<GroupFrame> {
        let (index, epoch, previous_file, previous_offset) = (self.position()?, self.u64()?, self.u64()?, self.u64()?);
        let previous_root = Hash(self.array()?);
        let oldest = self.u64()?;
        let count = self.u32()?;
        let mut heads = Vec::new();
        for _ in 0..count {
            heads.push((self.name()?.to_string(), self.u64()?, Hash(self.array()?)));
        }
        Some(GroupFrame { index, epoch, previous_file, previous_offset, previous_root, oldest, heads })
    }

    fn takeover(&mut self) -> Option<Takeover> {
        let (epoch, previous_file, previous_offset, oldest) = (self.u64()?, self.u64()?, self.u64()?, self.u64()?);
        Some(Takeover { epoch, previous_file, previous_offset, oldest })
    }
}

/// What begins some bytes of the log.
#[derive(Debug)]
pub(super) enum Found {
    /// No whole and undamaged frame.
    Torn,
    /// A whole and undamaged frame that this program does not understand.
    Unknown,
    /// A frame and how many bytes it takes.
    Frame(Frame, usize),
}

/// The length of the body that a frame's header announces, when the header is whole and it may be so long.
pub(super) fn body_length(header: &[u8]) -> Option<u64> {
    let length = u32::from_le_bytes(*header.first_chunk::<4>().filter(|_| header.len() == HEADER)?);
    (length as usize <= LONGEST_BODY).then_some(length.into())
}

/// Reads what begins `bytes`. A body without a byte is torn: that is what zeros look like.
pub(super) fn read(bytes: &[u8]) -> Found {
    let Some(body) = checked_body(bytes).filter(|body| !body.is_empty()) else { return Found::Torn };
    match decode(body) {
        Some(frame) => Found::Frame(frame, HEADER + body.len()),
        None => Found::Unknown,
    }
}

fn decode(body: &[u8]) -> Option<Frame> {
    let mut cursor = Cursor(body);
    let frame = match cursor.take(1)? {
        [BATCH] => Frame::Batch(cursor.batch(false)?),
        [KEYED] => Frame::Batch(cursor.batch(true)?),
        [GROUP] => Frame::Group(cursor.group()?),
        [TAKEOVER] => Frame::Takeover(cursor.takeover()?),
        _ => return None,
    };
    cursor.0.is_empty().then_some(frame)
}

/// Whether an undamaged group frame begins `bytes`: cheap enough to be tried at every byte of a torn tail.
pub(super) fn group_at(bytes: &[u8]) -> Option<GroupFrame> {
    if bytes.get(HEADER) != Some(&GROUP) {
        return None;
    }
    match read(bytes) {
        Found::Frame(Frame::Group(group), _) => Some(group),
        _ => None,
    }
}

fn checked_body(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    let body = rest.get(..length).filter(|_| length <= LONGEST_BODY)?;
    (crc32c::crc32c(body) == u32::from_le_bytes(*crc)).then_some(body)
}
