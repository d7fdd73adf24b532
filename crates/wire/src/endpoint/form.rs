//! The fields of an endpoint as they are written, unchecked.
//!
//! Decides names and shapes. Every field is optional here, so that one that is missing can be
//! reported beside the others; what is required is `check`'s.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use postrider_domain::{
    Endpoint, EndpointState, Format, OnExhausted, Ordering, RateLimit, RetryPolicy, RetryPreset,
    Tenant,
};
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::auth_form::{AuthForm, TlsForm};
use super::secret_text::{SEALED, Slot};
use super::{auth, signing, success};

/// Where webhooks are sent, and how: the value of a record of the `endpoints` topic, and a document
/// of the file of `endpoint apply`. In records, fields that are not known are ignored.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(expecting = "the fields of an endpoint")]
#[schemars(rename = "Endpoint")]
pub(crate) struct EndpointForm {
    /// Unique in an installation; the key of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, extend("pattern" = "^[A-Za-z0-9_-]{1,64}$"))]
    pub(super) id: Option<String>,
    /// The merchant account it belongs to, by default `default`: 1 to 128 bytes, no control
    /// characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tenant: Option<String>,
    /// Where requests go, an absolute https URL without user name and fragment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, length(max = 2048))]
    pub(super) url: Option<String>,
    /// Paused: deliveries wait. Disabled: none are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["active", "paused", "disabled"]))]
    pub(super) state: Option<String>,
    /// Grows with each change; an older version never replaces a newer one. The writer of the
    /// record sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<u64>,
    /// When the record was written, RFC 3339. Its writer sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) updated_at: Option<String>,
    /// For people; never sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub(super) description: Option<String>,
    /// The event types it gets: whole ones, or beginnings such as `payment.*`. None = all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub(super) types: Option<Vec<String>>,
    /// An expression in CEL over an event's attributes and data: it gets those that come to true,
    /// such as `data.amount > 1000`. See docs/reference/filters.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub(super) filter: Option<String>,
    /// What becomes of an event: its data byte for byte (`raw`, the default), Standard Webhooks'
    /// envelope, a CloudEvent in the body or with its attributes as headers, a JSON object as an
    /// HTML form, or what a template makes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [
        "raw", "standard", "cloudevents", "cloudevents-binary", "form", "template"
    ]))]
    pub(super) format: Option<String>,
    /// With `format: template`, at most 64 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub(super) template: Option<String>,
    /// With `format: template`, the media type of what it makes, by default `application/json`. It
    /// says also how values are escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub(super) content_type: Option<String>,
    /// How requests are signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub(super) signing: Option<SigningForm>,
    /// Requests in flight at once; the dispatcher has a default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub(super) concurrency: Option<u64>,
    /// How long a whole exchange may take, 1s to 60s; the dispatcher has a default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<String>,
    /// When to try again, and when to give up; the dispatcher has a default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry: Option<RetryForm>,
    /// At most so many attempts start in any interval of this length; none = no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rate_limit: Option<RateLimitForm>,
    /// Which answers mean that the receiver took an event; any 2xx where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) success: Option<SuccessForm>,
    /// Which deliveries wait until earlier ones are settled: none (the default), those with the
    /// same ordering key, or all of the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["none", "key", "endpoint"]))]
    pub(super) ordering: Option<String>,
    /// With `ordering`, what follows a delivery that is given up: it is dead-lettered and the next
    /// one goes on (`continue`, the default), or it stays and what waits for it waits on (`block`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["continue", "block"]))]
    pub(super) on_exhausted: Option<String>,
    /// What it asks of its callers beside the signature: one of `basic`, `bearer` and `oauth2`, and
    /// `mtls` alone or with one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) auth: Option<AuthForm>,
    /// Whom its certificate has to be of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<TlsForm>,
    /// Sent with every request, at most 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) headers: Option<BTreeMap<String, String>>,
    /// Free strings for other programs, at most 50; never sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<BTreeMap<String, String>>,
}

/// How requests are signed.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(expecting = "scheme and secrets")]
#[schemars(rename = "Signing")]
pub(super) struct SigningForm {
    /// `standard` is Standard Webhooks v1 (HMAC-SHA256), the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [
        "standard", "standard-ed25519", "stripe", "github", "shopify", "slack", "corefy",
        "rfc9421", "jws", "none"
    ]))]
    pub(super) scheme: Option<String>,
    /// Newest first. Every one still valid signs, or, where the scheme carries one signature, the
    /// oldest of them. At most 10, at least one unless the scheme is `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10))]
    pub(super) secrets: Option<Vec<SecretForm>>,
    /// With `scheme: jws`, how it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jws: Option<JwsForm>,
}

/// How a detached JWS is made.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(expecting = "b64 and open_banking")]
#[schemars(rename = "Jws")]
pub(super) struct JwsForm {
    /// Whether the body is base64url-encoded when it is signed; by default it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) b64: Option<bool>,
    /// The header parameters of Open Banking's UK profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) open_banking: Option<OpenBankingForm>,
}

/// Who signs, in Open Banking's UK profile.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(expecting = "issuer and trust_anchor")]
#[schemars(rename = "OpenBanking")]
pub(super) struct OpenBankingForm {
    /// `http://openbanking.org.uk/iss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, length(min = 1, max = 256))]
    pub(super) issuer: Option<String>,
    /// `http://openbanking.org.uk/tan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, length(min = 1, max = 256))]
    pub(super) trust_anchor: Option<String>,
}

/// One signing key.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(expecting = "id and value")]
#[schemars(
    rename = "Secret",
    extend("oneOf" = [{ "required": ["value"] }, { "required": ["sealed"] }])
)]
pub(super) struct SecretForm {
    /// Names it in files and commands; sent only as `keyid` or `kid`, by the schemes that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, extend("pattern" = "^[A-Za-z0-9_-]{1,64}$"))]
    pub(super) id: Option<String>,
    /// `standard`: `whsec_` and the base64 of 24 to 64 random bytes. `standard-ed25519`: `whsk_`
    /// and the base64 of a seed, alone or with its public key. `stripe`, `github`, `shopify`,
    /// `slack`, `corefy`: any text of 1 to 256 bytes. `rfc9421`, `jws`: either of the first two, or
    /// a private key as PKCS#8 PEM (Ed25519, P-256, RSA).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) value: Option<Zeroizing<String>>,
    /// In place of `value`: the same, sealed for this secret of this endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("pattern" = SEALED))]
    pub(super) sealed: Option<String>,
    /// It signs until then, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_after: Option<String>,
}

/// When to try again.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Retry")]
pub(super) enum RetryForm {
    /// A preset.
    #[schemars(extend("enum" = ["standard", "stripe", "adyen", "corefy"]))]
    Preset(String),
    /// A schedule of one's own.
    Custom(ScheduleForm),
}

/// A retry schedule.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(expecting = "schedule, window and jitter")]
#[schemars(rename = "Schedule")]
pub(super) struct ScheduleForm {
    /// The waits before attempt 2, 3, …, each 100ms to 30d, such as `[5s, 5m, 30m, 2h]`; empty =
    /// one attempt.
    #[schemars(required, length(max = 200))]
    pub(super) schedule: Option<Vec<String>>,
    /// No attempt is made later than this after the event; by default 3d, at most 30d.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) window: Option<String>,
    /// Each wait is drawn from ± this share of it; by default 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 0.5))]
    pub(super) jitter: Option<f64>,
}

/// How many attempts may start.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(expecting = "attempts and per")]
#[schemars(rename = "RateLimit")]
pub(super) struct RateLimitForm {
    /// 1 to 10 000 for each second of `per`, at most 100 000 000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, range(min = 1, max = 100_000_000))]
    pub(super) attempts: Option<u64>,
    /// The length of the interval, 1s to 1d.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub(super) per: Option<String>,
    /// Whether attempts are spaced evenly in place of bursts; by default they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) smooth: Option<bool>,
}

/// Which answers mean success.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(expecting = "status and body_contains")]
#[schemars(rename = "Success")]
pub(super) struct SuccessForm {
    /// Statuses from 200 to 499: `200`, `200-204`, `2xx`; by default `2xx`. What is not among them
    /// is none, and a 2xx then a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    pub(super) status: Option<Vec<StatusForm>>,
    /// Text that the body has to contain, within its first 16 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub(super) body_contains: Option<String>,
}

/// A status, or several.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Status")]
pub(super) enum StatusForm {
    /// One.
    #[schemars(extend("minimum" = 200, "maximum" = 499))]
    Number(u64),
    /// One, or `2xx`, or `200-204`.
    #[schemars(extend("pattern" = "^([2-4]xx|[2-4][0-9]{2}(-[2-4][0-9]{2})?)$"))]
    Text(String),
}

/// By hand, so that a mistake tells what may stand there.
impl<'de> Deserialize<'de> for StatusForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;

        impl Visitor<'_> for NumberOrText {
            type Value = StatusForm;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status such as 200, 200-204 or 2xx")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<StatusForm, E> {
                Ok(StatusForm::Number(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<StatusForm, E> {
                Ok(StatusForm::Text(text.to_owned()))
            }
        }

        deserializer.deserialize_any(NumberOrText)
    }
}

/// By hand, because a derived untagged enum loses the path to a mistake inside it.
impl<'de> Deserialize<'de> for RetryForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PresetOrSchedule;

        impl<'de> Visitor<'de> for PresetOrSchedule {
            type Value = RetryForm;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a preset's name, or schedule, window and jitter")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<RetryForm, E> {
                Ok(RetryForm::Preset(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RetryForm, A::Error> {
                ScheduleForm::deserialize(MapAccessDeserializer::new(map)).map(RetryForm::Custom)
            }
        }

        deserializer.deserialize_any(PresetOrSchedule)
    }
}

impl EndpointForm {
    /// The form of an endpoint: what `check` makes the endpoint of again.
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        let map = |pairs: &[(Box<str>, Box<str>)]| {
            let own = |(name, value): &(Box<str>, Box<str>)| (name.to_string(), value.to_string());
            (!pairs.is_empty()).then(|| pairs.iter().map(own).collect())
        };
        let template = match &endpoint.format {
            Format::Template(template) => Some(template),
            _ => None,
        };
        let types = endpoint.types.iter().map(|t| t.as_str().to_owned());
        Self {
            id: Some(endpoint.id.to_string()),
            tenant: Some(endpoint.tenant.to_string()),
            url: Some(endpoint.url.to_string()),
            state: Some(state_name(endpoint.state).to_owned()),
            version: Some(endpoint.version),
            updated_at: None,
            description: Some(endpoint.description.to_string()).filter(|text| !text.is_empty()),
            types: (!endpoint.types.is_empty()).then(|| types.collect()),
            filter: endpoint.filter.as_deref().map(str::to_owned),
            format: (endpoint.format != Format::default())
                .then(|| format_name(&endpoint.format).to_owned()),
            template: template.map(|template| template.source.to_string()),
            content_type: template.map(|template| template.content_type.to_string()),
            signing: Some(signing::form_of(&endpoint.signing)),
            concurrency: endpoint.concurrency.map(u64::from),
            timeout: endpoint.timeout.map(duration_text),
            retry: endpoint.retry.as_ref().map(RetryForm::of),
            rate_limit: endpoint.rate_limit.map(RateLimitForm::of),
            success: endpoint.success.as_ref().map(success::form_of),
            ordering: (endpoint.ordering != Ordering::default())
                .then(|| ordering_name(endpoint.ordering).to_owned()),
            on_exhausted: (endpoint.on_exhausted != OnExhausted::default())
                .then(|| on_exhausted_name(endpoint.on_exhausted).to_owned()),
            auth: endpoint.auth.as_deref().and_then(auth::form_of),
            tls: endpoint.auth.as_deref().and_then(auth::tls_form_of),
            headers: map(&endpoint.headers),
            metadata: map(&endpoint.metadata),
        }
    }

    /// Every secret of it, with the tenant and the id it belongs to: the one list of them, for
    /// opening, sealing and masking.
    pub(super) fn each_secret(&mut self, each: &mut dyn FnMut((&str, &str), Slot<'_>)) {
        let default = Tenant::default();
        let whose = (
            self.tenant.as_deref().unwrap_or(default.as_str()),
            self.id.as_deref().unwrap_or_default(),
        );
        let secrets = self.signing.iter_mut().flat_map(|form| &mut form.secrets);
        for (n, secret) in secrets.flatten().enumerate() {
            let slot = Slot {
                path: format!("signing.secrets[{n}]").into(),
                label: secret.id.as_deref().unwrap_or_default().into(),
                value: &mut secret.value,
                sealed: &mut secret.sealed,
            };
            each(whose, slot);
        }
        let secrets = self.auth.iter_mut().flat_map(AuthForm::secrets);
        for slot in secrets.flatten() {
            each(whose, slot);
        }
    }
}

impl RetryForm {
    fn of(policy: &RetryPolicy) -> Self {
        if let Some(preset) = RetryPreset::ALL.into_iter().find(|p| p.policy() == *policy) {
            return Self::Preset(preset.name().to_owned());
        }
        Self::Custom(ScheduleForm {
            schedule: Some(policy.schedule.iter().copied().map(duration_text).collect()),
            window: Some(duration_text(policy.window)),
            jitter: Some(f64::from(policy.jitter_permille) / 1_000.0),
        })
    }
}

impl RateLimitForm {
    fn of(limit: RateLimit) -> Self {
        Self {
            attempts: Some(limit.attempts.into()),
            per: Some(duration_text(limit.per)),
            smooth: limit.smooth.then_some(true),
        }
    }
}

pub(super) const STATES: [EndpointState; 3] = [
    EndpointState::Active,
    EndpointState::Paused,
    EndpointState::Disabled,
];

pub(super) const fn state_name(state: EndpointState) -> &'static str {
    match state {
        EndpointState::Active => "active",
        EndpointState::Paused => "paused",
        EndpointState::Disabled => "disabled",
    }
}

pub(super) const fn format_name(format: &Format) -> &'static str {
    match format {
        Format::Raw => "raw",
        Format::Standard => "standard",
        Format::CloudEvents => "cloudevents",
        Format::CloudEventsBinary => "cloudevents-binary",
        Format::Form => "form",
        Format::Template(_) => "template",
    }
}

pub(super) const fn ordering_name(ordering: Ordering) -> &'static str {
    match ordering {
        Ordering::None => "none",
        Ordering::Key => "key",
        Ordering::Endpoint => "endpoint",
    }
}

pub(super) const fn on_exhausted_name(on_exhausted: OnExhausted) -> &'static str {
    match on_exhausted {
        OnExhausted::Continue => "continue",
        OnExhausted::Block => "block",
    }
}

/// Without a space between its parts, as one writes it.
fn duration_text(duration: Duration) -> String {
    humantime::format_duration(duration)
        .to_string()
        .replace(' ', "")
}
