//! `piperoll-verify`: checks what a Piperoll ledger hands out, offline, against keys that the caller trusts.
//!
//! It is small so that an auditor can read all of it: it links `ledger`, a command-line parser, an error derive and, for
//! bundles, `flate2`; opens the files that it is given, and reaches no network, clock or source of randomness. Not here:
//! what is valid (`ledger`), and whole stores, whose Parquet files `piperoll verify` recomputes.
//!
//! Invariants: it says that something holds only after a function of `ledger` has said so; what is not proven is
//! said in the same answer; exit codes are 0 holds, 1 cannot be read, 2 wrong usage, 3 does not hold, 4 of a newer
//! format, 5 holds, but by no key that was given or without comparison with a head that was.

mod bundle;
mod command;
mod error;
mod input;
mod json;
mod report;
mod trust;

use clap::Parser;
use command::Command;
use std::io::Write as _;
use std::process::ExitCode;

/// Check what a Piperoll ledger hands out: evidence bundles, notes, checkpoints, proofs, receipts, commits
///
/// Works offline on files, with the public keys that you trust. A key given under one origin of a ledger serves
/// for the others, and the answer says so: one secret signs for all of a ledger's streams.
#[derive(Debug, Parser)]
#[command(
    name = "piperoll-verify",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "\
Where to get what (take the key from where it was published, not from the service that you check):
  VKEY=$(cat published.vkey)                                       as `piperoll keygen` printed it
  curl -s $URL/v1/tenants/acme/audit/checkpoint > now.checkpoint
  piperoll-verify checkpoint now.checkpoint --key \"$VKEY\"

Exit codes: 0 holds, 1 cannot be read, 2 wrong usage, 3 does not hold,
4 written in a newer format than this program reads, 5 a bundle that holds together, but by
no key that was given, or that a head that was given could not be compared with."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What is printed where, and the exit code.
#[derive(Debug, Default, PartialEq, Eq)]
struct Printed {
    out: String,
    err: String,
    code: u8,
}

fn answer(arguments: Arguments) -> Printed {
    let (document, json, wants_text) =
        (arguments.command.document(), arguments.command.json(), arguments.command.wants_text());
    match arguments.command.run() {
        Ok(answer) if json => Printed { out: answer.to_json(), err: String::new(), code: answer.exit_code() },
        // A document that was asked for stands alone on standard output, so that it can be kept in a file.
        Ok(answer) if wants_text => {
            Printed { out: answer.text().unwrap_or_default().into(), err: answer.to_words(), code: 0 }
        }
        Ok(answer) => Printed { out: answer.to_words(), err: String::new(), code: answer.exit_code() },
        Err(error) => {
            let code = error.exit_code();
            match (json, code) {
                (true, _) => Printed { out: report::failure_json(document, &error), err: String::new(), code },
                (false, error::DOES_NOT_HOLD) if !wants_text => {
                    Printed { out: report::failure_words(&error), err: String::new(), code }
                }
                (false, _) => Printed { out: String::new(), err: report::failure_words(&error), code },
            }
        }
    }
}

fn main() -> ExitCode {
    let printed = answer(Arguments::parse());
    let wrote = std::io::stdout().lock().write_all(printed.out.as_bytes());
    let told = std::io::stderr().lock().write_all(printed.err.as_bytes());
    match wrote.and(told) {
        Ok(()) => ExitCode::from(printed.code),
        // Nobody saw the answer, so it must not count as one.
        Err(_) => ExitCode::from(error::CANNOT_BE_READ.max(printed.code)),
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
