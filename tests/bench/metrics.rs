//! What a server says of itself at `/metrics`, in Prometheus's text form.
//!
//! Not here: what the benchmark measures from outside. Invariant: a server that has no `/metrics`, or not the figure
//! that is looked for, gives `None` and no error.

use std::collections::BTreeMap;

use crate::program::{Server, client};
use crate::trouble::{Outcome, Trouble};

/// Sums over the labels of each metric, by name.
#[derive(Debug, Clone, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Asks a server.
    pub async fn of(server: &Server) -> Outcome<Self> {
        let doing = "asking for metrics";
        let answer = client()?.get(server.url("/metrics")).send().await.map_err(Trouble::unanswered(doing))?;
        if !answer.status().is_success() {
            return Ok(Self::default());
        }
        Ok(Self::read(&answer.text().await.map_err(Trouble::unanswered(doing))?))
    }

    fn read(text: &str) -> Self {
        let mut sums = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, figure)) = line.rsplit_once(' ') else { continue };
            let name = name.split_once('{').map_or(name, |(name, _)| name);
            *sums.entry(name.to_owned()).or_insert(0.0) += figure.parse().unwrap_or(0.0);
        }
        Self(sums)
    }

    /// How often the server has synced its log since its start.
    pub fn syncs(&self) -> Option<f64> {
        SYNCS.iter().find_map(|name| self.0.get(*name).copied())
    }
}

/// What counts syncs of the log: one a group.
const SYNCS: [&str; 3] =
    ["piperoll_log_syncs_total", "piperoll_wal_sync_seconds_count", "piperoll_log_sync_seconds_count"];
