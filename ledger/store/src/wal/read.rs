//! Reads the log after a stop: every whole group in order; a torn tail is cut, damage is reported.
//!
//! Not here: giving entries back to their streams ([`crate::recover`]).
//!
//! Invariant: nothing below the end of a group that a later group names is ever dropped.

use super::frame::{self, Found, Frame, GroupFrame, ReadBatch};
use super::{LogFolder, Position};
use crate::error::StoreError;
use std::fs::OpenOptions;

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

/// What the log held.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// The groups, in order.
    pub groups: Vec<ReplayedGroup>,
    /// The end of the last.
    pub end: Position,
    /// Bytes of a torn tail that were cut.
    pub cut_bytes: u64,
}

/// Reads all files of the log and cuts a torn tail off the last.
///
/// # Errors
/// [`StoreError::LogDamaged`] when bytes that were durable do not hold, [`StoreError::Newer`] at a whole frame that
/// is not understood; the log is left as it is.
pub(crate) fn replay(folder: &LogFolder) -> Result<Replayed, StoreError> {
    let mut out = Replayed::default();
    let files = folder.files()?;
    for (at, number) in files.iter().enumerate() {
        let path = folder.file_path(*number);
        let bytes = std::fs::read(&path).map_err(StoreError::file(&path))?;
        let is_last = files[at + 1..].iter().all(|later| is_empty(folder, *later));
        let good = read_file(&bytes, *number, &mut out)?;
        if good == bytes.len() {
            continue;
        }
        let damaged = |why| StoreError::LogDamaged { file: format!("{number:020}.log"), offset: good as u64, why };
        if !is_last {
            return Err(damaged("a frame is bad, and a later file of the log shows that it was durable"));
        }
        if names_later_end(&bytes[good..], *number, good as u64) {
            return Err(damaged("a frame is bad, and a later group shows that it was durable"));
        }
        out.cut_bytes += (bytes.len() - good) as u64;
        cut(folder, *number, good as u64)?;
    }
    Ok(out)
}

fn is_empty(folder: &LogFolder, number: u64) -> bool {
    std::fs::metadata(folder.file_path(number)).is_ok_and(|meta| meta.len() == 0)
}

/// Reads whole groups from the front of a file and answers where the last of them ends.
fn read_file(bytes: &[u8], file: u64, out: &mut Replayed) -> Result<usize, StoreError> {
    let (mut good, mut at) = (0, 0);
    let mut batches = Vec::new();
    let damaged =
        |offset: usize, why| StoreError::LogDamaged { file: format!("{file:020}.log"), offset: offset as u64, why };
    loop {
        let (frame, length) = match frame::read(&bytes[at..]) {
            Found::Torn => break,
            Found::Unknown => {
                let object = format!("the write-ahead log {file:020}.log at byte {at}");
                return Err(StoreError::Newer { object, what: "a whole frame is not understood" });
            }
            Found::Frame(frame, length) => (frame, length),
        };
        at += length;
        match frame {
            Frame::Batch(batch) => batches.push(batch),
            Frame::Group(group) => {
                let named = Position { file: group.previous_file, offset: group.previous_offset };
                if !out.groups.is_empty() && named != out.end {
                    let why = "a group does not follow the one before it: bytes between them are gone";
                    return Err(damaged(good, why));
                }
                out.groups.push(ReplayedGroup { file, batches: std::mem::take(&mut batches), frame: group });
                good = at;
                out.end = Position { file, offset: at as u64 };
            }
        }
    }
    Ok(good)
}

/// Whether some whole group behind a bad frame names an end at or beyond the bad frame.
fn names_later_end(tail: &[u8], file: u64, bad: u64) -> bool {
    (0..tail.len()).filter_map(|at| frame::group_at(&tail[at..])).any(|group| {
        let ends_here = group.previous_file == file && group.previous_offset > bad;
        ends_here || group.previous_file > file
    })
}

fn cut(folder: &LogFolder, number: u64, length: u64) -> Result<(), StoreError> {
    let path = folder.file_path(number);
    let cut = || -> std::io::Result<()> {
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(length)?;
        file.sync_all()
    };
    cut().map_err(StoreError::file(&path))
}
