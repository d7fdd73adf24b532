//! Points in time as RFC 3339 text.

use postrider_domain::Timestamp;

/// With as many digits after the second as it needs, at most six. Times past the year 9999 are
/// written as its end.
pub(crate) fn to_text(time: Timestamp) -> String {
    instant(time).to_string()
}

/// With milliseconds.
pub(crate) fn to_text_millis(time: Timestamp) -> String {
    format!("{:.3}", instant(time))
}

/// `None` for what is no RFC 3339 time since 1970.
pub(crate) fn from_text(text: &str) -> Option<Timestamp> {
    let instant: jiff::Timestamp = text.parse().ok()?;
    let micros = u64::try_from(instant.as_microsecond()).ok()?;
    Some(Timestamp::from_micros(micros))
}

fn instant(time: Timestamp) -> jiff::Timestamp {
    let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        let time = Timestamp::from_micros(1_674_087_231_456_789);
        assert_eq!(to_text(time), "2023-01-19T00:13:51.456789Z");
        assert_eq!(to_text_millis(time), "2023-01-19T00:13:51.456Z");
        assert_eq!(from_text(&to_text(time)), Some(time));
        assert_eq!(
            from_text("2023-01-19T02:13:51+02:00"),
            Some(Timestamp::from_secs(1_674_087_231))
        );
        assert_eq!(
            to_text_millis(Timestamp::from_secs(0)),
            "1970-01-01T00:00:00.000Z"
        );
        assert!(to_text(Timestamp::MAX).starts_with("9999-12-"));
        for bad in ["", "tomorrow", "2023-01-19", "1969-12-31T23:59:59Z"] {
            assert_eq!(from_text(bad), None, "{bad:?}");
        }
    }
}
