//! What an endpoint asks of its callers, as it is written, unchecked.
//!
//! Decides names and shapes, and which fields are secret. Leaves the rest to `auth`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret_text::{SecretText, Slot};

/// What an endpoint asks of its callers.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(expecting = "basic, bearer, oauth2 or mtls")]
#[schemars(rename = "Auth")]
pub(super) struct AuthForm {
    /// A user and a password (RFC 7617).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) basic: Option<BasicForm>,
    /// A token that stays as it is (RFC 6750).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bearer: Option<BearerForm>,
    /// Tokens from a token endpoint, for client credentials (RFC 6749, 4.4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) oauth2: Option<OAuth2Form>,
    /// A certificate that is shown in the TLS handshake, here and at the token endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mtls: Option<MtlsForm>,
}

/// A user and a password.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(expecting = "username and password")]
#[schemars(rename = "Basic")]
pub(super) struct BasicForm {
    /// Without a colon.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, length(max = 256))]
    pub(super) username: Option<String>,
    /// Secret; at most 1024 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub(super) password: Option<SecretText>,
}

/// A token.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(expecting = "token")]
#[schemars(rename = "Bearer")]
pub(super) struct BearerForm {
    /// Secret; visible ASCII, at most 8192 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub(super) token: Option<SecretText>,
}

/// Where tokens come from.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(expecting = "token_url, client_id and client_secret")]
#[schemars(rename = "OAuth2")]
pub(super) struct OAuth2Form {
    /// An absolute https URL; the same rules hold as for `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, length(max = 2048))]
    pub(super) token_url: Option<String>,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, length(min = 1, max = 256))]
    pub(super) client_id: Option<String>,
    /// Secret, at most 1024 bytes; sent as the password of HTTP Basic.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub(super) client_secret: Option<SecretText>,
    /// What for, at most 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub(super) scopes: Option<Vec<String>>,
    /// Sent as the parameter `audience`, which several providers ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub(super) audience: Option<String>,
}

/// A certificate of ours.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(expecting = "certificate and key")]
#[schemars(rename = "Mtls")]
pub(super) struct MtlsForm {
    /// PEM, our own first and then those that lead to an authority the receiver knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, length(max = 16384))]
    pub(super) certificate: Option<String>,
    /// Secret; PEM: PKCS#8, PKCS#1 or SEC 1, not encrypted, at most 8192 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub(super) key: Option<SecretText>,
}

/// How a receiver is known.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(expecting = "ca")]
#[schemars(rename = "Tls")]
pub(super) struct TlsForm {
    /// PEM: certificate authorities that are trusted in place of the system's, here and at the
    /// token endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, length(max = 32768))]
    pub(super) ca: Option<String>,
}

impl AuthForm {
    /// Every secret of it.
    pub(super) fn secrets(&mut self) -> [Option<Slot<'_>>; 4] {
        let password = self.basic.as_mut().and_then(|form| form.password.as_mut());
        let token = self.bearer.as_mut().and_then(|form| form.token.as_mut());
        let oauth2 = self.oauth2.as_mut();
        let client_secret = oauth2.and_then(|form| form.client_secret.as_mut());
        let key = self.mtls.as_mut().and_then(|form| form.key.as_mut());
        [
            password.map(|text| text.slot("auth.basic.password")),
            token.map(|text| text.slot("auth.bearer.token")),
            client_secret.map(|text| text.slot("auth.oauth2.client_secret")),
            key.map(|text| text.slot("auth.mtls.key")),
        ]
    }
}
