//! One attempt on each hostile receiver.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use postrider_domain::{AttemptReport, AttemptResult, ErrorKind};
use postrider_guard::Policy;
use tokio::net::{TcpSocket, TcpStream};

use super::{World, client, end_of, send};
use crate::behaviour::{BEHAVIOURS, BODY_BYTES_MAX, BOMB, Behaviour, Expected, SHORT};
use crate::receiver::Seen;
use crate::usage::Lateness;

/// For those that are no [`BEHAVIOURS`].
const TIMEOUT: Duration = Duration::from_millis(700);

/// What an attempt may last beyond its timeout.
const BEYOND: Duration = Duration::from_millis(500);

/// Bytes of an answer that a receiver gets rid of, at most: what is kept, what is read ahead, and
/// what both operating systems hold of it.
const TAKEN_MAX: usize = 5 << 20;

/// Sends to each of them, one after the other.
///
/// # Errors
/// An attempt ended late, or otherwise than it should.
pub async fn run(folder: &Path) -> Result<String> {
    let world = World::begin(folder, HashMap::new()).await?;
    let egress = client(Policy::default())?;
    let lateness = Lateness::watch();
    let mut wrong = Vec::new();
    let mut check = |name: &str, timeout: Duration, spent: Duration, ended: Result<()>| {
        // By so much the machine was late with everything.
        let noise = lateness.worst();
        if spent > timeout + BEYOND + noise {
            wrong.push(format!(
                "{name}: took {spent:?} (machine late by {noise:?})"
            ));
        }
        if let Err(error) = ended {
            wrong.push(format!("{name}: {error:#}"));
        }
    };
    let large = Bytes::from(vec![b'x'; BODY_BYTES_MAX]);
    for behaviour in BEHAVIOURS {
        let url = format!("https://1.{}.example/hooks", behaviour.name);
        let body = large.slice(..behaviour.body_bytes());
        let begin = Instant::now();
        let timeout = behaviour.timeout();
        let report = send(&egress, &url, body, timeout).await;
        let spent = begin.elapsed();
        let seen = world.receivers.seen(behaviour);
        check(
            behaviour.name,
            timeout,
            spent,
            as_expected(behaviour, &report, seen),
        );
    }
    // Nobody listens; and nobody accepts, until no more fit into the queue.
    let queue = TcpSocket::new_v4()?;
    queue.bind("93.184.0.1:8443".parse()?)?;
    let queue = queue.listen(1)?;
    let _queued = [
        TcpStream::connect(queue.local_addr()?).await?,
        TcpStream::connect(queue.local_addr()?).await?,
    ];
    for (host, kind) in [
        ("93.184.0.2", ErrorKind::Connect),
        ("93.184.0.1", ErrorKind::TimeoutConnect),
    ] {
        let url = format!("https://{host}:8443/");
        let begin = Instant::now();
        let report = send(&egress, &url, Bytes::from_static(b"{}"), TIMEOUT).await;
        check(
            &url,
            TIMEOUT,
            begin.elapsed(),
            is_kind(&report, kind, false),
        );
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(format!(
        "{} receivers ended in time, as they should",
        BEHAVIOURS.len() + 2
    ))
}

fn as_expected(behaviour: &Behaviour, report: &AttemptReport, seen: Seen) -> Result<()> {
    let (status, kept) = match behaviour.expected {
        Expected::Kind(kind) => {
            ensure!(
                seen.written <= TAKEN_MAX,
                "{} bytes were taken",
                seen.written
            );
            let begun = seen.requests > 0 || behaviour.body_bytes() > 256;
            let unprocessed = kind.as_str().starts_with("unprocessed_");
            return is_kind(report, kind, begun && !unprocessed);
        }
        Expected::Status(status, kept) => (status, kept),
    };
    let AttemptResult::Response(response) = &report.result else {
        anyhow::bail!("status {status} expected, but {}", end_of(report));
    };
    let found = (response.status, response.body.len());
    ensure!(
        found == (status, kept),
        "{:?} expected, but {found:?}",
        (status, kept)
    );
    ensure!(
        seen.written <= TAKEN_MAX,
        "{} bytes were taken",
        seen.written
    );
    ensure!(seen.requests == 1 && seen.connections == 1, "{seen:?}");
    match behaviour.name {
        "gzip-bomb" => ensure!(response.body == BOMB, "the bomb was changed"),
        SHORT => ensure!(&response.body[..] == b"ok", "the answer was changed"),
        _ => {}
    }
    Ok(())
}

/// What a receiver saw may have been acted on.
fn is_kind(report: &AttemptReport, kind: ErrorKind, ambiguous: bool) -> Result<()> {
    let AttemptResult::Error(error) = &report.result else {
        anyhow::bail!("{} expected, but {}", kind.as_str(), end_of(report));
    };
    ensure!(
        error.kind == kind,
        "{} expected, but {}",
        kind.as_str(),
        end_of(report)
    );
    ensure!(
        error.ambiguous == ambiguous,
        "ambiguous: {}",
        error.ambiguous
    );
    Ok(())
}
