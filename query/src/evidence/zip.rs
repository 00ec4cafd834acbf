//! Zip archives piece by piece (APPNOTE 6.3.10): members are packed one after the other into a fragment, fragments follow each
//! other, and the directory of all comes last.
//!
//! By hand, because the fragments of a bundle are kept and sent as they were made, and no library lets an archive go on
//! after a restart. Deflating is `flate2`'s. Not here: what members hold.
//!
//! Invariants: a member is below 4 GiB, so its own header is of 32 bits; offsets may be of 64; times are that of no clock.

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use ledger::Hash;
use ledger::bundle::Member;
use ledger::tree::Hasher;
use serde::{Deserialize, Serialize};
use std::io::Write;

/// What a reader must understand: zip64.
const VERSION: u16 = 45;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// 1 January 1980, the first day that the form knows.
const DAY: u16 = 0x21;
/// Bytes before the name in a member's own header.
const HEADER_BYTES: u64 = 30;

/// A member of a fragment, as the directory will say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Packed {
    pub name: String,
    method: u16,
    crc: u32,
    packed: u32,
    pub bytes: u64,
    pub sha256: String,
    /// Where its header is in the fragment.
    at: u64,
}

impl Packed {
    /// As the manifest names it.
    pub fn member(&self) -> Option<Member> {
        Some(Member { name: self.name.clone(), bytes: self.bytes, sha256: Hash::from_hex(&self.sha256)? })
    }
}

/// A fragment that is being made.
#[derive(Default)]
pub(super) struct Fragment {
    out: Vec<u8>,
    members: Vec<Packed>,
}

/// A member that is being written.
pub(super) struct Open {
    encoder: DeflateEncoder<Vec<u8>>,
    crc: Crc,
    hasher: Hasher,
    name: String,
    at: u64,
}

impl Open {
    /// Goes on with it.
    pub fn write(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.hasher.update(bytes);
        // Into memory: it cannot fail.
        let _ = self.encoder.write_all(bytes);
    }
}

impl Fragment {
    /// A fragment with room for so many bytes.
    pub fn with_room(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), members: vec![] }
    }

    /// Goes on with a fragment that was finished.
    pub fn after(out: Vec<u8>, members: Vec<Packed>) -> Self {
        Self { out, members }
    }

    /// Begins a member; it must be ended before the next begins.
    pub fn begin(&mut self, name: String) -> Open {
        let at = self.out.len() as u64;
        let mut out = std::mem::take(&mut self.out);
        out.extend_from_slice(&header(&name, DEFLATED, (0, 0, 0)));
        out.extend_from_slice(name.as_bytes());
        // The sixth level costs three times as much and saves a tenth.
        let encoder = DeflateEncoder::new(out, Compression::new(2));
        Open { encoder, crc: Crc::new(), hasher: Hasher::default(), name, at }
    }

    /// Ends a member.
    pub fn end(&mut self, open: Open) {
        let Open { encoder, crc, hasher, name, at } = open;
        self.out = encoder.finish().unwrap_or_default();
        let begins = at + HEADER_BYTES + name.len() as u64;
        let packed = (self.out.len() as u64 - begins) as u32;
        let head = header(&name, DEFLATED, (crc.sum(), packed, crc.amount()));
        self.out[at as usize..][..head.len()].copy_from_slice(&head);
        let sha256 = hasher.finish().to_hex();
        let (method, crc, bytes) = (DEFLATED, crc.sum(), crc.amount().into());
        self.members.push(Packed { name, method, crc, packed, bytes, sha256, at });
    }

    /// A whole member as it is: it is packed already.
    pub fn add_packed(&mut self, name: impl Into<String>, bytes: &[u8]) {
        let (name, at, method) = (name.into(), self.out.len() as u64, STORED);
        let mut crc = Crc::new();
        crc.update(bytes);
        let (crc, packed) = (crc.sum(), crc.amount());
        self.out.extend_from_slice(&header(&name, method, (crc, packed, packed)));
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(bytes);
        let sha256 = Hash::of(bytes).to_hex();
        self.members.push(Packed { name, method, crc, packed, bytes: packed.into(), sha256, at });
    }

    /// A whole member.
    pub fn add(&mut self, name: impl Into<String>, bytes: &[u8]) {
        let mut open = self.begin(name.into());
        open.write(bytes);
        self.end(open);
    }

    /// Its bytes, and what is in them.
    pub fn finish(self) -> (Vec<u8>, Vec<Packed>) {
        (self.out, self.members)
    }
}

fn header(name: &str, method: u16, (crc, packed, bytes): (u32, u32, u32)) -> [u8; HEADER_BYTES as usize] {
    let mut out = [0; HEADER_BYTES as usize];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&0x0403_4b50u32.to_le_bytes());
    for number in [VERSION, 0, method, 0, DAY] {
        put(&number.to_le_bytes());
    }
    for number in [crc, packed, bytes] {
        put(&number.to_le_bytes());
    }
    put(&(name.len() as u16).to_le_bytes());
    out
}

/// The directory of fragments that follow each other: each with where it begins in the archive.
pub(super) fn directory<'p>(fragments: impl IntoIterator<Item = (u64, &'p [Packed])>, begins: u64) -> Vec<u8> {
    let (mut out, mut count) = (Vec::new(), 0u64);
    for (offset, members) in fragments {
        for member in members {
            put_entry(member, offset + member.at, &mut out);
            count += 1;
        }
    }
    let bytes = out.len() as u64;
    // The zip64 end record and its locator stand there always: it is the same to every reader of this century.
    let wide_at = begins + bytes;
    out.extend_from_slice(&0x0606_4b50u32.to_le_bytes());
    out.extend_from_slice(&44u64.to_le_bytes());
    out.extend_from_slice(&[VERSION.to_le_bytes(), VERSION.to_le_bytes()].concat());
    out.extend_from_slice(&[0; 8]);
    for number in [count, count, bytes, begins] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&0x0706_4b50u32.to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&wide_at.to_le_bytes());
    out.extend_from_slice(&1u32.to_le_bytes());
    out.extend_from_slice(&0x0605_4b50u32.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let short = |number: u64| u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes();
    let long = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&[short(count), short(count)].concat());
    out.extend_from_slice(&[long(bytes), long(begins)].concat());
    out.extend_from_slice(&[0; 2]);
    out
}

fn put_entry(member: &Packed, at: u64, out: &mut Vec<u8>) {
    let short = u32::try_from(at).ok().filter(|at| *at != u32::MAX);
    out.extend_from_slice(&0x0201_4b50u32.to_le_bytes());
    for number in [VERSION, VERSION, 0, member.method, 0, DAY] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for number in [member.crc, member.packed, member.bytes as u32] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let extra = if short.is_some() { 0u16 } else { 12 };
    for number in [member.name.len() as u16, extra, 0, 0, 0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&short.unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(member.name.as_bytes());
    if short.is_none() {
        out.extend_from_slice(&[1u16.to_le_bytes(), 8u16.to_le_bytes()].concat());
        out.extend_from_slice(&at.to_le_bytes());
    }
}
