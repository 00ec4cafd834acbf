//! When jobs are due, beside a plain list of all due times.

use super::*;
use access::registry::change::Change;
use access::registry::{Registry, Stamp};
use proptest::prelude::*;
use serde_json::json;

const MINUTE: i64 = 60_000_000;

/// A registry and a clock, in which one job is run.
struct World {
    registry: Registry,
    now: i64,
    next: u64,
}

impl World {
    fn new(schedule: &str) -> Self {
        let mut world = Self { registry: Registry::default(), now: 1_790_000_000_000_000, next: 0 };
        world.apply(json!({"change": "job.schedule", "schedules": {"tidy": schedule}}));
        world
    }

    fn apply(&mut self, change: serde_json::Value) {
        let change: Change = serde_json::from_value(change).unwrap();
        let (seq, by) = (self.next, "piperoll".parse().unwrap());
        self.next += 1;
        self.registry.apply(Stamp { seq, at: self.now, by, reason: String::new() }, &change);
    }

    fn job(&self) -> &Job {
        self.registry.job("tidy").unwrap()
    }

    /// Whether the registry lets a run begin, and if so, its id.
    fn begin(&mut self, due: Option<Due>, lease: i64) -> Option<String> {
        let time = |at: i64| json!(ledger::time::format_micros(at));
        let run = format!("j{:04x}", self.next);
        let mut begin = json!({"change": "job.begin", "job": "tidy", "run": run, "lease_until": time(self.now + lease), "epoch": 1});
        if let Some(due) = due {
            begin["due"] = time(due.at);
            begin["missed"] = due.missed.into();
            begin["since"] = due.since.map_or(serde_json::Value::Null, time);
        }
        let change: Change = serde_json::from_value(begin.clone()).unwrap();
        self.registry.check(&change, self.now).ok()?;
        self.apply(begin);
        Some(run)
    }

    fn end(&mut self, run: &str, outcome: &str) {
        let end =
            json!({"change": "job.end", "job": "tidy", "run": run, "outcome": outcome, "millis": 1, "result": {}});
        self.apply(end);
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Time passes, in seconds, and somebody looks: what is due is run, and ends so.
    Look(u32, &'static str),
    /// Time passes, and somebody runs it by hand.
    ByHand(u32, &'static str),
}

fn step() -> impl Strategy<Value = Step> {
    let seconds = prop_oneof![4 => 1..120u32, 2 => 120..2_000u32, 1 => 2_000..40_000u32];
    let outcome =
        prop_oneof![4 => Just("ok"), 1 => Just("found"), 2 => Just("failed"), 1 => Just("stopped"), 2 => Just("")];
    (seconds, outcome, 0..8u8).prop_map(|(seconds, outcome, who)| match who {
        0 => Step::ByHand(seconds, outcome),
        _ => Step::Look(seconds, outcome),
    })
}

/// Schedules, and whether a minute is one of theirs.
type Fits = fn(i64) -> bool;
const SCHEDULES: [(&str, Fits); 4] = [
    ("*/7 * * * *", |minute| minute % 60 % 7 == 0),
    ("15 * * * *", |minute| minute % 60 == 15),
    ("5,50 */3 * * *", |minute| [5, 50].contains(&(minute % 60)) && minute / 60 % 24 % 3 == 0),
    ("* * * * *", |_| true),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn each_due_time_has_a_run_of_its_own_or_is_said_to_be_missed(
        which in 0..SCHEDULES.len(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let (text, fits) = SCHEDULES[which];
        let schedule = Schedule::read(text).unwrap().unwrap();
        let mut world = World::new(text);
        let (set, lease) = (world.now, 10 * MINUTE);
        // Of each time that had one: how many runs, and whether one did what it is for.
        let mut runs: std::collections::BTreeMap<i64, (u32, bool)> = Default::default();
        let mut covered = set;
        for step in steps {
            let (Step::Look(seconds, outcome) | Step::ByHand(seconds, outcome)) = step;
            world.now += i64::from(seconds) * 1_000_000;
            let now = world.now;
            let is_held = world.job().last.as_ref().is_some_and(|run| run.holds(now));
            let due = match (&step, turn(&schedule, world.job(), now)) {
                (Step::ByHand(..), _) => None,
                (_, Turn::Now(due)) => Some(due),
                (_, turn) => {
                    prop_assert_eq!(matches!(turn, Turn::Held(_)), is_held);
                    let unseen = (covered / MINUTE + 1..=now / MINUTE).any(fits);
                    prop_assert!(is_held || !unseen, "something is due, and was not said to be");
                    continue;
                }
            };
            let Some(run) = world.begin(due, lease) else {
                prop_assert!(is_held);
                continue;
            };
            prop_assert!(!is_held, "two at once");
            if let Some(due) = due {
                let known = runs.entry(due.at).or_default();
                prop_assert!(known.0 < MOST_TRIES && !known.1 && due.at <= now);
                if known.0 == 0 {
                    let passed: Vec<i64> = (covered / MINUTE + 1..=now / MINUTE).filter(|minute| fits(*minute)).collect();
                    prop_assert_eq!(due.at, passed.last().unwrap() * MINUTE);
                    prop_assert_eq!(due.missed, passed.len() as u64 - 1);
                    prop_assert_eq!(due.since, (passed.len() > 1).then_some(passed[0] * MINUTE));
                }
                *known = (known.0 + 1, matches!(outcome, "ok" | "found"));
            }
            covered = now;
            if !outcome.is_empty() {
                world.end(&run, outcome);
            }
        }
    }
}

#[test]
fn what_failed_is_tried_again_a_few_times_and_what_was_abandoned_when_its_lease_ends() {
    let schedule = Schedule::read("0 2 * * *").unwrap().unwrap();
    let mut world = World::new("0 2 * * *");
    let due_at = schedule.after(world.now).unwrap();
    assert_eq!(turn(&schedule, world.job(), world.now), Turn::Later(Some(due_at)));
    world.now = due_at + 1;
    let first = Due { at: due_at, missed: 0, since: None };
    assert_eq!(turn(&schedule, world.job(), world.now), Turn::Now(first));
    // Abandoned: the lease is waited for.
    world.begin(Some(first), 10 * MINUTE).unwrap();
    assert_eq!(turn(&schedule, world.job(), world.now), Turn::Held(world.now + 10 * MINUTE));
    assert_eq!((world.job().state(world.now), world.job().failures(world.now)), ("running", 0));
    world.now += 10 * MINUTE;
    assert_eq!((world.job().state(world.now), world.job().failures(world.now)), ("abandoned", 1));
    // Failed: it rests.
    let run = world.begin(Some(first), 10 * MINUTE).unwrap();
    world.end(&run, "failed");
    assert_eq!(turn(&schedule, world.job(), world.now), Turn::Later(Some(world.now + REST)));
    world.now += REST;
    assert_eq!(turn(&schedule, world.job(), world.now), Turn::Now(first));
    let run = world.begin(Some(first), 10 * MINUTE).unwrap();
    world.end(&run, "failed");
    // Three times, and no more until the next night; then it is visible for how long it does not succeed.
    world.now += REST;
    let day = 24 * 60 * MINUTE;
    assert_eq!(turn(&schedule, world.job(), world.now), Turn::Later(Some(due_at + day)));
    assert_eq!(overdue(&schedule, world.job(), due_at + PATIENCE), None);
    assert_eq!(overdue(&schedule, world.job(), due_at + PATIENCE + 1), Some(due_at));
    world.now = due_at + 3 * day;
    let caught_up = Due { at: due_at + 3 * day, missed: 2, since: Some(due_at + day) };
    assert_eq!(turn(&schedule, world.job(), world.now), Turn::Now(caught_up));
    let run = world.begin(Some(caught_up), 10 * MINUTE).unwrap();
    world.end(&run, "ok");
    assert_eq!((world.job().failures(world.now), overdue(&schedule, world.job(), world.now + day)), (0, None));
    // Another schedule begins when it was set, with nothing missed.
    world.now += day / 2;
    world.apply(json!({"change": "job.schedule", "schedules": {"tidy": "0 * * * *"}}));
    let hourly = Schedule::read("0 * * * *").unwrap().unwrap();
    assert!(matches!(turn(&hourly, world.job(), world.now), Turn::Later(Some(_))));
    world.apply(json!({"change": "job.schedule", "schedules": {}}));
    assert_eq!(turn(&hourly, world.job(), world.now + 9 * day), Turn::Later(None));
}
