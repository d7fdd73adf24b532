//! Where to send, and how.
//!
//! Decides which event types a pattern matches. Leaves the file and record form of an endpoint and
//! the checks on it to `wire`, lookup to `catalog`, signing to `signing`, making a format to
//! `payload`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Auth;
use crate::ids::{EndpointId, Tenant};
use crate::retry::RetryPolicy;
use crate::secret::Secret;
use crate::shown::{Host, Length, Names};
use crate::success::Success;
use crate::time::Timestamp;

/// Whether an endpoint gets deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointState {
    /// Deliveries are made and sent.
    #[default]
    Active,
    /// Deliveries are made and wait.
    Paused,
    /// No deliveries are made; those already made are discarded by name.
    Disabled,
}

/// An endpoint's whole configuration, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Unique in an installation; fixes the slice.
    pub id: EndpointId,
    /// The merchant account it belongs to.
    pub tenant: Tenant,
    /// Absolute `https` (or, where allowed, `http`) URL, normalised, no userinfo, no fragment.
    pub url: Arc<str>,
    /// Whether deliveries are made and sent.
    pub state: EndpointState,
    /// Grows with each change; an older version never replaces a newer one.
    pub version: u64,
    /// Empty = every type.
    pub types: Vec<TypePattern>,
    /// An expression in CEL that an event must match too; `None` = every event of the types.
    pub filter: Option<Arc<str>>,
    /// What becomes of an event's data before it is sent.
    pub format: Format,
    /// How requests are signed.
    pub signing: Signing,
    /// Requests in flight, 1 to 1 000; `None` = the dispatcher's default.
    pub concurrency: Option<u16>,
    /// One deadline over the whole exchange, at most 60 s; `None` = the dispatcher's default.
    pub timeout: Option<Duration>,
    /// When to try again and when to give up; `None` = the dispatcher's default.
    pub retry: Option<RetryPolicy>,
    /// At most so many attempts in any interval of this length; `None` = as many as there are.
    pub rate_limit: Option<RateLimit>,
    /// Which answers mean that the receiver took an event; `None` = any 2xx.
    pub success: Option<Success>,
    /// Which deliveries wait for each other.
    pub ordering: Ordering,
    /// What follows a delivery that is given up, where deliveries wait for each other.
    pub on_exhausted: OnExhausted,
    /// What it asks of its callers beside the signature; `None` = nothing.
    pub auth: Option<Box<Auth>>,
    /// Sent with every request; names lower case, forbidden ones already refused.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// For people; never sent.
    pub description: Box<str>,
    /// Free strings by name, for other programs; never sent.
    pub metadata: Vec<(Box<str>, Box<str>)>,
}

impl Endpoint {
    /// An active endpoint of version 0 that wants every type, unsigned, with every default.
    #[must_use]
    pub fn new(id: EndpointId, tenant: Tenant, url: impl Into<Arc<str>>) -> Self {
        Self {
            id,
            tenant,
            url: url.into(),
            state: EndpointState::default(),
            version: 0,
            types: Vec::new(),
            filter: None,
            format: Format::default(),
            signing: Signing {
                scheme: Scheme::None,
                secrets: Vec::new(),
            },
            concurrency: None,
            timeout: None,
            retry: None,
            rate_limit: None,
            success: None,
            ordering: Ordering::default(),
            on_exhausted: OnExhausted::default(),
            auth: None,
            headers: Vec::new(),
            description: "".into(),
            metadata: Vec::new(),
        }
    }

    /// Whether an event of this type is for this endpoint, as far as its type says.
    #[must_use]
    pub fn wants(&self, event_type: &str) -> bool {
        self.types.is_empty() || self.types.iter().any(|pattern| pattern.matches(event_type))
    }
}

/// Nothing of its headers and metadata but their names, of its URL the host.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("id", &self.id)
            .field("tenant", &self.tenant)
            .field("url", &Host(&self.url))
            .field("state", &self.state)
            .field("version", &self.version)
            .field("types", &self.types)
            .field(
                "filter",
                &self.filter.as_deref().map(|text| Length(text.len())),
            )
            .field("format", &self.format)
            .field("signing", &self.signing)
            .field("concurrency", &self.concurrency)
            .field("timeout", &self.timeout)
            .field("retry", &self.retry)
            .field("rate_limit", &self.rate_limit)
            .field("success", &self.success)
            .field("ordering", &self.ordering)
            .field("on_exhausted", &self.on_exhausted)
            .field("auth", &self.auth)
            .field("headers", &Names(&self.headers))
            .field("description", &Length(self.description.len()))
            .field("metadata", &Names(&self.metadata))
            .finish()
    }
}

/// What a merchant gets of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The data, byte for byte.
    #[default]
    Raw,
    /// The envelope Standard Webhooks recommends: type, timestamp, data.
    Standard,
    /// A CloudEvent in structured mode: attributes and data in one JSON object.
    CloudEvents,
    /// A CloudEvent in binary mode: attributes as headers, the data as it is.
    CloudEventsBinary,
    /// The fields of a JSON object as an HTML form would send them.
    Form,
    /// What a template makes of it.
    Template(Template),
}

/// A template, unread.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    /// Its text, at most [`Self::SOURCE_BYTES_MAX`].
    pub source: Arc<str>,
    /// Media type of what it makes; says also how values are escaped in it.
    pub content_type: Box<str>,
}

/// Nothing of its text.
impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("source", &Length(self.source.len()))
            .field("content_type", &self.content_type)
            .finish()
    }
}

impl Template {
    /// Longest text of a template, in bytes.
    pub const SOURCE_BYTES_MAX: usize = 64 << 10;
}

/// At most [`Self::attempts`] attempts start in any interval of the length [`Self::per`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// 1 to 10 000 for each second of `per`, at most [`Self::ATTEMPTS_MAX`].
    pub attempts: u32,
    /// [`Self::PER_MIN`] to [`Self::PER_MAX`].
    pub per: Duration,
    /// Whether they are spaced evenly, `per / attempts` apart, in place of bursts.
    pub smooth: bool,
}

impl RateLimit {
    /// Shortest interval.
    pub const PER_MIN: Duration = Duration::from_secs(1);
    /// Longest interval.
    pub const PER_MAX: Duration = Duration::from_secs(86_400);
    /// Most attempts for each second of the interval.
    pub const PER_SECOND_MAX: u32 = 10_000;
    /// Most attempts of an interval.
    pub const ATTEMPTS_MAX: u32 = 100_000_000;
}

/// Which deliveries of an endpoint wait until earlier ones are settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordering {
    /// None do.
    #[default]
    None,
    /// Those with the same ordering key; events without a key wait for none.
    Key,
    /// All of the endpoint.
    Endpoint,
}

/// What happens behind a delivery that is given up, where order holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExhausted {
    /// It is dead-lettered and the next one follows.
    #[default]
    Continue,
    /// It stays at the head of its key, and the key waits, until the endpoint says `continue`.
    Block,
}

/// An event type, or a prefix of one: `payment.captured`, `payment.*`, `*`.
///
/// A `*` stands only at the end, alone or after a dot, and for one or more characters:
/// `payment.*` matches `payment.captured` and `payment.dispute.opened`, not `payment`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypePattern(Box<str>);

impl TypePattern {
    /// `None` when the text is empty, longer than 256 bytes, holds white space or control
    /// characters, or has a `*` anywhere but at the end after a dot.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let stem = match text.strip_suffix('*') {
            Some("") => "",
            Some(stem) if stem.len() > 1 && stem.ends_with('.') => stem,
            Some(_) => return None,
            None => text,
        };
        let clean = !stem.contains(|c: char| c == '*' || c.is_whitespace() || c.is_control());
        (!text.is_empty() && text.len() <= 256 && clean).then(|| Self(text.into()))
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether an event type matches.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(stem) => event_type.len() > stem.len() && event_type.starts_with(stem),
            None => event_type == &*self.0,
        }
    }
}

/// How an endpoint's requests are signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Signing {
    /// The scheme.
    pub scheme: Scheme,
    /// Newest first; each one still valid signs. Empty only with [`Scheme::None`].
    pub secrets: Vec<SigningSecret>,
}

/// Shows the scheme and how many secrets there are, nothing of them.
impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signing")
            .field("scheme", &self.scheme)
            .field("secrets", &self.secrets.len())
            .finish()
    }
}

/// A signature scheme: what is signed, with what, and which headers say so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Standard Webhooks v1: HMAC-SHA256.
    #[default]
    Standard,
    /// Standard Webhooks v1a: Ed25519.
    StandardEd25519,
    /// As Stripe signs.
    Stripe,
    /// As GitHub signs.
    Github,
    /// As Shopify signs.
    Shopify,
    /// As Slack signs.
    Slack,
    /// As Corefy signs. Legacy: SHA-1, no HMAC, no time.
    Corefy,
    /// HTTP Message Signatures.
    Rfc9421,
    /// Detached JWS.
    Jws(Jws),
    /// Unsigned.
    None,
}

/// How a detached JWS is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jws {
    /// Whether the body is base64url-encoded when it is signed (RFC 7515), or taken as it is
    /// (RFC 7797, `b64: false`).
    pub encoded: bool,
    /// The header parameters of Open Banking's UK profile.
    pub open_banking: Option<OpenBanking>,
}

/// Who signs, in Open Banking's UK profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenBanking {
    /// `http://openbanking.org.uk/iss`: the organisation's or the software's id.
    pub issuer: Box<str>,
    /// `http://openbanking.org.uk/tan`: the trust anchor's domain.
    pub trust_anchor: Box<str>,
}

/// One signing key of an endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret {
    /// Names it in files and commands. Sent only where a scheme names its key (`keyid`, `kid`).
    pub id: Box<str>,
    /// What signs.
    pub key: SigningKey,
    /// It signs until this time; `None` = until replaced.
    pub not_after: Option<Timestamp>,
}

/// A key that signs.
#[derive(Clone, PartialEq, Eq)]
pub enum SigningKey {
    /// Known to both sides.
    Shared(Secret),
    /// An Ed25519 seed and its public key, 64 bytes.
    Ed25519(Secret),
    /// A private key on P-256, PKCS#8 in DER.
    P256(Secret),
    /// A private RSA key, PKCS#8 in DER.
    Rsa(Secret),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_the_rest_after_a_dot() {
        let matches = |pattern, event_type| {
            TypePattern::new(pattern)
                .expect("a valid pattern")
                .matches(event_type)
        };
        assert!(matches("payment.*", "payment.captured"));
        assert!(matches("payment.*", "payment.dispute.opened"));
        assert!(matches("*", "anything"));
        assert!(matches("refund.created", "refund.created"));
        assert!(!matches("payment.*", "payment"));
        assert!(!matches("payment.*", "payment."));
        assert!(!matches("payment.*", "payments.captured"));
        assert!(!matches("refund.created", "refund.created.late"));
        for bad in ["", "pay*", "*.created", "a.*.b", "a b", ".*", "**"] {
            assert!(TypePattern::new(bad).is_none(), "{bad:?}");
        }
    }
}
