//! A pack: consecutive commits of one stream in one object, byte for byte (FORMAT.md §8).
//!
//! Packing saves requests, it says nothing new: each commit in a pack carries its own signature and names its
//! predecessor. Not here: when commits are packed (`ledger-store`), what they say ([`crate::commit`]).
//!
//! Invariant: a pack has one spelling, and unpacking gives back the very bytes that were packed.

use crate::text;

/// First line of a pack: name and version of the form.
pub const PACK_TAG: &str = "piperoll-pack/v1";

/// Bytes are no pack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// A pack of a later version of the form.
    #[error("the pack is written in a newer format: use a newer piperoll to read it")]
    Newer,
    /// Not a pack.
    #[error("not a pack of commits: {0}")]
    Malformed(&'static str),
}

/// Puts consecutive commits, of which the first has number `first`, into one object.
pub fn pack(first: u64, commits: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("{PACK_TAG}\ncommits {first} {}\n", commits.len()).into_bytes();
    for (number, bytes) in (first..).zip(commits) {
        out.extend_from_slice(format!("commit {number} {}\n", bytes.len()).as_bytes());
        out.extend_from_slice(bytes);
    }
    out
}

/// The first number of a pack and the bytes of its commits, ascending. They are not verified.
///
/// # Errors
/// The bytes are no pack, not in its one spelling, or of a newer form.
pub fn unpack(bytes: &[u8]) -> Result<(u64, Vec<&[u8]>), PackError> {
    let malformed = |why| PackError::Malformed(why);
    let (tag, rest) = line(bytes).ok_or(malformed("it has no first line"))?;
    if tag != PACK_TAG {
        let is_newer = tag.starts_with("piperoll-pack/v");
        return Err(if is_newer { PackError::Newer } else { malformed("the first line is not piperoll-pack/v1") });
    }
    let (counts, mut rest) = line(rest).ok_or(malformed("it does not say which commits it holds"))?;
    let (first, count) = pair(counts, "commits ").ok_or(malformed("it does not say which commits it holds"))?;
    first.checked_add(count).filter(|_| count > 0).ok_or(malformed("it says that it holds no commits"))?;
    let mut commits = Vec::new();
    for number in first..first + count {
        let (header, body) = line(rest).ok_or(malformed("it is cut short"))?;
        let (named, length) = pair(header, "commit ").ok_or(malformed("a commit in it has no number and length"))?;
        if named != number {
            return Err(malformed("its commits are not in order"));
        }
        let length = usize::try_from(length).map_err(|_| malformed("it is cut short"))?;
        let (commit, after) = body.split_at_checked(length).ok_or(malformed("it is cut short"))?;
        commits.push(commit);
        rest = after;
    }
    if rest.is_empty() { Ok((first, commits)) } else { Err(malformed("something follows its last commit")) }
}

fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    // The longest line is a word and two decimals: a long search would be for nothing.
    let end = bytes.iter().take(64).position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

fn pair(line: &str, word: &str) -> Option<(u64, u64)> {
    let (one, other) = line.strip_prefix(word)?.split_once(' ')?;
    Some((text::decimal(one)?, text::decimal(other)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pack_is_as_the_format_says() {
        let packed = pack(9, &[b"nine\n", b"ten\n"]);
        assert_eq!(packed, b"piperoll-pack/v1\ncommits 9 2\ncommit 9 5\nnine\ncommit 10 4\nten\n");
        assert_eq!(unpack(&packed), Ok((9, vec![&b"nine\n"[..], b"ten\n"])));
        assert_eq!(unpack(b"piperoll-pack/v2\n"), Err(PackError::Newer));
        for (from, to) in
            [("9 2", "9 3"), ("9 2", "9 1"), ("9 2", "09 2"), ("commit 10", "commit 11"), ("10 4", "10 5"), ("/v1", "")]
        {
            let bad = String::from_utf8(packed.clone()).unwrap().replacen(from, to, 1);
            assert!(matches!(unpack(bad.as_bytes()), Err(PackError::Malformed(_))), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn roundtrip_and_no_panic(first in 0u64..1_000_000, commits in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..9), cut in any::<prop::sample::Index>()) {
            let parts: Vec<&[u8]> = commits.iter().map(Vec::as_slice).collect();
            let packed = pack(first, &parts);
            prop_assert_eq!(unpack(&packed), Ok((first, parts)));
            prop_assert!(unpack(&packed[..cut.index(packed.len())]).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), count in any::<u64>()) {
            let _ = unpack(&bytes);
            let mut framed = format!("{PACK_TAG}\ncommits {count} 3\ncommit {count} {}\n", u64::MAX - count).into_bytes();
            framed.extend(bytes);
            let _ = unpack(&framed);
        }
    }
}
