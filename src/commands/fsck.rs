//! `piperoll fsck`: checks a whole store, object by object.
//!
//! Not here: the check itself (`ledger-store`). Invariant: it changes nothing and takes no lock.

use super::verify::{Extent, Trust, exit_code, show};
use super::{Outcome, block_on};
use crate::settings::Place;
use access::registry::SnapshotAudit;
use clap::Args;
use indicatif::ProgressBar;

/// Check a whole store, object by object, and say what to do about what does not hold
///
/// All that `verify` checks, for every stream, and besides the store's own log: its signed heads, the tiles that
/// must lead to them, and the records beside it; and the kept snapshot of the registry, which is folded anew from its
/// entries and compared. It changes nothing and may run beside a service.
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
    let bar = ProgressBar::new_spinner();
    let report = block_on(async {
        let mut fsck = trust.fsck(&arguments.place).await?;
        fsck.content = trust.content(&arguments.place, &fsck).await;
        let snapshot = SnapshotAudit::of(&fsck).await?;
        let mut report = trust.check(fsck.clone(), Extent::Store, |_, _| true, |entries| bar.inc(entries)).await?;
        match snapshot {
            Some(Ok(snapshot)) if report.is_sound() => report.findings.extend(snapshot.findings(&fsck).await?),
            Some(Err(finding)) => report.findings.push(finding),
            _ => {}
        }
        Ok::<_, Box<dyn std::error::Error>>(report)
    })??;
    bar.finish_and_clear();
    show(&report, arguments.json);
    Ok(exit_code(&report))
}
