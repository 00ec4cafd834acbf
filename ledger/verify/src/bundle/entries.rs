//! The entries of one stream, read in order while their leaves are recomputed on several threads.
//!
//! One thread unpacks and cuts lines, several parse and hash, the caller folds. Not here: the tree ([`super::stream`]).
//!
//! Invariants: entries reach the caller in the order of the archive; what is in memory is bounded by the number of
//! threads; the first fault in that order is the one that is told.

use super::archive::{Archive, broken};
use super::member::{self, unpackable};
use super::stream::form;
use crate::error::VerifyError;
use ledger::bundle::line::{LineReader, lines};
use ledger::bundle::{BundleError, LINE_BYTES, Member};
use ledger::name::StreamKind;
use ledger::sections::Sections;
use ledger::tree::Hash;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Bytes of lines that are handed from one thread to another at a time, about.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that are under way for each thread, from being read to being folded.
const AHEAD: usize = 2;

/// What the caller needs of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its sequence number.
    pub seq: u64,
    /// When it was recorded, in microseconds.
    pub recorded_at: i64,
    /// The hash of its leaf, recomputed.
    pub leaf: Hash,
    /// The sections that are shown.
    pub shown: Sections,
    /// The sections that are withheld.
    pub withheld: Sections,
    /// The sections that were redacted.
    pub redacted: Sections,
}

/// Whose entries they must be.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'w> {
    /// The tenant's name.
    pub tenant: &'w str,
    /// Of which stream.
    pub stream: StreamKind,
}

/// Lines of one member, and the number of the first, from 1.
struct Chunk<'m> {
    number: u64,
    member: &'m Member,
    first_line: u64,
    bytes: Vec<u8>,
}

type Parsed<'m> = Result<(&'m Member, u64, Vec<Seen>), VerifyError>;

/// Reads entries and hands them over in order, with where each stands: its file and line.
///
/// # Errors
/// A file is not what the manifest names, a line is no entry of this stream, or what `each` answers.
pub fn read(
    archive: &Archive,
    members: &[&Member],
    whose: Whose<'_>,
    mut each: impl FnMut(&Member, u64, Seen) -> Result<(), VerifyError>,
) -> Result<(), VerifyError> {
    let workers = thread::available_parallelism().map_or(1, |count| count.get().min(16));
    let most = AHEAD * workers;
    // A place is taken before a chunk is read and given back once it was folded; the channels have room for all of them.
    let (takes, places) = sync_channel(most);
    let (lines, chunks) = sync_channel(most);
    let (parsed, done) = sync_channel(most);
    let chunks = Mutex::new(chunks);
    let outcome = thread::scope(|scope| {
        scope.spawn(move || cut_all(archive, members, &takes, &lines));
        for _ in 0..workers {
            let (chunks, parsed) = (&chunks, parsed.clone());
            scope.spawn(move || work(chunks, &parsed, whose));
        }
        drop(parsed);
        // It takes the receivers along: with nobody to give places back, no more is read and the threads end.
        in_order(done, places, &mut each)
    });
    if matches!(outcome, Err(VerifyError::Newer { .. })) {
        // What looks like a later format may be a name that somebody changed: the manifest tells.
        members.iter().try_for_each(|member| member::compare(archive, member))?;
    }
    outcome
}

fn in_order(
    done: Receiver<(u64, Parsed<'_>)>,
    places: Receiver<()>,
    each: &mut impl FnMut(&Member, u64, Seen) -> Result<(), VerifyError>,
) -> Result<(), VerifyError> {
    let (mut next, mut waiting) = (0, BTreeMap::new());
    for (number, chunk) in done {
        waiting.insert(number, chunk);
        while let Some(chunk) = waiting.remove(&next) {
            next += 1;
            let (member, first_line, entries) = chunk?;
            for (line, seen) in (first_line..).zip(entries) {
                each(member, line, seen)?;
            }
            // What was read and failed took no place.
            let _ = places.try_recv();
        }
    }
    Ok(())
}

/// Lines, or why there are no more, each with its number.
type Cut<'m> = Result<Chunk<'m>, (u64, VerifyError)>;

fn work<'m>(chunks: &Mutex<Receiver<Cut<'m>>>, parsed: &SyncSender<(u64, Parsed<'m>)>, whose: Whose<'_>) {
    loop {
        let chunk = chunks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let (number, outcome) = match chunk {
            Ok(Ok(chunk)) => (chunk.number, parse(&chunk, whose).map(|seen| (chunk.member, chunk.first_line, seen))),
            Ok(Err((number, error))) => (number, Err(error)),
            Err(_) => return,
        };
        if parsed.send((number, outcome)).is_err() {
            return;
        }
    }
}

fn cut_all<'m>(archive: &Archive, members: &[&'m Member], takes: &SyncSender<()>, lines: &SyncSender<Cut<'m>>) {
    let mut number = 0;
    for member in members {
        let cut = cut(archive, member, |first_line, bytes| {
            let sent = takes.send(()).is_ok() && lines.send(Ok(Chunk { number, member, first_line, bytes })).is_ok();
            number += 1;
            sent
        });
        match cut {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return drop(lines.send(Err((number, error)))),
        }
    }
}

/// Reads a member and hands over whole lines; false when nobody takes them any more.
fn cut(
    archive: &Archive,
    member: &Member,
    mut hand_over: impl FnMut(u64, Vec<u8>) -> bool,
) -> Result<bool, VerifyError> {
    let mut reader = member::begin(archive, member)?;
    let (mut line, mut rest) = (1, Vec::new());
    loop {
        let had = rest.len();
        let mut bytes = Vec::with_capacity(had + CHUNK_BYTES + 1);
        bytes.append(&mut rest);
        let mut limited = reader.by_ref().take(CHUNK_BYTES as u64);
        let read = limited.read_to_end(&mut bytes).map_err(|error| unpackable(member, &error))?;
        if read == 0 {
            if had > 0 {
                return Err(broken(&member.name, format!("line {line} does not end in a line feed")));
            }
            reader.end()?;
            return Ok(true);
        }
        match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => rest = bytes.split_off(end + 1),
            None if bytes.len() > LINE_BYTES => {
                return Err(broken(&member.name, format!("line {line} is longer than any entry's")));
            }
            None => {
                rest = bytes;
                continue;
            }
        }
        let count = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        if !hand_over(line, bytes) {
            return Ok(false);
        }
        line += count;
    }
}

fn parse(chunk: &Chunk<'_>, whose: Whose<'_>) -> Result<Vec<Seen>, VerifyError> {
    let wrong = |line, why: &str| broken(&chunk.member.name, format!("line {line}: {why}"));
    let (mut seen, mut reader) = (Vec::new(), LineReader::default());
    for (text, line) in lines(&chunk.bytes).zip(chunk.first_line..) {
        let entry = reader.read(text).map_err(|error| match error {
            BundleError::Newer => form(&chunk.member.name, error),
            BundleError::Malformed(why) => wrong(line, why),
        })?;
        // That it is this tenant's and this stream's no leaf tells.
        if entry.draft.tenant() != whose.tenant || entry.draft.stream() != whose.stream {
            return Err(wrong(line, "it is of another tenant or stream"));
        }
        seen.push(Seen {
            seq: entry.seq,
            recorded_at: entry.draft.recorded_at(),
            leaf: entry.leaf(),
            shown: entry.shown(),
            withheld: entry.withheld(),
            redacted: entry.redacted(),
        });
    }
    Ok(seen)
}
