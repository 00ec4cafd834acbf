//! Reference events over again, as many times as a long run needs: each turn has ids, sessions, traces, releases and
//! times of its own, made as a body is asked for, so that a hundred million events need no more memory than a million.
//!
//! A turn lies 90 days before the turn that follows it, and the last turn is the reference itself, byte for byte. So a
//! question about a day, a release or a session of the reference has the same answer however many turns came before,
//! while actors, addresses and tenants are the same people in every turn. Digits are exchanged for others, turn by
//! turn, in ids, traces, sessions and attributes, so that no turn compresses as a repetition of another.
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
/// More turns than any stretch of time has.
const STRETCH_TURNS: usize = 1_000;
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
    /// Of the sixteen digits that every reference event's attributes begin with.
    request: u16,
    /// Days since the first of all lines.
    day: u16,
}

/// Reference events that can be had again.
#[derive(Debug)]
struct Rekeyed {
    events: Events,
    places: Vec<Places>,
    first_day: i64,
    days: u16,
}

impl Rekeyed {
    /// Looks where the values stand that will change.
    fn of(events: Events) -> Outcome<Self> {
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
    fn len(&self) -> usize {
        self.events.len()
    }

    /// The turn that lies so many turns back.
    fn turn(&self, back: usize) -> Turn {
        let first = self.first_day - back as i64 * TURN_DAYS;
        let date = |day: u16| format_micros((first + i64::from(day)) * DAY).get(..10).unwrap_or_default().to_owned();
        Turn {
            back,
            dates: (0..=self.days).map(date).collect(),
            year: format!("{:04}", YEAR.saturating_sub(back)),
            // No reference id has this letter.
            mark: format!("z{back:03x}"),
            hexadecimal: exchanged(b"0123456789abcdef", back),
            // Without 0, numbers stay numbers: none begins with a 0 that did not before.
            decimal: exchanged(b"123456789", back),
        }
    }

    /// Events `from..to` as they were in a turn, under the tenants that `rename` gives them: it is handed the number of
    /// the event and the five bytes of its tenant's name.
    fn body(&self, from: usize, to: usize, turn: &Turn, rename: &dyn Fn(usize, &mut [u8])) -> Body {
        let to = to.min(self.len());
        let mut text = self.events.body(from, to).to_vec();
        let mut at = 0;
        for (number, places) in (from..to).zip(&self.places[from..to]) {
            let end = at + self.events.line_bytes(number);
            let line = &mut text[at..end];
            rename(number, &mut line[usize::from(places.tenant)..][..5]);
            if turn.back > 0 {
                turn.change(line, places);
            }
            at = end;
        }
        Body { events: to - from, bytes: Bytes::from(text) }
    }
}

/// What a turn has of its own.
#[derive(Debug)]
struct Turn {
    back: usize,
    dates: Vec<String>,
    year: String,
    mark: String,
    hexadecimal: [u8; 256],
    decimal: [u8; 256],
}

impl Turn {
    fn change(&self, line: &mut [u8], places: &Places) {
        // An id is `<12 digits>-<20 digits>`.
        exchange(line, places.id + 13, 20, &self.hexadecimal);
        put(line, places.id + 13, &self.mark);
        put(line, places.time, &self.dates[usize::from(places.day)]);
        exchange(line, places.session, 16, &self.hexadecimal);
        put(line, places.release, &self.year);
        exchange(line, places.trace, 32, &self.hexadecimal);
        exchange(line, places.request, 16, &self.hexadecimal);
        let rest = places.request + 16;
        exchange(line, rest, line.len() - usize::from(rest), &self.decimal);
    }
}

/// A table that exchanges these digits among each other, another one for each turn; nothing for turn 0.
fn exchanged(digits: &[u8], turn: usize) -> [u8; 256] {
    let mut table = [0; 256];
    for (at, byte) in table.iter_mut().enumerate() {
        *byte = at as u8;
    }
    if turn > 0 {
        // Fisher and Yates, by a generator of Lehmer's.
        let mut bits = turn as u64;
        for last in (1..digits.len()).rev() {
            bits = bits * 48_271 % 0x7fff_ffff;
            table.swap(usize::from(digits[last]), usize::from(digits[bits as usize % (last + 1)]));
        }
    }
    table
}

fn exchange(line: &mut [u8], at: u16, long: usize, table: &[u8; 256]) {
    for byte in &mut line[usize::from(at)..][..long] {
        *byte = table[usize::from(*byte)];
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
            request: after("\"attributes\":{\"request_id\":\"")?,
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
    /// The one that lies furthest back is the last.
    turns: Vec<Turn>,
    /// Every event under one tenant's name.
    one_tenant: Option<[u8; 5]>,
}

impl Turns {
    /// So many turns.
    pub fn new(events: Events, turns: usize, one_tenant: Option<[u8; 5]>) -> Outcome<Self> {
        let rekeyed = Rekeyed::of(events)?;
        let turns = (0..turns).map(|back| rekeyed.turn(back)).collect();
        Ok(Self { rekeyed, turns, one_tenant })
    }
}

impl Bodies for Turns {
    fn body(&self, at: usize) -> Option<Body> {
        let bodies = self.rekeyed.len().div_ceil(BATCH);
        let turn = &self.turns[self.turns.len().checked_sub(1 + at / bodies)?];
        let from = at % bodies * BATCH;
        let rename = |_: usize, name: &mut [u8]| {
            if let Some(one) = self.one_tenant {
                name.copy_from_slice(&one);
            }
        };
        Some(self.rekeyed.body(from, from + BATCH, turn, &rename))
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
    turns: Vec<Turn>,
    crowd: Crowd,
    until: Instant,
}

impl Stretch {
    /// From now on, for so long.
    pub fn new(events: Events, crowd: Crowd, long: Duration) -> Outcome<Self> {
        let rekeyed = Rekeyed::of(events)?;
        let turns = (0..STRETCH_TURNS).map(|back| rekeyed.turn(back)).collect();
        Ok(Self { rekeyed, turns, crowd, until: Instant::now() + long })
    }
}

impl Bodies for Stretch {
    fn body(&self, at: usize) -> Option<Body> {
        if Instant::now() >= self.until {
            return None;
        }
        let bodies = self.rekeyed.len().div_ceil(BATCH);
        let from = at % bodies * BATCH;
        let turn = self.turns.get(at / bodies)?;
        let rename = |number: usize, name: &mut [u8]| {
            let Crowd::Trickling(others) = self.crowd else { return };
            if number.is_multiple_of(100) {
                let one = (turn.back * self.rekeyed.len() + number) / 100 % others;
                name.copy_from_slice(format!("q{one:04}").as_bytes());
            } else if name.starts_with(b"t-1") {
                name[2] = b'0';
            }
        };
        Some(self.rekeyed.body(from, from + BATCH, turn, &rename))
    }
}
