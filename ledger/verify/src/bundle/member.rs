//! A member as it is read: counted and hashed on the way, and compared with the manifest at its end.
//!
//! Not here: where its bytes are ([`super::archive`]).

use super::archive::{Archive, broken};
use crate::error::VerifyError;
use ledger::bundle::Member;
use ledger::tree::Hasher;
use std::io::{self, Read};

/// Bytes of a member, hashed as they are read.
pub struct Checked<'m, R> {
    member: &'m Member,
    reader: R,
    hasher: Hasher,
    read: u64,
}

/// Begins to read a member.
///
/// # Errors
/// It is not there, or has not the bytes that the manifest says.
pub fn begin<'m>(archive: &Archive, member: &'m Member) -> Result<Checked<'m, impl Read + use<>>, VerifyError> {
    let reader = archive.read(&member.name)?;
    match archive.bytes_of(&member.name) {
        Some(bytes) if bytes == member.bytes => Ok(Checked { member, reader, hasher: Hasher::default(), read: 0 }),
        _ => Err(other_length(member)),
    }
}

/// A whole member of at most so many bytes.
///
/// # Errors
/// It is larger, cannot be read, or is not what the manifest names.
pub fn whole(archive: &Archive, member: &Member, most: u64) -> Result<Vec<u8>, VerifyError> {
    if member.bytes > most {
        return Err(broken(&member.name, format!("it has more than {most} bytes, the most that such a file has")));
    }
    let mut checked = begin(archive, member)?;
    let mut bytes = Vec::new();
    checked.read_to_end(&mut bytes).map_err(|error| unpackable(member, &error))?;
    checked.end()?;
    Ok(bytes)
}

/// Reads a member only to compare it.
///
/// # Errors
/// It cannot be read, or is not what the manifest names.
pub fn compare(archive: &Archive, member: &Member) -> Result<(), VerifyError> {
    let mut checked = begin(archive, member)?;
    io::copy(&mut checked, &mut io::sink()).map_err(|error| unpackable(member, &error))?;
    checked.end()
}

/// For bytes that cannot be unpacked.
pub fn unpackable(member: &Member, error: &io::Error) -> VerifyError {
    broken(&member.name, format!("it cannot be unpacked: {error}"))
}

fn other_length(member: &Member) -> VerifyError {
    broken(&member.name, format!("it has not the {} bytes that the manifest names", member.bytes))
}

impl<R: Read> Checked<'_, R> {
    /// All of it was read: compares it with the manifest.
    ///
    /// # Errors
    /// It is another.
    pub fn end(self) -> Result<(), VerifyError> {
        if self.read != self.member.bytes {
            return Err(other_length(self.member));
        }
        if self.hasher.finish() != self.member.sha256 {
            return Err(broken(
                &self.member.name,
                "its SHA-256 is not the one that the manifest names: it was changed",
            ));
        }
        Ok(())
    }
}

impl<R: Read> Read for Checked<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(into)?;
        self.hasher.update(&into[..count]);
        self.read += count as u64;
        Ok(count)
    }
}
