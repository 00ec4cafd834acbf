//! Where a server's processor time goes, by sampling it with `perf` while events come in, and sorting each sample by
//! the functions on its stack.
//!
//! Not here: the load (`costs`). What a part is called and which functions belong to it is the table `PARTS`; a sample
//! belongs to the first part that matches, so a function of `parquet` under compaction counts as compaction.
//!
//! Invariant: every sample is in exactly one part.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{self, Process};
use crate::trouble::{Outcome, Trouble};

/// Samples a second of processor time, and bytes of stack that are kept of each.
const SAMPLES: &str = "499";
const STACK: &str = "dwarf,8192";

/// A part of the work, and what stands on the stack (or is the thread's name) when it is done.
pub const PARTS: &[(&str, &[&str])] = &[
    ("signature", &["ed25519", "curve25519", "LedgerKey::sign", "ledger::note::"]),
    ("hashes of salts and sections", &["leaf::Commitments", "leaf::commitment", "leaf::Seed"]),
    ("hashes of leaves and tree", &["leaf_hash", "leaf::hash_of", "leaf::data_of", "ledger::tree::"]),
    (
        "compaction and upkeep",
        &[
            "ledger_store::compact",
            "ledger_store::upkeep",
            "ledger_store::pack",
            "ledger_store::snapshot",
            "ledger-upkeep",
        ],
    ),
    ("duplicate check", &["ledger_store::precheck", "ledger_store::ids", "id_fingerprint", "Live::find"]),
    ("log: frames, checksums, write, fsync", &["ledger_store::wal"]),
    ("Parquet: encoding, zstd, statistics, Bloom filters", &["parquet::"]),
    (
        "sealing but Parquet: columns, file and its hash, commit, Delta view",
        &["ledger_store::seal", "ledger_store::segment", "ledger-sealer"],
    ),
    ("columns of what is not sealed", &["ledger_store::columns"]),
    (
        "reading JSON into drafts",
        &["ingest::json", "ingest::wire", "ingest::admission", "ingest::batch", "DraftBuilder"],
    ),
    ("sequence, heads, receipts: the rest of the writer", &["ledger_store::writer", "ledger-writer"]),
    ("the rest of taking a request in, and its answer", &["ingest::", "ledger_store::"]),
    ("HTTP, sockets, the runtime", &[]),
];

/// Samples of each part, in the order of [`PARTS`].
pub type Samples = Vec<usize>;

/// `perf` at work on one process.
pub struct Profile {
    perf: Process,
    data: PathBuf,
}

impl Profile {
    /// Whether `perf` is installed.
    pub fn is_possible() -> bool {
        Command::new("perf").arg("--version").output().is_ok_and(|output| output.status.success())
    }

    /// Samples a process until it ends.
    pub fn start(process: u32, folder: &Path) -> Outcome<Self> {
        let data = folder.join("perf.data");
        let mut command = Command::new("perf");
        command.args(["record", "-e", "cpu-clock", "-F", SAMPLES, "--call-graph", STACK, "-p", &process.to_string()]);
        command.arg("-o").arg(&data);
        let perf = Process::start(command, "perf record", &folder.join("perf.log"))?;
        Ok(Self { perf, data })
    }

    /// Waits for `perf`, whose process has ended, and sorts what it saw.
    pub async fn sorted(self) -> Outcome<Samples> {
        self.perf.end().await?;
        let mut command = Command::new("perf");
        command.args(["script", "--no-inline", "-F", "comm,ip,sym", "-i"]).arg(&self.data);
        let text = process::finish(command, "perf script")?;
        std::fs::remove_file(&self.data).map_err(Trouble::at("removing", &self.data))?;
        Ok(sort(&String::from_utf8_lossy(&text)))
    }
}

/// One sample a paragraph: the thread's name, then its functions from the innermost outwards.
fn sort(text: &str) -> Samples {
    let mut samples = vec![0; PARTS.len()];
    for stack in text.split("\n\n").filter(|stack| !stack.trim().is_empty()) {
        let has = |(_, names): &(&str, &[&str])| names.iter().any(|name| stack.contains(name));
        let part = PARTS.iter().position(has).unwrap_or(PARTS.len() - 1);
        samples[part] += 1;
    }
    samples
}
