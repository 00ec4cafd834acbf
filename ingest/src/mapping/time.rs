//! Times of sources to RFC 3339 UTC with microseconds: dates with and without a zone, and epochs.
//!
//! Not here: the clock (no event gets a time it does not state), and which pointer is asked ([`super::rule`]).
//!
//! Invariants: 1. everything is integer arithmetic on the digits of the source, no float. 2. What is finer
//! than a microsecond is cut off towards the past, never rounded up. 3. Only years 0001 to 9999 come out.

/// Microseconds in a second.
const SECOND_US: i64 = 1_000_000;
/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z, in microseconds since 1970.
const FIRST_US: i64 = -62_135_596_800 * SECOND_US;
const LAST_US: i64 = 253_402_300_800 * SECOND_US - 1;

/// How a source writes a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeFormat {
    /// `2024-01-31T23:59:59.1234567Z` or with an offset; the zone is required.
    Rfc3339,
    /// The same, but a text without a zone is in the zone that is so many minutes east of UTC.
    DateTime {
        /// Minutes east of UTC.
        east_minutes: i32,
    },
    /// A number since 1970 in units of so many nanoseconds, as a JSON number or as text.
    Epoch {
        /// Nanoseconds in one unit.
        unit_ns: i64,
    },
}

impl TimeFormat {
    /// Microseconds since 1970 UTC, or `None` when the text is not in this format or out of range.
    pub(super) fn read(self, text: &str) -> Option<i64> {
        let us = match self {
            Self::Rfc3339 => read_date_time(text, None)?,
            Self::DateTime { east_minutes } => read_date_time(text, Some(east_minutes))?,
            Self::Epoch { unit_ns } => decimal_times(text, i128::from(unit_ns), 1_000)?,
        };
        (FIRST_US..=LAST_US).contains(&us).then_some(us)
    }
}

/// Reads a zone: `utc`, or `+hh:mm` / `-hh:mm`. Minutes east of UTC.
pub(super) fn read_zone(text: &str) -> Option<i32> {
    if text.eq_ignore_ascii_case("utc") || text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let digits = match rest.as_bytes() {
        [a, b, b':', c, d] => [*a, *b, *c, *d],
        [a, b, c, d] => [*a, *b, *c, *d],
        _ => return None,
    };
    let (hours, minutes) = (number(&digits[..2])?, number(&digits[2..])?);
    (hours <= 23 && minutes <= 59).then(|| sign * i32::try_from(hours * 60 + minutes).unwrap_or(0))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0_i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
}

fn read_date_time(text: &str, default_zone: Option<i32>) -> Option<i64> {
    let bytes = text.as_bytes();
    let (fixed, rest) = bytes.split_at_checked(19)?;
    let separators = [fixed[4], fixed[7], fixed[13], fixed[16]] == *b"--::" && matches!(fixed[10], b'T' | b't' | b' ');
    if !separators {
        return None;
    }
    let part = |from: usize, to: usize| number(&fixed[from..to]);
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    let in_range = (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 59;
    if !in_range {
        return None;
    }
    let (fraction_us, zone) = read_fraction(rest)?;
    let zone = std::str::from_utf8(zone).ok()?.trim_start_matches(' ');
    let east_minutes = if zone.is_empty() { default_zone? } else { read_zone(zone)? };
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some((seconds - i64::from(east_minutes) * 60) * SECOND_US + fraction_us)
}

/// `.123…` or nothing; digits beyond the sixth are cut off.
fn read_fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.' | b',', rest @ ..] = rest else { return Some((0, rest)) };
    let length = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let (digits, zone) = rest.split_at(length);
    let kept = &digits[..length.min(6)];
    Some((number(kept)? * 10_i64.pow(6 - kept.len() as u32), zone))
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar: whole years, then whole months.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let years = before * 365 + before / 4 - before / 100 + before / 400 - 719_162;
    years + (1..month).map(|m| days_in_month(year, m)).sum::<i64>() + day - 1
}

/// Reads a decimal (sign, digits, fraction, exponent) and gives `value * times / divided_by`, rounded down.
pub(super) fn decimal_times(text: &str, times: i128, divided_by: i128) -> Option<i64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    // 20 digits and 30 places keep every product below inside an i128.
    if whole.is_empty() || whole.len() + fraction.len() > 20 || !(-30..=30).contains(&exponent) {
        return None;
    }
    let digits = whole.bytes().chain(fraction.bytes());
    let value =
        digits.into_iter().try_fold(0_i128, |n, d| d.is_ascii_digit().then(|| n * 10 + i128::from(d - b'0')))?;
    let places = exponent - i32::try_from(fraction.len()).ok()?;
    let signed = if negative { -value } else { value };
    let scaled = signed.checked_mul(times)?;
    let exact = if places >= 0 {
        scaled.checked_mul(10_i128.checked_pow(places.unsigned_abs())?)?.div_euclid(divided_by)
    } else {
        scaled.div_euclid(divided_by.checked_mul(10_i128.checked_pow(places.unsigned_abs())?)?)
    };
    i64::try_from(exact).ok()
}

/// Microseconds since 1970 as `2024-01-31T23:59:59.123456Z`.
pub(super) fn write_rfc3339(us: i64) -> String {
    let (days, in_day) = (us.div_euclid(86_400 * SECOND_US), us.rem_euclid(86_400 * SECOND_US));
    let (year, month, day) = civil(days);
    let (seconds, fraction) = (in_day / SECOND_US, in_day % SECOND_US);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

/// The date so many days after 1970-01-01, for years 1 to 9999.
fn civil(days: i64) -> (i64, i64, i64) {
    // 400 years are 146,097 days, so the estimate is at most one year off; step to the one that holds the day.
    let mut year = 1970 + (days * 400).div_euclid(146_097);
    while days_since_1970(year, 1, 1) > days {
        year -= 1;
    }
    while days_since_1970(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut rest = days - days_since_1970(year, 1, 1);
    let mut month = 1;
    while rest >= days_in_month(year, month) {
        rest -= days_in_month(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}
