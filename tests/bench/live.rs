//! Which Parquet files of a store are live, as its Delta view tells any engine; and the same files again in plain
//! folders, one for each tenant, so that other engines read exactly what Piperoll reads.
//!
//! A file that compaction replaced stays for a while, for readers that still use it; it is not live. Not here: the
//! Delta view's own soundness; `fsck` and the tests say that.
//!
//! Invariant: only hard links are made, below a folder of the benchmark's own; the store is not touched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};
use serde::Deserialize;

use crate::trouble::{Outcome, Trouble};

/// A line of a Delta log, as far as it says which files there are.
#[derive(Deserialize)]
struct Action {
    add: Option<File>,
    remove: Option<File>,
}

#[derive(Deserialize)]
struct File {
    path: String,
}

/// The live files of every stream below a data folder.
pub fn all(data: &Path) -> Outcome<BTreeSet<PathBuf>> {
    let mut live = BTreeSet::new();
    for tenant in listed(&data.join("store"))?.into_iter().filter(|path| is_part(path, "tenant=")) {
        for stream in listed(&tenant)?.into_iter().filter(|path| is_part(path, "stream=")) {
            live.extend(files(&stream)?.into_iter().map(|file| stream.join(file)));
        }
    }
    Ok(live)
}

/// Links the live files of every tenant's audit stream to `into/<tenant>/`; answers how many there are.
pub fn link(data: &Path, into: &Path) -> Outcome<usize> {
    let mut count = 0;
    for folder in listed(&data.join("store"))? {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(tenant) = name.strip_prefix("tenant=") else { continue };
        let stream = folder.join("stream=audit");
        let target = into.join(tenant);
        for file in files(&stream)? {
            std::fs::create_dir_all(&target).map_err(Trouble::at("making", &target))?;
            let link = target.join(file.replace('/', "-"));
            std::fs::hard_link(stream.join(&file), &link).map_err(Trouble::at("linking", &link))?;
            count += 1;
        }
    }
    Ok(count)
}

/// The files that a stream's Delta view names: by its newest checkpoint, if it has one, and the versions after it; none
/// where nothing was sealed yet.
fn files(stream: &Path) -> Outcome<BTreeSet<String>> {
    let log = stream.join("_delta_log");
    if !log.is_dir() {
        return Ok(BTreeSet::new());
    }
    let names = listed(&log)?;
    let numbered = |suffix: &str| -> BTreeMap<u64, &PathBuf> {
        let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(suffix)?.parse().ok();
        names.iter().filter_map(|path| Some((number(path)?, path))).collect()
    };
    let (checkpoints, versions) = (numbered(".checkpoint.parquet"), numbered(".json"));
    let (mut live, first) = match checkpoints.last_key_value() {
        Some((version, path)) => (added_in(path)?, version + 1),
        None => (BTreeSet::new(), 0),
    };
    for (expected, (version, path)) in (first..).zip(versions.range(first..)) {
        if *version != expected {
            return Err(Trouble::lacking(format!("version {expected} of {}", log.display())));
        }
        let text = std::fs::read_to_string(path).map_err(Trouble::at("reading", path))?;
        for line in text.lines() {
            let what = || format!("a line of {}", path.display());
            let action: Action = serde_json::from_str(line).map_err(Trouble::unreadable(what()))?;
            action.remove.map(|file| live.remove(&file.path));
            action.add.map(|file| live.insert(file.path));
        }
    }
    Ok(live)
}

/// The files that a checkpoint of a Delta view adds.
fn added_in(checkpoint: &Path) -> Outcome<BTreeSet<String>> {
    let file = std::fs::File::open(checkpoint).map_err(Trouble::at("opening", checkpoint))?;
    let unreadable = |e| Trouble::at("reading", checkpoint)(std::io::Error::other(e));
    let reader = SerializedFileReader::new(file).map_err(unreadable)?;
    let mut added = BTreeSet::new();
    for row in reader.get_row_iter(None).map_err(unreadable)? {
        let row = row.map_err(unreadable)?;
        let value = |row: &Row, name: &str| row.get_column_iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone());
        if let Some(Field::Group(add)) = value(&row, "add")
            && let Some(Field::Str(path)) = value(&add, "path")
        {
            added.insert(path);
        }
    }
    Ok(added)
}

fn is_part(path: &Path, prefix: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
}

fn listed(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Trouble::at("listing", folder))?;
    entries.map(|entry| Ok(entry.map_err(Trouble::at("listing", folder))?.path())).collect()
}
