//! The files of the log on a local disk: the few operations that it needs, so that a test can make any fail.
//!
//! Not here: what the bytes mean ([`super::frame`]), the folder's lock and id ([`super::LogFolder`]).
//!
//! Invariant: one call is one operation of the operating system's, or one with its sync; nothing is retried.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// A file that is appended to.
pub(crate) trait LogFile: fmt::Debug + Send {
    /// Appends. After an error any part of the bytes may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Puts what was appended on stable storage. After an error it is not known what is, and asking again
    /// does not tell: the pages count as clean.
    fn sync(&mut self) -> io::Result<()>;
}

/// The folder of a log.
pub(crate) trait LogFiles: fmt::Debug + Send + Sync {
    /// Names and lengths of the files.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// A file's bytes from an offset on.
    fn read(&self, name: &str, from: u64) -> io::Result<Box<dyn Read + Send>>;
    /// Creates a file that must not be there. Its name is durable after [`LogFiles::sync_folder`].
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>>;
    /// Cuts a file to a length and syncs it.
    fn cut(&self, name: &str, length: u64) -> io::Result<()>;
    /// Gives a file another name, whose file it replaces.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Deletes a file.
    fn delete(&self, name: &str) -> io::Result<()>;
    /// Puts names on stable storage.
    fn sync_folder(&self) -> io::Result<()>;
}

/// A folder on a disk.
#[derive(Debug)]
pub(crate) struct DiskFiles(PathBuf);

impl DiskFiles {
    /// The files of this folder.
    pub(crate) fn of(folder: &Path) -> Self {
        Self(folder.into())
    }
}

#[derive(Debug)]
struct DiskFile(File);

impl LogFile for DiskFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl LogFiles for DiskFiles {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut out = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                out.push((name, entry.metadata()?.len()));
            }
        }
        Ok(out)
    }

    fn read(&self, name: &str, from: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(self.0.join(name))?;
        file.seek(SeekFrom::Start(from))?;
        Ok(Box::new(io::BufReader::with_capacity(1 << 20, file)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let file = OpenOptions::new().create_new(true).append(true).open(self.0.join(name))?;
        Ok(Box::new(DiskFile(file)))
    }

    fn cut(&self, name: &str, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.0.join(name))?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}
