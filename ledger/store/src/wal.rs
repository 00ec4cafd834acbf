//! The write-ahead log: one per store, all tenants. Files of frames on a local disk with a group per fsync, or
//! objects in the store with a group each.
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
mod locked;
mod objects;
mod read;

pub(crate) use disk::{DiskLog, LogFolder};
#[cfg(test)]
pub(crate) use files::LogFile;
pub(crate) use files::{DiskFiles, LogFiles};
pub(crate) use frame::{Batch, Fact, GroupFrame, Part, ReadRun, Run};
pub(crate) use locked::LockedRun;
pub(crate) use objects::{ObjectLog, ObjectLogReader};
pub(crate) use read::{ReplayedGroup, replay};

use crate::error::StoreError;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

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

/// Where a group was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// Where it ends.
    pub end: Position,
    /// The file, or the first number of the run of objects, which is trimmed as one.
    pub file: u64,
}

/// Where a log is kept.
#[derive(Debug)]
pub(crate) enum Place {
    /// In files on a local disk.
    Disk(DiskLog),
    /// In objects of the store.
    Objects(ObjectLog),
}

/// The log, open for appending.
#[derive(Debug)]
pub(crate) struct Log {
    place: Place,
    last_end: Position,
    buffer: Vec<u8>,
}

impl Log {
    /// A log that goes on after the last group that was replayed.
    pub(crate) fn new(place: Place, after: Position) -> Self {
        Self { place, last_end: after, buffer: Vec::new() }
    }

    /// Where what is durable ends: what the next group frame names.
    pub(crate) fn last_end(&self) -> Position {
        self.last_end
    }

    /// The file being appended to.
    pub(crate) fn current_file(&self) -> u64 {
        match &self.place {
            Place::Disk(log) => log.current_file(),
            Place::Objects(log) => log.current_file(),
        }
    }

    /// Sees to it that what is written from here on is not in a file with what was written before.
    pub(crate) fn turn_over(&mut self) {
        match &mut self.place {
            Place::Disk(log) => log.turn_over(),
            Place::Objects(log) => log.turn_over(),
        }
    }

    /// The lock of its folder, if it has one.
    pub(crate) fn lock(&self) -> Option<Arc<File>> {
        match &self.place {
            Place::Disk(log) => Some(log.folder().lock()),
            Place::Objects(_) => None,
        }
    }

    /// Whether its disk is full, and what is written goes into what was kept in reserve.
    pub(crate) fn is_full(&self) -> bool {
        matches!(&self.place, Place::Disk(log) if log.is_full())
    }

    /// Why the next file could not be begun, if so; said once.
    pub(crate) fn unbegun(&mut self) -> Option<StoreError> {
        match &mut self.place {
            Place::Disk(log) => log.unbegun(),
            Place::Objects(_) => None,
        }
    }

    /// Tries to set the reserve aside again.
    pub(crate) fn refill(&mut self) {
        if let Place::Disk(log) = &mut self.place {
            log.refill();
        }
    }

    /// The epoch of whoever took the log over, if somebody has.
    pub(crate) fn overtaken(&self) -> Option<u64> {
        match &self.place {
            Place::Disk(_) => None,
            Place::Objects(log) => log.overtaken(),
        }
    }

    /// Deletes what files from one on and below another hold: it stands elsewhere.
    ///
    /// # Errors
    /// The file stays.
    pub(crate) fn release(&mut self, files: Range<u64>) -> Result<(), StoreError> {
        match &mut self.place {
            Place::Disk(log) => log.delete(files.start),
            Place::Objects(log) => {
                log.release(files);
                Ok(())
            }
        }
    }

    /// Adds a batch to the group being made. Nothing is written yet.
    pub(crate) fn add(&mut self, batch: &Batch<'_>) {
        frame::seal(&mut self.buffer, |out| batch.encode(out));
    }

    /// Writes the group. When this returns, it is durable.
    ///
    /// # Errors
    /// What of the group is durable is unknown: nothing may be written before [`Log::reopen`] has told.
    pub(crate) fn commit_group(&mut self, group: &GroupFrame) -> Result<Written, StoreError> {
        frame::seal(&mut self.buffer, |out| group.encode(out));
        let written = match &mut self.place {
            Place::Disk(log) => log.write(&self.buffer)?,
            Place::Objects(log) => log.write(&self.buffer, group.oldest)?,
        };
        self.last_end = written.end;
        self.buffer.clear();
        Ok(written)
    }

    /// Makes the log usable again after a failure, and tells what became of the group that failed: where it is
    /// durable, or nothing when it is gone.
    ///
    /// # Errors
    /// It still fails, and may be tried again; but not when it is [`StoreError::Fenced`].
    pub(crate) fn reopen(&mut self) -> Result<Option<Written>, StoreError> {
        let written = match &mut self.place {
            Place::Disk(log) => log.reopen().map(|()| None)?,
            Place::Objects(log) => log.settle()?,
        };
        self.buffer.clear();
        self.last_end = written.map_or(self.last_end, |written| written.end);
        Ok(written)
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
