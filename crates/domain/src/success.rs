//! Which answers mean that a receiver took an event, where its endpoint says so itself.
//!
//! Decides whether a response is one of them. Leaves what any other answer means to `engine`, how
//! the rule is written to `wire`.

use std::ops::RangeInclusive;

use crate::attempt::Response;

/// An endpoint's own rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Success {
    /// Statuses of success, 200 to 499, at least one and at most [`Self::STATUSES_MAX`] ranges.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// Bytes that the body has to contain, within what is kept of it (16 KiB): 1 to
    /// [`Self::BODY_BYTES_MAX`] of them.
    pub body_contains: Option<Box<str>>,
}

impl Success {
    /// Most ranges of statuses.
    pub const STATUSES_MAX: usize = 20;
    /// Longest text looked for, in bytes.
    pub const BODY_BYTES_MAX: usize = 256;
    /// What counts where nothing is said: any 2xx.
    pub const STATUSES: RangeInclusive<u16> = 200..=299;

    /// Whether a response means success.
    ///
    /// # Errors
    /// What of the rule it does not meet, the status first.
    pub fn check(&self, response: &Response) -> Result<(), Unmet> {
        let named = |range: &RangeInclusive<u16>| range.contains(&response.status);
        if !self.statuses.iter().any(named) {
            return Err(Unmet::Status);
        }
        match &self.body_contains {
            Some(text) if !contains(&response.body, text.as_bytes()) => Err(Unmet::Body),
            _ => Ok(()),
        }
    }
}

/// What of an endpoint's rule a response did not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unmet {
    /// Its status is none of those named.
    Status,
    /// Its status is one of them, but its body lacks the text.
    Body,
}

impl Unmet {
    /// The words in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "the status is not one of success.status",
            Self::Body => "the body, as far as it is kept, does not contain success.body_contains",
        }
    }
}

/// Of 16 KiB of the body and a text of 256 bytes, both all the same letter but for the last one,
/// this takes a fifth of a millisecond.
fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len().max(1)).any(|part| part == text)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn response(status: u16, body: &'static [u8]) -> Response {
        Response {
            status,
            body: Bytes::from_static(body),
            ..Response::default()
        }
    }

    #[test]
    fn the_status_must_be_named_and_the_body_contain_the_text() {
        let rule = Success {
            statuses: vec![200..=200, 302..=304, 409..=409],
            body_contains: Some("[accepted]".into()),
        };
        let accepted = b"\xff\x00 [accepted]\n";
        for (status, body, expected) in [
            (200, &accepted[..], Ok(())),
            (303, accepted, Ok(())),
            (409, b"[accepted]", Ok(())),
            (201, accepted, Err(Unmet::Status)),
            (305, b"", Err(Unmet::Status)),
            (200, b"", Err(Unmet::Body)),
            (200, b"[accepted", Err(Unmet::Body)),
            (200, b"[ACCEPTED]", Err(Unmet::Body)),
        ] {
            assert_eq!(
                rule.check(&response(status, body)),
                expected,
                "{status} {body:?}"
            );
        }
    }

    #[test]
    fn without_a_text_the_body_may_be_anything() {
        let rule = Success {
            statuses: vec![Success::STATUSES],
            body_contains: None,
        };
        assert_eq!(rule.check(&response(204, b"")), Ok(()));
        assert_eq!(rule.check(&response(300, b"")), Err(Unmet::Status));
    }
}
