//! Reference events over again, as many times as a long run needs: each turn has ids, sessions, traces, releases and
//! times of its own, made as a body is asked for, so that a hundred million events need no more memory than a million.
//!
//! A turn lies 90 days before the turn that follows it, and the last turn is the reference itself, byte for byte. So a
//! question about a day, a release or a session of the reference has the same answer however many turns came before,
//! while actors, addresses and tenants are the same people in every turn.
//!
//! Invariants: (1) what is patched keeps its length, so a line's other bytes stay where they are; (2) no two turns of a
//! run share an id.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ledger::time::{format_micros, parse_micros};

use crate::events::{BATCH, Body, Events};
use crate::load::Bodies;
use crate::trouble::{Outcome, Trouble};

/// Days of the reference events, and so between two turns.
const TURN_DAYS: i64 = 90;
const DAY: i64 = 86_400_000_000;
/// The year in which the releases of the reference events are named.
const YEAR: usize = 2026;

/// Where the values of a line stand that a turn changes, counted from the line's begin.
#[derive(Debug, Clone, Copy)]
struct Places {
    id: u16,
    time: u16,
    tenant: u16,
    session: u16,
    release: u16,
    trace: u16,
    /// Days since the first of all lines.
    day: u16,
}

/// Reference events that can be had again.
#[derive(Debug)]
pub struct Rekeyed {
    events: Events,
    places: Vec<Places>,
    first_day: i64,
    days: u16,
}

impl Rekeyed {
    /// Looks where the values stand that will change.
    pub fn of(events: Events) -> Outcome<Self> {
        let mut first_day = None;
        let mut days = 0;
        let mut places = Vec::with_capacity(events.len());
        for line in events.lines() {
            let (found, date) = Places::of(line).ok_or_else(|| Trouble::lacking("a reference event"))?;
            let first = *first_day.get_or_insert(date);
            // A little jitter around the first midnight must not fall below day 0.
            let day = u16::try_from((date - first).max(0)).map_err(|_| Trouble::lacking("a reference event's time"))?;
            days = days.max(day);
            places.push(Places { day, ..found });
        }
        Ok(Self { events, places, first_day: first_day.unwrap_or(0), days })
    }

    /// How many reference events there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// The dates of a turn that lies this many turns back, by day.
    fn dates(&self, back: usize) -> Vec<String> {
        let first = self.first_day - back as i64 * TURN_DAYS;
        let date = |day: u16| format_micros((first + i64::from(day)) * DAY).get(..10).unwrap_or_default().to_owned();
        (0..=self.days).map(date).collect()
    }

    /// Events `from..to` as they were `back` turns ago, under the tenants that `rename` gives them: it is handed the
    /// number of the event and the five bytes of its tenant's name.
    fn body(&self, from: usize, to: usize, back: usize, dates: &[String], rename: &dyn Fn(usize, &mut [u8])) -> Body {
        let to = to.min(self.len());
        let mut text = self.events.body(from, to).to_vec();
        let year = format!("{:04}", YEAR.saturating_sub(back));
        let mark = format!("{back:04x}");
        let unlike = format!("z{back:03x}");
        let mut at = 0;
        for (number, places) in (from..to).zip(&self.places[from..to]) {
            let line = &mut text[at..];
            rename(number, &mut line[usize::from(places.tenant)..][..5]);
            if back > 0 {
                // An id is `<12 hex>-<20 hex>`; its random part begins with the turn from now on, after a letter that
                // no reference id has there.
                put(line, places.id + 13, &unlike);
                put(line, places.time, &dates[usize::from(places.day)]);
                put(line, places.session, &mark);
                put(line, places.release, &year);
                put(line, places.trace, &mark);
            }
            at += self.events.line_bytes(number);
        }
        Body { events: to - from, bytes: Bytes::from(text) }
    }
}

impl Places {
    /// Where the values of this line stand, and its date in days since 1970.
    fn of(line: &[u8]) -> Option<(Self, i64)> {
        let line = std::str::from_utf8(line).ok()?;
        let after = |name: &str| Some((line.find(name)? + name.len()) as u16);
        let time = after("\"time\":\"")?;
        let date = line.get(usize::from(time)..)?.get(..10)?;
        let date = parse_micros(&format!("{date}T00:00:00Z")).ok()? / DAY;
        let places = Self {
            id: after("{\"id\":\"")?,
            time,
            tenant: after("\"tenant\":\"")?,
            session: after("\"session\":\"s-")?,
            release: after("\"release\":\"r-")?,
            trace: after("\"trace_id\":\"")?,
            day: 0,
        };
        Some((places, date))
    }
}

fn put(line: &mut [u8], at: u16, value: &str) {
    line[usize::from(at)..][..value.len()].copy_from_slice(value.as_bytes());
}

/// Turn after turn, the reference itself last.
pub struct Turns {
    rekeyed: Rekeyed,
    dates: Vec<Vec<String>>,
    /// Every event under one tenant's name.
    one_tenant: Option<[u8; 5]>,
}

impl Turns {
    /// So many turns.
    pub fn new(events: Events, turns: usize, one_tenant: Option<[u8; 5]>) -> Outcome<Self> {
        let rekeyed = Rekeyed::of(events)?;
        let dates = (0..turns).map(|back| rekeyed.dates(back)).collect();
        Ok(Self { rekeyed, dates, one_tenant })
    }
}

impl Bodies for Turns {
    fn body(&self, at: usize) -> Option<Body> {
        let bodies = self.rekeyed.len().div_ceil(BATCH);
        let back = self.dates.len().checked_sub(1 + at / bodies)?;
        let from = at % bodies * BATCH;
        let rename = |_: usize, name: &mut [u8]| {
            if let Some(one) = self.one_tenant {
                name.copy_from_slice(&one);
            }
        };
        Some(self.rekeyed.body(from, from + BATCH, back, &self.dates[back], &rename))
    }
}

/// Which tenants a run of a fixed time brings events of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowd {
    /// The 200 of the reference.
    Busy,
    /// The busier 100 of them, and one event of a hundred from one of so many others, in turn.
    Trickling(usize),
}

/// Reference events over and over, for so long.
pub struct Stretch {
    rekeyed: Rekeyed,
    dates: Vec<String>,
    crowd: Crowd,
    until: Instant,
}

impl Stretch {
    /// From now on, for so long.
    pub fn new(events: Events, crowd: Crowd, long: Duration) -> Outcome<Self> {
        let rekeyed = Rekeyed::of(events)?;
        let dates = rekeyed.dates(0);
        Ok(Self { rekeyed, dates, crowd, until: Instant::now() + long })
    }
}

impl Bodies for Stretch {
    fn body(&self, at: usize) -> Option<Body> {
        if Instant::now() >= self.until {
            return None;
        }
        let bodies = self.rekeyed.len().div_ceil(BATCH);
        let from = at % bodies * BATCH;
        let turn = at / bodies;
        let rename = |number: usize, name: &mut [u8]| {
            let Crowd::Trickling(others) = self.crowd else { return };
            if number % 100 == 0 {
                let one = (turn * self.rekeyed.len() + number) / 100 % others;
                name.copy_from_slice(format!("q{one:04}").as_bytes());
            } else if name.starts_with(b"t-1") {
                name[2] = b'0';
            }
        };
        Some(self.rekeyed.body(from, from + BATCH, turn, &self.dates, &rename))
    }
}
