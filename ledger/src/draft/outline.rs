//! Where an encoding lies among those that share its bytes. Not here: what the bytes mean ([`super`]).

use crate::field::HEADER_BYTES;
use crate::name::StreamKind;

/// Where the encoding of an event lies among those of others, and where its parts are.
#[derive(Debug, Clone, Copy)]
pub struct Outline {
    pub(super) at: u32,
    /// Where each section ends, from `at`.
    pub(super) ends: [u32; 6],
    /// Where the event's id begins, from `at`, and its length.
    pub(super) id: (u32, u32),
    pub(super) stream: StreamKind,
}

impl Outline {
    /// A section without fields ends where the one before it does.
    pub(super) fn fill_ends(&mut self) {
        for section in 1..self.ends.len() {
            self.ends[section] = self.ends[section].max(self.ends[section - 1]);
        }
    }

    /// How many bytes the encoding has.
    pub fn bytes(&self) -> u32 {
        self.ends[5]
    }

    /// Which stream the event is for.
    pub fn stream(&self) -> StreamKind {
        self.stream
    }

    /// Whose event it is, read from the bytes that it was encoded into; a valid [`TenantId`](crate::name::TenantId).
    pub fn tenant<'b>(&self, bytes: &'b [u8]) -> &'b str {
        // The first field; its length stands in the last of the bytes before it, and is at most 63.
        let start = self.at as usize + HEADER_BYTES;
        std::str::from_utf8(&bytes[start..start + usize::from(bytes[start - 1])]).unwrap_or_default()
    }

    pub(super) fn content<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        &bytes[self.at as usize..(self.at + self.ends[5]) as usize]
    }
}
