//! Reads the log after a stop, group by group: a torn tail is cut, damage is reported, and what is kept of the
//! last file is made durable anew.
//!
//! Not here: giving entries back to their streams ([`crate::recover`]).
//!
//! Invariants: nothing below the end of a group that a later group names is ever dropped; no more than one
//! group is held in memory; what was read counts only once [`replay`] has returned.

use super::files::LogFile;
use super::frame::{self, Found, Frame, GroupFrame, ReadBatch};
use super::{LogFolder, Position, file_name};
use crate::error::StoreError;
use std::io::Read;

/// One whole group.
#[derive(Debug)]
pub(crate) struct ReplayedGroup {
    /// In which file it stands.
    pub file: u64,
    /// Its batches.
    pub batches: Vec<ReadBatch>,
    /// Its end.
    pub frame: GroupFrame,
}

/// Who is given the groups, in order.
pub(crate) type Visit<'v> = dyn FnMut(ReplayedGroup) -> Result<(), StoreError> + Send + 'v;

/// What the log held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// The end of the last group; none when there is no group.
    pub end: Option<Position>,
    /// Bytes of a torn tail that were cut.
    pub cut_bytes: u64,
}

/// The name under which the last file is written anew.
const RENEWED: &str = "renewed";

/// Reads all files of the log, cuts a torn tail off the last, and makes the last durable.
///
/// What a process wrote and could not sync is read back all the same: from the page cache, where a failed sync
/// leaves it, counted as clean, so that another sync has nothing to do and says yes. After a power cut it would be
/// gone. Only the last file can hold such bytes, because no log goes on after a failed sync but in a new file that
/// [`super::DiskLog`] begins once the old one was cut to what had been synced. So the groups of the last file are
/// written to a new file as they are read and checked, that file is synced, and it takes the old one's name.
///
/// # Errors
/// [`StoreError::LogDamaged`] when bytes that were durable do not hold, [`StoreError::Newer`] at a whole frame that
/// is not understood; the log is left as it is.
pub(crate) fn replay(folder: &LogFolder, visit: &mut Visit<'_>) -> Result<Replayed, StoreError> {
    let mut out = Replayed::default();
    let files: Vec<(u64, u64)> = folder.files()?.into_iter().filter(|(_, length)| *length > 0).collect();
    for (at, (number, length)) in files.iter().enumerate() {
        let name = file_name(*number);
        let is_last = at + 1 == files.len();
        let mut renewed = if is_last { Some(begin_renewal(folder)?) } else { None };
        let bytes = folder.files.read(&name, 0).map_err(folder.failed(&name))?;
        let mut reader = Reader { bytes, name: &name, file: *number, end: &mut out.end, visit: &mut *visit };
        let good = reader.read(renewed.as_deref_mut().map(|file| file as &mut dyn LogFile))?;
        if good < *length {
            let damaged = |why| StoreError::LogDamaged { file: name.clone(), offset: good, why };
            if !is_last {
                return Err(damaged("a frame is bad, and a later file of the log shows that it was durable"));
            }
            let mut tail = Vec::new();
            let read = folder.files.read(&name, good).and_then(|mut rest| rest.read_to_end(&mut tail));
            read.map_err(folder.failed(&name))?;
            if names_later_end(&tail, *number, good) {
                return Err(damaged("a frame is bad, and a later group shows that it was durable"));
            }
            out.cut_bytes = length - good;
        }
        if let Some(mut file) = renewed {
            let renew = file.sync().and_then(|()| folder.files.rename(RENEWED, &name));
            // A crash before the rename leaves the old file; after it, the new one, which is durable.
            renew.and_then(|()| folder.files.sync_folder()).map_err(folder.failed(&name))?;
        }
    }
    Ok(out)
}

fn begin_renewal(folder: &LogFolder) -> Result<Box<dyn LogFile>, StoreError> {
    let is_left = folder.files.list().map(|files| files.iter().any(|(name, _)| name == RENEWED));
    if is_left.map_err(folder.failed(RENEWED))? {
        folder.files.delete(RENEWED).map_err(folder.failed(RENEWED))?;
    }
    folder.files.create(RENEWED).map_err(folder.failed(RENEWED))
}

/// Reads one file.
struct Reader<'a, 'v> {
    bytes: Box<dyn Read + Send>,
    name: &'a str,
    file: u64,
    end: &'a mut Option<Position>,
    visit: &'a mut Visit<'v>,
}

impl Reader<'_, '_> {
    /// Reads whole groups from the front of the file, and answers where the last of them ends. Each group that
    /// holds is appended to `copy`.
    fn read(&mut self, mut copy: Option<&mut dyn LogFile>) -> Result<u64, StoreError> {
        let (mut good, mut at) = (0, 0);
        let mut batches = Vec::new();
        let (mut raw, mut group_bytes) = (Vec::new(), Vec::new());
        loop {
            self.next_frame(&mut raw)?;
            let frame = match frame::read(&raw) {
                Found::Torn => return Ok(good),
                Found::Unknown => {
                    let object = format!("the write-ahead log {} at byte {at}", self.name);
                    return Err(StoreError::Newer { object, what: "a whole frame is not understood".into() });
                }
                Found::Frame(frame, _) => frame,
            };
            at += raw.len() as u64;
            if copy.is_some() {
                group_bytes.extend_from_slice(&raw);
            }
            match frame {
                Frame::Batch(batch) => batches.push(batch),
                Frame::Takeover(_) => {
                    return Err(self.damaged(good, "it holds a takeover, which only a log of objects has"));
                }
                Frame::Group(frame) => {
                    let named = Position { file: frame.previous_file, offset: frame.previous_offset };
                    if self.end.is_some_and(|end| end != named) {
                        let why = "a group does not follow the one before it: bytes between them are gone";
                        return Err(self.damaged(good, why));
                    }
                    (self.visit)(ReplayedGroup { file: self.file, batches: std::mem::take(&mut batches), frame })?;
                    if let Some(copy) = &mut copy {
                        copy.append(&group_bytes).map_err(|source| self.failed(source))?;
                        group_bytes.clear();
                    }
                    good = at;
                    *self.end = Some(Position { file: self.file, offset: at });
                }
            }
        }
    }

    /// Reads the bytes of the next frame, or what there is of it.
    fn next_frame(&mut self, raw: &mut Vec<u8>) -> Result<(), StoreError> {
        raw.clear();
        let mut take = |count: u64, raw: &mut Vec<u8>| (&mut self.bytes).take(count).read_to_end(raw);
        let mut read = take(frame::HEADER as u64, raw);
        if let Some(length) = frame::body_length(raw) {
            read = read.and_then(|_| take(length, raw));
        }
        read.map(drop).map_err(|source| self.failed(source))
    }

    fn damaged(&self, offset: u64, why: &'static str) -> StoreError {
        StoreError::LogDamaged { file: self.name.into(), offset, why }
    }

    fn failed(&self, source: std::io::Error) -> StoreError {
        StoreError::File { path: self.name.into(), source }
    }
}

/// Whether some whole group behind a bad frame names an end at or beyond the bad frame.
fn names_later_end(tail: &[u8], file: u64, bad: u64) -> bool {
    (0..tail.len()).filter_map(|at| frame::group_at(&tail[at..])).any(|group| {
        let ends_here = group.previous_file == file && group.previous_offset > bad;
        ends_here || group.previous_file > file
    })
}
