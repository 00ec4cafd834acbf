//! The log on a local disk: numbered files in a folder that one process holds.
//!
//! Not here: frames ([`super::frame`]), reading after a stop ([`super::read`]).
//!
//! Invariants: bytes are only appended, and cut off again only when nobody was told of them; a file is deleted
//! only when all it holds stands elsewhere; what [`DiskLog::write`] returned for is on stable storage.

use super::files::{LogFile, LogFiles};
use super::{Position, Written, file_name};
use crate::error::StoreError;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of a log, held by an exclusive lock of the operating system for as long as this lives.
#[derive(Debug)]
pub(crate) struct LogFolder {
    pub(super) files: Arc<dyn LogFiles>,
    id: String,
    lock: Arc<File>,
}

impl LogFolder {
    /// Takes the folder, and gives it an id when it is new.
    ///
    /// # Errors
    /// Another process holds it, or it cannot be written.
    pub(crate) fn take(
        path: &Path,
        files: Arc<dyn LogFiles>,
        new_id: impl FnOnce() -> String,
    ) -> Result<Self, StoreError> {
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
        let id_path = id_path(path);
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
        Ok(Self { files, id, lock: Arc::new(lock) })
    }

    /// Whether a log was ever made here.
    pub(crate) fn is_made(path: &Path) -> bool {
        id_path(path).exists()
    }

    /// The lock, for whoever else writes on this log's behalf: it is given back when all have ended.
    pub(crate) fn lock(&self) -> Arc<File> {
        Arc::clone(&self.lock)
    }

    /// The log's id, which the store names as its owner.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Numbers and lengths of the files that are there, ascending.
    pub(crate) fn files(&self) -> Result<Vec<(u64, u64)>, StoreError> {
        let listed = self.files.list().map_err(self.failed("wal"))?;
        let number = |name: &str| {
            let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 20);
            digits.and_then(|digits| digits.parse::<u64>().ok())
        };
        let mut numbered: Vec<_> = listed.iter().filter_map(|(name, len)| Some((number(name)?, *len))).collect();
        numbered.sort_unstable();
        Ok(numbered)
    }

    /// For `map_err` on a call about a file of this folder.
    pub(super) fn failed(&self, name: &str) -> impl FnOnce(std::io::Error) -> StoreError + use<> {
        StoreError::file_named(name.into())
    }

    fn delete(&self, number: u64) -> Result<(), StoreError> {
        let name = file_name(number);
        let deleted = self.files.delete(&name).or_else(|error| match error.kind() {
            // It was deleted before, and the sync or the answer failed.
            ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        });
        deleted.and_then(|()| self.files.sync_folder()).map_err(self.failed(&name))
    }
}

/// Whether a disk refuses for want of room.
fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn id_path(folder: &Path) -> PathBuf {
    folder.join("id")
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

/// The log's files, open for appending.
#[derive(Debug)]
pub(crate) struct DiskLog {
    folder: LogFolder,
    /// The file being appended to; none when the next could not be begun.
    file: Option<Box<dyn LogFile>>,
    /// Why it could not.
    unbegun: Option<StoreError>,
    /// The end of what is on stable storage.
    at: Position,
    cut_at: u64,
    /// Bytes of the reserve.
    reserve: u64,
    /// Whether the disk was full, and the reserve was given up.
    is_full: bool,
}

/// The file that keeps room for what must be written when there is none.
const RESERVE: &str = "reserve";
/// The same while it is being made.
const NEW_RESERVE: &str = "reserve.new";

impl DiskLog {
    /// Goes on after what was replayed, in a new file: a torn tail is never appended to.
    ///
    /// # Errors
    /// The new file cannot be made durable.
    pub(crate) fn open(folder: LogFolder, cut_at: u64, reserve: u64) -> Result<Self, StoreError> {
        let files = folder.files()?;
        // Starts that wrote nothing leave an empty file each; the number of the last is not given again.
        for (number, _) in files.iter().filter(|(_, length)| *length == 0) {
            folder.delete(*number)?;
        }
        let number = files.last().map_or(0, |(last, _)| last + 1);
        let file = Self::new_file(&folder, number)?;
        let at = Position { file: number, offset: 0 };
        let mut log = Self { folder, file: Some(file), unbegun: None, at, cut_at, reserve, is_full: false };
        log.refill();
        Ok(log)
    }

    /// Whether the disk was full at the last look.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Sets the reserve aside, if there is room for it; if not, the disk counts as full. Whatever else fails here
    /// fails again where it matters.
    pub(crate) fn refill(&mut self) {
        let made = self.make_reserve();
        match &made {
            Ok(()) => self.is_full = false,
            Err(error) if !self.is_full => {
                let error = error as &dyn std::error::Error;
                tracing::error!(error, "the reserve of the write-ahead log could not be set aside");
            }
            Err(_) => {}
        }
        self.note_full(&made);
    }

    fn make_reserve(&self) -> std::io::Result<()> {
        let files = &self.folder.files;
        let listed = files.list()?;
        if listed.iter().any(|(name, length)| name == RESERVE && *length == self.reserve) {
            return Ok(());
        }
        if listed.iter().any(|(name, _)| name == NEW_RESERVE) {
            files.delete(NEW_RESERVE)?;
        }
        // Bytes that no file system can keep in less room than they take.
        let mut state = self.at.file | 1;
        let noise = (0..self.reserve / 8).flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state ^ (state >> 29)).to_le_bytes()
        });
        let noise: Vec<u8> = noise.collect();
        let mut file = files.create(NEW_RESERVE)?;
        let filled = file.append(&noise).and_then(|()| file.sync());
        if filled.is_err() {
            // What it took up is needed more elsewhere.
            files.delete(NEW_RESERVE)?;
        }
        filled?;
        files.rename(NEW_RESERVE, RESERVE)?;
        files.sync_folder()
    }

    /// Gives the reserve up for what must be written now.
    fn give_up_reserve(&self) -> Result<(), StoreError> {
        let files = &self.folder.files;
        let is_there = files.list().map(|listed| listed.iter().any(|(name, _)| name == RESERVE));
        if is_there.map_err(self.folder.failed(RESERVE))? {
            files.delete(RESERVE).and_then(|()| files.sync_folder()).map_err(self.folder.failed(RESERVE))?;
        }
        Ok(())
    }

    fn new_file(folder: &LogFolder, number: u64) -> Result<Box<dyn LogFile>, StoreError> {
        let name = file_name(number);
        let make = || {
            let mut file = folder.files.create(&name)?;
            file.sync()?;
            folder.files.sync_folder()?;
            Ok(file)
        };
        make().map_err(folder.failed(&name))
    }

    /// The file being appended to.
    pub(crate) fn current_file(&self) -> u64 {
        self.at.file
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &LogFolder {
        &self.folder
    }

    /// Deletes a file all of whose contents stand elsewhere.
    pub(crate) fn delete(&self, number: u64) -> Result<(), StoreError> {
        self.folder.delete(number)
    }

    /// Writes a group and syncs it, and answers where it ends.
    ///
    /// # Errors
    /// The write or the sync failed: what of the group is on disk is unknown, so nothing may be written before
    /// [`DiskLog::reopen`] has succeeded.
    pub(crate) fn write(&mut self, group: &[u8]) -> Result<Written, StoreError> {
        let name = file_name(self.at.file);
        let failed = self.folder.failed(&name);
        let unopened = || std::io::Error::other("the file could not be begun");
        let file = self.file.as_mut().ok_or_else(unopened);
        // A crash before the sync ends may leave any prefix of the group: reading cuts it.
        let written = file.and_then(|file| file.append(group).and_then(|()| file.sync()));
        self.note_full(&written);
        written.map_err(failed)?;
        // A crash from here on finds the group whole.
        self.at.offset += group.len() as u64;
        let end = self.at;
        if self.at.offset >= self.cut_at {
            self.begin_next();
        }
        Ok(Written { end, file: end.file })
    }

    /// Begins the next file now, if there is anything in this one.
    pub(crate) fn turn_over(&mut self) {
        if self.at.offset > 0 && self.file.is_some() {
            self.begin_next();
        }
    }

    fn note_full(&mut self, result: &std::io::Result<()>) {
        self.is_full |= result.as_ref().is_err_and(is_full);
    }

    /// Begins the next file. That it cannot be begun says nothing of the group before, which is durable: nothing
    /// more can be written until the log was reopened.
    fn begin_next(&mut self) {
        let number = self.at.file + 1;
        match Self::new_file(&self.folder, number) {
            Ok(file) => (self.file, self.at) = (Some(file), Position { file: number, offset: 0 }),
            Err(error) => {
                self.is_full |= matches!(&error, StoreError::File { source, .. } if is_full(source));
                (self.file, self.unbegun) = (None, Some(error));
            }
        }
    }

    /// Why the next file could not be begun, if so; said once.
    pub(crate) fn unbegun(&mut self) -> Option<StoreError> {
        self.unbegun.take()
    }

    /// Makes the log usable again after a failure: what of the failed group may have been written is cut off, and
    /// what comes next goes into a new file.
    ///
    /// Nothing is read back, so nothing is believed that only the page cache has. What had been synced before the
    /// failure was reported as synced by the operating system, and is not touched. Died before the cut is durable:
    /// the next start finds the group whole or torn, and nobody was told of it either way. Died after it: it is gone.
    ///
    /// # Errors
    /// The disk still fails. Nothing has changed but for the cut, and it may be tried again.
    pub(crate) fn reopen(&mut self) -> Result<(), StoreError> {
        self.file = None;
        if self.is_full {
            self.give_up_reserve()?;
        }
        let files = self.folder.files()?;
        if files.iter().any(|(number, length)| *number == self.at.file && *length > self.at.offset) {
            let name = file_name(self.at.file);
            self.folder.files.cut(&name, self.at.offset).map_err(self.folder.failed(&name))?;
        }
        // An earlier try may have begun a file whose name never became durable.
        for (number, _) in files.iter().filter(|(number, _)| *number > self.at.file) {
            self.folder.delete(*number)?;
        }
        let number = self.at.file + 1;
        let file = Self::new_file(&self.folder, number);
        if let Err(StoreError::File { source, .. }) = &file {
            self.is_full |= is_full(source);
        }
        self.file = Some(file?);
        self.at = Position { file: number, offset: 0 };
        Ok(())
    }
}
