//! What the fuzz harnesses of all crates share: seeds from the tree, changes to them, and how long a run is.
//!
//! Random bytes alone hardly pass the first line of a form, and the engine that runs on a stable compiler knows
//! no coverage. So each input is used twice: as it is, and as a script of changes to one of the seeds. Not here:
//! the harnesses, which stand in a file `fuzz` beside the parsers; how to run and replay them (docs/testing.md).
//!
//! Invariants: the same input and the same seeds give the same bytes; what comes out is at most [`MOST`] bytes.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one harness runs in `cargo test`; `BOLERO_RANDOM_TEST_TIME_MS` says otherwise.
pub const SHORT: Duration = Duration::from_millis(400);
/// How many inputs one harness tries at most in `cargo test`; `BOLERO_RANDOM_ITERATIONS` says otherwise.
pub const FEW: usize = 4_000;
/// Longest input: a script of this length changes a seed as thoroughly as is of use.
pub const INPUT: usize = 256;
/// Longest changed seed.
const MOST: usize = 64 << 10;

/// Runs a check over the seeds in `__fuzz__/<name>/corpus` beside the file that calls it, over what is made of them,
/// and over random bytes.
macro_rules! fuzz {
    ($name:literal, $check:expr) => {{
        let seeds = $crate::fuzz::changed::seeds(env!("CARGO_MANIFEST_DIR"), file!(), $name);
        bolero::check!(name = $name)
            .with_iterations($crate::fuzz::changed::FEW)
            .with_test_time($crate::fuzz::changed::SHORT)
            .with_max_len($crate::fuzz::changed::INPUT)
            .for_each(|input: &[u8]| {
                $check(input);
                $check(&$crate::fuzz::changed::changed(&seeds, input));
            });
    }};
}
pub(crate) use fuzz;

/// Where bolero looks for the seeds of a harness in `file`, which is named from the top of the workspace.
fn corpus(package: &str, file: &str, name: &str) -> PathBuf {
    let mut tops = Path::new(package).ancestors();
    let file = tops.find_map(|top| Some(top.join(file)).filter(|file| file.is_file())).expect("the harness's own file");
    file.with_file_name("__fuzz__").join(name).join("corpus")
}

/// The seeds of a harness, in the order of their names.
pub fn seeds(package: &str, file: &str, name: &str) -> Vec<Vec<u8>> {
    let folder = corpus(package, file, name);
    let listing = std::fs::read_dir(&folder).unwrap_or_else(|_| panic!("no seeds for {name}: see docs/testing.md"));
    let mut paths: Vec<_> = listing.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds for {name}: see docs/testing.md");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Writes one seed of a harness.
pub fn write_seed(package: &str, file: &str, name: &str, seed: &str, bytes: &[u8]) {
    let folder = corpus(package, file, name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(seed), bytes).unwrap();
}

/// A script, read from the front; behind its end it is all zeros.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    /// A number below `end`, or 0.
    fn below(&mut self, end: usize) -> usize {
        (self.byte() << 8 | self.byte()) % end.max(1)
    }

    /// A place in these bytes, and one at or behind it; in one of two cases both are borders of lines.
    fn range(&mut self, bytes: &[u8]) -> (usize, usize) {
        let (a, b) = if self.byte().is_multiple_of(2) {
            (self.below(bytes.len() + 1), self.below(bytes.len() + 1))
        } else {
            let mut borders = vec![0];
            borders.extend(bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1));
            (borders[self.below(borders.len())], borders[self.below(borders.len())])
        };
        // Short pieces say more than half a document.
        let end = if self.byte() < 64 { a.max(b) } else { (a + 1 + self.below(16)).min(bytes.len()) };
        (a.min(end), end)
    }
}

/// What parsers of texts and of numbers stumble over.
const PIECES: &[&[u8]] = &[
    b"\n",
    b"\n\n",
    b"\r\n",
    b" ",
    b"  ",
    b"\t",
    b"\0",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"-",
    b"+",
    b".",
    b"/",
    b"=",
    b"0",
    b"00",
    b"-1",
    b"1e9",
    b"18446744073709551615",
    b"18446744073709551616",
    b"9223372036854775808",
    b"4294967296",
    b"\xff",
    b"\xc3\x28",
    b"\xe2\x80\x94 ",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\0\0\0\x80",
    b"null",
    b"../",
    b"//",
    b"v2",
    b"*",
];

/// One of the seeds, changed as `script` says: mostly in one or two places, seldom in many.
pub fn changed(seeds: &[Vec<u8>], script: &[u8]) -> Vec<u8> {
    let mut script = Script(script);
    let mut out = seeds[script.below(seeds.len())].clone();
    let changes = 1 + script.byte().trailing_zeros() as usize;
    for _ in 0..changes.min(12) {
        change(&mut out, seeds, &mut script);
        out.truncate(MOST);
    }
    out
}

fn change(out: &mut Vec<u8>, seeds: &[Vec<u8>], script: &mut Script<'_>) {
    let kind = script.byte() % 9;
    let (from, to) = script.range(out);
    match kind {
        0 if from < out.len() => out[from] ^= 1 << (script.byte() % 8),
        1 if from < out.len() => out[from] = script.byte() as u8,
        2 => drop(out.drain(from..to)),
        3 => out.truncate(from),
        4 => {
            let piece = PIECES[script.byte() % PIECES.len()];
            out.splice(from..if script.byte().is_multiple_of(2) { from } else { to }, piece.iter().copied());
        }
        5 => {
            let copy = out[from..to].to_vec();
            let at = script.below(out.len() + 1);
            out.splice(at..at, copy);
        }
        6 => {
            let other = &seeds[script.below(seeds.len())];
            let (begin, end) = script.range(other);
            out.splice(from..to, other[begin..end].iter().copied());
        }
        7 => {
            let copy = out[from..to].to_vec();
            let times = script.byte() % 40;
            out.splice(to..to, copy.repeat(times));
        }
        _ => {
            // A number of little-endian or big-endian bytes, one up or one down.
            if let Some(byte) = out.get_mut(from) {
                *byte = if script.byte().is_multiple_of(2) { byte.wrapping_add(1) } else { byte.wrapping_sub(1) };
            }
        }
    }
}
