//! A record of `endpoints` with its key and its place.
//!
//! Decides which records count: those whose key is an endpoint id, at the partition of its slice,
//! with a value that can be read or none. Leaves counting and logging the others to the roles.

use postrider_domain::{EndpointId, Record, SliceCount};
use postrider_signing::KeyRing;

use super::{InvalidEndpoint, Recorded, from_record};

/// Why a record of `endpoints` is not used. What was known of the endpoint before stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unused {
    /// It is at another partition than the endpoint's slice.
    #[error(
        "{id} belongs in partition {slice}: write it there, with the murmur2 partitioner or with \
         `postrider endpoint apply`, and a tombstone here"
    )]
    Elsewhere {
        /// The endpoint.
        id: EndpointId,
        /// Where it belongs.
        slice: u16,
    },
    /// Its key is not an endpoint id.
    #[error("its key: {0}")]
    Key(String),
    /// Its value is not an endpoint.
    #[error(transparent)]
    Value(#[from] InvalidEndpoint),
}

/// Which endpoint a record is about, and its configuration; `None` = deleted. What is sealed in it is
/// opened with `keys`; who needs no secrets has none.
///
/// # Errors
/// [`Unused`] when the record must not be used.
pub fn of_record(
    record: &Record,
    slices: SliceCount,
    keys: &KeyRing,
) -> Result<(EndpointId, Option<Recorded>), Unused> {
    let key = record.key.as_deref().unwrap_or_default();
    let text = std::str::from_utf8(key).map_err(|_| Unused::Key("not UTF-8".to_owned()))?;
    let id: EndpointId = text
        .parse()
        .map_err(|error| Unused::Key(format!("{error}")))?;
    let slice = slices.slice_of(&id).0;
    if record.origin.partition != i32::from(slice) {
        return Err(Unused::Elsewhere { id, slice });
    }
    let endpoint = record
        .value
        .as_deref()
        .map(|value| from_record(key, value, keys))
        .transpose()?;
    Ok((id, endpoint))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use postrider_domain::{Origin, Timestamp};

    use super::*;

    const VALUE: &str = r#"{"id": "ep_1", "tenant": "acme", "url": "https://a.example/",
        "signing": {"scheme": "none"}, "version": 1}"#;

    fn record(key: &str, value: Option<&str>, partition: i32) -> Record {
        Record {
            origin: Origin {
                topic: "endpoints".into(),
                partition,
                offset: 0,
            },
            timestamp: Timestamp::default(),
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: value.map(|v| Bytes::copy_from_slice(v.as_bytes())),
            headers: Vec::new(),
        }
    }

    fn slices() -> SliceCount {
        SliceCount::new(64).unwrap()
    }

    fn home(id: &str) -> i32 {
        i32::from(slices().slice_of(&id.parse().unwrap()).0)
    }

    #[test]
    fn a_record_at_home_is_used_and_a_tombstone_too() {
        let (id, endpoint) = of_record(
            &record("ep_1", Some(VALUE), home("ep_1")),
            slices(),
            &KeyRing::default(),
        )
        .unwrap();
        assert_eq!(id.as_str(), "ep_1");
        assert_eq!(endpoint.unwrap().endpoint.tenant.as_str(), "acme");
        let (_, gone) = of_record(
            &record("ep_1", None, home("ep_1")),
            slices(),
            &KeyRing::default(),
        )
        .unwrap();
        assert!(gone.is_none());
    }

    #[test]
    fn a_record_elsewhere_is_not_used() {
        let elsewhere = (home("ep_1") + 1) % 64;
        let unused = of_record(
            &record("ep_1", Some(VALUE), elsewhere),
            slices(),
            &KeyRing::default(),
        )
        .unwrap_err();
        assert!(matches!(unused, Unused::Elsewhere { .. }), "{unused}");
    }

    #[test]
    fn what_cannot_be_read_is_not_used() {
        let unused = of_record(&record("a.b", None, 0), slices(), &KeyRing::default()).unwrap_err();
        assert!(matches!(unused, Unused::Key(_)), "{unused}");
        let unused = of_record(
            &record("ep_1", Some("{"), home("ep_1")),
            slices(),
            &KeyRing::default(),
        )
        .unwrap_err();
        assert!(matches!(unused, Unused::Value(_)), "{unused}");
    }
}
