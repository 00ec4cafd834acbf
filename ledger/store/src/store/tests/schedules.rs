//! Workloads under faults drawn by chance: several in one run, of every kind, and again while the last is mended.
//!
//! Each schedule is a function of its number. `PIPEROLL_SCHEDULES=FROM..TO` runs these and no others; a failure names
//! its number. Every single fault in turn is in [`super::matrix`].

use super::matrix::{all, range};
use super::script::{Chance, Mode, Script};
use super::workload::{Run, steps};
use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs a schedule, and counts the calls that failed.
async fn schedule(number: u64, failed: Arc<AtomicUsize>) {
    use Mode::*;
    let modes = vec![Error, Error, Denied, Throttled, Broken, Slow, Stuck, Full, ReadOnly, Death, PowerCut];
    let chance = Chance { seed: number, one_in: [15, 30, 60][number as usize % 3], modes, in_a_row: 2 };
    let script = Arc::new(Script::drawn(chance));
    let mut run = Run::new(number, Arc::clone(&script), number.is_multiple_of(2));
    run.work(&steps(number)).await;
    failed.fetch_add(script.struck().len(), Ordering::Relaxed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_schedule_of_faults_leaves_a_plain_list() {
    let numbers = range("PIPEROLL_SCHEDULES").unwrap_or(0..24);
    let failed = Arc::new(AtomicUsize::new(0));
    let name = |number| format!("PIPEROLL_SCHEDULES={number}..{}", number + 1);
    let count = numbers.clone().count();
    all(numbers.map(|number| (name(number), schedule(number, Arc::clone(&failed)))).collect()).await;
    assert!(failed.load(Ordering::Relaxed) >= count, "hardly anything failed");
}
