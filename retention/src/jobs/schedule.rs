//! When something is due: a cron expression, in UTC.
//!
//! Not here: what was run already ([`super::due`]). Invariant: a schedule that was read names a time, sooner or later.

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// Due times that are counted at once: of a schedule for each minute, those of a week.
const MOST_COUNTED: u64 = 10_080;

/// The word for no schedule.
pub const NEVER: &str = "never";

/// A text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    given: String,
    why: String,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { given, why } = self;
        write!(
            f,
            "{given:?} is no cron expression ({why}); write minute, hour, day of month, month and day of week, in UTC, as in \
             \"15 2 * * *\" for a quarter past two each night, or \"{NEVER}\""
        )
    }
}

impl std::error::Error for Malformed {}

/// When something is due.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    cron: Cron,
}

/// Due times that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// How many; a week of minutes at most.
    pub count: u64,
    /// The first, in microseconds.
    pub first: i64,
    /// The last.
    pub last: i64,
}

impl Schedule {
    /// Reads a schedule; none when it says `never`.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn read(text: &str) -> Result<Option<Self>, Malformed> {
        let text = text.trim();
        if text == NEVER {
            return Ok(None);
        }
        let wrong = |why: String| Malformed { given: text.into(), why: why.trim_end_matches('.').to_lowercase() };
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| wrong(error.to_string()))?;
        let schedule = Self { text: text.into(), cron };
        match schedule.after(0) {
            Some(_) => Ok(Some(schedule)),
            None => Err(wrong("it names no day that there is".into())),
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first due time after a moment, both in microseconds.
    pub fn after(&self, at: i64) -> Option<i64> {
        let at: DateTime<Utc> = DateTime::from_timestamp_micros(at)?;
        let next = self.cron.find_next_occurrence(&at, false).ok()?;
        Some(next.timestamp() * 1_000_000)
    }

    /// The due times after one moment and up to another.
    pub fn passed(&self, after: i64, until: i64) -> Option<Passed> {
        let first = self.after(after).filter(|first| *first <= until)?;
        let mut passed = Passed { count: 1, first, last: first };
        while let Some(next) = self.after(passed.last).filter(|next| *next <= until) {
            passed.last = next;
            passed.count += 1;
            if passed.count == MOST_COUNTED {
                break;
            }
        }
        Some(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::time::{format_micros, parse_micros};

    #[test]
    fn schedules_name_times_in_utc() {
        let at = parse_micros("2026-11-28T02:14:59.9Z").unwrap();
        for (text, next) in [
            ("15 2 * * *", "2026-11-28T02:15:00.000000Z"),
            ("14 2 * * *", "2026-11-29T02:14:00.000000Z"),
            ("0 5 * * MON", "2026-11-30T05:00:00.000000Z"),
            ("*/15 * * * *", "2026-11-28T02:15:00.000000Z"),
            ("0 0 29 2 *", "2028-02-29T00:00:00.000000Z"),
            ("@daily", "2026-11-29T00:00:00.000000Z"),
        ] {
            let schedule = Schedule::read(text).unwrap().unwrap();
            assert_eq!(format_micros(schedule.after(at).unwrap()), next, "{text}");
        }
        // A due time is not after itself.
        let schedule = Schedule::read("15 2 * * *").unwrap().unwrap();
        let due = schedule.after(at).unwrap();
        assert_eq!(schedule.after(due), Some(due + 86_400_000_000));
        assert_eq!(schedule.after(due + 500_000), Some(due + 86_400_000_000));
        assert_eq!(schedule.after(due - 1), Some(due));
        assert!(Schedule::read(" never ").unwrap().is_none());
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_what_would_be_right() {
        for text in ["15 2 * *", "", "61 * * * *", "* * * * * *", "0 0 30 2 *", "at noon", "0 0 * * * 2026"] {
            let refused = Schedule::read(text).unwrap_err().to_string();
            assert!(refused.contains("15 2 * * *") && refused.contains(&format!("{text:?}")), "{refused}");
        }
    }

    #[test]
    fn times_that_passed_are_counted_and_no_more_than_a_week_of_minutes() {
        let each_minute = Schedule::read("* * * * *").unwrap().unwrap();
        let minute = 60_000_000;
        assert_eq!(each_minute.passed(0, minute - 1), None);
        assert_eq!(each_minute.passed(0, 3 * minute), Some(Passed { count: 3, first: minute, last: 3 * minute }));
        let passed = each_minute.passed(0, 1_000_000 * minute).unwrap();
        assert_eq!((passed.count, passed.last), (MOST_COUNTED, MOST_COUNTED as i64 * minute));
    }
}
