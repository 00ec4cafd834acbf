//! What operators watch of an open store, as metrics.
//!
//! What happens is counted where it happens or here on its behalf; what is, is read when somebody looks. No metric has
//! a tenant in its labels: who looks at metrics need not know them. How a store is says which store. Not here: operations on the object store
//! ([`crate::objects`]), how metrics are shown (`dashboards`).

use crate::error::StoreError;
use crate::store::Store;
use crate::writer::Verdict;
use std::path::Path;

/// Counts what became of a request's events.
pub(crate) fn appended(verdicts: &[Vec<Verdict>]) {
    let (mut accepted, mut duplicates, mut conflicts) = (0, 0, 0);
    for verdict in verdicts.iter().flatten() {
        match verdict {
            Verdict::Accepted(_) => accepted += 1,
            Verdict::Duplicate(_) => duplicates += 1,
            Verdict::Conflict(_) => conflicts += 1,
        }
    }
    for (verdict, count) in [("accepted", accepted), ("duplicate", duplicates), ("conflict", conflicts)] {
        metrics::counter!("piperoll_events_total", "verdict" => verdict).increment(count);
    }
}

/// Counts a try to seal.
pub(crate) fn sealed<T>(result: &Result<T, StoreError>) {
    let outcome = if result.is_ok() { "ok" } else { "failed" };
    metrics::counter!("piperoll_seals_total", "outcome" => outcome).increment(1);
}

impl Store {
    /// Brings the metrics that say how the store is up to this moment.
    pub fn observe(&self) {
        let shared = self.shared();
        let store = self.name().to_string();
        metrics::counter!("piperoll_groups_total", "store" => store.clone()).absolute(self.log_head().size);
        let unsealed = shared.unsealed_bytes.load(std::sync::atomic::Ordering::Relaxed);
        metrics::gauge!("piperoll_unsealed_bytes", "store" => store.clone()).set(unsealed as f64);
        metrics::gauge!("piperoll_epoch", "store" => store.clone()).set(self.epoch() as f64);
        metrics::gauge!("piperoll_writable", "store" => store.clone()).set(if self.is_writable() { 1.0 } else { 0.0 });
        let (files, bytes) = log_files(self.log_folder());
        metrics::gauge!("piperoll_log_files", "store" => store.clone()).set(files as f64);
        metrics::gauge!("piperoll_log_bytes", "store" => store.clone()).set(bytes as f64);
    }
}

/// How many files the log has, and their bytes; a file that goes meanwhile is not counted.
fn log_files(folder: &Path) -> (u64, u64) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let logs = entries.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "log"));
    let sizes = logs.filter_map(|entry| Some(entry.metadata().ok()?.len()));
    sizes.fold((0, 0), |(files, bytes), size| (files + 1, bytes + size))
}
