//! The wall clock, for what leaves the process: log lines, remaining life of tokens. Whatever is measured inside uses `Instant`.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since the Unix epoch.
pub fn unix_now() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Time since the Unix epoch, written by RFC 3339 in UTC with milliseconds: `2026-11-23T18:27:01.042Z`.
pub struct Rfc3339(pub Duration);

impl Display for Rfc3339 {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (year, month, day) = civil_date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        for (place, number) in
            [(0..4, year), (5..7, month), (8..10, day), (11..13, hour), (14..16, minute), (17..19, second)]
        {
            write_digits(number, &mut text[place]);
        }
        write_digits(self.0.subsec_millis().into(), &mut text[20..23]);
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Seconds since the epoch, as `Date` says them (RFC 9110 §5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
pub struct HttpDate(pub u64);

impl Display for HttpDate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
        let (year, month, day) = civil_date(self.0 / 86_400);
        let (hour, minute, second) = (self.0 / 3600 % 24, self.0 / 60 % 60, self.0 % 60);
        let weekday = DAYS[usize::try_from(self.0 / 86_400 % 7).unwrap_or_default()];
        let month = MONTHS[usize::try_from(month - 1).unwrap_or_default()];
        let mut text = *b"Thu, 00 Jan 0000 00:00:00 GMT";
        text[0..3].copy_from_slice(weekday);
        text[8..11].copy_from_slice(month);
        for (place, number) in [(5..7, day), (12..16, year), (17..19, hour), (20..22, minute), (23..25, second)] {
            write_digits(number, &mut text[place]);
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// As many as there is room for: formatting each number on its own costs many times as much.
fn write_digits(mut number: u64, room: &mut [u8]) {
    for digit in room.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Days since the epoch to a date of the Gregorian calendar, counting years from March so that leap days come last.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// An HTTP date as every server of today writes it (RFC 9110 §5.6.7, IMF-fixdate), as seconds since the epoch.
pub fn parse_http_date(text: &str) -> Option<u64> {
    let rest = text.get(5..)?;
    let mut parts = rest.split([' ', ':']);
    let mut number = || parts.next()?.parse::<u64>().ok();
    let day = number()?;
    let month = 1 + MONTHS.iter().position(|name| rest.as_bytes().get(3..6) == Some(&name[..]))? as u64;
    parts.next()?;
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (year, hour, minute, second) = (number()?, number()?, number()?, number()?);
    let plausible = (1970..=9999).contains(&year) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    plausible.then(|| days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Of a date of the Gregorian calendar, from 1970 on.
pub fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let year_of_era = year % 400;
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    year / 400 * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(Rfc3339(Duration::ZERO).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Rfc3339(Duration::from_millis(951_782_400_042)).to_string(), "2000-02-29T00:00:00.042Z");
        assert_eq!(Rfc3339(Duration::from_secs(1_795_458_421)).to_string(), "2026-11-23T18:27:01.000Z");
    }

    #[test]
    fn http_dates_are_read_back() {
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse_http_date("Mon, 23 Nov 2026 18:27:01 GMT"), Some(1_795_458_421));
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "Tue, 29 Feb 2028 23:59:59 GMT"]
        {
            assert_eq!(HttpDate(parse_http_date(date).unwrap()).to_string(), date);
        }
        for wrong in ["", "now", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 88:49:37 GMT", "Sun, 06 Nov"] {
            assert_eq!(parse_http_date(wrong), None, "{wrong}");
        }
    }
}
