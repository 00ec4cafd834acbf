//! What people look at: pages, panels, metrics, Grafana boards.
//!
//! Of these there are metrics so far ([`http::router`]). It may call everything below it, and nothing but the program
//! calls it. Not here: answers themselves (`query`), what is counted where (each crate).

pub mod http;
mod metrics;

pub use metrics::{Metrics, MetricsError};
