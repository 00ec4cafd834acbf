//! The reference events: made once by the shared generator, kept in cargo's target folder, held in memory as bodies.
//!
//! Not here: what is asked about them (`questions`). The generator is no part of this tree; without it the
//! benchmark says so and ends.
//!
//! Invariants: (1) a file of the cache is complete, or it has another name; (2) the bodies together are exactly the
//! file, cut at line ends.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;

use crate::trouble::{Outcome, Trouble};

/// Events of a body.
pub const BATCH: usize = 1_000;

/// Where the generator lies, seen from the top of the tree.
const GENERATOR: &str = "../shared/bench/gen.py";

/// All reference events of a run.
#[derive(Debug, Clone)]
pub struct Events {
    /// The whole file.
    pub text: Bytes,
    /// Where each line begins, and at the end the length of the text.
    starts: Vec<usize>,
}

impl Events {
    /// Reads a file of events, or makes it first.
    pub fn load(input: Option<&Path>, count: usize, seed: u64) -> Outcome<Self> {
        let path = match input {
            Some(path) => path.to_owned(),
            None => generated(count, seed)?,
        };
        let mut text = std::fs::read(&path).map_err(Trouble::at("reading", &path))?;
        if let Some(end) = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(count.saturating_sub(1)) {
            let end = end.0 + 1;
            text.truncate(end);
        }
        let events = Self::cut(text.into());
        if events.len() == 0 {
            return Err(Trouble::wrong(format!("events in {}", path.display()), count, 0));
        }
        Ok(events)
    }

    /// Cuts text at its line ends.
    pub fn cut(text: Bytes) -> Self {
        let mut starts = vec![0];
        starts.extend(text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1));
        if starts.last() != Some(&text.len()) {
            starts.push(text.len());
        }
        Self { text, starts }
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Events `from..to` as one body, without copying.
    pub fn body(&self, from: usize, to: usize) -> Bytes {
        let to = to.min(self.len());
        let from = from.min(to);
        self.text.slice(self.starts[from]..self.starts[to])
    }

    /// How long a line is, its end included.
    pub fn line_bytes(&self, at: usize) -> usize {
        self.starts[at + 1] - self.starts[at]
    }

    /// Events `from..to` as bodies of [`BATCH`].
    pub fn bodies(&self, from: usize, to: usize) -> Vec<Body> {
        let to = to.min(self.len());
        (from..to)
            .step_by(BATCH)
            .map(|at| {
                let end = (at + BATCH).min(to);
                Body { events: end - at, bytes: self.body(at, end) }
            })
            .collect()
    }

    /// Events `from..to`, each as a body of its own.
    pub fn singles(&self, from: usize, to: usize) -> Vec<Body> {
        (from..to.min(self.len())).map(|at| Body { events: 1, bytes: self.body(at, at + 1) }).collect()
    }

    /// The last `count` events under ids that no other event has, so that they are new to a store that has all.
    pub fn again(&self, count: usize) -> Bytes {
        const OPENING: &[u8] = b"{\"id\":\"";
        let from = self.len().saturating_sub(count);
        let mut text = self.body(from, self.len()).to_vec();
        for at in self.starts[from..self.len()].iter().map(|start| start - self.starts[from]) {
            // Reference ids are lower hex, so none begins with a `z`.
            if text[at..].starts_with(OPENING) && at + OPENING.len() < text.len() {
                text[at + OPENING.len()] = b'z';
            }
        }
        text.into()
    }

    /// Every line.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.starts.windows(2).map(|pair| self.text[pair[0]..pair[1]].trim_ascii_end())
    }
}

/// A request's body and how many events are in it.
#[derive(Debug, Clone)]
pub struct Body {
    pub events: usize,
    pub bytes: Bytes,
}

/// The file of `count` events, generated where the cache does not have it.
fn generated(count: usize, seed: u64) -> Outcome<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-events");
    let path = folder.join(format!("{count}-{seed}.ndjson"));
    if path.is_file() {
        return Ok(path);
    }
    let generator = Path::new(env!("CARGO_MANIFEST_DIR")).join(GENERATOR);
    if !generator.is_file() {
        return Err(Trouble::NoGenerator { generator: GENERATOR.into() });
    }
    std::fs::create_dir_all(&folder).map_err(Trouble::at("making", &folder))?;
    eprintln!("bench: generating {count} reference events, once (about a minute for a million)");
    let partial = folder.join(format!("{count}-{seed}.{}.part", std::process::id()));
    let status = Command::new("python3")
        .arg(&generator)
        .arg(&partial)
        .args([count.to_string(), seed.to_string()])
        .status()
        .map_err(Trouble::machine("starting python3"))?;
    if !status.success() {
        return Err(Trouble::wrong("the generator's end", "success", status));
    }
    std::fs::rename(&partial, &path).map_err(Trouble::at("naming", &path))?;
    Ok(path)
}
