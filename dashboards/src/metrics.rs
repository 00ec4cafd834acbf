//! Metrics: collected from all crates, shown in Prometheus' text form.
//!
//! Not here: where each is counted. Invariant: no label names a tenant, a principal or an object.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Bounds of the histograms of durations, in seconds: a local disk's 100 µs to an operation that was given up.
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 90.0];

/// The metrics cannot be collected: something else in this process does already.
#[derive(Debug, thiserror::Error)]
#[error("metrics are collected already, or their buckets are malformed")]
pub struct MetricsError(#[from] BuildError);

/// All that was counted in this process.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Begins to collect. Once in a process, before anything is counted.
    ///
    /// # Errors
    /// It was done before.
    pub fn install() -> Result<Self, MetricsError> {
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?;
        Ok(Self(builder.install_recorder()?))
    }

    /// What was counted, as text.
    pub fn text(&self) -> String {
        // Histograms keep each value until somebody folds them.
        self.0.run_upkeep();
        self.0.render()
    }
}
