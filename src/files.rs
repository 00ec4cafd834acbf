//! Reads the files a user names: plain, gzip or zstd, line by line, however large.
//!
//! Not here: what a line means. Invariants: memory is bounded by the longest line that is allowed; the packing
//! is told by the file's first bytes, not by its name.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Longest line that is read: an event of 256 KiB may have grown by escapes or wrapping.
pub const LINE_BYTES: usize = 4 << 20;

/// Opens a file and unpacks it as it is read. `counted` is told of packed bytes as they are consumed.
///
/// # Errors
/// The file cannot be opened or read.
pub fn open(path: &Path, counted: impl FnMut(u64) + 'static) -> io::Result<Box<dyn BufRead>> {
    let counting = Counting { inner: File::open(path)?, counted: Box::new(counted) };
    let mut reader = BufReader::with_capacity(1 << 16, counting);
    let start = reader.fill_buf()?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(reader))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            decoder.window_log_max(27)?;
            Box::new(BufReader::with_capacity(1 << 16, decoder))
        }
        _ => Box::new(reader),
    })
}

struct Counting {
    inner: File,
    counted: Box<dyn FnMut(u64)>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        (self.counted)(read as u64);
        Ok(read)
    }
}

/// Reads the next line, without its end, into `line`. `Ok(false)` at the end of the file; a line beyond the
/// bound is read past, and `line` then holds its first part only and `cut` is set.
///
/// # Errors
/// The file cannot be read or unpacked.
pub fn next_line(reader: &mut dyn BufRead, line: &mut Vec<u8>, cut: &mut bool) -> io::Result<bool> {
    line.clear();
    *cut = false;
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        let room = LINE_BYTES - line.len();
        *cut |= part.len() > room;
        line.extend_from_slice(&part[..part.len().min(room)]);
        let consumed = end.map_or(available.len(), |end| end + 1);
        reader.consume(consumed);
        if end.is_some() {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn files_are_read_as_they_are_packed() {
        let folder = tempfile::tempdir().unwrap();
        let text = b"one\r\ntwo\n\nthree";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).unwrap();
        for (name, bytes) in
            [("plain", text.to_vec()), ("gz", gzip.finish().unwrap()), ("zst", zstd::encode_all(&text[..], 1).unwrap())]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, &bytes).unwrap();
            let mut reader = open(&path, |_| {}).unwrap();
            let (mut lines, mut line, mut cut) = (Vec::new(), Vec::new(), false);
            while next_line(&mut *reader, &mut line, &mut cut).unwrap() {
                lines.push(String::from_utf8(line.clone()).unwrap());
                assert!(!cut);
            }
            assert_eq!(lines, ["one", "two", "", "three"], "{name}");
        }
    }

    #[test]
    fn an_endless_line_does_not_fill_memory() {
        let long = vec![b'x'; LINE_BYTES + 10];
        let mut reader: Box<dyn BufRead> = Box::new(BufReader::new([&long[..], b"\nnext"].concat().leak() as &[u8]));
        let (mut line, mut cut) = (Vec::new(), false);
        assert!(next_line(&mut *reader, &mut line, &mut cut).unwrap() && cut && line.len() == LINE_BYTES);
        assert!(next_line(&mut *reader, &mut line, &mut cut).unwrap() && !cut && line == b"next");
    }
}
