//! What commands are given as text, file or standard input.
//!
//! Decides how `@FILE`, `@-`, durations and secrets are written on the command line.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use postrider_domain::Timestamp;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use crate::exit::{Code, Failure};

/// The largest thing a command reads: what a broker takes at most.
const BYTES_MAX: u64 = 100 << 20;

/// A file's bytes; `-` is standard input.
pub(crate) fn read(path: &str) -> Result<Vec<u8>, Failure> {
    let reader: io::Result<Box<dyn Read>> = match path {
        "-" => Ok(Box::new(io::stdin().lock())),
        path => File::open(path).map(|file| Box::new(file) as _),
    };
    let mut bytes = Vec::new();
    let result = reader.and_then(|reader| reader.take(BYTES_MAX + 1).read_to_end(&mut bytes));
    match result {
        Err(error) => Err(Failure::usage(format!("cannot read {path}: {error}"))),
        Ok(_) if bytes.len() as u64 > BYTES_MAX => {
            let reason = format!("{path} is larger than {BYTES_MAX} bytes");
            Err(Failure::usage(reason))
        }
        Ok(_) => Ok(bytes),
    }
}

/// A signing secret, as text or `@FILE`, read by `parse`; nothing of it is repeated in an error.
pub(crate) fn secret<T, E: fmt::Display>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, Failure> {
    let parse = |text: &str, hint: &str| {
        parse(text.trim_end()).map_err(|e| Failure::usage(format!("--secret: {e}{hint}")))
    };
    match text.strip_prefix('@') {
        None if Path::new(text).is_file() => {
            parse(text, &format!(" (to read a file write @{text})"))
        }
        None => parse(text, " (to read a file write @FILE)"),
        Some(path) => {
            let bytes = Zeroizing::new(read(path)?);
            let text = std::str::from_utf8(&bytes)
                .map_err(|_| Failure::usage(format!("--secret: {path} is not text")))?;
            parse(text, "")
        }
    }
}

/// The media type of what is JSON.
pub(crate) const JSON: &str = "application/json";

/// What is typed must be JSON; what a file holds is sent as it is and only called JSON if it is.
pub(crate) fn payload(data: &str) -> Result<(Bytes, &'static str), Failure> {
    let json = |bytes: &[u8]| serde_json::from_slice::<IgnoredAny>(bytes);
    match data.strip_prefix('@') {
        Some(path) => {
            let bytes = read(path)?;
            let content_type = match json(&bytes) {
                Ok(_) => JSON,
                Err(_) => "application/octet-stream",
            };
            Ok((bytes.into(), content_type))
        }
        None => match json(data.as_bytes()) {
            Ok(_) => Ok((data.to_owned().into(), JSON)),
            Err(error) => Err(Failure::usage(format!(
                "--data is not JSON ({error}); quote it for the shell, or name a file with @"
            ))),
        },
    }
}

/// A duration as people write it: `2s`, `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write 500ms, 2s or 1h 30m"))
}

/// The time now.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = since.map_or(0, |since| since.as_micros());
    Timestamp::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// A time for people and programs: RFC 3339, UTC.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| "-".to_owned(), |t| t.to_string())
}

/// `N` random bytes of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Failure::new(Code::Bug, format!("no random numbers: {e}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use postrider_domain::Scheme;
    use postrider_signing::parse_key;

    use super::*;

    #[test]
    fn a_wrong_secret_is_not_repeated() {
        let parse = |text: &str| parse_key(&Scheme::Standard, text);
        match secret("whsec_tooshort", parse) {
            Err(Failure::Ended(Code::Usage, reason)) => {
                assert!(!reason.contains("tooshort"), "{reason}");
                assert!(reason.contains("write @FILE"), "{reason}");
            }
            _ => panic!("accepted"),
        }
    }

    #[test]
    fn durations_are_written_as_in_the_configuration() {
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5_400)));
        assert!(duration("2").is_err());
    }

    #[test]
    fn times_are_printed_in_utc() {
        assert_eq!(
            rfc3339(Timestamp::from_millis(1_500)),
            "1970-01-01T00:00:01.5Z"
        );
        assert_eq!(rfc3339(Timestamp::MAX), "-");
    }

    #[test]
    fn typed_data_must_be_json_and_stays_as_typed() {
        let (data, content_type) = payload("{ \"a\" : 1 }").unwrap();
        assert_eq!(
            (&data[..], content_type),
            (&b"{ \"a\" : 1 }"[..], "application/json")
        );
        assert!(payload("{a:1}").is_err());
        assert!(payload("@/no/such/file").is_err());
    }
}
