//! `piperoll`: an audit trail that a customer's auditor can check without trusting the company that keeps it.
//!
//! This package is the program and nothing more: command line, configuration, wiring. One file per command in
//! [`commands`]; business rules live in the crates below. Not here: what a valid history is (`ledger`), keeping
//! it (`ledger-store`), the ways in and the ways to ask (`ingest`, `query`).
//!
//! Invariants: environment variables, the wall clock and randomness are read here and handed down; exit codes
//! are 0 done, 1 failed, 2 wrong usage, 3 something was found that does not hold, 4 something is of a newer format.

mod client;
mod clock;
mod commands;
mod files;
mod generate;
mod heads;
mod keyfile;
mod keys;
mod opening;
mod output;
mod reach;
mod service;
mod settings;

use clap::Parser;
use commands::Command;
use std::process::ExitCode;

/// What one thread allocates another often frees here: entries come from requests and go with a seal.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An audit trail that a customer's auditor can check without trusting the company that keeps it
#[derive(Debug, Parser)]
#[command(
    name = "piperoll",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "\
New here? `piperoll demo` starts a service, loads a story, asks five questions, verifies the ledger, and keeps serving.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 something was found that does not hold,
4 something is written in a newer format than this program reads."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match commands::run(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            output::error(&*error);
            ExitCode::from(1)
        }
    }
}
