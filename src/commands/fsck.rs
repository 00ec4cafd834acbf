//! `piperoll fsck`: checks a whole store, object by object.
//!
//! Not here: the check itself (`ledger-store`). Invariant: it changes nothing and takes no lock.

use super::verify::{Extent, Trust, exit_code, show};
use super::{Outcome, block_on};
use crate::settings::Place;
use clap::Args;
use indicatif::ProgressBar;

/// Check a whole store, object by object, and say what to do about what does not hold
///
/// All that `verify` checks, for every stream, and besides the store's own log: its signed heads, the tiles that
/// must lead to them, and the records beside it. It changes nothing and may run beside a service.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    trust: Trust,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// The store or the key are not to be had, or a head is not signed by a trusted key.
pub fn run(arguments: &Arguments) -> Outcome {
    let trust = &arguments.trust;
    let fsck = trust.fsck(&arguments.place)?;
    let bar = ProgressBar::new_spinner();
    let report = block_on(trust.check(fsck, Extent::Store, |_, _| true, |entries| bar.inc(entries)))??;
    bar.finish_and_clear();
    show(&report, arguments.json);
    Ok(exit_code(&report))
}
