//! Waits until a server has nothing left to do in the background, so that what is measured next is not measured
//! against sealing or compaction.
//!
//! A server is quiet when, for several looks in a row, it used next to no processor time and no segment or commit
//! appeared or went. Not here: who starts the server.
//!
//! Invariant: every wait has an end, and a server that does not become quiet is an error, not a figure.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::machine::Processor;
use crate::program::Server;
use crate::storage::Files;
use crate::trouble::{Outcome, Trouble};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Looks in a row at which it was quiet: longer than a server takes to see that nothing comes in (two looks of 5 s).
const CALM: usize = 12;
/// The share of a core that counts as nothing: clocks, and looks at what is due.
const NOTHING: f64 = 0.03;
/// How long to wait at most.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// What was waited for.
#[derive(Debug, Clone, Copy)]
pub struct Quiet {
    /// Until the last of the work, not counting the looks that showed that it was the last.
    pub took: Duration,
    /// The server's processor time from its start.
    pub processor: Duration,
    /// What there was before.
    pub before: Files,
    /// What there is now.
    pub after: Files,
}

/// Waits until the server over this data folder is quiet.
pub async fn quiet(server: &Server, data: &Path) -> Outcome<Quiet> {
    let begin = Instant::now();
    let before = Files::of(data)?;
    let mut quiet = Quiet { took: Duration::ZERO, processor: Duration::ZERO, before, after: before };
    let mut used = Processor::of(server.id())?.own;
    let mut calm = 0;
    while calm < CALM {
        if begin.elapsed() > PATIENCE {
            let bound = format!("idle within {} s", PATIENCE.as_secs());
            return Err(Trouble::wrong("the server's background work", bound, "still at work"));
        }
        let look = Instant::now();
        tokio::time::sleep(LOOK).await;
        let now = Processor::of(server.id())?.own;
        let files = Files::of(data)?;
        let share = now.saturating_sub(used).as_secs_f64() / look.elapsed().as_secs_f64();
        if share <= NOTHING && files.same_work(&quiet.after) {
            calm += 1;
        } else {
            calm = 0;
            quiet.took = begin.elapsed();
        }
        (used, quiet.processor, quiet.after) = (now, now, files);
    }
    Ok(quiet)
}
