//! What people look at: pages, panels, metrics, Grafana boards.
//!
//! Nothing of it is built yet; this crate holds its place in the house and its rule of imports: it may call
//! everything below it, and nothing but the program calls it. Today people look through `piperoll query` and the
//! HTTP API. Not here: answers themselves (`query`).
