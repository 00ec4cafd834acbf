//! End to end, as one binary: linking the query engine takes seconds, so it is done once.
//!
//! `program` starts the real executable on a loopback port and stops it by its process id; the other modules are
//! topics. Not here: unit tests, which stand beside the code. Tests that need the real data beside the checkout,
//! Python, or servers of other people's object stores (`servers`) say loudly when these are not there; `./test` brings
//! all but the data.

#![cfg(test)]

mod access;
mod acknowledged;
mod alerts;
mod bundles;
mod commands;
mod controls;
mod crash;
mod entitlements;
mod fencing;
mod foreign;
mod identity;
mod ingest;
mod jobs;
mod keys;
mod ledger_key;
mod openapi;
mod org_changes;
mod placement;
mod program;
mod python;
mod raw_answers;
mod reading;
mod real_data;
mod redaction;
mod registry;
mod residency;
mod retention;
mod reviews;
mod scope;
mod servers;
mod stores;
mod tidy;
mod vectors;
