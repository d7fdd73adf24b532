//! A form as an endpoint: what is required, the bounds, the defaults.
//!
//! Of a list that is longer than it may be no more than the bound is looked at, so that a record
//! costs no more than the largest endpoint.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use postrider_domain::{Endpoint, EndpointState, Tenant, TypePattern};
use postrider_filter::Filter;

use super::auth::auth;
use super::form::{EndpointForm, STATES, state_name};
use super::format::format;
use super::headers::headers;
use super::ordering::order;
use super::rate_limit::rate_limit;
use super::read::{Mistakes, name_shown};
use super::retry::policy;
use super::signing::signing;
use super::success::success;
use crate::attributes::clip;

const TYPES_MAX: usize = 100;
const URL_BYTES_MAX: usize = 2_048;
const DESCRIPTION_BYTES_MAX: usize = 1_024;
const METADATA_MAX: usize = 50;
const METADATA_NAME_BYTES_MAX: usize = 64;
const METADATA_VALUE_BYTES_MAX: usize = 512;
const CONCURRENCY_MAX: u64 = 1_000;
pub(super) const SECOND: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// The endpoint, or `None` with at least one mistake noted.
pub(super) fn check(
    form: EndpointForm,
    url_rule: &dyn Fn(&str) -> Result<String, String>,
    mistakes: &mut Mistakes,
) -> Option<Endpoint> {
    let id = match form.id.as_deref() {
        None => note(mistakes, "id", "is required, such as ep_acme_orders"),
        Some(text) => text
            .parse()
            .map_err(|e| mistakes.push("id", invalid(&e)))
            .ok(),
    };
    let tenant = match form.tenant.as_deref() {
        None => Some(Tenant::default()),
        Some(text) => text
            .parse()
            .map_err(|e| mistakes.push("tenant", invalid(&e)))
            .ok(),
    };
    let url = url(form.url, url_rule, mistakes);
    let state = state(form.state.as_deref(), mistakes);
    let types = types(form.types.unwrap_or_default(), mistakes);
    let filter = form.filter.and_then(|text| filter(text, mistakes));
    let format = format(
        form.format.as_deref(),
        form.template,
        form.content_type,
        mistakes,
    );
    let signing = signing(form.signing, mistakes);
    let concurrency = form.concurrency.and_then(|n| concurrency(n, mistakes));
    let timeout = form
        .timeout
        .and_then(|text| duration("timeout", &text, SECOND..=TIMEOUT_MAX, mistakes));
    let retry = form.retry.and_then(|form| policy(form, mistakes));
    let rate_limit = form.rate_limit.and_then(|form| rate_limit(form, mistakes));
    let success = form.success.and_then(|form| success(form, mistakes));
    let (ordering, on_exhausted) = order(
        form.ordering.as_deref(),
        form.on_exhausted.as_deref(),
        mistakes,
    );
    let headers = headers(form.headers.unwrap_or_default(), mistakes);
    let auth = auth(form.auth, form.tls, url_rule, mistakes);
    let credentials = auth.as_ref().is_some_and(|auth| auth.credentials.is_some());
    if credentials && headers.iter().any(|(name, _)| **name == *"authorization") {
        mistakes.push("headers.authorization", "is set by auth already");
    }
    let metadata = metadata(form.metadata.unwrap_or_default(), mistakes);
    let description = form.description.unwrap_or_default();
    at_most(
        "description",
        "bytes",
        description.len(),
        DESCRIPTION_BYTES_MAX,
        mistakes,
    );
    if !mistakes.is_empty() {
        return None;
    }
    Some(Endpoint {
        id: id?,
        tenant: tenant?,
        url: url?,
        state: state?,
        version: form.version.unwrap_or_default(),
        types,
        filter,
        format: format?,
        signing: signing?,
        concurrency,
        timeout,
        retry,
        rate_limit,
        success,
        ordering,
        on_exhausted,
        auth,
        headers,
        description: description.into(),
        metadata,
    })
}

pub(super) fn note<T>(mistakes: &mut Mistakes, path: &str, message: &str) -> Option<T> {
    mistakes.push(path, message);
    None
}

fn invalid(error: &postrider_domain::InvalidId) -> String {
    error.to_string()
}

pub(super) fn at_most(path: &str, unit: &str, found: usize, max: usize, mistakes: &mut Mistakes) {
    if found > max {
        mistakes.push(path, format!("at most {max} {unit}, found {found}"));
    }
}

fn url(
    text: Option<String>,
    rule: &dyn Fn(&str) -> Result<String, String>,
    mistakes: &mut Mistakes,
) -> Option<Arc<str>> {
    let Some(text) = text else {
        return note(mistakes, "url", "is required");
    };
    match rule(&text) {
        // Normalising may lengthen it.
        Ok(url) if url.len() <= URL_BYTES_MAX => Some(url.into()),
        Ok(url) => {
            at_most("url", "bytes", url.len(), URL_BYTES_MAX, mistakes);
            None
        }
        Err(message) => note(mistakes, "url", &message),
    }
}

fn state(text: Option<&str>, mistakes: &mut Mistakes) -> Option<EndpointState> {
    let Some(text) = text else {
        return Some(EndpointState::default());
    };
    let known = STATES.into_iter().find(|state| state_name(*state) == text);
    if known.is_none() {
        let message = format!(
            "expected active, paused or disabled, found {:?}",
            clip(text)
        );
        mistakes.push("state", message);
    }
    known
}

fn types(texts: Vec<String>, mistakes: &mut Mistakes) -> Vec<TypePattern> {
    at_most("types", "patterns", texts.len(), TYPES_MAX, mistakes);
    let mut patterns = Vec::with_capacity(texts.len().min(TYPES_MAX));
    for (n, text) in texts.iter().enumerate().take(TYPES_MAX) {
        match TypePattern::new(text) {
            Some(pattern) => patterns.push(pattern),
            None => mistakes.push(
                format!("types[{n}]"),
                format!(
                    "expected an event type, or its beginning and .* (payment.*), of at most 256 \
                     bytes without spaces, found {:?}",
                    clip(text)
                ),
            ),
        }
    }
    patterns
}

/// Compiled here to be refused here: whoever asks it compiles it once more.
fn filter(text: String, mistakes: &mut Mistakes) -> Option<Arc<str>> {
    if let Err(invalid) = Filter::compile(&text) {
        return note(mistakes, "filter", &invalid.to_string());
    }
    Some(text.into())
}

fn concurrency(found: u64, mistakes: &mut Mistakes) -> Option<u16> {
    if (1..=CONCURRENCY_MAX).contains(&found) {
        return u16::try_from(found).ok();
    }
    let message = format!("expected 1 to {CONCURRENCY_MAX}, found {found}");
    note(mistakes, "concurrency", &message)
}

pub(super) fn duration(
    path: &str,
    text: &str,
    bounds: std::ops::RangeInclusive<Duration>,
    mistakes: &mut Mistakes,
) -> Option<Duration> {
    let parsed = humantime::parse_duration(text).ok();
    let duration = parsed.filter(|duration| bounds.contains(duration));
    if duration.is_none() {
        let written = |bound: &Duration| humantime::format_duration(*bound).to_string();
        let message = format!(
            "expected {} to {}, a number and ms, s, m, h or d, found {:?}",
            written(bounds.start()),
            written(bounds.end()),
            clip(text)
        );
        mistakes.push(path, message);
    }
    duration
}

fn metadata(form: BTreeMap<String, String>, mistakes: &mut Mistakes) -> Vec<(Box<str>, Box<str>)> {
    at_most("metadata", "entries", form.len(), METADATA_MAX, mistakes);
    for (name, value) in form.iter().take(METADATA_MAX) {
        let fits = (1..=METADATA_NAME_BYTES_MAX).contains(&name.len())
            && value.len() <= METADATA_VALUE_BYTES_MAX;
        if !fits {
            let message = format!(
                "expected a name of 1 to {METADATA_NAME_BYTES_MAX} bytes and at most \
                 {METADATA_VALUE_BYTES_MAX} bytes of text"
            );
            mistakes.push(format!("metadata.{}", name_shown(name)), message);
        }
    }
    form.into_iter()
        .take(METADATA_MAX)
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}
