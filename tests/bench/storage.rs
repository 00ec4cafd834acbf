//! Weighs a sealed store: bytes of segments, proofs, the Delta view and the log; and of which columns segments are
//! made.
//!
//! It only looks, and knows no more of the layout than architecture §4.3 says. Not here: whether what it weighs is
//! sound; `verify` says that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader as _, SerializedFileReader};

use crate::live;
use crate::trouble::{Outcome, Trouble};

/// Columns that exist for proofs only.
const SALTS: [&str; 2] = ["salt_seed", "salt_index"];
/// Bytes an event below which a column is not named on its own.
const SMALL: f64 = 0.05;
/// Bytes that a file system hands out at least, as `stat` counts them.
const BLOCK: u64 = 512;

/// What a store weighs, in bytes.
#[derive(Debug, Clone, Default)]
pub struct Weight {
    pub files: usize,
    /// Live segments.
    pub segments: u64,
    /// Segments that compaction replaced, until they are deleted.
    pub replaced: u64,
    /// Commits, tiles and whatever else is under `_ledger`.
    pub ledger: u64,
    /// The store's log of signed heads.
    pub store_log: u64,
    pub delta: u64,
    /// Neither: the write-ahead log, indexes that can be rebuilt, keys.
    pub other: u64,
    /// What the file system holds for all but `other` and `replaced`.
    pub on_disk: u64,
    /// Compressed bytes of each column of all segments.
    pub columns: BTreeMap<String, u64>,
    pub bloom_filters: u64,
    pub page_indexes: u64,
}

/// How many files of which kind a data folder holds, without opening any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Files {
    pub all: usize,
    pub segments: usize,
    /// Commits of all streams, packed ones counted as one.
    pub commits: usize,
    /// Files of the write-ahead log.
    pub logs: usize,
    pub log_bytes: u64,
}

impl Files {
    /// Counts.
    pub fn of(data: &Path) -> Outcome<Self> {
        let mut files = Self::default();
        each_file(data, |path, about| {
            let inside = path.strip_prefix(data).unwrap_or(path);
            let below = |name: &str| inside.components().any(|part| part.as_os_str() == name);
            files.all += 1;
            files.segments += usize::from(is_segment(path) && !below("_delta_log"));
            files.commits += usize::from(below("_ledger") && below("commits"));
            if below("wal") && path.extension().is_some_and(|extension| extension == "log") {
                files.logs += 1;
                files.log_bytes += about.len();
            }
            Ok(())
        })?;
        Ok(files)
    }

    /// Whether nothing was sealed or compacted between the two.
    pub fn same_work(&self, other: &Self) -> bool {
        (self.segments, self.commits) == (other.segments, other.commits)
    }
}

impl Weight {
    /// Weighs everything below a data folder.
    pub fn of(data: &Path) -> Outcome<Self> {
        let mut weight = Self::default();
        let live = live::all(data)?;
        each_file(data, |path, about| weight.add(data, path, about, &live))?;
        Ok(weight)
    }

    fn add(&mut self, data: &Path, path: &Path, about: &Metadata, live: &BTreeSet<PathBuf>) -> Outcome<()> {
        let inside = path.strip_prefix(data).unwrap_or(path);
        let below = |name: &str| inside.components().any(|part| part.as_os_str() == name);
        // Every branch says what kind of file it is; two kinds are not part of what is stored for good.
        let kind = if below("_ledger") {
            &mut self.ledger
        } else if below("_store") {
            &mut self.store_log
        } else if below("_delta_log") {
            &mut self.delta
        } else if !is_segment(path) {
            self.other += about.len();
            return Ok(());
        } else if live.contains(path) {
            self.add_columns(path)?;
            &mut self.segments
        } else {
            self.replaced += about.len();
            return Ok(());
        };
        *kind += about.len();
        self.files += 1;
        self.on_disk += about.blocks() * BLOCK;
        Ok(())
    }

    fn add_columns(&mut self, path: &Path) -> Outcome<()> {
        let file = File::open(path).map_err(Trouble::at("opening", path))?;
        let unreadable = |e| Trouble::at("reading the footer of", path)(std::io::Error::other(e));
        let reader = SerializedFileReader::new(file).map_err(unreadable)?;
        for group in reader.metadata().row_groups() {
            for column in group.columns() {
                let bytes = column.compressed_size().max(0).unsigned_abs();
                *self.columns.entry(column.column_path().string()).or_insert(0) += bytes;
                self.bloom_filters += positive(column.bloom_filter_length());
                self.page_indexes += positive(column.column_index_length()) + positive(column.offset_index_length());
            }
        }
        Ok(())
    }

    /// Compressed bytes of the columns that exist for proofs only.
    pub fn salts(&self) -> u64 {
        SALTS.iter().filter_map(|name| self.columns.get(*name)).sum()
    }

    /// What proofs take: salts, commits, tiles, signed heads.
    pub fn proofs(&self) -> u64 {
        self.ledger + self.store_log + self.salts()
    }

    /// What a sealed event costs for good: all but `other` and `replaced`.
    pub fn stored(&self) -> u64 {
        self.segments + self.ledger + self.store_log + self.delta
    }

    /// The parts, heaviest columns first, each with its bytes an event.
    pub fn parts(&self, events: usize) -> Vec<(String, f64)> {
        let share = |bytes: u64| bytes as f64 / events.max(1) as f64;
        let mut columns: Vec<(&String, &u64)> = self.columns.iter().collect();
        columns.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let in_columns: u64 = self.columns.values().sum();
        let rest = self.segments.saturating_sub(in_columns + self.bloom_filters + self.page_indexes);
        let (large, small): (Vec<_>, Vec<_>) = columns.into_iter().partition(|(_, bytes)| share(**bytes) >= SMALL);
        let mut parts: Vec<(String, f64)> =
            large.into_iter().map(|(name, bytes)| (format!("column `{name}`"), share(*bytes))).collect();
        let together = small.iter().map(|(_, bytes)| **bytes).sum();
        parts.push((format!("{} columns below {SMALL} each, together", small.len()), share(together)));
        parts.extend([
            ("Bloom filters".to_owned(), share(self.bloom_filters)),
            ("page indexes".to_owned(), share(self.page_indexes)),
            ("footers and the rest of segments".to_owned(), share(rest)),
            ("`_ledger`: commits and tiles".to_owned(), share(self.ledger)),
            ("`_store`: signed heads".to_owned(), share(self.store_log)),
            ("`_delta_log`".to_owned(), share(self.delta)),
            ("not counted: write-ahead log and what can be rebuilt".to_owned(), share(self.other)),
            ("not counted: segments that compaction replaced, until they are deleted".to_owned(), share(self.replaced)),
        ]);
        parts
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "parquet")
}

/// Shows every file below a folder, in no order.
fn each_file(top: &Path, mut show: impl FnMut(&Path, &Metadata) -> Outcome<()>) -> Outcome<()> {
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && folder != top => continue,
            entries => entries.map_err(Trouble::at("listing", &folder))?,
        };
        for entry in entries {
            let path = entry.map_err(Trouble::at("listing", &folder))?.path();
            let about = match std::fs::symlink_metadata(&path) {
                // A server at work removes files between the list and the look.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                about => about.map_err(Trouble::at("looking at", &path))?,
            };
            if about.is_dir() {
                folders.push(path);
            } else if about.is_file() {
                show(&path, &about)?;
            }
        }
    }
    Ok(())
}

fn positive(length: Option<i32>) -> u64 {
    length.map_or(0, |length| u64::from(length.max(0).unsigned_abs()))
}
