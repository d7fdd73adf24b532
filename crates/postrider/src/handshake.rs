//! Asking the receivers of endpoints whether they agree to be sent requests (ADR 0038).
//!
//! Decides what such a request looks like, how long an answer may take and how many are asked at a
//! time. Leaves which receivers are asked and what their answers mean to `guard::consent`, where a
//! request may go to `egress`, and what is said of one that failed to `coarse`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use postrider_config::{Handshake, Registration};
use postrider_domain::{AttemptResult, Auth, Endpoint, EndpointId, Response};
use postrider_egress::{Egress, Request};
use postrider_guard::consent::{self, Consent, REQUEST_ORIGIN};
use postrider_signing::{ID_HEADER, Message, TIMESTAMP_HEADER};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::coarse::Ended;
use crate::commands::run::runtime;
use crate::exit::Failure;
use crate::input;
use crate::installation::Installation;

/// One deadline over each exchange.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests at a time.
const IN_FLIGHT_MAX: usize = 16;

/// Consent, or why there is none in words that a merchant may read.
pub(crate) type Answer = Result<Consent, String>;

/// Asks the receiver of each endpoint, once.
///
/// # Errors
/// There is no HTTP client; a receiver that does not agree is an answer.
pub(crate) fn ask(
    endpoints: Vec<Endpoint>,
    installation: &Installation,
) -> Result<BTreeMap<EndpointId, Answer>, Failure> {
    if endpoints.is_empty() {
        return Ok(BTreeMap::new());
    }
    if io::stderr().is_terminal() {
        eprintln!(
            "postrider: asking {} receivers for their consent",
            endpoints.len()
        );
    }
    let user_agent = concat!("Postrider/", env!("CARGO_PKG_VERSION"));
    let (network, policy) = (
        &installation.config.network,
        installation.config.egress.clone(),
    );
    let runtime = runtime()?;
    let registration = Arc::new(installation.config.registration.clone());
    runtime.block_on(async {
        let egress = Egress::over(network, policy, user_agent).map_err(Failure::no)?;
        let room = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        let mut asking = JoinSet::new();
        for endpoint in endpoints {
            let (egress, room) = (egress.clone(), Arc::clone(&room));
            let registration = Arc::clone(&registration);
            asking.spawn(async move {
                let _place = room.acquire().await;
                let answer = ask_one(&egress, &registration, &endpoint).await;
                (endpoint.id, answer)
            });
        }
        let answers = asking.join_all().await;
        Ok(answers.into_iter().collect())
    })
}

async fn ask_one(egress: &Egress, registration: &Registration, endpoint: &Endpoint) -> Answer {
    consent::covers(endpoint).map_err(|none| none.to_string())?;
    match registration.handshake {
        Handshake::None => Ok(Consent { per_minute: None }),
        Handshake::CloudEvents => {
            let origin = &registration.origin;
            let headers =
                HeaderMap::from_iter([(HeaderName::from_static(REQUEST_ORIGIN), value(origin)?)]);
            let response = send(egress, Method::OPTIONS, endpoint, headers, Bytes::new()).await?;
            consent::by_cloudevents(origin, &response.headers).map_err(|none| none.to_string())
        }
        Handshake::Challenge => {
            let random = || input::random::<16>().map_err(|_| "no random numbers".to_owned());
            let challenge = format!("{:032x}", u128::from_be_bytes(random()?));
            let id = format!("chl_{:032x}", u128::from_be_bytes(random()?));
            let body = serde_json::json!({ "type": "postrider.challenge", "challenge": challenge });
            let body = Bytes::from(body.to_string());
            let headers = signed(endpoint, &id, &body)?;
            let response = send(egress, Method::POST, endpoint, headers, body).await?;
            consent::by_echo(&challenge, response.status, &response.body)
                .map_err(|none| none.to_string())
        }
    }
}

async fn send(
    egress: &Egress,
    method: Method,
    endpoint: &Endpoint,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, String> {
    let request = Request {
        method,
        url: Arc::clone(&endpoint.url),
        headers,
        body,
        timeout: TIMEOUT,
    };
    let nothing = Auth::NONE;
    let auth = endpoint.auth.as_deref().unwrap_or(&nothing);
    match egress.send_as(input::now(), request, auth).await.result {
        AttemptResult::Response(response) => Ok(response),
        AttemptResult::Error(error) => Err(format!(
            "its receiver did not answer: {}",
            Ended::of_error(&error)
        )),
    }
}

/// The headers of a delivery but its attempt: a receiver that verifies what it gets verifies this.
fn signed(endpoint: &Endpoint, id: &str, body: &Bytes) -> Result<HeaderMap, String> {
    let at = input::now();
    let message = Message {
        id,
        at,
        url: &endpoint.url,
        content_type: input::JSON,
        body,
    };
    let signatures =
        postrider_signing::sign(&endpoint.signing, &message).map_err(|error| error.to_string())?;
    let mut headers = HeaderMap::new();
    for (name, text) in &endpoint.headers {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| "a header name cannot be sent".to_owned())?;
        headers.append(name, value(text)?);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(input::JSON));
    headers.insert(ID_HEADER, value(id)?);
    headers.insert(TIMESTAMP_HEADER, HeaderValue::from(at.as_secs()));
    for (name, text) in &signatures {
        headers.insert(*name, value(text)?);
    }
    Ok(headers)
}

fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| "a header value is not printable text".to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use postrider_domain::{Credentials, OAuth2, Secret};
    use postrider_guard::Policy;

    use super::*;

    #[test]
    fn nobody_is_asked_where_tokens_are_asked_for_elsewhere() {
        let trap = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let (receiver, elsewhere) = (trap(), trap());
        let url = |trap: &TcpListener| format!("http://{}/", trap.local_addr().unwrap());
        let (id, tenant) = ("ep_1".parse().unwrap(), "acme".parse().unwrap());
        let mut endpoint = Endpoint::new(id, tenant, url(&receiver));
        let oauth = OAuth2 {
            token_url: url(&elsewhere).into(),
            client_id: "me".into(),
            client_secret: Secret::new(*b"hunter2"),
            scopes: Vec::new(),
            audience: None,
        };
        endpoint.auth = Some(Box::new(Auth {
            credentials: Some(Credentials::OAuth2(oauth)),
            ..Auth::NONE
        }));
        let policy = Policy {
            allow_http: true,
            allow_ranges: vec!["127.0.0.0/8".parse().unwrap()],
            ..Policy::default()
        };
        let registration = Registration {
            handshake: Handshake::Challenge,
            origin: String::new(),
        };
        let answer = runtime().ok().unwrap().block_on(async {
            let egress = Egress::new(policy, "test").unwrap();
            ask_one(&egress, &registration, &endpoint).await
        });
        let expected = consent::covers(&endpoint).unwrap_err().to_string();
        assert_eq!(answer.err(), Some(expected));
        assert!(receiver.accept().is_err() && elsewhere.accept().is_err());
    }
}
