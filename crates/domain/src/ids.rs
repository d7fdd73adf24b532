//! Identifiers, valid by construction.
//!
//! Decides which texts are identifiers and how they are printed. Leaves the derivation of a
//! delivery id from an event (it needs a hash function) to `wire`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {expected}, found {found:?}")]
pub struct InvalidId {
    what: &'static str,
    expected: &'static str,
    found: String,
}

impl InvalidId {
    fn new(what: &'static str, expected: &'static str, found: &str) -> Self {
        let mut found: String = found.chars().take(80).collect();
        if found.is_empty() {
            found = "nothing".to_owned();
        }
        Self {
            what,
            expected,
            found,
        }
    }
}

/// Where deliveries go: `[A-Za-z0-9_-]{1,64}`, unique in an installation, the key of every
/// per-endpoint record. Cloning is a reference count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(Arc<str>);

impl EndpointId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EndpointId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let valid = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId::new(
                "an endpoint id",
                "1 to 64 of A-Z a-z 0-9 _ -",
                text,
            ))
        }
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The merchant account that owns endpoints: 1 to 128 bytes without control characters.
/// An event without one belongs to [`Tenant::default`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// The tenant as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self("default".into())
    }
}

impl FromStr for Tenant {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if (1..=128).contains(&text.len()) && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId::new(
                "a tenant",
                "1 to 128 bytes without control characters",
                text,
            ))
        }
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One event's duty to reach one endpoint, the `webhook-id` of every attempt: 128 bits of a hash
/// over event source, event id and endpoint id, so a repeated fan-out makes the same id again.
/// Printed as `dlv_` and 32 lower-case hex digits; no dot, which Standard Webhooks signs around.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(u128);

impl DeliveryId {
    /// From the first 16 bytes of the hash, big endian.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl FromStr for DeliveryId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let hex = text.strip_prefix("dlv_").filter(|h| {
            h.len() == 32
                && h.bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        });
        hex.and_then(|h| u128::from_str_radix(h, 16).ok())
            .map(Self)
            .ok_or_else(|| InvalidId::new("a delivery id", "dlv_ and 32 hex digits", text))
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dlv_{:032x}", self.0)
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_ids_are_64_of_a_small_alphabet() {
        assert!("ep_acme-1".parse::<EndpointId>().is_ok());
        assert!("a".repeat(64).parse::<EndpointId>().is_ok());
        for bad in ["", "a.b", "a b", "é", &"a".repeat(65)] {
            assert!(bad.parse::<EndpointId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn delivery_ids_print_and_parse() {
        let id = DeliveryId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string(), format!("dlv_{}", "ab".repeat(16)));
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["dlv_", "dlv_+bababababababababababababababab", "msg_00"] {
            assert!(bad.parse::<DeliveryId>().is_err(), "{bad:?}");
        }
        assert!(
            format!("dlv_{}", "AB".repeat(16))
                .parse::<DeliveryId>()
                .is_err()
        );
    }
}
