//! Which event ids a stream has sealed: a filter in memory and a sorted file on the local disk per run.
//!
//! An id is known by the first eight bytes of its SHA-256. The filter (1.5 bytes an id) answers most
//! questions about new ids; the file settles nearly all others; only when the eight bytes match is a
//! segment opened. Not here: unsealed ids ([`crate::writer`]), comparing contents ([`crate::precheck`]).
//!
//! Invariants: a run has no false negatives; its file is a cache that [`IdRun::build`] makes anew from the
//! segment, so it is never synced, and a damaged one is as good as none.

use crate::error::StoreError;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"PRLIDS\x00\x01";
/// Magic, count, newest, checksum of all that follows.
const HEADER: usize = 8 + 8 + 8 + 4;
const FILTER_BITS_PER_ID: usize = 12;
const FILTER_PROBES: u64 = 5;
/// Runs are merged up to this many ids, and a filter of 6 MiB.
const MERGED_IDS: usize = 4 << 20;

/// What stands in the place of an entry that is gone, among the fingerprints of a run.
pub(crate) const NONE: u64 = 0;

/// Sequence numbers by fingerprint, for ids that are not sealed.
pub(crate) type Fingerprints = HashMap<u64, u64, Scatter>;

/// Scatters fingerprints over a table by a secret of this process: whoever sends ids can compute fingerprints, and
/// must not be able to choose where they fall.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scatter {
    mask: u64,
    factor: u64,
}

impl Default for Scatter {
    fn default() -> Self {
        // The secret that the standard library gives each table; nothing that is kept or shown depends on it.
        let secret = HashMap::<u64, u64>::new();
        Self { mask: secret.hasher().hash_one(0), factor: secret.hasher().hash_one(1) | 1 }
    }
}

impl BuildHasher for Scatter {
    type Hasher = Scattered;
    fn build_hasher(&self) -> Scattered {
        Scattered { by: *self, hash: 0 }
    }
}

/// The hash of one fingerprint.
#[derive(Debug)]
pub(crate) struct Scattered {
    by: Scatter,
    hash: u64,
}

impl Hasher for Scattered {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, fingerprint: u64) {
        let wide = u128::from(self.hash ^ fingerprint ^ self.by.mask) * u128::from(self.by.factor);
        self.hash = (wide >> 64) as u64 ^ wide as u64;
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

/// The sealed ids of a contiguous run of entries.
#[derive(Debug)]
pub(crate) struct IdRun {
    /// First sequence number.
    pub first: u64,
    /// One past the last.
    pub end: u64,
    /// The newest `recorded_at` in it, in microseconds.
    pub newest: i64,
    filter: Vec<u64>,
    count: usize,
    file: File,
    ids_at: u64,
}

fn probes(fingerprint: u64, bits: u64) -> impl Iterator<Item = u64> {
    // The fingerprint is uniform, so its halves are as good as two hashes.
    let (a, b) = (fingerprint >> 32, (fingerprint & 0xffff_ffff) | 1);
    (0..FILTER_PROBES).map(move |i| a.wrapping_add(i.wrapping_mul(b)).wrapping_mul(0x9e37_79b9_7f4a_7c15) % bits)
}

fn empty_filter(ids: usize) -> Vec<u64> {
    vec![0; (ids * FILTER_BITS_PER_ID).div_ceil(64).max(1)]
}

fn note(filter: &mut [u64], fingerprint: u64) {
    for bit in probes(fingerprint, 64 * filter.len() as u64) {
        filter[(bit / 64) as usize] |= 1 << (bit % 64);
    }
}

fn create(path: &Path) -> std::io::Result<File> {
    std::fs::create_dir_all(path.parent().unwrap_or(path))?;
    File::options().read(true).write(true).create(true).truncate(true).open(path)
}

/// Ids of a run that are read, or bytes that are written, together.
const PIECE: usize = 8_192;

/// The fingerprints of a run with how far from the first their entries are, ascending.
struct Ascending<'r> {
    run: &'r IdRun,
    shift: u32,
    /// How many were read.
    read: usize,
    piece: VecDeque<(u64, u32)>,
}

impl<'r> Ascending<'r> {
    fn of(run: &'r IdRun, shift: u32) -> Self {
        Self { run, shift, read: 0, piece: VecDeque::new() }
    }

    fn peek(&mut self) -> std::io::Result<Option<(u64, u32)>> {
        let count = PIECE.min(self.run.count - self.read);
        if self.piece.is_empty() && count > 0 {
            let (mut ids, mut at) = (vec![0; 8 * count], vec![0; 4 * count]);
            let (ids_at, read) = (self.run.ids_at, self.read as u64);
            self.run.file.read_exact_at(&mut ids, ids_at + 8 * read)?;
            self.run.file.read_exact_at(&mut at, ids_at + 8 * self.run.count as u64 + 4 * read)?;
            let (ids, at) = (ids.as_chunks::<8>().0, at.as_chunks::<4>().0);
            let pairs = ids.iter().zip(at).map(|(id, at)| (u64::from_le_bytes(*id), u32::from_le_bytes(*at)));
            self.piece.extend(pairs.map(|(id, at)| (id, at + self.shift)));
            self.read += count;
        }
        Ok(self.piece.front().copied())
    }

    fn take(&mut self) -> Option<(u64, u32)> {
        self.piece.pop_front()
    }
}

/// Bytes that are written from some place in a file on.
struct Piece {
    to: u64,
    bytes: Vec<u8>,
}

impl Piece {
    fn new(to: u64) -> Self {
        Self { to, bytes: Vec::with_capacity(PIECE + 8) }
    }

    fn put(&mut self, file: &File, bytes: &[u8]) -> std::io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() < PIECE { Ok(()) } else { self.flush(file) }
    }

    fn flush(&mut self, file: &File) -> std::io::Result<()> {
        file.write_all_at(&self.bytes, self.to)?;
        self.to += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

impl IdRun {
    /// Builds a run from fingerprints in order of sequence, and writes its file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn build(path: &Path, first: u64, newest: i64, fingerprints: &[u64]) -> Result<Self, StoreError> {
        let mut ids: Vec<_> = fingerprints.iter().zip(0u32..).map(|(id, at)| (*id, at)).collect();
        ids.sort_unstable();
        Self::write(path, first, newest, &ids)
    }

    /// Makes one run of two that follow each other, a piece at a time. Its file has no name: it is gone with the
    /// process, and the next start makes it anew from those of the segments.
    fn merge(folder: &Path, older: &Self, newer: &Self) -> Result<Self, StoreError> {
        let path = folder.join("merged.ids");
        let merge = || -> std::io::Result<Self> {
            let count = older.count + newer.count;
            let file = create(&path)?;
            std::fs::remove_file(&path)?;
            let mut filter = empty_filter(count);
            let (mut ids, mut at) = (Piece::new(0), Piece::new(8 * count as u64));
            let shift = (newer.first - older.first) as u32;
            let (mut left, mut right) = (Ascending::of(older, 0), Ascending::of(newer, shift));
            loop {
                let from_left = match (left.peek()?, right.peek()?) {
                    (Some(a), Some(b)) => a <= b,
                    (a, _) => a.is_some(),
                };
                let Some((id, place)) = (if from_left { left.take() } else { right.take() }) else { break };
                note(&mut filter, id);
                ids.put(&file, &id.to_le_bytes())?;
                at.put(&file, &place.to_le_bytes())?;
            }
            ids.flush(&file)?;
            at.flush(&file)?;
            let newest = older.newest.max(newer.newest);
            Ok(Self { first: older.first, end: newer.end, newest, filter, count, file, ids_at: 0 })
        };
        merge().map_err(StoreError::file(&path))
    }

    /// Writes the file of these ids, which ascend.
    fn write(path: &Path, first: u64, newest: i64, ids: &[(u64, u32)]) -> Result<Self, StoreError> {
        let mut filter = empty_filter(ids.len());
        ids.iter().for_each(|(id, _)| note(&mut filter, *id));
        let words = filter.len();
        let mut body = Vec::with_capacity(8 * words + 12 * ids.len());
        filter.iter().for_each(|word| body.extend_from_slice(&word.to_le_bytes()));
        ids.iter().for_each(|(id, _)| body.extend_from_slice(&id.to_le_bytes()));
        ids.iter().for_each(|(_, at)| body.extend_from_slice(&at.to_le_bytes()));
        let mut head = Vec::with_capacity(HEADER);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&(ids.len() as u64).to_le_bytes());
        head.extend_from_slice(&newest.to_le_bytes());
        head.extend_from_slice(&crc32c::crc32c_append(crc32c::crc32c(&head), &body).to_le_bytes());
        // A segment that was rewritten by itself has the entries that it had, and so the same name here: whoever reads the
        // file that was there reads it to the end.
        let staged = path.with_extension("new");
        let write = || -> std::io::Result<File> {
            let mut file = create(&staged)?;
            file.write_all(&head)?;
            file.write_all(&body)?;
            std::fs::rename(&staged, path)?;
            Ok(file)
        };
        let file = write().map_err(StoreError::file(path))?;
        let end = first + ids.len() as u64;
        Ok(Self { first, end, newest, filter, count: ids.len(), file, ids_at: (HEADER + 8 * words) as u64 })
    }

    /// Opens a run's file; `None` when it is missing, damaged, or of other entries.
    pub(crate) fn open(path: &Path, first: u64, end: u64) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let (head, body) = bytes.split_at_checked(HEADER)?;
        let count = u64::from_le_bytes(head[8..16].try_into().ok()?);
        let newest = i64::from_le_bytes(head[16..24].try_into().ok()?);
        let crc = u32::from_le_bytes(head[24..28].try_into().ok()?);
        let ids = usize::try_from(count).ok()?;
        let words = ids.checked_mul(FILTER_BITS_PER_ID)?.div_ceil(64).max(1);
        let length = words.checked_mul(8)?.checked_add(ids.checked_mul(12)?)?;
        let whole = head[..8] == MAGIC && count == end - first && body.len() == length;
        if !whole || crc32c::crc32c_append(crc32c::crc32c(&head[..24]), body) != crc {
            return None;
        }
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
        let filter = body[..8 * words].chunks_exact(8).map(word).collect();
        let (fingerprints, at) = body[8 * words..].split_at(8 * ids);
        let at = at.chunks_exact(4).map(|at| at.try_into().map(u32::from_le_bytes).unwrap_or_default());
        // A whole file of other contents would send readers beyond the run.
        if !fingerprints.chunks_exact(8).map(word).is_sorted() || at.into_iter().any(|at| u64::from(at) >= count) {
            return None;
        }
        let file = File::open(path).ok()?;
        let ids_at = (HEADER + 8 * words) as u64;
        Some(Self { first, end, newest, filter, count: ids, file, ids_at })
    }

    /// Whether the run may hold the id; never false for one that it holds.
    pub(crate) fn may_hold(&self, fingerprint: u64) -> bool {
        let bits = 64 * self.filter.len() as u64;
        probes(fingerprint, bits).all(|bit| self.filter[(bit / 64) as usize] >> (bit % 64) & 1 == 1)
    }

    fn id_at(&self, at: usize) -> std::io::Result<u64> {
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, self.ids_at + 8 * at as u64)?;
        Ok(u64::from_le_bytes(word))
    }

    /// The sequence numbers of entries whose ids have this fingerprint.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn find(&self, fingerprint: u64) -> std::io::Result<Vec<u64>> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.id_at(middle)? < fingerprint { low = middle + 1 } else { high = middle }
        }
        let mut found = Vec::new();
        while low < self.count && self.id_at(low)? == fingerprint {
            let mut at = [0; 4];
            let offsets = self.ids_at + 8 * self.count as u64;
            self.file.read_exact_at(&mut at, offsets + 4 * low as u64)?;
            found.push(self.first + u64::from(u32::from_le_bytes(at)));
            low += 1;
        }
        Ok(found)
    }
}

/// Adds a run after the others, and merges from the end on while the run before is not over twice as large: so
/// there are about as many runs as the logarithm of their ids, and each id is written as often.
///
/// # Errors
/// A file cannot be read or written; the runs are as they were, or merged in part.
pub(crate) fn add_run(folder: &Path, runs: &mut Vec<Arc<IdRun>>, new: Arc<IdRun>) -> Result<(), StoreError> {
    runs.push(new);
    while let [.., older, newer] = &runs[..] {
        let follows = older.end == newer.first && older.count + newer.count <= MERGED_IDS;
        if !follows || older.count > 2 * newer.count {
            break;
        }
        let merged = IdRun::merge(folder, older, newer)?;
        runs.truncate(runs.len() - 2);
        runs.push(Arc::new(merged));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::leaf::id_fingerprint;

    #[test]
    fn a_run_that_is_made_again_does_not_disturb_who_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.ids");
        let ids: Vec<u64> = (0..9_000).map(|n| id_fingerprint(&format!("e-{n}"))).collect();
        let run = IdRun::build(&path, 0, 0, &ids).unwrap();
        IdRun::build(&path, 0, 0, &ids[..1]).unwrap();
        assert!(ids.iter().zip(0..).all(|(id, seq)| run.find(*id).unwrap() == [seq]));
        assert!(std::fs::read_dir(folder.path()).unwrap().count() == 1);
    }

    #[test]
    fn merged_runs_are_few_and_know_what_each_knew() {
        let folder = tempfile::tempdir().unwrap();
        let mut runs = Vec::new();
        let mut all = Vec::new();
        for (n, count) in [500, 20, 30, 900, 1, 1, 1, 1, 400, 3, 70, 2_000].into_iter().enumerate() {
            let first = all.len() as u64;
            let ids: Vec<u64> = (0..count).map(|at| id_fingerprint(&format!("{n}-{at}"))).collect();
            let run = IdRun::build(&folder.path().join(format!("{n}.ids")), first, n as i64, &ids).unwrap();
            all.extend(ids);
            add_run(folder.path(), &mut runs, Arc::new(run)).unwrap();
        }
        assert_eq!((runs.len(), runs[0].newest, runs[0].end), (1, 11, all.len() as u64));
        for (seq, id) in all.iter().enumerate() {
            assert!(runs[0].may_hold(*id) && runs[0].find(*id).unwrap() == [seq as u64]);
        }
        assert!(!folder.path().join("merged.ids").exists());
    }

    #[test]
    fn runs_find_what_they_hold_and_little_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acme/audit.ids");
        let mut ids: Vec<u64> = (0..20_000).map(|n| id_fingerprint(&format!("e-{n}"))).collect();
        ids[19_999] = ids[3];
        let built = IdRun::build(&path, 100, 77, &ids).unwrap();
        let opened = IdRun::open(&path, 100, 20_100).unwrap();
        for run in [&built, &opened] {
            assert_eq!((run.newest, run.end), (77, 20_100));
            assert_eq!(run.find(ids[3]).unwrap(), [103, 20_099]);
            for (at, id) in ids.iter().enumerate().step_by(7) {
                assert!(run.may_hold(*id) && run.find(*id).unwrap().contains(&(100 + at as u64)));
            }
        }
        let strangers = (0..20_000).map(|n| id_fingerprint(&format!("x-{n}")));
        let passed: Vec<u64> = strangers.filter(|id| built.may_hold(*id)).collect();
        assert!(passed.len() < 200, "{} of 20,000 strangers pass the filter", passed.len());
        assert!(passed.iter().all(|id| built.find(*id).unwrap().is_empty()));
    }

    #[test]
    fn a_file_that_was_made_up_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.ids");
        let write = |count: u64, body: &[u8]| {
            let head = [&MAGIC[..], &count.to_le_bytes(), &1i64.to_le_bytes()].concat();
            let crc = crc32c::crc32c_append(crc32c::crc32c(&head), body);
            std::fs::write(&path, [&head[..], &crc.to_le_bytes(), body].concat()).unwrap();
        };
        let body = |ids: [u64; 2], at: [u32; 2]| {
            let ids = ids.iter().flat_map(|id| id.to_le_bytes());
            [0; 8].into_iter().chain(ids).chain(at.iter().flat_map(|at| at.to_le_bytes())).collect::<Vec<u8>>()
        };
        write(2, &body([1, 2], [1, 0]));
        assert!(IdRun::open(&path, 0, 2).is_some());
        for (ids, at) in [([2, 1], [0, 1]), ([1, 2], [0, 2]), ([1, 2], [u32::MAX, 0])] {
            write(2, &body(ids, at));
            assert!(IdRun::open(&path, 0, 2).is_none(), "{ids:?} {at:?}");
        }
        for count in [u64::MAX, u64::MAX / 12, 1 << 60] {
            write(count, b"");
            assert!(IdRun::open(&path, 0, count).is_none());
        }
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.ids");
        IdRun::build(&path, 0, 1, &[1, 2, 3]).unwrap();
        assert!(IdRun::open(&path, 0, 4).is_none() && IdRun::open(&folder.path().join("y"), 0, 3).is_none());
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            assert!(IdRun::open(&path, 0, 3).is_none(), "byte {at}");
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(IdRun::open(&path, 0, 3).is_none());
    }
}
