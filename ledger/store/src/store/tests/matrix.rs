//! Every call of a workload made to fail, one after the other, in every way.
//!
//! A workload is run once with nothing failing, which records its calls. Then, for each call and each way to fail,
//! it is run again with that one fault. What must hold is in [`super::workload`].
//!
//! `PIPEROLL_SEEDS=FROM..TO` takes these workloads, and every way to fail instead of the most telling ones.
//! `PIPEROLL_FAULT=NAME` runs the one case that a failure named.

use super::script::{Call, Fault, Mode, Moment, Operation, Script, Where};
use super::workload::{Run, Step, steps};
use super::*;
use futures::{StreamExt as _, stream};
use std::time::Duration;

/// One fault of one workload.
#[derive(Clone)]
struct Case {
    seed: u64,
    operation: Operation,
    moment: Moment,
    mode: Mode,
    lasts: bool,
}

impl Case {
    fn name(&self) -> String {
        let lasts = if self.lasts { " until healed" } else { "" };
        format!("seed {}: {:?} {:?}{lasts}: {}", self.seed, self.mode, self.moment, self.operation)
    }

    fn fault(&self) -> Fault {
        let at = if self.lasts { Where::From(self.operation.clone()) } else { Where::Once(self.operation.clone()) };
        Fault { at, moment: self.moment, mode: self.mode }
    }

    async fn run(self) {
        let script = Arc::new(Script::new(vec![self.fault()]));
        let mut run = Run::new(self.seed, Arc::clone(&script), false);
        run.work(&steps(self.seed)).await;
        let struck = script.struck();
        assert!(struck.iter().any(|(at, _)| *at == self.operation), "it was never asked for: is the run the same?");
        if matches!(self.mode, Mode::Error | Mode::Denied | Mode::Throttled) && !self.lasts {
            assert_eq!(struck.len(), 1);
        }
    }
}

/// The calls of a workload in which nothing fails.
async fn recorded(seed: u64, steps: &[Step]) -> Vec<Operation> {
    let script = Arc::new(Script::new(vec![]));
    let mut run = Run::new(seed, Arc::clone(&script), false);
    run.work(steps).await;
    assert_eq!(run.told, Vec::<String>::new());
    let mut recorded = script.recorded();
    recorded.sort();
    recorded
}

/// The ways in which a call is made to fail.
fn ways(call: Call, is_long: bool) -> Vec<(Mode, Moment, bool)> {
    use {Mode::*, Moment::*};
    // A call that only reads has no effect that could come before its failure.
    let moments = if call.only_reads() { vec![Before] } else { vec![Before, After] };
    let mut modes = vec![Error];
    match call {
        Call::Get | Call::List => modes.push(Broken),
        Call::Append => modes.push(Full),
        _ => {}
    }
    if is_long || !call.only_reads() {
        modes.push(if call.is_of_the_disk() { PowerCut } else { Death });
    }
    if is_long {
        modes.push(Denied);
        match call.is_of_the_disk() {
            true => modes.extend([Death, Broken, ReadOnly]),
            false => modes.extend([Throttled, Slow, Stuck]),
        }
    }
    // Without its effect, a call at which the process dies is the call before it, with its effect.
    let inside = |mode| matches!(mode, Broken | Full | Slow);
    let is_new = |mode, moment| is_long || moment == After || !matches!(mode, Death | PowerCut);
    let mut ways = Vec::new();
    for mode in modes {
        ways.extend(
            moments
                .iter()
                .filter(|m| **m == Before || !inside(mode))
                .filter(|m| is_new(mode, **m))
                .map(|moment| (mode, *moment, false)),
        );
        if is_long && !matches!(mode, Death | PowerCut) {
            ways.push((mode, Before, true));
        }
    }
    ways
}

/// A range that the environment names.
pub(super) fn range(variable: &str) -> Option<std::ops::Range<u64>> {
    let named = std::env::var(variable).ok()?;
    let (from, to) = named.split_once("..").unwrap();
    Some(from.parse().unwrap()..to.parse().unwrap())
}

/// What to run: seeds, and whether in every way.
fn wanted() -> (std::ops::Range<u64>, bool, Option<String>) {
    let only = std::env::var("PIPEROLL_FAULT").ok();
    let named = only.as_ref().map(|name| name[5..name.find(':').unwrap()].parse::<u64>().unwrap());
    let seeds = range("PIPEROLL_SEEDS");
    let is_long = only.is_some() || seeds.is_some();
    (named.map(|seed| seed..seed + 1).or(seeds).unwrap_or(1..3), is_long, only)
}

/// A case takes a tenth of a second; one that takes so long waits for what does not come.
const HANGS: Duration = Duration::from_secs(60);

/// Runs all cases, some at a time, and fails with the names of those that failed.
pub(super) async fn all(cases: Vec<(String, impl Future<Output = ()> + Send + 'static)>) {
    let count = cases.len();
    let run = |(name, case): (String, _)| async move {
        let case = tokio::spawn(tokio::time::timeout(HANGS, case));
        let failed = !matches!(case.await, Ok(Ok(())));
        failed.then(|| eprintln!("failed: {name}")).map(|()| name)
    };
    let failed: Vec<String> =
        stream::iter(cases).map(run).buffer_unordered(4).filter_map(async |name| name).collect().await;
    eprintln!("{count} cases, {} failed", failed.len());
    assert!(failed.is_empty(), "these failed; the name of one says how to run it again:\n{}", failed.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_call_may_fail_in_every_way() {
    let (seeds, is_long, only) = wanted();
    let mut cases = Vec::new();
    for seed in seeds {
        let operations = recorded(seed, &steps(seed)).await;
        assert_eq!(operations, recorded(seed, &steps(seed)).await, "a workload is not the same twice");
        eprintln!("seed {seed}: {} calls", operations.len());
        for operation in operations {
            for (mode, moment, lasts) in ways(operation.call, is_long) {
                cases.push(Case { seed, operation: operation.clone(), moment, mode, lasts });
            }
        }
    }
    cases.retain(|case| only.as_ref().is_none_or(|only| case.name() == *only));
    all(cases.into_iter().map(|case| (case.name(), case.run())).collect()).await;
}
