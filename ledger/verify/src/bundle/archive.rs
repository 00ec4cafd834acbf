//! The zip archive of a bundle: its members by name, each read within the bounds that its directory states.
//!
//! By hand and strict, because two readers that understand an archive differently see two bundles: no name twice, each
//! header where the directory says, with the same name; nothing encrypted, stored or deflated alone (APPNOTE 6.3.10).
//! Inflating is `flate2`'s. Not here: what members hold.
//!
//! Invariants: memory is bounded before it is taken; no more of a member is inflated than was promised, and one byte.

use crate::error::{Failure, VerifyError};
use crate::input;
use flate2::read::DeflateDecoder;
use ledger::bundle::MEMBERS;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};

/// Most bytes of the directory: each name has at most 256 bytes, and little stands beside it.
const DIRECTORY_BYTES: u64 = 64 << 20;
/// The end record, and the longest comment.
const END_BYTES: u64 = 22 + 65_535;

/// Where a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    header: u64,
    packed: u64,
    bytes: u64,
    is_deflated: bool,
}

/// An archive whose directory was read.
pub struct Archive {
    path: String,
    members: BTreeMap<String, Place>,
}

/// Bytes that are read from their beginning.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_le_bytes([b[0], b[1]]))
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from(self.u32()?) | u64::from(self.u32()?) << 32)
    }
}

impl Archive {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// The file cannot be read, or is no such archive.
    pub fn open(path: &str) -> Result<Self, VerifyError> {
        let mut file = open(path)?;
        let length = file.seek(SeekFrom::End(0)).map_err(unreadable(path))?;
        let tail =
            read_at(&mut file, length.saturating_sub(END_BYTES), length.min(END_BYTES)).map_err(unreadable(path))?;
        let wrong = |why| no_bundle(path, why);
        let (directory, count) = find_directory(&mut file, &tail, length).map_err(wrong)?;
        let bytes = read_at(&mut file, directory.0, directory.1).map_err(unreadable(path))?;
        Ok(Self { path: path.into(), members: read_directory(&bytes, count).map_err(wrong)? })
    }

    /// The names of its members, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// How many bytes the directory says that a member has.
    pub fn bytes_of(&self, name: &str) -> Option<u64> {
        self.members.get(name).map(|place| place.bytes)
    }

    /// A member's bytes, at most as many as the directory says and one more.
    ///
    /// # Errors
    /// There is none, or its header is another.
    pub fn read(&self, name: &str) -> Result<impl Read + use<>, VerifyError> {
        let place = self.members.get(name).ok_or_else(|| missing(name))?;
        let mut file = open(&self.path)?;
        let at = |file: &mut File, at, count| read_at(file, at, count).map_err(unreadable(&self.path));
        let head = at(&mut file, place.header, 30)?;
        let mut fields = Bytes(&head);
        let signature = fields.u32();
        let lengths = fields.take(22).and_then(|_| Some((fields.u16()?, fields.u16()?)));
        let Some((name_bytes, extra)) = lengths.filter(|_| signature == Some(0x0403_4b50)) else {
            return Err(broken(name, "there is no header where the directory says"));
        };
        let stated = at(&mut file, place.header + 30, u64::from(name_bytes))?;
        if stated != name.as_bytes() {
            return Err(broken(name, "its header names another file than the directory"));
        }
        file.seek(SeekFrom::Start(place.header + 30 + u64::from(name_bytes) + u64::from(extra)))
            .map_err(unreadable(&self.path))?;
        let packed = BufReader::with_capacity(1 << 17, file.take(place.packed));
        let reader = match place.is_deflated {
            true => Packed::Deflated(DeflateDecoder::new(packed)),
            false => Packed::Stored(packed),
        };
        Ok(reader.take(place.bytes.saturating_add(1)))
    }
}

enum Packed {
    Stored(BufReader<Take<File>>),
    Deflated(DeflateDecoder<BufReader<Take<File>>>),
}

impl Read for Packed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stored(reader) => reader.read(into),
            Self::Deflated(reader) => reader.read(into),
        }
    }
}

fn open(path: &str) -> Result<File, VerifyError> {
    File::open(path).map_err(unreadable(path))
}

fn unreadable(path: &str) -> impl Fn(io::Error) -> VerifyError {
    let path = input::shown(path).to_string();
    move |source| VerifyError::Unreadable { path: path.clone(), source }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoArchive(&'static str);

fn no_bundle(path: &str, why: &'static str) -> VerifyError {
    VerifyError::form(input::shown(path), super::KIND, NoArchive(why))
}

/// A member that does not hold.
pub fn broken(member: &str, why: impl Into<String>) -> VerifyError {
    VerifyError::fails(super::KIND, Failure::Member { member: member.into(), why: why.into() })
}

fn missing(name: &str) -> VerifyError {
    broken(name, "it is missing")
}

fn read_at(file: &mut File, at: u64, count: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(count).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where the directory begins, how many bytes it has, and how many members it names.
fn find_directory(file: &mut File, tail: &[u8], length: u64) -> Result<((u64, u64), u64), &'static str> {
    // The comment runs to the end of the file, so that only one place is the end record.
    let is_end = |at: &usize| {
        let mut end = Bytes(&tail[*at..]);
        let comment = |end: &mut Bytes| end.take(16).and_then(|_| end.u16());
        end.u32() == Some(0x0605_4b50) && comment(&mut end).is_some_and(|bytes| usize::from(bytes) == end.0.len())
    };
    let at = (0..tail.len().saturating_sub(21)).rev().find(is_end).ok_or("it is no zip archive, or is cut short")?;
    let mut end = Bytes(&tail[at + 4..]);
    let mut read = || Some((end.u32()?, end.u16()?, end.u16()?, end.u32()?, end.u32()?));
    let (disks, here, all, bytes, begins) = read().ok_or("it is cut short")?;
    if disks != 0 || here != all {
        return Err("it is one part of an archive in several");
    }
    let mut found = ((u64::from(begins), u64::from(bytes)), u64::from(all));
    if all == u16::MAX || bytes == u32::MAX || begins == u32::MAX {
        let before = (length - tail.len() as u64 + at as u64).checked_sub(20).ok_or("it is cut short")?;
        found = find_wide(file, before).ok_or("its zip64 end record cannot be read")?;
    }
    let ((begins, bytes), count) = found;
    if bytes > DIRECTORY_BYTES || count > MEMBERS as u64 || begins.checked_add(bytes).is_none_or(|end| end > length) {
        return Err("its directory is larger than that of any bundle, or lies outside of the file");
    }
    Ok(found)
}

/// The same from the zip64 end record, whose locator lies here.
fn find_wide(file: &mut File, locator: u64) -> Option<((u64, u64), u64)> {
    let bytes = read_at(file, locator, 20).ok()?;
    let mut fields = Bytes(&bytes);
    let (signature, _, at) = (fields.u32()?, fields.u32()?, fields.u64()?);
    let bytes = read_at(file, at, 56).ok()?;
    let mut end = Bytes(&bytes);
    let own = end.u32()?;
    end.take(20)?;
    let (here, all, bytes, begins) = (end.u64()?, end.u64()?, end.u64()?, end.u64()?);
    (signature == 0x0706_4b50 && own == 0x0606_4b50 && here == all).then_some(((begins, bytes), all))
}

fn read_directory(bytes: &[u8], count: u64) -> Result<BTreeMap<String, Place>, &'static str> {
    let (mut fields, mut members) = (Bytes(bytes), BTreeMap::new());
    for _ in 0..count {
        let (name, place) = read_entry(&mut fields)?;
        if members.insert(name, place).is_some() {
            return Err("it has two files of one name");
        }
    }
    if fields.0.is_empty() { Ok(members) } else { Err("its directory names more files than it says") }
}

fn read_entry(fields: &mut Bytes<'_>) -> Result<(String, Place), &'static str> {
    let cut = "its directory is cut short or of another form";
    let mut read = || {
        let signature = fields.u32()?;
        fields.take(4)?;
        let (flags, method) = (fields.u16()?, fields.u16()?);
        fields.take(8)?;
        let (packed, bytes) = (fields.u32()?, fields.u32()?);
        let (name, extra, comment) = (fields.u16()?, fields.u16()?, fields.u16()?);
        fields.take(8)?;
        let header = fields.u32()?;
        let name = fields.take(usize::from(name))?;
        let extra = fields.take(usize::from(extra))?;
        fields.take(usize::from(comment))?;
        (signature == 0x0201_4b50).then_some((flags, method, [bytes, packed, header], name, extra))
    };
    let (flags, method, numbers, name, extra) = read().ok_or(cut)?;
    if flags & 0x2041 != 0 {
        return Err("a file in it is encrypted");
    }
    let is_deflated = match method {
        0 => false,
        8 => true,
        _ => return Err("a file in it is packed in a way that bundles do not use"),
    };
    let [bytes, packed, header] = widened(numbers, extra).ok_or(cut)?;
    let name = std::str::from_utf8(name).ok().filter(|name| name.is_ascii()).ok_or("a file's name is not of ASCII")?;
    if !is_deflated && packed != bytes {
        return Err("a file that is stored has two sizes");
    }
    Ok((name.to_string(), Place { header, packed, bytes, is_deflated }))
}

/// Numbers of 32 bits, or those of 64 that stand in the extra field in their place.
fn widened(numbers: [u32; 3], extra: &[u8]) -> Option<[u64; 3]> {
    let (mut extra, mut wide) = (Bytes(extra), Bytes(&[]));
    while !extra.0.is_empty() {
        let (id, length) = (extra.u16()?, extra.u16()?);
        let value = extra.take(usize::from(length))?;
        if id == 1 {
            wide = Bytes(value);
        }
    }
    let mut all = [0; 3];
    for (out, number) in all.iter_mut().zip(numbers) {
        *out = if number == u32::MAX { wide.u64()? } else { u64::from(number) };
    }
    Some(all)
}

#[cfg(test)]
mod tests;
