//! Workloads under faults drawn by chance: several in one run, of every kind, and again while the last is mended.
//!
//! Each schedule is a function of its number. `PIPEROLL_SCHEDULES=FROM..TO` runs these and no others; a failure names
//! its number. Every single fault in turn is in [`super::matrix`].

use super::matrix::{all, range};
use super::script::{Chance, Mode, Script};
use super::workload::{Run, steps};
use super::*;

async fn schedule(number: u64) {
    use Mode::*;
    let modes = vec![Error, Error, Denied, Throttled, Broken, Slow, Stuck, Full, ReadOnly, Death, PowerCut];
    let chance = Chance { seed: number, one_in: [15, 30, 60][number as usize % 3], modes, in_a_row: 2 };
    let script = Arc::new(Script::drawn(chance));
    let mut run = Run::new(number, Arc::clone(&script), number.is_multiple_of(2));
    run.work(&steps(number)).await;
    assert!(!script.struck().is_empty(), "nothing failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_schedule_of_faults_leaves_a_plain_list() {
    let numbers = range("PIPEROLL_SCHEDULES").unwrap_or(0..24);
    all(numbers.map(|number| (format!("PIPEROLL_SCHEDULES={number}..{}", number + 1), schedule(number))).collect())
        .await;
}
