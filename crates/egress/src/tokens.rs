//! Access tokens for client credentials (OAuth 2, RFC 6749, 4.4).
//!
//! Decides how a token is asked for, how long it is used, that one attempt at a time asks for the
//! same one, and that a token which a receiver refused (401) is forgotten: the next attempt asks
//! anew, this one is not sent twice; and that whatever happens a token is asked for at most every
//! [`PAUSE`]. Tokens are known by who asks whom for what, so endpoints that
//! ask for the same share one. Leaves the exchange itself, with all its limits, to the client.

use std::collections::HashMap;
use std::sync::{self, Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use postrider_domain::{AttemptError, ErrorKind, OAuth2, Response};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::MutexGuard;
use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

use crate::identity::IdentityId;

/// Tokens kept; the least lately used goes first.
const KEPT_MAX: usize = 1024;

/// Bytes of a token.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// How long a token is used whose life is not said, at least, and at most.
const LIFE_UNSAID: Duration = Duration::from_secs(300);
const LIFE_MIN: Duration = Duration::from_secs(5);
const LIFE_MAX: Duration = Duration::from_secs(86_400);

/// A new one is asked for this long before the end of the old one, or a tenth of its life.
const RENEWED_BEFORE: Duration = Duration::from_secs(30);

/// After it was asked nobody asks for this long: those who waited for the same token fail with its
/// failure, and those whose receiver does not take the tokens it gets do not flood who gives them.
const PAUSE: Duration = Duration::from_secs(2);

/// The errors of RFC 6749, 5.2: only these are repeated to whoever reads the attempt.
const ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

type Key = [u8; 32];

/// All tokens.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<Key, Kept>>);

struct Kept {
    slot: Arc<Slot>,
    used: Instant,
}

/// One token, there or not.
#[derive(Default)]
pub(crate) struct Slot {
    /// Held by the one who asks.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// When it was asked for last.
    asked: Option<Instant>,
    failed: Option<AttemptError>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    renew_at: Instant,
    until: Instant,
}

impl Tokens {
    /// Where the token for `oauth` is kept.
    pub(crate) fn slot(&self, oauth: &OAuth2, identity: IdentityId) -> Arc<Slot> {
        let key = key(oauth, identity);
        let used = Instant::now();
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = tokens.get_mut(&key) {
            kept.used = used;
            return Arc::clone(&kept.slot);
        }
        if tokens.len() >= KEPT_MAX {
            let oldest = tokens.iter().min_by_key(|(_, kept)| kept.used);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                tokens.remove(&oldest);
            }
        }
        let slot = Arc::<Slot>::default();
        let kept = Kept {
            slot: Arc::clone(&slot),
            used,
        };
        tokens.insert(key, kept);
        slot
    }
}

fn key(oauth: &OAuth2, identity: IdentityId) -> Key {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(identity.as_bytes());
    part(oauth.token_url.as_bytes());
    part(oauth.client_id.as_bytes());
    part(oauth.client_secret.expose());
    part(oauth.audience.as_deref().unwrap_or_default().as_bytes());
    for scope in &oauth.scopes {
        part(scope.as_bytes());
    }
    hash.finalize().into()
}

impl Slot {
    fn state(&self) -> sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to ask, once nobody else does.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// The token as a header, perhaps after waiting for a `turn` and `asking` for it. A failure says
    /// that there is no token; nothing was sent to the receiver then.
    pub(crate) async fn header<'a>(
        &'a self,
        turn: impl Future<Output = Result<MutexGuard<'a, ()>, AttemptError>>,
        asking: impl Future<Output = Result<Response, AttemptError>>,
    ) -> Result<HeaderValue, AttemptError> {
        if let Some(token) = self.token(|token, now| now < token.renew_at) {
            return Ok(token);
        }
        let none = |error: AttemptError| AttemptError {
            message: format!("no access token: {}", error.message).into(),
            ambiguous: false,
            ..error
        };
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(_) => {
                // Somebody asks; the old one is still good.
                if let Some(token) = self.token(|_, _| true) {
                    return Ok(token);
                }
                turn.await.map_err(none)?
            }
        };
        if let Some(token) = self.token(|token, now| now < token.renew_at) {
            return Ok(token);
        }
        if let Some(failure) = self.pause() {
            return self.token(|_, _| true).ok_or(failure);
        }
        self.state().asked = Some(Instant::now());
        let got = asking.await.and_then(|response| granted(&response));
        let mut state = self.state();
        match got {
            Ok(token) => {
                state.failed = None;
                let header = token.header.clone();
                state.token = Some(token);
                Ok(header)
            }
            Err(error) => {
                let (now, error) = (Instant::now(), none(error));
                state.asked = Some(now);
                state.failed = Some(error.clone());
                let old = state.token.as_ref().filter(|token| now < token.until);
                old.map(|token| token.header.clone()).ok_or(error)
            }
        }
    }

    fn token(&self, wanted: impl Fn(&Token, Instant) -> bool) -> Option<HeaderValue> {
        let now = Instant::now();
        let state = self.state();
        let token = state.token.as_ref()?;
        (now < token.until && wanted(token, now)).then(|| token.header.clone())
    }

    /// Why nobody asks now.
    fn pause(&self) -> Option<AttemptError> {
        let state = self.state();
        state.asked.filter(|at| at.elapsed() < PAUSE)?;
        Some(state.failed.clone().unwrap_or_else(|| AttemptError {
            kind: ErrorKind::Token,
            message:
                "no access token: the last one was asked for a moment ago and not taken".into(),
            ambiguous: false,
        }))
    }

    /// The receiver did not take it.
    pub(crate) fn refused(&self, header: &HeaderValue) {
        let mut state = self.state();
        if state.token.as_ref().is_some_and(|t| t.header == header) {
            state.token = None;
        }
    }
}

/// What is sent to the token endpoint.
pub(crate) fn question(oauth: &OAuth2) -> Result<(HeaderMap, Bytes), http::Error> {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !oauth.scopes.is_empty() {
        form.append_pair("scope", &oauth.scopes.join(" "));
    }
    if let Some(audience) = &oauth.audience {
        form.append_pair("audience", audience);
    }
    let id: String = byte_serialize(oauth.client_id.as_bytes()).collect();
    let secret = Zeroizing::new(byte_serialize(oauth.client_secret.expose()).collect::<String>());
    let pair = Zeroizing::new(format!("{id}:{}", *secret));
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(AUTHORIZATION, basic(pair.as_bytes())?);
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(CONTENT_TYPE, form_type);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ok((headers, form.finish().into()))
}

/// `user:password` as RFC 7617 has it.
pub(crate) fn basic(pair: &[u8]) -> Result<HeaderValue, http::Error> {
    let encoded = Zeroizing::new(STANDARD.encode(pair));
    authorization("Basic", encoded.as_bytes())
}

/// A header that is shown nowhere.
pub(crate) fn authorization(scheme: &str, value: &[u8]) -> Result<HeaderValue, http::Error> {
    let text = Zeroizing::new([scheme.as_bytes(), b" ", value].concat());
    let mut header = HeaderValue::from_bytes(&text)?;
    header.set_sensitive(true);
    Ok(header)
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: Option<String>,
    /// Some write it as a string.
    expires_in: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct NotGranted {
    error: String,
}

fn granted(response: &Response) -> Result<Token, AttemptError> {
    let wrong = |what: String| AttemptError {
        kind: ErrorKind::Token,
        message: what.into(),
        ambiguous: false,
    };
    if response.status != 200 {
        let said = serde_json::from_slice(&response.body).ok();
        let known = |said: NotGranted| ERRORS.into_iter().find(|error| *error == said.error);
        let said = said.and_then(known);
        let said = said.map_or(String::new(), |error| format!(" ({error})"));
        let what = format!("the token endpoint answered {}{said}", response.status);
        return Err(wrong(what));
    }
    let unusable = |what: &str| Err(wrong(format!("the token endpoint's answer {what}")));
    if response.truncated {
        return unusable("is too long");
    }
    let Ok(granted) = serde_json::from_slice::<Granted>(&response.body) else {
        return unusable("is not JSON with an access_token");
    };
    let bearer = granted.token_type.as_deref().unwrap_or("bearer");
    if !bearer.eq_ignore_ascii_case("bearer") {
        return unusable("has another token_type than Bearer");
    }
    let text = Zeroizing::new(granted.access_token);
    let text = text.as_bytes();
    let visible = text.iter().all(|b| matches!(b, b'!'..=b'~'));
    if text.is_empty() || text.len() > TOKEN_BYTES_MAX || !visible {
        return unusable("has an access_token that cannot be sent");
    }
    let Ok(header) = authorization("Bearer", text) else {
        return unusable("has an access_token that cannot be sent");
    };
    let seconds = granted.expires_in.and_then(|life| match life {
        serde_json::Value::Number(number) => number.as_u64(),
        serde_json::Value::String(text) => text.parse().ok(),
        _ => None,
    });
    let life = seconds
        .map_or(LIFE_UNSAID, Duration::from_secs)
        .clamp(LIFE_MIN, LIFE_MAX);
    let now = Instant::now();
    let before = RENEWED_BEFORE.max(life / 10).min(life / 2);
    Ok(Token {
        header,
        renew_at: now + life - before,
        until: now + life,
    })
}

#[cfg(test)]
mod tests {
    use postrider_domain::Secret;

    use super::*;

    fn answer(status: u16, body: &str) -> Response {
        Response {
            status,
            body: Bytes::copy_from_slice(body.as_bytes()),
            ..Response::default()
        }
    }

    async fn ask(slot: &Slot, token: &str) -> Result<HeaderValue, AttemptError> {
        let body = format!(r#"{{"access_token": "{token}", "expires_in": 3600}}"#);
        let turn = async { Ok(slot.turn().await) };
        slot.header(turn, async move { Ok(answer(200, &body)) })
            .await
    }

    async fn fail(slot: &Slot) -> Result<HeaderValue, AttemptError> {
        let turn = async { Ok(slot.turn().await) };
        slot.header(turn, async {
            Ok(answer(401, r#"{"error": "invalid_client"}"#))
        })
        .await
    }

    #[tokio::test]
    async fn a_token_is_renewed_before_its_end_and_used_to_its_end_if_that_fails() {
        let slot = Slot::default();
        let age = |by: u64| {
            let by = Duration::from_secs(by);
            let mut state = slot.state();
            let token = state.token.as_mut().expect("a token");
            token.renew_at -= by;
            token.until -= by;
            state.failed = None;
            state.asked = None;
        };
        assert_eq!(ask(&slot, "one").await.expect("a token"), "Bearer one");
        assert_eq!(ask(&slot, "two").await.expect("a token"), "Bearer one");
        age(3_300);
        assert_eq!(fail(&slot).await.expect("the old one"), "Bearer one");
        age(0);
        assert_eq!(ask(&slot, "two").await.expect("a token"), "Bearer two");
        age(3_601);
        let error = fail(&slot).await.expect_err("none");
        let says = "no access token: the token endpoint answered 401 (invalid_client)";
        assert_eq!(&*error.message, says);
        assert_eq!(ask(&slot, "three").await.expect_err("a pause"), error);
    }

    #[tokio::test]
    async fn a_token_that_was_refused_is_forgotten_and_no_other() {
        let slot = Slot::default();
        let one = ask(&slot, "one").await.expect("a token");
        slot.refused(&one);
        let pause = ask(&slot, "two").await.expect_err("a pause");
        assert_eq!(pause.kind, ErrorKind::Token);
        slot.state().asked = Instant::now().checked_sub(PAUSE);
        assert_eq!(ask(&slot, "two").await.expect("a token"), "Bearer two");
        slot.refused(&one);
        assert_eq!(ask(&slot, "three").await.expect("a token"), "Bearer two");
    }

    #[test]
    fn an_answer_is_a_bearer_token_or_says_what_it_is_not() {
        for (body, says) in [
            (r#"{"access_token": "a"}"#, None),
            (
                r#"{"access_token": "a", "token_type": "bearer", "expires_in": "60"}"#,
                None,
            ),
            (
                r#"{"access_token": "a", "token_type": "mac"}"#,
                Some("has another token_type"),
            ),
            (r#"{"access_token": ""}"#, Some("cannot be sent")),
            (r#"{"access_token": "a b"}"#, Some("cannot be sent")),
            (r#"{"access_token": "a\r\nx: y"}"#, Some("cannot be sent")),
            (
                r#"{"token": "a"}"#,
                Some("is not JSON with an access_token"),
            ),
            ("<html>", Some("is not JSON with an access_token")),
        ] {
            let found = granted(&answer(200, body)).err().map(|error| error.message);
            match (found, says) {
                (None, None) => {}
                (Some(found), Some(says)) if found.contains(says) => {}
                (found, _) => panic!("{body}: {found:?}"),
            }
        }
        let error = granted(&answer(400, r#"{"error": "hunter2"}"#))
            .err()
            .expect("refused");
        assert_eq!(&*error.message, "the token endpoint answered 400");
    }

    #[test]
    fn who_asks_is_encoded_before_it_is_joined() {
        let oauth = OAuth2 {
            token_url: "https://id.example/token".into(),
            client_id: "a:b".into(),
            client_secret: Secret::new(*b"c d"),
            scopes: vec!["read".into(), "write".into()],
            audience: Some("https://a.example/".into()),
        };
        let (headers, form) = question(&oauth).expect("a question");
        assert_eq!(headers[AUTHORIZATION], "Basic YSUzQWI6Yytk");
        assert!(headers[AUTHORIZATION].is_sensitive());
        let expected =
            "grant_type=client_credentials&scope=read+write&audience=https%3A%2F%2Fa.example%2F";
        assert_eq!(form, expected);
    }

    #[test]
    fn tokens_are_kept_by_who_asks_whom_for_what_and_bounded() {
        let tokens = Tokens::default();
        let oauth = |id: usize| OAuth2 {
            token_url: "https://id.example/token".into(),
            client_id: id.to_string().into(),
            client_secret: Secret::new(*b"c"),
            scopes: Vec::new(),
            audience: None,
        };
        let slot = |id| tokens.slot(&oauth(id), IdentityId::SYSTEM);
        assert!(Arc::ptr_eq(&slot(0), &slot(0)) && !Arc::ptr_eq(&slot(0), &slot(1)));
        for id in 0..2 * KEPT_MAX {
            slot(id);
        }
        assert_eq!(tokens.0.lock().expect("unpoisoned").len(), KEPT_MAX);
    }
}
