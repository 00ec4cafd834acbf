//! Puts everyday traffic and plants into one order of arrival, adds repeats, conflicts and late events, writes, and
//! counts.
//!
//! The counting is the record's: every first occurrence passes `Tally::take` once. No story is told here. Neighbours:
//! `time::Curve` says when everyday lines arrive, `traffic` what they are, the plants come sorted from the parent.
//!
//! Invariants:
//! 1. plants + everyday events + repeats + conflicts = the plan's lines, exactly.
//! 2. A repeat is byte for byte a line written before; a conflict has the id of an event written before and other
//!    content.
//! 3. Held in memory: the plants not yet written, [`RING`] lines, one event that will be contradicted.

use super::incident::{REASON, SERVICE, WORKFLOW, release_counts};
use super::planted::{Conflict, Planted, ReleaseCount, TenantCount};
use super::plants::Plant;
use super::platform::{Platform, TENANTS};
use super::random::Random;
use super::time::{Curve, HOUR, SECOND, uneven};
use super::traffic::Traffic;
use super::wire::{Attributes, Event, Stream};
use ledger::time::format_micros as rfc3339;
use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};

/// How many recent lines a repeat is drawn from.
const RING: usize = 256;
/// One line in this many is a repeat.
const REPEAT_EVERY: u64 = 100;
/// How many lines reuse an id with other content.
const CONFLICTS: u64 = 3;
/// How many everyday lines lie between an event and its contradiction.
const CONFLICT_LAG: u64 = 40;
/// Everyday events in a thousand that come hours late.
const LATE_PERMILLE: u64 = 5;

/// What was counted so far.
#[derive(Debug)]
struct Tally {
    lines: u64,
    events: u64,
    repeats: u64,
    late: u64,
    /// Earliest and latest time of any event.
    span: (i64, i64),
    /// Per tenant: audit, telemetry.
    streams: [[u64; 2]; TENANTS.len()],
    /// Per tenant: runs, errors, broken, audit failures on the bad release.
    release: [[u64; 4]; TENANTS.len()],
}

impl Tally {
    /// Counts the first occurrence of an event.
    fn take(&mut self, event: &Event, bad_release: &str) {
        self.events += 1;
        self.late += u64::from(event.time < self.span.1.saturating_sub(HOUR));
        self.span = (self.span.0.min(event.time), self.span.1.max(event.time));
        self.streams[event.tenant][usize::from(event.stream == Stream::Telemetry)] += 1;
        if event.service == SERVICE && event.workflow == WORKFLOW && event.release == bad_release {
            let broken = u64::from(event.reason == REASON);
            let [runs, errors, jobs_broken, audit_failures] = &mut self.release[event.tenant];
            match event.stream {
                Stream::Audit => *audit_failures += broken,
                Stream::Telemetry => {
                    *runs += 1;
                    *errors += u64::from(event.outcome == "error");
                    *jobs_broken += broken;
                }
            }
        }
    }
}

/// The writing of a plan.
pub struct Merge<'a, W: Write> {
    platform: &'a Platform,
    out: BufWriter<&'a mut W>,
    random: Random,
    line: String,
    ring: VecDeque<String>,
    contradicted: Option<Event>,
    tally: Tally,
    conflicts: Vec<Conflict>,
}

impl<'a, W: Write> Merge<'a, W> {
    /// Ready to write to `out`.
    pub fn new(platform: &'a Platform, out: &'a mut W) -> Self {
        let tally = Tally {
            lines: 0,
            events: 0,
            repeats: 0,
            late: 0,
            span: (i64::MAX, i64::MIN),
            streams: [[0; 2]; TENANTS.len()],
            release: [[0; 4]; TENANTS.len()],
        };
        Self {
            platform,
            out: BufWriter::with_capacity(64 * 1_024, out),
            random: Random::new(platform.plan.seed, 1),
            line: String::with_capacity(1_024),
            ring: VecDeque::with_capacity(RING),
            contradicted: None,
            tally,
            conflicts: Vec::new(),
        }
    }

    /// Writes everything, `plants` at their arrivals, and enters the counts into the record.
    pub fn run(mut self, plants: Vec<Plant>, planted: &mut Planted) -> io::Result<()> {
        let plan = self.platform.plan;
        let again = plants.iter().filter(|plant| plant.again).count() as u64;
        let repeats = (plan.events as u64 / REPEAT_EVERY).max(again);
        // Positive: at MIN_EVENTS all of it is under half of the lines, and above that plants grow more slowly than
        // lines (a test tries both).
        let everyday = (plan.events as u64).saturating_sub(plants.len() as u64 + repeats + CONFLICTS);
        let share =
            |number: u64| (u128::from(repeats - again) * u128::from(number) / u128::from(everyday.max(1))) as u64;
        let traffic = Traffic::new(self.platform);
        let mut curve = Curve::new(&plan, everyday);
        let mut plants = plants.into_iter().peekable();
        let mut number = 0;
        while let Some(arrival) = curve.arrival(&mut self.random) {
            while let Some(plant) = plants.next_if(|plant| plant.arrival <= arrival) {
                self.plant(&plant)?;
            }
            let time = self.happened(arrival);
            let event = traffic.event(time, &mut self.random);
            self.first(&event)?;
            self.contradict(number, everyday, event)?;
            number += 1;
            for _ in share(number - 1)..share(number) {
                self.repeat_any()?;
            }
        }
        for plant in plants {
            self.plant(&plant)?;
        }
        self.out.flush()?;
        self.record(planted);
        Ok(())
    }

    /// When an everyday event happened that arrives now: seconds ago, or for a few hours before anything recent.
    fn happened(&mut self, arrival: i64) -> i64 {
        let begin = self.platform.plan.start_us;
        let recent = (arrival - self.random.between(0, 20 * SECOND)).max(begin);
        if !self.random.permille(LATE_PERMILLE) {
            return uneven(recent);
        }
        let late = self.tally.span.1.saturating_sub(self.random.between(2 * HOUR, 26 * HOUR));
        uneven(if late >= begin { late } else { recent })
    }

    fn plant(&mut self, plant: &Plant) -> io::Result<()> {
        self.first(&plant.event)?;
        if plant.again {
            self.repeat(self.ring.len() - 1)?;
        }
        Ok(())
    }

    /// Writes an event that was not written before.
    fn first(&mut self, event: &Event) -> io::Result<()> {
        self.tally.take(event, &self.platform.bad_release);
        event.write(&mut self.line);
        self.put()?;
        let mut kept = if self.ring.len() < RING { String::new() } else { self.ring.pop_front().unwrap_or_default() };
        kept.clone_from(&self.line);
        self.ring.push_back(kept);
        Ok(())
    }

    fn put(&mut self) -> io::Result<()> {
        self.tally.lines += 1;
        self.out.write_all(self.line.as_bytes())
    }

    fn repeat_any(&mut self) -> io::Result<()> {
        let index = self.random.below(self.ring.len() as u64) as usize;
        self.repeat(index)
    }

    /// Writes a line of the ring again.
    fn repeat(&mut self, index: usize) -> io::Result<()> {
        self.line.clone_from(&self.ring[index]);
        self.tally.repeats += 1;
        self.put()
    }

    /// At each quarter of the everyday lines, keeps the event; some lines later, writes its contradiction.
    fn contradict(&mut self, number: u64, everyday: u64, event: Event) -> io::Result<()> {
        if (1..=CONFLICTS).any(|part| number == everyday / (CONFLICTS + 1) * part) {
            self.contradicted = Some(event);
            return Ok(());
        }
        if !(1..=CONFLICTS).any(|part| number == everyday / (CONFLICTS + 1) * part + CONFLICT_LAG) {
            return Ok(());
        }
        let Some(mut event) = self.contradicted.take() else { return Ok(()) };
        (event.outcome, event.reason) =
            if event.outcome == "denied" { ("success", "") } else { ("denied", "role_missing") };
        event.attributes = Attributes::new().json("rewritten", "true").finish();
        event.write(&mut self.line);
        self.put()?;
        let stream = if event.stream == Stream::Audit { "audit" } else { "telemetry" };
        let tenant = TENANTS[event.tenant].id.to_owned();
        self.conflicts.push(Conflict { tenant, stream: stream.to_owned(), id: event.id, line: self.tally.lines });
        Ok(())
    }

    fn record(self, planted: &mut Planted) {
        let tally = self.tally;
        planted.lines = tally.lines;
        planted.events = tally.events;
        planted.repeats = tally.repeats;
        planted.conflicts = self.conflicts;
        planted.late = tally.late;
        planted.first_time = rfc3339(tally.span.0);
        planted.last_time = rfc3339(tally.span.1);
        let streams = TENANTS.iter().zip(tally.streams);
        let counts = streams.map(|(tenant, [audit, telemetry])| TenantCount {
            tenant: tenant.id.to_owned(),
            region: tenant.region.to_owned(),
            audit,
            telemetry,
        });
        planted.tenants = counts.collect();
        let releases = TENANTS.iter().zip(tally.release);
        planted.bad_release.tenants =
            release_counts(releases.map(|(tenant, [runs, errors, broken, audit_failures])| ReleaseCount {
                tenant: tenant.id.to_owned(),
                runs,
                errors,
                broken,
                audit_failures,
            }));
    }
}
