//! How long a receiver asks to be left alone.
//!
//! Decides what the value of `Retry-After` means (RFC 9110 section 10.2.3): seconds, or a date in
//! one of the three forms of section 5.6.7. What is neither is as if it were not there. Leaves
//! which responses may carry it to [`crate::verdict`].

use std::time::{Duration, SystemTime};

use httpdate::HttpDate;
use postrider_domain::{Fields, Timestamp};

/// Longest wait a receiver can ask for. A hostile or mistaken one asks for years.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The wait asked for by the first `Retry-After` among `headers` that can be read, counted from
/// `now`; from zero, where the date has passed, to [`RETRY_AFTER_MAX`]. A date is compared with
/// our clock, not with the receiver's.
#[must_use]
pub fn retry_after(headers: &Fields, now: Timestamp) -> Option<Duration> {
    let mut values = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
    values.find_map(|(_, value)| wait(value, now))
}

fn wait(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim_ascii();
    let asked = seconds(value).or_else(|| Some(date(value)?.since(now)))?;
    Some(asked.min(RETRY_AFTER_MAX))
}

/// Digits alone; more of them than a number holds are still a long time.
fn seconds(value: &str) -> Option<Duration> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Duration::from_secs(value.parse().unwrap_or(u64::MAX)))
}

fn date(value: &str) -> Option<Timestamp> {
    let date: HttpDate = value.parse().ok()?;
    let since_epoch = SystemTime::from(date).duration_since(SystemTime::UNIX_EPOCH);
    Some(Timestamp::from_secs(since_epoch.ok()?.as_secs()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110.
    const EXAMPLE: u64 = 784_111_777;

    fn asked(value: &str, now: u64) -> Option<u64> {
        let headers = Fields::from_iter([("retry-after", value)]);
        let wait = retry_after(&headers, Timestamp::from_secs(now));
        wait.map(|wait| wait.as_secs())
    }

    #[test]
    fn whole_seconds_are_a_wait() {
        assert_eq!(asked("120", 0), Some(120));
        assert_eq!(asked("0", 0), Some(0));
        assert_eq!(asked("007", 0), Some(7));
        assert_eq!(asked(" \t30 ", 0), Some(30));
    }

    #[test]
    fn each_form_of_a_date_is_a_wait_from_now() {
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            " Sun, 06 Nov 1994 08:49:37 GMT\t",
        ] {
            assert_eq!(asked(date, EXAMPLE - 90), Some(90), "{date}");
        }
    }

    #[test]
    fn a_date_that_has_passed_asks_for_no_wait() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(asked(date, EXAMPLE), Some(0));
        assert_eq!(asked(date, EXAMPLE + 1_000_000), Some(0));
    }

    #[test]
    fn no_wait_is_longer_than_a_day() {
        let day = 86_400;
        for value in [
            "86400",
            "86401",
            "1000000",
            "18446744073709551615",
            "18446744073709551616",
            "99999999999999999999999999999999999999999999",
            "Fri, 31 Dec 9999 23:59:59 GMT",
        ] {
            assert_eq!(asked(value, EXAMPLE), Some(day), "{value}");
        }
        assert_eq!(asked("86399", 0), Some(86_399));
    }

    #[test]
    fn what_is_neither_seconds_nor_a_date_is_not_there() {
        for value in [
            "",
            " ",
            "-1",
            "+5",
            "1.5",
            "1e3",
            "0x10",
            "NaN",
            "inf",
            "soon",
            "5 s",
            "5,10",
            "٣",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(asked(value, 0), None, "{value:?}");
        }
    }

    #[test]
    fn the_first_usable_value_counts_however_its_name_is_written() {
        let headers = [
            ("x-retry-after", "1"),
            ("Retry-After", "soon"),
            ("RETRY-AFTER", "2"),
            ("retry-after", "3"),
        ];
        let wait = |headers: &[_]| {
            let headers = headers.iter().copied().collect();
            retry_after(&headers, Timestamp::default())
        };
        assert_eq!(wait(&headers), Some(Duration::from_secs(2)));
        assert_eq!(wait(&headers[..2]), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_wait_of_at_most_a_day_or_none(
            value in ".*",
            now in any::<u64>(),
        ) {
            let headers = Fields::from_iter([("retry-after", value)]);
            let wait = retry_after(&headers, Timestamp::from_micros(now));
            prop_assert!(wait.is_none_or(|wait| wait <= RETRY_AFTER_MAX));
        }

        /// What almost is a date comes further than any text.
        #[test]
        fn a_damaged_date_is_a_wait_of_at_most_a_day_or_none(
            secs in 0..253_402_300_800_u64,
            at in 0..29_usize,
            byte in 0..128_u8,
        ) {
            let date = HttpDate::from(SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
            let mut damaged = date.to_string().into_bytes();
            damaged[at] = byte;
            let value = String::from_utf8(damaged).expect("ASCII");
            let headers = Fields::from_iter([("retry-after", value)]);
            let wait = retry_after(&headers, Timestamp::from_secs(secs / 2));
            prop_assert!(wait.is_none_or(|wait| wait <= RETRY_AFTER_MAX));
        }

        #[test]
        fn a_written_date_is_read_as_the_same_second(
            secs in 0..253_402_300_800_u64,
            wait in 0..=RETRY_AFTER_MAX.as_secs(),
        ) {
            let date = HttpDate::from(SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
            let now = secs.saturating_sub(wait);
            prop_assert_eq!(asked(&date.to_string(), now), Some(secs - now));
        }

        #[test]
        fn written_seconds_are_read_as_the_same_wait(secs in any::<u64>(), now in any::<u32>()) {
            let day = RETRY_AFTER_MAX.as_secs();
            prop_assert_eq!(asked(&secs.to_string(), now.into()), Some(secs.min(day)));
        }
    }
}
