//! One request to the registry, and what its answer means.
//!
//! Decides what counts as "not there": the registry's own error codes in a 404. A refusal in other
//! words is in doubt: it may be about this schema, or what a wrong address and wrong rights give for
//! all; whether the registry is well otherwise ([`Client::is_well`]) tells them apart. Any other
//! status is a failure that may pass. No redirect is followed and no proxy asked.

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use postrider_schema::SchemaId;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::{Credentials, RegistryError, RegistrySettings};

/// From the name to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Requests at a time; a registry that was away is not met by all questions at once.
const REQUESTS_MAX: usize = 4;

/// Largest answer: the longest text there may be, with escapes.
const BODY_BYTES_MAX: usize = 2 * postrider_schema::TEXT_BYTES_MAX + (64 << 10);

/// A schema as the registry keeps it.
#[derive(Deserialize)]
pub(crate) struct Kept {
    pub(crate) schema: String,
    /// Absent = Avro.
    #[serde(rename = "schemaType")]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) references: Option<Vec<Referred>>,
}

/// Another schema that it refers to.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Referred {
    pub(crate) name: String,
    pub(crate) subject: String,
    pub(crate) version: i64,
}

/// Why there is no schema.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The registry says that it has none.
    Missing(String),
    /// It is beyond a bound.
    Unusable(String),
    /// Refused, or an answer that cannot be read: about this one, if the registry is well.
    Doubtful(Doubt),
    /// It may be there: no answer, or one that says nothing about it.
    Failed(String),
}

/// An answer that may be about one schema or about the registry.
#[derive(Debug)]
pub(crate) struct Doubt {
    /// What the registry answered.
    pub(crate) answer: String,
    /// It may be that we may read nothing at all.
    pub(crate) forbidden: bool,
}

pub(crate) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    /// Without a slash at the end.
    base: String,
    credentials: Credentials,
    requests: Semaphore,
    /// A schema that was read lately, to see whether that still works.
    readable: Mutex<Option<SchemaId>>,
}

impl Client {
    pub(crate) fn new(settings: RegistrySettings) -> Result<Self, RegistryError> {
        let base = settings.url.trim_end_matches('/').to_owned();
        let wrong = |what: &str| RegistryError::Url(what.to_owned());
        let uri: Uri = base.parse().map_err(|_| wrong("it is no URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.query().is_some() {
            return Err(wrong("expected http or https, and no query"));
        }
        if uri
            .authority()
            .is_none_or(|host| host.as_str().contains('@'))
        {
            return Err(wrong("expected a host, without user and password"));
        }
        // Named, for another crate of the build may bring a second one.
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| RegistryError::Tls(error.to_string()))?;
        let tls = match &settings.ca_file {
            Some(path) => tls.with_root_certificates(authorities(path)?),
            None => tls
                .try_with_platform_verifier()
                .map_err(|error| RegistryError::Tls(innermost(&error)))?,
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(TIMEOUT / 2));
        let connector = HttpsConnector::from((tcp, tls.with_no_client_auth()));
        Ok(Self {
            http: legacy::Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_max_idle_per_host(REQUESTS_MAX)
                .build(connector),
            base,
            credentials: settings.credentials,
            requests: Semaphore::new(REQUESTS_MAX),
            readable: Mutex::new(None),
        })
    }

    pub(crate) async fn schema(&self, id: SchemaId) -> Result<Kept, Failure> {
        let kept: Kept = match id {
            SchemaId::Number(number) => self.get(&format!("/schemas/ids/{number}")).await?,
            SchemaId::Guid(_) => self.get(&format!("/schemas/guids/{id}")).await?,
        };
        *self.readable.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
        Ok(kept)
    }

    /// Whether the registry answers now, so that a doubtful answer is about the one schema: one
    /// that was read before can be read; or, unless we may read none, it says which types it knows,
    /// as only a registry does.
    pub(crate) async fn is_well(&self, doubt: &Doubt) -> bool {
        let readable = *self.readable.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = readable
            && self.schema(id).await.is_ok()
        {
            return true;
        }
        let types = "/schemas/types";
        !doubt.forbidden && self.get::<Vec<String>>(types).await.is_ok()
    }

    /// A deleted one too: what refers to it is still in use.
    pub(crate) async fn reference(&self, referred: &Referred) -> Result<Kept, Failure> {
        let subject = encoded(&referred.subject);
        let version = referred.version;
        self.get(&format!(
            "/subjects/{subject}/versions/{version}?deleted=true"
        ))
        .await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let _permit = self.requests.acquire().await.map_err(failed)?;
        match tokio::time::timeout(TIMEOUT, self.exchange(path)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Failed(format!("no answer within {TIMEOUT:?}"))),
        }
    }

    async fn exchange<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let mut request = Request::get(format!("{}{path}", self.base));
        if let Some(headers) = request.headers_mut() {
            headers.insert(
                ACCEPT,
                HeaderValue::from_static(
                    "application/vnd.schemaregistry.v1+json, application/json",
                ),
            );
            if let Some(credentials) = self.authorization() {
                headers.insert(AUTHORIZATION, credentials);
            }
        }
        let request = request.body(Empty::new()).map_err(failed)?;
        let response = self.http.request(request).await.map_err(failed)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX);
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(Failure::Unusable(format!(
                    "the registry's answer is larger than {BODY_BYTES_MAX} bytes"
                )));
            }
            Err(error) => return Err(Failure::Failed(innermost(&*error))),
        };
        let doubtful = |answer: String| {
            let forbidden = status == StatusCode::FORBIDDEN;
            Failure::Doubtful(Doubt { answer, forbidden })
        };
        match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .map_err(|error| doubtful(format!("status 200, but what is no schema: {error}"))),
            StatusCode::NOT_FOUND => Err(match error_code(&body) {
                Some(code @ 40_401..=40_403) => {
                    Failure::Missing(format!("the registry has none (error code {code})"))
                }
                _ => doubtful(
                    "status 404, but not as a schema registry says it: is schema_registry.url \
                     right?"
                        .to_owned(),
                ),
            }),
            StatusCode::FORBIDDEN => Err(doubtful(format!(
                "status {status}: may schema_registry's user read this schema?"
            ))),
            other => Err(Failure::Failed(format!("status {other}"))),
        }
    }

    /// Made for each request, so that nothing holds the secret but its settings.
    fn authorization(&self) -> Option<HeaderValue> {
        let text = match &self.credentials {
            Credentials::None => return None,
            Credentials::Basic { user, password } => {
                let pair = [user.as_bytes(), b":", password.expose()].concat();
                ["Basic ", &STANDARD.encode(pair)].concat().into_bytes()
            }
            Credentials::Bearer(token) => [b"Bearer ", token.expose()].concat(),
        };
        let mut value = HeaderValue::from_bytes(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, RegistryError> {
    let wrong = |reason: String| RegistryError::CaFile {
        path: path.display().to_string(),
        reason,
    };
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        store
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(wrong("it holds no certificate in PEM form".to_owned()));
    }
    Ok(store)
}

fn error_code(body: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Refusal {
        error_code: u32,
    }
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    Some(refusal.error_code)
}

fn failed(error: impl Error + 'static) -> Failure {
    Failure::Failed(innermost(&error))
}

/// The innermost cause in words.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.last().unwrap_or(error).to_string()
}

/// A text as one step of a path.
fn encoded(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            path.push(char::from(byte));
        } else {
            path += &format!("%{byte:02X}");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_one_step_of_a_path() {
        assert_eq!(encoded("a-b.c_1~"), "a-b.c_1~");
        assert_eq!(encoded(":.shop:é/../x?"), "%3A.shop%3A%C3%A9%2F..%2Fx%3F");
    }
}
