//! RFC 3339 times to microseconds since 1970-01-01 UTC and back. No clock here.
//!
//! Invariants: what [`format_micros`] writes, [`parse_micros`] reads to the same number; digits beyond
//! the microsecond are dropped, never rounded, so that an event does not move into the future.

/// A time was malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time with a zone, as in 2026-08-14T09:26:53.589793Z")]
pub struct TimeError;

const DAY_US: i64 = 86_400_000_000;

/// Days since 1970-01-01 of a civil date (proleptic Gregorian calendar).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let part = (5 * of_year + 2) / 153;
    let month = if part < 10 { part + 3 } else { part - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * part + 2) / 5 + 1)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn digits(bytes: &[u8]) -> Result<i64, TimeError> {
    bytes
        .iter()
        .try_fold(0i64, |sum, b| if b.is_ascii_digit() { Ok(sum * 10 + i64::from(b - b'0')) } else { Err(TimeError) })
}

fn offset_us(zone: &[u8]) -> Result<i64, TimeError> {
    match zone {
        b"Z" | b"z" => Ok(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return Err(TimeError);
            }
            let size = (hours * 60 + minutes) * 60_000_000;
            Ok(if *sign == b'-' { -size } else { size })
        }
        _ => Err(TimeError),
    }
}

/// Microseconds since 1970-01-01 UTC of an RFC 3339 time; up to nine digits of a second are read.
///
/// # Errors
/// The text is not such a time, or names a day that does not exist. A second of 60 is read as the
/// next minute's first.
pub fn parse_micros(text: &str) -> Result<i64, TimeError> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || bytes.len() > 35 || !matches!(bytes[10], b'T' | b't' | b' ') {
        return Err(TimeError);
    }
    if bytes[4] != b'-' || bytes[7] != b'-' || bytes[13] != b':' || bytes[16] != b':' {
        return Err(TimeError);
    }
    let (year, month, day) = (digits(&bytes[..4])?, digits(&bytes[5..7])?, digits(&bytes[8..10])?);
    let (hour, minute, second) = (digits(&bytes[11..13])?, digits(&bytes[14..16])?, digits(&bytes[17..19])?);
    let in_range = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    if !in_range {
        return Err(TimeError);
    }
    let (fraction, zone) = match bytes[19] {
        b'.' => {
            let length = bytes[20..].iter().take_while(|b| b.is_ascii_digit()).count();
            if length == 0 || length > 9 {
                return Err(TimeError);
            }
            let kept = length.min(6);
            (digits(&bytes[20..20 + kept])? * 10i64.pow(6 - kept as u32), &bytes[20 + length..])
        }
        _ => (0, &bytes[19..]),
    };
    let of_day = (hour * 3_600 + minute * 60 + second) * 1_000_000 + fraction;
    Ok(days_from_civil(year, month, day) * DAY_US + of_day - offset_us(zone)?)
}

/// The RFC 3339 text of a time, in UTC with six digits of a second. Years beyond 9999 are written as they are.
pub fn format_micros(micros: i64) -> String {
    let mut text = String::with_capacity(27);
    push_micros(micros, &mut text);
    text
}

/// Appends what [`format_micros`] gives: for those who write many.
pub fn push_micros(micros: i64, text: &mut String) {
    let (year, month, day) = civil_from_days(micros.div_euclid(DAY_US));
    let of_day = micros.rem_euclid(DAY_US);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    if (0..=9_999).contains(&year) {
        push_digits(year, 1_000, text);
    } else {
        text.push_str(&format!("{year:04}"));
    }
    for (mark, number) in
        [('-', month), ('-', day), ('T', seconds / 3_600), (':', seconds / 60 % 60), (':', seconds % 60)]
    {
        text.push(mark);
        push_digits(number, 10, text);
    }
    text.push('.');
    push_digits(fraction, 100_000, text);
    text.push('Z');
}

/// Appends a number that is not negative, from the digit of this unit down.
fn push_digits(number: i64, mut unit: i64, text: &mut String) {
    while unit > 0 {
        text.push(char::from(b'0' + (number / unit % 10) as u8));
        unit /= 10;
    }
}

/// The month of a time as `2026-11`: the folder of a segment.
pub fn month_of(micros: i64) -> String {
    let (year, month, _) = civil_from_days(micros.div_euclid(DAY_US));
    format!("{year:04}-{month:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-08-14T09:26:53.589793Z", 1_786_699_613_589_793),
            ("2024-02-29T23:59:60Z", 1_709_251_200_000_000),
            ("2000-01-01T01:00:00+01:00", 946_684_800_000_000),
            ("2021-08-02T13:11:39.7724491Z", 1_627_909_899_772_449),
            ("1969-12-31T23:59:59.999999Z", -1),
        ] {
            assert_eq!(parse_micros(text), Ok(micros), "{text}");
        }
        assert_eq!(month_of(1_786_699_613_589_793), "2026-08");
    }

    #[test]
    fn malformed_times_are_refused() {
        for text in [
            "",
            "2026-08-14",
            "2026-08-14T09:26:53",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-08-14T24:00:00Z",
            "2026-08-14T09:26:53.Z",
            "2026-08-14T09:26:53.1234567890Z",
            "2026-08-14T09:26:53+0100",
            "+026-08-14T09:26:53Z",
            "2026-08-14T09:26:53Zx",
            "2026-08-1éT09:26:53Z",
        ] {
            assert_eq!(parse_micros(text), Err(TimeError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn roundtrip(micros in -62_135_596_800_000_000i64..253_402_300_799_999_999) {
            prop_assert_eq!(parse_micros(&format_micros(micros)), Ok(micros));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse_micros(&text);
        }
    }
}
