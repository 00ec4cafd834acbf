//! The write-ahead log: one per store, all tenants. Files of frames; a group of frames per fsync.
//!
//! A frame is `u32 length, u32 CRC-32C` (little-endian, over the body) and a body, whose first byte says
//! what it is. A group is one or more batch frames and then its group frame; it counts only when its group
//! frame is whole. Each group frame names the end of the group before it, so that on reading, a bad frame
//! below a named end is damage (stop, say where, touch nothing) and above the last one a torn tail (cut).
//!
//! Not here: what the frames' entries mean to streams ([`crate::writer`], [`crate::recover`]).
//!
//! Invariants: bytes are only appended; a file is deleted only when all it holds stands elsewhere;
//! what [`Log::commit_group`] returned for is on stable storage.

mod frame;
mod read;

pub(crate) use frame::{Batch, Fact, GroupFrame, Part};
pub(crate) use read::{Replayed, replay};

use crate::error::StoreError;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    /// The file's number.
    pub file: u64,
    /// Bytes from its beginning.
    pub offset: u64,
}

/// The folder of a log, held by an exclusive lock of the operating system for as long as this lives.
#[derive(Debug)]
pub(crate) struct LogFolder {
    path: PathBuf,
    id: String,
    lock: Arc<File>,
}

impl LogFolder {
    /// Takes the folder, and gives it an id when it is new.
    ///
    /// # Errors
    /// Another process holds it, or it cannot be written.
    pub(crate) fn take(path: &Path, new_id: impl FnOnce() -> String) -> Result<Self, StoreError> {
        make_folder(path).map_err(StoreError::file(path))?;
        let lock_path = path.join("lock");
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = open.map_err(StoreError::file(&lock_path))?;
        if lock.try_lock().is_err() {
            return Err(StoreError::Foreign {
                what: "the write-ahead log is in use by another process",
                found: "a held lock".into(),
                expected: "a free one; stop the other process first".into(),
            });
        }
        let id_path = path.join("id");
        if !id_path.exists() {
            let staged = path.join("id.new");
            let write = || -> std::io::Result<()> {
                let mut file = File::create(&staged)?;
                file.write_all(new_id().as_bytes())?;
                file.sync_all()?;
                fs::rename(&staged, &id_path)?;
                File::open(path)?.sync_all()
            };
            write().map_err(StoreError::file(&id_path))?;
        }
        let id = fs::read_to_string(&id_path).map_err(StoreError::file(&id_path))?;
        Ok(Self { path: path.into(), id, lock: Arc::new(lock) })
    }

    /// The lock, for whoever else writes on this log's behalf: it is given back when all have ended.
    pub(crate) fn lock(&self) -> Arc<File> {
        Arc::clone(&self.lock)
    }

    /// The log's id, which the store names as its owner.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    fn file_path(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:020}.log"))
    }

    /// Numbers of the files that are there, ascending.
    pub(crate) fn files(&self) -> Result<Vec<u64>, StoreError> {
        let listing = fs::read_dir(&self.path).map_err(StoreError::file(&self.path))?;
        let mut numbers = Vec::new();
        for entry in listing {
            let name = entry.map_err(StoreError::file(&self.path))?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(".log"));
            numbers.extend(digits.filter(|d| d.len() == 20).and_then(|d| d.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Deletes a file all of whose contents stand elsewhere.
    pub(crate) fn delete(&self, number: u64) -> Result<(), StoreError> {
        let path = self.file_path(number);
        fs::remove_file(&path).map_err(StoreError::file(&path))?;
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(StoreError::file(&path))
    }
}

/// Creates a folder so that its name is on stable storage too: a log that vanishes with its folder is lost.
fn make_folder(path: &Path) -> std::io::Result<()> {
    let new: Vec<&Path> = path.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.is_dir()).collect();
    fs::create_dir_all(path)?;
    for made in new {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// The log, open for appending.
#[derive(Debug)]
pub(crate) struct Log {
    folder: LogFolder,
    file: File,
    at: Position,
    last_group_end: Position,
    cut_at: u64,
    buffer: Vec<u8>,
}

impl Log {
    /// Goes on after what was replayed, in a new file: a torn tail is never appended to.
    ///
    /// # Errors
    /// The new file cannot be made durable.
    pub(crate) fn open(folder: LogFolder, after: Position, cut_at: u64) -> Result<Self, StoreError> {
        let numbers = folder.files()?;
        // Starts that wrote nothing leave an empty file each; the number of the last is not given again.
        for number in &numbers {
            if fs::metadata(folder.file_path(*number)).is_ok_and(|meta| meta.len() == 0) {
                folder.delete(*number)?;
            }
        }
        let number = numbers.last().map_or(0, |last| last + 1);
        let file = Self::new_file(&folder, number)?;
        let at = Position { file: number, offset: 0 };
        Ok(Self { folder, file, at, last_group_end: after, cut_at, buffer: Vec::new() })
    }

    fn new_file(folder: &LogFolder, number: u64) -> Result<File, StoreError> {
        let path = folder.file_path(number);
        let file = OpenOptions::new().create_new(true).append(true).open(&path).map_err(StoreError::file(&path))?;
        let sync = || file.sync_all().and_then(|()| File::open(&folder.path)?.sync_all());
        sync().map_err(StoreError::file(&path))?;
        Ok(file)
    }

    /// Where the last durable group ended: what the next group frame names.
    pub(crate) fn last_group_end(&self) -> Position {
        self.last_group_end
    }

    /// The file being appended to.
    pub(crate) fn current_file(&self) -> u64 {
        self.at.file
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &LogFolder {
        &self.folder
    }

    /// Adds a batch to the group being made. Nothing is written yet.
    pub(crate) fn add(&mut self, batch: &Batch<'_>) {
        frame::seal(&mut self.buffer, |out| batch.encode(out));
    }

    /// Writes the group and syncs it. When this returns, the group is on stable storage.
    ///
    /// # Errors
    /// The write or the sync failed: what of the group is on disk is unknown, so the log must not be used
    /// again. Reopening finds out.
    pub(crate) fn commit_group(&mut self, group: &GroupFrame) -> Result<Position, StoreError> {
        frame::seal(&mut self.buffer, |out| group.encode(out));
        let path = self.folder.file_path(self.at.file);
        // A crash before the sync ends may leave any prefix of the buffer: reading cuts it.
        self.file.write_all(&self.buffer).map_err(StoreError::file(&path))?;
        self.file.sync_data().map_err(StoreError::file(&path))?;
        // A crash from here on finds the group whole.
        self.at.offset += self.buffer.len() as u64;
        self.buffer.clear();
        self.last_group_end = self.at;
        if self.at.offset >= self.cut_at {
            self.file = Self::new_file(&self.folder, self.at.file + 1)?;
            self.at = Position { file: self.at.file + 1, offset: 0 };
        }
        Ok(self.last_group_end)
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
