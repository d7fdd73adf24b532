//! What a template can call.
//!
//! Decides the list: whatever is not here does not exist in a template, so there is no loader, no
//! range, no clock, no randomness. What comes from the library charges the template's fuel for its
//! work; what is ours does so here. The library's filters for texts are not used: some take lists as
//! texts, or a second text against each part of the first, and charge for neither. Messages repeat no value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, Value, filters, tests};
use postrider_domain::{Secret, Signing, SigningKey};
use sha2::{Digest as _, Sha256};

use crate::escape::{json_of, text};
use crate::money::Digits;

/// Makes a keyed hash; its second argument names a secret of the endpoint.
pub(crate) const HMAC: &str = "hmac_sha256";

/// Longest format of a date, in bytes; a directive makes at most 255.
const DATE_FORMAT_BYTES_MAX: usize = 256;

/// What went wrong in a filter, as its user is told.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Fault(String);

pub(crate) fn fault(message: impl Into<String>) -> Error {
    Error::from(ErrorKind::InvalidOperation).with_source(Fault(message.into()))
}

/// Adds all filters and tests. The secrets that `hmac_sha256` uses live as long as the environment.
pub(crate) fn add(environment: &mut Environment<'_>, signing: &Signing) {
    environment.add_filter("default", filters::default);
    environment.add_filter("int", filters::int);
    environment.add_filter("items", filters::items);
    environment.add_filter("join", join);
    environment.add_filter("length", filters::length);
    environment.add_filter("lower", |value: &Value| {
        Ok::<_, Error>(text(value)?.to_lowercase())
    });
    environment.add_filter("replace", replace);
    environment.add_filter("round", filters::round);
    environment.add_filter("trim", |value: &Value| {
        Ok::<_, Error>(text(value)?.trim().to_owned())
    });
    environment.add_filter("upper", |value: &Value| {
        Ok::<_, Error>(text(value)?.to_uppercase())
    });
    environment.add_filter("base64", base64);
    environment.add_filter("date", date);
    environment.add_filter("hex", hex);
    environment.add_filter("minor", minor);
    environment.add_filter("money", money);
    environment.add_filter("plus", plus);
    environment.add_filter("sha256", sha256);
    environment.add_filter("string", string);
    environment.add_filter("times", times);
    environment.add_filter("tojson", tojson);
    environment.add_filter("unix", unix);
    let secrets = shared(signing);
    environment.add_filter(
        HMAC,
        move |state: &State<'_, '_>, value: &Value, id: &str| {
            let secret = secrets.iter().find(|(name, _)| &**name == id);
            let (_, secret) =
                secret.ok_or_else(|| fault("the endpoint has no shared secret of that id"))?;
            hashed(state, value, |bytes| {
                let mut mac =
                    Hmac::<Sha256>::new_from_slice(secret.expose()).expect("of any length");
                mac.update(bytes);
                mac.finalize().into_bytes().to_vec()
            })
        },
    );
    environment.add_test("boolean", tests::is_boolean);
    environment.add_test("defined", |value: &Value| !value.is_undefined());
    environment.add_test("undefined", |value: &Value| value.is_undefined());
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("none", |value: &Value| value.is_none());
    environment.add_test("number", tests::is_number);
    environment.add_test("sequence", tests::is_sequence);
    environment.add_test("string", tests::is_string);
}

/// The secrets a template may use, by id: those that both sides know.
pub(crate) fn shared(signing: &Signing) -> Vec<(Box<str>, Secret)> {
    let secrets = signing.secrets.iter();
    let shared = secrets.filter_map(|secret| match &secret.key {
        SigningKey::Shared(key) => Some((secret.id.clone(), key.clone())),
        SigningKey::Ed25519(_) | SigningKey::P256(_) | SigningKey::Rsa(_) => None,
    });
    shared.collect()
}

fn tojson(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    Ok(Value::from_safe_string(json_of(state, value)?))
}

/// Text that is nothing but text, also where it was JSON.
fn string(value: &Value) -> Result<String, Error> {
    text(value)
}

/// The texts of a list, with a text between them.
fn join(state: &State<'_, '_>, list: &Value, between: Option<&str>) -> Result<String, Error> {
    if !matches!(list.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Err(fault("join is for lists"));
    }
    let between = between.unwrap_or_default();
    let mut joined = String::new();
    for (n, item) in list.try_iter()?.enumerate() {
        let item = text(&item)?;
        state.consume_fuel(1 + (between.len() + item.len()) as u64 / 64)?;
        joined.push_str(if n == 0 { "" } else { between });
        joined.push_str(&item);
    }
    Ok(joined)
}

fn replace(state: &State<'_, '_>, value: &Value, from: &str, to: &str) -> Result<String, Error> {
    if from.is_empty() {
        return Err(fault("replace needs a text to look for"));
    }
    let text = text(value)?;
    state.consume_fuel(1 + (text.len() + from.len()) as u64 / 64)?;
    let made = text.matches(from).count().saturating_mul(to.len());
    state.consume_fuel(made as u64 / 64)?;
    Ok(text.replace(from, to))
}

fn base64(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    with_bytes(state, value, |bytes| STANDARD.encode(bytes))
}

fn hex(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    with_bytes(state, value, |bytes| {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    })
}

fn sha256(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    hashed(state, value, |bytes| Sha256::digest(bytes).to_vec())
}

fn hashed(
    state: &State<'_, '_>,
    value: &Value,
    hash: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Result<Value, Error> {
    with_bytes(state, value, hash).map(Value::from_bytes)
}

/// Bytes as they are, anything else by its text. A byte costs four times what copying one costs.
fn with_bytes<T>(
    state: &State<'_, '_>,
    value: &Value,
    make: impl FnOnce(&[u8]) -> T,
) -> Result<T, Error> {
    let text = match value.kind() {
        ValueKind::Bytes => String::new(),
        _ => text(value)?,
    };
    let bytes = value.as_bytes().unwrap_or(text.as_bytes());
    state.consume_fuel(1 + bytes.len() as u64 / 16)?;
    Ok(make(bytes))
}

fn money(amount: &Value, currency: &Value) -> Result<String, Error> {
    let minor = match amount.as_str() {
        Some(text) => text.parse().ok(),
        None if amount.is_integer() => i128::try_from(amount.clone()).ok(),
        None => None,
    };
    let minor = minor
        .ok_or_else(|| fault("money is made of a whole number of minor units, this is none"))?;
    Ok(digits(currency)?.decimal(minor))
}

fn minor(amount: &Value, currency: &Value) -> Result<i128, Error> {
    let digits = digits(currency)?;
    let minor = digits.minor(&text(amount)?);
    minor.ok_or_else(|| {
        fault("minor units are made of a decimal number with no more digits than the currency has")
    })
}

fn digits(currency: &Value) -> Result<Digits, Error> {
    let digits = match currency.as_str() {
        Some(code) => Digits::of(code),
        None => currency.as_i64().and_then(Digits::new),
    };
    digits.ok_or_else(|| {
        fault("the currency is no code of ISO 4217 in capitals; or say how many digits it has, 0 to 9")
    })
}

fn plus(a: &Value, b: &Value) -> Result<Value, Error> {
    calculated(a, b, i128::checked_add, |a, b| a + b)
}

fn times(a: &Value, b: &Value) -> Result<Value, Error> {
    calculated(a, b, i128::checked_mul, |a, b| a * b)
}

/// Of whole numbers, exactly; of others as floating-point numbers.
fn calculated(
    a: &Value,
    b: &Value,
    whole: fn(i128, i128) -> Option<i128>,
    other: fn(f64, f64) -> f64,
) -> Result<Value, Error> {
    if a.is_integer() && b.is_integer() {
        let numbers = i128::try_from(a.clone())
            .ok()
            .zip(i128::try_from(b.clone()).ok());
        let made = numbers.and_then(|(a, b)| whole(a, b));
        return made
            .map(Value::from)
            .ok_or_else(|| fault("a number is too large"));
    }
    let are_numbers = a.is_number() && b.is_number();
    let numbers = f64::try_from(a.clone())
        .ok()
        .zip(f64::try_from(b.clone()).ok());
    match numbers.filter(|_| are_numbers) {
        Some((a, b)) => Ok(Value::from(other(a, b))),
        None => Err(fault("plus and times are for numbers")),
    }
}

fn unix(time: &Value) -> Result<i64, Error> {
    Ok(instant(time)?.as_second())
}

fn date(state: &State<'_, '_>, time: &Value, format: &str) -> Result<String, Error> {
    if format.len() > DATE_FORMAT_BYTES_MAX {
        return Err(fault("the format of a date has at most 256 bytes"));
    }
    state.consume_fuel(format.len() as u64)?;
    let time = instant(time)?.to_zoned_datetime(TimeZone::UTC);
    strtime::format(format, &time).map_err(|_| fault("the format of a date is not known"))
}

/// RFC 3339 text, or seconds since 1970.
fn instant(time: &Value) -> Result<Timestamp, Error> {
    let instant = match time.as_str() {
        Some(text) => text.parse().ok(),
        None => time
            .as_i64()
            .and_then(|secs| Timestamp::from_second(secs).ok()),
    };
    instant.ok_or_else(|| fault("a time is RFC 3339 text or seconds since 1970, this is neither"))
}
