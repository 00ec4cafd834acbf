//! The commands, one file each, and what they share: the runtime, logging, and interruption.
//!
//! Not here: what a command is about. Invariant: a command answers with an exit code or an error, and prints
//! nothing on standard output but its result.

mod access;
mod administrator_key;
mod bundle;
mod controls;
mod demo;
mod fsck;
mod generate;
mod incident;
mod ingest;
mod job;
mod keygen;
mod keys;
mod ledger_key;
mod query;
mod redaction;
mod registry;
mod release;
mod rescue;
mod residency;
mod retention;
mod serve;
mod verify;

use crate::settings::LogFormat;
use clap::Subcommand;
use std::future::Future;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// What every command answers with.
pub type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

/// Something was found that does not hold.
pub const FOUND: u8 = 3;
/// Exit code: something is written in a newer format than this program reads, and nothing else is in doubt.
pub const NEWER: u8 = 4;

/// What to do.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "what each is for stands on its arguments, where --help takes it from")]
pub enum Command {
    Serve(serve::Arguments),
    Demo(demo::Arguments),
    Ingest(ingest::Arguments),
    Query(query::Arguments),
    Incident(incident::Arguments),
    Release(release::Arguments),
    Access(access::Arguments),
    Residency(residency::Arguments),
    Bundle(bundle::Arguments),
    Controls(controls::Arguments),
    Retention(retention::Arguments),
    Redaction(redaction::Arguments),
    Job(job::Arguments),
    Verify(verify::Arguments),
    Fsck(fsck::Arguments),
    Registry(registry::Arguments),
    AdministratorKey(administrator_key::Arguments),
    Rescue(rescue::Arguments),
    Keys(keys::Arguments),
    LedgerKey(ledger_key::Arguments),
    Keygen(keygen::Arguments),
    Generate(generate::Arguments),
}

/// Runs one command.
///
/// # Errors
/// What failed, with its causes.
pub fn run(command: Command) -> Outcome {
    match command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Ingest(arguments) => ingest::run(&arguments),
        Command::Query(arguments) => query::run(&arguments),
        Command::Incident(arguments) => incident::run(&arguments),
        Command::Release(arguments) => release::run(&arguments),
        Command::Access(arguments) => access::run(&arguments),
        Command::Residency(arguments) => residency::run(&arguments),
        Command::Bundle(arguments) => bundle::run(&arguments),
        Command::Controls(arguments) => controls::run(&arguments),
        Command::Retention(arguments) => retention::run(&arguments),
        Command::Redaction(arguments) => redaction::run(&arguments),
        Command::Job(arguments) => job::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Fsck(arguments) => fsck::run(&arguments),
        Command::Registry(arguments) => registry::run(&arguments),
        Command::AdministratorKey(arguments) => administrator_key::run(&arguments),
        Command::Rescue(arguments) => rescue::run(&arguments),
        Command::Keys(arguments) => keys::run(&arguments),
        Command::LedgerKey(arguments) => ledger_key::run(&arguments),
        Command::Keygen(arguments) => keygen::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
    }
}

/// Runs asynchronous work to its end.
fn block_on<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work))
}

/// Starts logging to standard error.
fn start_logging(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A second start, as when a test runs two commands, keeps the first.
    let _ = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// Waits for an interrupt or a request to end.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupt = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => drop(interrupt.await),
    }
}
