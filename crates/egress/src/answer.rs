//! What is kept of an answer, whichever protocol brought it.
//!
//! Decides how much of a body is kept, and how long the next part of it is waited for. Memory grows
//! with what arrives, never by `content-length`.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use postrider_domain::Response;
use tokio::time::timeout;

use crate::BODY_BYTES_MAX;
use crate::ended::Ended;
use crate::summary;

/// Longest wait for another part of a body that has begun.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A response as the report shows it.
pub(crate) type Answer = Response;

/// The beginning of a body.
#[derive(Default)]
pub(crate) struct Kept {
    bytes: BytesMut,
    truncated: bool,
}

impl Kept {
    /// Takes what there is room for; whether there was room for all of it.
    pub(crate) fn take(&mut self, chunk: &Bytes) -> bool {
        let room = BODY_BYTES_MAX - self.bytes.len();
        self.bytes
            .extend_from_slice(&chunk[..chunk.len().min(room)]);
        self.truncated |= chunk.len() > room;
        !self.truncated
    }

    /// The next part, or the news that none came.
    pub(crate) async fn in_time<T>(part: impl Future<Output = T>) -> Result<T, Ended> {
        let part = timeout(IDLE_TIMEOUT, part).await;
        part.map_err(|_| Ended::Idle(IDLE_TIMEOUT))
    }

    pub(crate) fn answer(self, status: StatusCode, headers: &HeaderMap) -> Answer {
        Response {
            status: status.as_u16(),
            headers: summary::capped(headers),
            body: self.bytes.freeze(),
            truncated: self.truncated,
        }
    }
}
