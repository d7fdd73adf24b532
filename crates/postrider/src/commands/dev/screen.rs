//! How the demo looks on a terminal: what it is, a line for each thing that happens, a summary.
//!
//! Decides the words. Prints nothing but the summary when a program reads.

use std::io;
use std::time::{Duration, Instant};

use postrider_domain::{EndpointId, Event, Timestamp};
use postrider_wire::AttemptRecord;
use postrider_wire::dead_letter::{Content, DeadLetter};
use serde::Serialize;

use super::feeds::Arrival;
use super::ledger::Summary;
use super::plan::{DemoEndpoint, Kind, TENANT};
use super::stage::{SLICES, Stage};
use crate::input;
use crate::output::{Format, Output, Tone, printable};
use crate::receiver::Verdict;

pub(super) struct Screen {
    output: Output,
    started: Instant,
}

impl Screen {
    pub(super) fn new(output: Output) -> Self {
        Self {
            output,
            started: Instant::now(),
        }
    }

    /// What this is, where it is, and what to try.
    pub(super) fn introduce(
        &self,
        stage: &Stage,
        receiver: &str,
        endpoints: &[DemoEndpoint],
    ) -> io::Result<()> {
        let brokers = &stage.installation.config.kafka.brokers;
        let mut text = match &stage.embedded {
            Some(_) => format!(
                "Postrider with an embedded broker at {brokers}. It holds little (5 MiB of a \
                 partition) and\nforgets everything when this command ends; --brokers takes a real \
                 Kafka instead.\n"
            ),
            None => format!(
                "Postrider on Kafka at {brokers}. It uses topics {}* only, which stay there when \
                 this\ncommand ends; its endpoints are made anew at each start.\n",
                stage.installation.topics.prefix()
            ),
        };
        text += &format!("\nEndpoints of tenant {TENANT}, at {receiver}:\n");
        for kind in Kind::ALL {
            text += &family(kind, endpoints);
        }
        text += &Commands::new(stage).introduction();
        self.output.note(&text)
    }

    pub(super) fn published(&self, event: &Event) -> io::Result<()> {
        let text = format!("{}  {}", printable(&event.id), printable(&event.event_type));
        self.line(None, "published", &text)
    }

    /// Nothing follows from an event.
    pub(super) fn no_endpoint(&self, event: &Event) -> io::Result<()> {
        let text = format!(
            "{}  tenant {} has no endpoint for {}",
            printable(&event.id),
            event.tenant,
            printable(&event.event_type)
        );
        self.line(Some(Tone::Bad), "no endpoint", &text)
    }

    /// `event` and `endpoint` are their ids, where they are known.
    pub(super) fn arrived(
        &self,
        arrival: &Arrival,
        event: Option<&str>,
        endpoint: Option<&EndpointId>,
    ) -> io::Result<()> {
        let signed = match arrival.verdict {
            Verdict::Valid => Tone::Good,
            Verdict::Unchecked => Tone::Faint,
            Verdict::Invalid(_) | Verdict::Unsigned => Tone::Bad,
        };
        let answer = if (200..300).contains(&arrival.status) {
            Tone::Good
        } else {
            Tone::Bad
        };
        let signed_how = match arrival.verdict {
            Verdict::Unsigned => "not signed".to_owned(),
            verdict => format!("signature {verdict}"),
        };
        let text = format!(
            "{}  {}  attempt {}, {}, answered {}",
            printable(event.unwrap_or(&arrival.delivery)),
            endpoint.map_or_else(|| printable(&arrival.path), ToString::to_string),
            printable(&arrival.attempt),
            self.output.paint(signed, &signed_how),
            self.output.paint(answer, &arrival.status.to_string()),
        );
        self.line(None, "arrived", &text)
    }

    /// What follows from an attempt, but dead letters, which are shown when they are on their topic.
    pub(super) fn attempt(&self, attempt: &AttemptRecord<'_>) -> io::Result<()> {
        let place = format!(
            "{}  {}",
            printable(&attempt.event.id),
            printable(&attempt.endpoint_id)
        );
        match &*attempt.outcome {
            "delivered" => {
                let text = format!("{place}  by attempt {}", attempt.attempt);
                self.line(Some(Tone::Good), "delivered", &text)
            }
            "retry" => {
                let text = format!(
                    "{place}  attempt {} {}, attempt {} {}",
                    attempt.attempt,
                    answer(attempt),
                    attempt.attempt + 1,
                    due(attempt.next_attempt_at.as_deref(), input::now()),
                );
                self.line(Some(Tone::Faint), "waiting", &text)
            }
            "discarded" => {
                let reason = printable(attempt.reason.as_deref().unwrap_or("no reason"));
                self.line(Some(Tone::Bad), "discarded", &format!("{place}  {reason}"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn dead_letter(&self, letter: &DeadLetter) -> io::Result<()> {
        let reason = printable(&letter.reason);
        let text = match &letter.content {
            Content::Delivery(delivery) => {
                let mut text = format!(
                    "{}  {}  {reason} after {} attempts",
                    printable(&delivery.event.id),
                    delivery.endpoint,
                    letter.attempts
                );
                if let Some(status) = letter.last_status {
                    text += &format!(", the last answered {status}");
                }
                text
            }
            Content::Input { .. } => {
                let origin = letter.origin.as_ref();
                let origin = origin.map_or_else(|| "input".to_owned(), ToString::to_string);
                let message = letter.message.as_deref().unwrap_or_default();
                format!("{}  {reason}: {}", printable(&origin), printable(message))
            }
        };
        self.line(Some(Tone::Bad), "dead letter", &text)
    }

    pub(super) fn settled(&self, stage: &Stage, deliveries: usize) -> io::Result<()> {
        let commands = Commands::new(stage);
        self.output.note(&format!(
            "\nAll {deliveries} deliveries are settled. The broker at {} goes on; Ctrl-C ends. \
             Publish more:\n  {}\nWatch what is sent:\n  {}\n",
            stage.installation.config.kafka.brokers,
            commands.publish(),
            commands.of("attempt tail"),
        ))
    }

    /// Time since the demo began.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn summary(
        &self,
        stage: &Stage,
        summary: &Summary,
        took: Duration,
    ) -> io::Result<()> {
        let seconds = took.as_secs_f64();
        if self.output.format() != Format::Table {
            return self.output.one(&Report {
                brokers: &stage.installation.config.kafka.brokers,
                embedded: stage.embedded.is_some(),
                seconds: (seconds * 1e3).round() / 1e3,
                summary,
            });
        }
        self.output.note(&in_words(summary, seconds))
    }

    fn line(&self, tone: Option<Tone>, word: &str, text: &str) -> io::Result<()> {
        let seconds = self.started.elapsed().as_secs_f64();
        let word = format!("{word:<11}");
        let word = tone.map_or_else(|| word.clone(), |tone| self.output.paint(tone, &word));
        self.output
            .note(&format!("{seconds:7.3} s  {word}  {text}"))
    }
}

/// The summary for programs.
#[derive(Serialize)]
struct Report<'a> {
    brokers: &'a str,
    embedded: bool,
    seconds: f64,
    #[serde(flatten)]
    summary: &'a Summary,
}

/// The endpoints that behave alike, in a line.
fn family(kind: Kind, endpoints: &[DemoEndpoint]) -> String {
    let mut alike = endpoints.iter().filter(|demo| demo.kind == kind);
    let Some(first) = alike.next() else {
        return String::new();
    };
    let more = match alike.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let waits: Vec<String> = kind.schedule().iter().map(|s| format!("{s} s")).collect();
    let waits = match kind {
        Kind::Healthy => String::new(),
        Kind::Flaky => format!(", tried again after {}", waits.join(", ")),
        Kind::Dead => format!(", tried again after {}, then given up", waits.join(", ")),
    };
    let name = format!("{}{more}", first.id);
    format!("  {name:<13} {}{waits}\n", kind.behaviour())
}

/// What can be typed in another terminal.
struct Commands<'a> {
    variables: String,
    /// This binary, as it was called: it need not be on the path.
    binary: String,
    brokers: &'a str,
    intake: &'a str,
}

impl<'a> Commands<'a> {
    fn new(stage: &'a Stage) -> Self {
        let prefix = match &stage.embedded {
            Some(_) => String::new(),
            None => format!(
                "POSTRIDER__KAFKA__PREFIX={} ",
                stage.installation.topics.prefix()
            ),
        };
        let binary = std::env::args().next();
        Self {
            variables: format!("{prefix}POSTRIDER__KAFKA__SLICES={SLICES}"),
            binary: binary.unwrap_or_else(|| "postrider".to_owned()),
            brokers: &stage.installation.config.kafka.brokers,
            intake: &stage.intake,
        }
    }

    /// A command of this binary.
    fn of(&self, command: &str) -> String {
        let Self {
            variables,
            binary,
            brokers,
            ..
        } = self;
        format!("{variables} {binary} {command} --brokers {brokers}")
    }

    fn publish(&self) -> String {
        let Self {
            binary,
            brokers,
            intake,
            ..
        } = self;
        format!(
            "{binary} event publish --topic {intake} --type payment.captured --tenant {TENANT} \\\n    \
             --data '{{\"amount\":1200}}' --brokers {brokers}"
        )
    }

    fn introduction(&self) -> String {
        let Self {
            brokers, intake, ..
        } = self;
        format!(
            "\nPublish an event of your own, from another terminal:\n  {}\n\
             or with kcat:\n  \
             echo '{{\"amount\":1200}}' | kcat -P -b {brokers} -t {intake} -H ce_specversion=1.0 \
             \\\n    -H ce_id=my_$(date +%s%N) -H ce_source=/me -H ce_type=payment.captured -H \
             ce_tenant={TENANT} \\\n    -H content-type=application/json\n\
             Look around:\n  {}\n  {}\n  {}\n",
            self.publish(),
            self.of("endpoint list"),
            self.of("attempt tail"),
            self.of("dead-letter list"),
        )
    }
}

/// What came of a request.
fn answer(attempt: &AttemptRecord<'_>) -> String {
    match (&attempt.response, &attempt.error) {
        (Some(response), _) => format!("got {}", response.status),
        (None, Some(error)) => format!("failed ({})", printable(&error.kind)),
        (None, None) => "failed".to_owned(),
    }
}

/// How long until then.
fn due(at: Option<&str>, now: Timestamp) -> String {
    let at = at.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let millis = at.and_then(|at| u64::try_from(at.as_millisecond()).ok());
    let Some(millis) = millis else {
        return "at an unknown time".to_owned();
    };
    let wait: Duration = Timestamp::from_millis(millis).since(now);
    if wait.is_zero() {
        "now".to_owned()
    } else {
        format!("in {:.1} s", wait.as_secs_f64())
    }
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn in_words(summary: &Summary, seconds: f64) -> String {
    let verdict = if summary.ok {
        "all as expected".to_owned()
    } else if summary.unsettled > 0 {
        format!(
            "{} of {} deliveries not settled",
            summary.unsettled, summary.deliveries
        )
    } else if summary.unexpected.is_empty() {
        "not all was published".to_owned()
    } else {
        "not as expected".to_owned()
    };
    let mut text = format!(
        "\n{} to {} in {seconds:.1} s: {verdict}\n",
        counted(summary.events, "event"),
        counted(summary.endpoints, "endpoint")
    );
    for row in &summary.by_behaviour {
        text += &format!(
            "  {:<8} deliveries {:<6} requests {:<6} delivered {:<6} dead-lettered {}\n",
            row.kind.name(),
            row.deliveries,
            row.requests,
            row.delivered,
            row.dead_lettered
        );
    }
    text += &format!(
        "  valid signatures on {} of {} requests",
        summary.requests - summary.requests_not_valid,
        summary.requests
    );
    let others = &summary.others;
    if others.requests + others.dead_lettered + others.discarded > 0 {
        text += &format!(
            "\n  beside them, published by others: {} requests, {} delivered, {} dead-lettered, {} \
             discarded",
            others.requests, others.delivered, others.dead_lettered, others.discarded
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_from_now() {
        let now = Timestamp::from_secs(1_000);
        assert_eq!(due(Some("1970-01-01T00:16:41.5Z"), now), "in 1.5 s");
        assert_eq!(due(Some("1970-01-01T00:16:39Z"), now), "now");
        assert_eq!(due(Some("soon"), now), "at an unknown time");
        assert_eq!(due(None, now), "at an unknown time");
    }

    #[test]
    fn the_summary_says_whether_it_went_as_expected() {
        let mut summary = Summary {
            ok: true,
            events: 2,
            endpoints: 3,
            requests: 8,
            requests_not_valid: 1,
            ..Summary::default()
        };
        let text = in_words(&summary, 1.0);
        assert!(text.contains("2 events to 3 endpoints in 1.0 s: all as expected"));
        assert!(text.contains("valid signatures on 7 of 8 requests"));
        assert!(!text.contains("others"));
        summary.ok = false;
        assert!(in_words(&summary, 1.0).contains("not all was published"));
        summary.unexpected.push("x".to_owned());
        assert!(in_words(&summary, 1.0).contains("not as expected"));
        (summary.unsettled, summary.deliveries) = (1, 6);
        assert!(in_words(&summary, 1.0).contains("1 of 6 deliveries not settled"));
    }
}
