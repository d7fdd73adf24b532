//! From an attempt the engine wants to the facts of the exchange.
//!
//! Decides the headers of a request (`docs/reference/request.md`), and signs it at send time, and that
//! nothing starts too late. Leaves the body to `bodies`, the exchange to `egress` and the verdict to
//! `engine`.

use std::sync::Arc;

use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use postrider_domain::{
    AttemptError, AttemptReport, AttemptResult, Auth, ErrorKind, Fields, Phases, RequestSummary,
    Timestamp,
};
use postrider_egress::{Egress, Request};
use postrider_engine::io::StartAttempt;
use postrider_guard::consent::REQUEST_ORIGIN;
use postrider_payload::{Rendered, Renderer};
use postrider_points as points;
use postrider_signing::{ID_HEADER, Message, TIMESTAMP_HEADER};

use crate::bodies::Bodies;
use crate::clock::{Clock, wall_time};
use crate::faults;

/// Number of the attempt, from 1.
const ATTEMPT: HeaderName = HeaderName::from_static("postrider-attempt");
/// Whose requests they are, where receivers were asked for their consent.
const ORIGIN: HeaderName = HeaderName::from_static(REQUEST_ORIGIN);

/// What requests are sent with. Cloning is a reference count.
#[derive(Clone)]
pub(crate) struct Requests {
    egress: Egress,
    clock: Clock,
    /// Sent with every request, if receivers agreed to it.
    origin: Option<HeaderValue>,
    bodies: Bodies,
}

impl Requests {
    pub(crate) fn new(egress: Egress, clock: Clock, origin: Option<HeaderValue>) -> Self {
        Self {
            egress,
            clock,
            origin,
            bodies: Bodies::new(),
        }
    }

    /// Sends one attempt; `None` when its time had passed before that, so that nothing was sent.
    pub(crate) async fn send(
        &self,
        start: &StartAttempt,
        renderer: Arc<Renderer>,
    ) -> Option<AttemptReport> {
        let wait = start.not_after.since(self.clock.now());
        let rendered = match self.bodies.of(start, renderer, wait).await? {
            Ok(rendered) => rendered,
            Err(failure) => return Some(self.unmade(start, failure)),
        };
        let request = match request(start, &rendered, self.origin.clone(), wall_time()) {
            Ok(request) => request,
            Err(failure) => return Some(self.unmade(start, failure)),
        };
        // As late as it can be looked at: whatever follows is on its way.
        let started_at = self.clock.now();
        if started_at > start.not_after {
            self.bodies.keep(start, rendered);
            return None;
        }
        drop(rendered);
        points::reach!("dispatcher.request.signed");
        let nothing = Auth::NONE;
        let auth = start.endpoint.auth.as_deref().unwrap_or(&nothing);
        let again = faults::sends_again(start).then(|| request.clone());
        let report = self.egress.send_as(started_at, request, auth).await;
        if let Some(again) = again {
            self.egress.send_as(started_at, again, auth).await;
        }
        Some(report)
    }

    /// Nothing is sent, so it can be said at any time: started again, it would fail the same way.
    fn unmade(&self, start: &StartAttempt, (kind, message): Failure) -> AttemptReport {
        report(start, self.clock.now(), kind, &message)
    }
}

/// Why there is no request.
pub(crate) type Failure = (ErrorKind, String);

/// The request of an attempt; `wall` stamps the signature.
fn request(
    start: &StartAttempt,
    rendered: &Rendered<'_>,
    origin: Option<HeaderValue>,
    wall: Timestamp,
) -> Result<Request, Failure> {
    let headers = headers(start, rendered, origin, wall);
    Ok(Request {
        method: Method::POST,
        url: start.endpoint.url.clone(),
        headers: headers.map_err(|message| (ErrorKind::Internal, message))?,
        body: rendered.body.clone(),
        timeout: start.timeout,
    })
}

/// The report of an attempt that Postrider itself could not make.
pub(crate) fn failed(start: &StartAttempt, started_at: Timestamp, message: &str) -> AttemptReport {
    report(start, started_at, ErrorKind::Internal, message)
}

fn report(
    start: &StartAttempt,
    started_at: Timestamp,
    kind: ErrorKind,
    message: &str,
) -> AttemptReport {
    let error = AttemptError {
        kind,
        message: message.into(),
        ambiguous: false,
    };
    AttemptReport {
        started_at,
        phases: Phases::default(),
        request: RequestSummary {
            url: start.endpoint.url.clone(),
            headers: Fields::new(),
        },
        result: AttemptResult::Error(error),
    }
}

fn headers(
    start: &StartAttempt,
    rendered: &Rendered<'_>,
    origin: Option<HeaderValue>,
    wall: Timestamp,
) -> Result<HeaderMap, String> {
    let StartAttempt {
        delivery,
        endpoint,
        attempt,
        ..
    } = start;
    let id = delivery.id.to_string();
    let content_type = &*rendered.content_type;
    let message = Message {
        id: &id,
        at: wall,
        url: &endpoint.url,
        content_type,
        body: &rendered.body,
    };
    let signatures =
        postrider_signing::sign(&endpoint.signing, &message).map_err(|error| error.to_string())?;
    let mut headers = HeaderMap::with_capacity(8 + endpoint.headers.len() + rendered.headers.len());
    let own = endpoint.headers.iter();
    let own = own.map(|(name, value)| (&**name, &**value));
    let made = rendered.headers.iter();
    let made = made.map(|(name, value)| (&**name, &**value));
    for (name, value) in own.chain(made) {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| format!("{name}: {e}"))?;
        let mut value = text(value)?;
        // whatever its name: it may be how the receiver knows who is calling
        value.set_sensitive(true);
        headers.append(name, value);
    }
    if let Some(origin) = origin {
        headers.insert(ORIGIN, origin);
    }
    headers.insert(CONTENT_TYPE, text(content_type)?);
    headers.insert(ATTEMPT, HeaderValue::from(*attempt));
    headers.insert(ID_HEADER, text(&id)?);
    headers.insert(TIMESTAMP_HEADER, HeaderValue::from(wall.as_secs()));
    for (name, value) in &signatures {
        headers.insert(*name, text(value)?);
    }
    Ok(headers)
}

fn text(value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(value).map_err(|_| "a header value is not printable text".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use postrider_domain::{
        AttemptResult, Delivery, DeliveryId, Endpoint, Event, Format, Scheme, Secret, Signing,
        SigningKey, SigningSecret, Slice, Template, Tenant,
    };
    use postrider_engine::io::{Claim, Ticket};
    use postrider_guard::Policy;

    use super::*;

    const WALL: Timestamp = Timestamp::from_secs(1_674_087_231);

    fn start(format: Format, data: &'static [u8]) -> StartAttempt {
        let id = "ep_1".parse().unwrap();
        // Nobody listens there: what is sent fails to connect.
        let mut endpoint = Endpoint::new(id, Tenant::default(), "http://127.0.0.1:9/");
        endpoint.format = format;
        endpoint.signing = Signing {
            scheme: Scheme::Standard,
            secrets: vec![SigningSecret {
                id: "s1".into(),
                key: SigningKey::Shared(Secret::new([7; 32])),
                not_after: None,
            }],
        };
        let event = Event {
            id: "evt_1".into(),
            source: "/payments".into(),
            event_type: "payment.captured".into(),
            tenant: Tenant::default(),
            time: None,
            ordering_key: None,
            content_type: Some("application/json".into()),
            traceparent: None,
            extensions: vec![("note".into(), "café".into())],
            data: Bytes::from_static(data),
            accepted_at: WALL,
        };
        let delivery = Delivery {
            id: DeliveryId::from_bytes([1; 16]),
            endpoint: endpoint.id.clone(),
            event,
            attempts: 0,
            due: None,
            test: false,
        };
        StartAttempt {
            ticket: Ticket {
                slice: Slice(0),
                claim: Claim(1),
                entry: 1,
                unproven: true,
                replay: false,
                decided_at: WALL,
            },
            delivery: Arc::new(delivery),
            endpoint: Arc::new(endpoint),
            attempt: 1,
            timeout: Duration::from_secs(5),
            not_after: Timestamp::MAX,
        }
    }

    fn requested(start: &StartAttempt) -> Request {
        let rendered = Renderer::default().render(&start.endpoint, &start.delivery);
        let rendered = rendered.map(Rendered::into_owned).unwrap();
        request(start, &rendered, None, WALL).unwrap()
    }

    fn template(source: &str) -> Format {
        Format::Template(Template {
            source: source.into(),
            content_type: "application/json".into(),
        })
    }

    #[test]
    fn raw_data_is_sent_without_a_copy() {
        let start = start(Format::Raw, b"{\"a\":1}");
        let body = requested(&start).body;
        assert_eq!(body.as_ptr(), start.delivery.event.data.as_ptr());
        assert_eq!(body.len(), start.delivery.event.data.len());
    }

    #[test]
    fn what_is_signed_is_what_is_sent() {
        for format in [
            Format::Raw,
            Format::Standard,
            Format::CloudEventsBinary,
            Format::Form,
            template("{{ data }}"),
        ] {
            let start = start(format, b"{\"a\":1}");
            let request = requested(&start);
            let id = start.delivery.id.to_string();
            let message = Message {
                id: &id,
                at: WALL,
                url: &start.endpoint.url,
                content_type: request.headers[CONTENT_TYPE].to_str().unwrap(),
                body: &request.body,
            };
            let signatures = postrider_signing::sign(&start.endpoint.signing, &message).unwrap();
            for (name, value) in signatures {
                assert_eq!(request.headers[name], value, "{:?}", start.endpoint.format);
            }
        }
    }

    #[test]
    fn attributes_of_a_binary_cloudevent_are_headers() {
        let request = requested(&start(Format::CloudEventsBinary, b"{}"));
        assert_eq!(request.headers["ce-id"], "evt_1");
        assert_eq!(request.headers["ce-note"], "caf%C3%A9");
        assert_eq!(request.headers[CONTENT_TYPE], "application/json");
        assert!(!request.headers.contains_key("ce-datacontenttype"));
    }

    #[tokio::test]
    async fn what_cannot_be_made_is_not_sent_and_says_why() {
        let requests = requests();
        for format in [template("{{ data.missing }}"), Format::Form] {
            let start = start(format, b"[1]");
            let report = requests.send(&start, Arc::default()).await.unwrap();
            let AttemptResult::Error(error) = report.result else {
                panic!("nobody listens there");
            };
            assert_eq!(error.kind, ErrorKind::Unrenderable, "{}", error.message);
            assert!(!error.ambiguous && !error.message.is_empty());
        }
        // It was made, in another thread, and refused by the policy.
        let start = start(template("{{ data }}"), b"[1]");
        let report = requests.send(&start, Arc::default()).await.unwrap();
        assert!(
            matches!(&report.result, AttemptResult::Error(e) if e.kind != ErrorKind::Unrenderable)
        );
        assert!(!report.request.headers.is_empty());
    }

    fn requests() -> Requests {
        let egress = Egress::new(Policy::default(), "test").unwrap();
        Requests::new(egress, Clock::start(), None)
    }

    /// Started again and again, each time too late.
    #[tokio::test]
    async fn why_a_request_cannot_be_made_is_said_however_late_it_is() {
        let requests = requests();
        let mut start = start(template("{{ data.missing }}"), b"[1]");
        start.not_after = Timestamp::default();
        let said = async {
            loop {
                if let Some(report) = requests.send(&start, Arc::default()).await {
                    return report.result;
                }
                tokio::task::yield_now().await;
            }
        };
        let said = tokio::time::timeout(Duration::from_secs(30), said).await;
        let Ok(AttemptResult::Error(error)) = said else {
            panic!("it is never said");
        };
        assert_eq!(error.kind, ErrorKind::Unrenderable);
    }

    #[tokio::test]
    async fn what_is_too_late_is_not_sent_and_its_body_kept() {
        let requests = requests();
        let mut start = start(template("{{ data }}"), b"[1]");
        start.not_after = Timestamp::default();
        let renderer = Renderer::default();
        let rendered = renderer.render(&start.endpoint, &start.delivery).unwrap();
        requests.bodies.keep(&start, rendered.into_owned());
        for _ in 0..3 {
            assert!(requests.send(&start, Arc::default()).await.is_none());
            assert_eq!(requests.bodies.kept(), 1);
        }
        start.not_after = Timestamp::MAX;
        assert!(requests.send(&start, Arc::default()).await.is_some());
        assert_eq!(requests.bodies.kept(), 0);
    }
}
