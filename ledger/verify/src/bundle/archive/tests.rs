//! Archives as they should be, and as somebody who means harm would make them. Not here: what members hold.

use super::*;
use crate::bundle::tests::zip;
use proptest::prelude::*;

fn opened(bytes: &[u8]) -> Result<(Archive, tempfile::NamedTempFile), VerifyError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    Ok((Archive::open(file.path().to_str().unwrap())?, file))
}

fn read_all(archive: &Archive, name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    archive.read(name).ok()?.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[test]
fn members_are_found_and_read_whole() {
    let members = [("a".to_string(), b"one".to_vec()), ("b/c".to_string(), vec![7; 100_000])];
    let (archive, _file) = opened(&zip(&members)).unwrap();
    assert_eq!(archive.names().collect::<Vec<_>>(), ["a", "b/c"]);
    for (name, bytes) in &members {
        assert_eq!((archive.bytes_of(name), read_all(&archive, name)), (Some(bytes.len() as u64), Some(bytes.clone())));
    }
    assert!(archive.bytes_of("c").is_none() && archive.read("c").is_err());
}

#[test]
fn an_archive_that_two_readers_may_read_differently_is_refused() {
    let member = |name: &str| (name.to_string(), b"x".to_vec());
    assert!(opened(&zip(&[member("a"), member("a")])).is_err(), "one name twice");
    let good = zip(&[member("a"), member("b")]);
    // A name in the directory that is not the one before the bytes.
    let mut other = good.clone();
    let at = other.windows(4).rposition(|four| four == 0x0201_4b50u32.to_le_bytes()).unwrap();
    other[at + 46] = b'c';
    let (archive, _file) = opened(&other).unwrap();
    assert!(archive.read("c").is_err());
    // A comment that holds another end record: the file ends behind just one of them.
    let mut two = good.clone();
    let end = good[good.len() - 22..].to_vec();
    let length = two.len();
    two[length - 2..].copy_from_slice(&22u16.to_le_bytes());
    two.extend_from_slice(&end);
    assert!(opened(&two).is_ok_and(|(archive, _)| archive.names().count() == 2));
    for cut in [0, 1, 21, good.len() / 2, good.len() - 1] {
        assert!(opened(&good[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn no_more_is_unpacked_than_was_promised() {
    let mut bytes = zip(&[("a".to_string(), vec![0; 1 << 20])]);
    // The directory says ten bytes where a mebibyte comes out.
    let at = bytes.windows(4).rposition(|four| four == 0x0201_4b50u32.to_le_bytes()).unwrap();
    bytes[at + 24..at + 28].copy_from_slice(&10u32.to_le_bytes());
    let (archive, _file) = opened(&bytes).unwrap();
    assert_eq!(read_all(&archive, "a").unwrap().len(), 11);
}

proptest! {
    #[test]
    fn nothing_panics(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let mut bytes = zip(&[("a".to_string(), b"one".to_vec()), ("b".to_string(), b"two".to_vec())]);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok((archive, _file)) = opened(bytes) {
                let names: Vec<String> = archive.names().map(str::to_string).collect();
                names.iter().for_each(|name| drop(read_all(&archive, name)));
            }
        }
    }
}
