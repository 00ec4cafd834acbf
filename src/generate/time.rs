//! Time as the generator needs it: how busy a platform is at which hour. Its text is `ledger::time`'s.
//!
//! It never asks what time it is: all times follow from the plan. Neighbours: `wire` writes times, `traffic` follows
//! the curve.
//!
//! Invariants:
//! 1. Times are microseconds since 1970-01-01T00:00:00Z.
//! 2. `arrival` never decreases with the line number and stays inside the plan's days.

use super::Plan;
use super::random::Random;

/// A second in microseconds.
pub const SECOND: i64 = 1_000_000;
/// A minute in microseconds.
pub const MINUTE: i64 = 60 * SECOND;
/// An hour in microseconds.
pub const HOUR: i64 = 60 * MINUTE;
/// A day in microseconds.
pub const DAY: i64 = 24 * HOUR;

/// The same time, moved by a microsecond if it lay on a whole millisecond. So every time of ours has six significant
/// digits, and a text form that trims zeros and one that does not print it alike.
pub fn uneven(time: i64) -> i64 {
    if time.rem_euclid(1_000) == 0 { time + 1 } else { time }
}

/// How busy each hour of a working day is, UTC: two regions, so a long day with Europe's morning and America's
/// afternoon.
const BUSY: [u64; 24] = [3, 2, 2, 2, 3, 5, 9, 14, 18, 19, 18, 16, 17, 21, 24, 24, 22, 19, 16, 13, 11, 8, 6, 4];

/// Weight of an hour counted from 1970; a weekend has a quarter of a working day.
fn weight(hour: i64) -> u64 {
    // 1970-01-01 was a Thursday: with Monday as 0 that is day 3.
    let weekday = (hour.div_euclid(24) + 3).rem_euclid(7);
    let busy = BUSY[hour.rem_euclid(24) as usize];
    if weekday >= 5 { busy } else { busy * 4 }
}

/// Spreads a number of lines over the plan's days along the curve, one hour at a time and in constant memory.
#[derive(Debug)]
pub struct Curve {
    lines: u64,
    total: u128,
    before: u128,
    begin: i64,
    hour: i64,
    hours: i64,
    in_hour: u64,
    next: u64,
}

impl Curve {
    /// A curve for `lines` arrivals.
    pub fn new(plan: &Plan, lines: u64) -> Self {
        let hours = i64::from(plan.days) * 24;
        let first = plan.start_us.div_euclid(HOUR);
        let total = (first..first + hours).map(|hour| u128::from(weight(hour))).sum();
        Self { lines, total, before: 0, begin: plan.start_us, hour: -1, hours, in_hour: 0, next: 0 }
    }

    /// The arrival of the next line, or `None` after the last.
    pub fn arrival(&mut self, random: &mut Random) -> Option<i64> {
        while self.next >= self.in_hour {
            if self.hour + 1 >= self.hours {
                return None;
            }
            self.hour += 1;
            let after = self.before + u128::from(weight(self.begin.div_euclid(HOUR) + self.hour));
            let share = |sum: u128| (u128::from(self.lines) * sum / self.total) as u64;
            self.in_hour = share(after) - share(self.before);
            self.before = after;
            self.next = 0;
        }
        // The hour is cut into as many slots as it has lines; each line falls somewhere in its slot.
        let slot = HOUR / self.in_hour.min(HOUR as u64) as i64;
        let within = (i128::from(HOUR) * i128::from(self.next) / i128::from(self.in_hour)) as i64;
        self.next += 1;
        Some(self.begin + self.hour * HOUR + within + random.between(0, slot))
    }
}
