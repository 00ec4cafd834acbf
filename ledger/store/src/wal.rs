//! The write-ahead log: one per store, all tenants. Files of frames; a group of frames per fsync.
//!
//! A frame is `u32 length, u32 CRC-32C` (little-endian, over the body) and a body, whose first byte says
//! what it is. A group is one or more batch frames and then its group frame; it counts only when its group
//! frame is whole. Each group frame names the end of the group before it, so that on reading, a bad frame
//! below a named end is damage (stop, say where, touch nothing) and above the last one a torn tail (cut).
//!
//! Not here: what the frames' entries mean to streams ([`crate::writer`], [`crate::recover`]).
//!
//! Invariant: what [`Log::commit_group`] returned for is durable, and all before it.

mod disk;
mod files;
mod frame;
mod read;

pub(crate) use disk::{DiskLog, LogFolder};
#[cfg(test)]
pub(crate) use files::LogFile;
pub(crate) use files::{DiskFiles, LogFiles};
pub(crate) use frame::{Batch, Fact, GroupFrame, Part};
pub(crate) use read::{ReplayedGroup, replay};

use crate::error::StoreError;

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    /// The file's number.
    pub file: u64,
    /// Bytes from its beginning.
    pub offset: u64,
}

fn file_name(number: u64) -> String {
    format!("{number:020}.log")
}

/// The log, open for appending.
#[derive(Debug)]
pub(crate) struct Log {
    place: DiskLog,
    last_group_end: Position,
    buffer: Vec<u8>,
}

impl Log {
    /// A log that goes on after the last group that was replayed.
    pub(crate) fn new(place: DiskLog, after: Position) -> Self {
        Self { place, last_group_end: after, buffer: Vec::new() }
    }

    /// Where the last durable group ended: what the next group frame names.
    pub(crate) fn last_group_end(&self) -> Position {
        self.last_group_end
    }

    /// The file being appended to.
    pub(crate) fn current_file(&self) -> u64 {
        self.place.current_file()
    }

    /// Where it is kept.
    pub(crate) fn place(&self) -> &DiskLog {
        &self.place
    }

    /// Adds a batch to the group being made. Nothing is written yet.
    pub(crate) fn add(&mut self, batch: &Batch<'_>) {
        frame::seal(&mut self.buffer, |out| batch.encode(out));
    }

    /// Writes the group. When this returns, it is durable.
    ///
    /// # Errors
    /// What of the group is durable is unknown: nothing may be written before [`Log::reopen`] has succeeded.
    pub(crate) fn commit_group(&mut self, group: &GroupFrame) -> Result<Position, StoreError> {
        frame::seal(&mut self.buffer, |out| group.encode(out));
        self.last_group_end = self.place.write(&self.buffer)?;
        self.buffer.clear();
        Ok(self.last_group_end)
    }

    /// Makes the log usable again after a failure; what of the group was written is gone then.
    ///
    /// # Errors
    /// It still fails, and may be tried again.
    pub(crate) fn reopen(&mut self) -> Result<(), StoreError> {
        self.buffer.clear();
        self.place.reopen()
    }
}

#[cfg(test)]
mod tests;
