//! The keys of an installation that seal secrets at rest.
//!
//! Decides the form of a key file: a line for each key, its id, `=`, and the standard padded base64
//! of 32 random bytes; the first seals, all open. Empty lines and those that begin with `#` say
//! nothing. Leaves reading the file to the binary, what sealing is to [`crate::seal`].
//!
//! ```text
//! # since November
//! k2 = 3q2+7wAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBk=
//! k1 = …
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Most keys of a ring.
const KEYS_MAX: usize = 32;
/// Most characters of a key's id.
const ID_BYTES_MAX: usize = 32;

/// Largest key file, in bytes.
pub const KEY_FILE_BYTES_MAX: usize = 64 << 10;

/// Keys that seal and open secrets; with none, nothing is sealed and nothing sealed is opened. No
/// `Debug`, wiped when dropped.
#[derive(Default)]
pub struct KeyRing {
    /// The first seals.
    keys: Vec<RingKey>,
}

/// One of them.
pub(crate) struct RingKey {
    pub(crate) id: Box<str>,
    pub(crate) bytes: Zeroizing<[u8; KEY_BYTES]>,
}

/// Why a text is no key file. Repeats nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeyRing {
    /// A line is not an id and a key.
    #[error(
        "line {0}: expected an id, =, and the base64 of 32 random bytes (openssl rand -base64 32)"
    )]
    Line(usize),
    /// What stands before `=` is no id.
    #[error("line {0}: a key's id is 1 to {ID_BYTES_MAX} of A-Z a-z 0-9 _ -")]
    Id(usize),
    /// What stands behind `=` is no key.
    #[error(
        "line {0}: what follows = is not the padded base64 of 32 bytes (openssl rand -base64 32)"
    )]
    Key(usize),
    /// An id or a key a second time.
    #[error("line {line}: the {what} of line {first} again")]
    Twice {
        /// The second one.
        line: usize,
        /// The first one.
        first: usize,
        /// `id` or `key`.
        what: &'static str,
    },
    /// No key at all.
    #[error("there is no key in it")]
    Empty,
    /// More than there may be.
    #[error("line {0}: at most {KEYS_MAX} keys; remove those that nothing is sealed under")]
    TooMany(usize),
    /// Not UTF-8, or too long to be one.
    #[error("it is not text of at most {KEY_FILE_BYTES_MAX} bytes")]
    Text,
}

impl KeyRing {
    /// Reads a key file.
    ///
    /// # Errors
    /// [`InvalidKeyRing`], with the line; nothing of a key.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidKeyRing> {
        if bytes.len() > KEY_FILE_BYTES_MAX {
            return Err(InvalidKeyRing::Text);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| InvalidKeyRing::Text)?;
        let mut keys: Vec<RingKey> = Vec::with_capacity(KEYS_MAX);
        let mut lines: Vec<usize> = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let (n, line) = (n + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = key_of_line(n, line)?;
            let twice = |what, first: usize| InvalidKeyRing::Twice {
                line: n,
                first: lines[first],
                what,
            };
            if let Some(first) = keys.iter().position(|other| other.id == key.id) {
                return Err(twice("id", first));
            }
            let same = |other: &RingKey| bool::from(other.bytes.ct_eq(&*key.bytes));
            if let Some(first) = keys.iter().position(same) {
                return Err(twice("key", first));
            }
            if keys.len() == KEYS_MAX {
                return Err(InvalidKeyRing::TooMany(n));
            }
            keys.push(key);
            lines.push(n);
        }
        if keys.is_empty() {
            return Err(InvalidKeyRing::Empty);
        }
        Ok(Self { keys })
    }

    /// Whether there is no key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The id of the key that seals; `None` = nothing is sealed.
    #[must_use]
    pub fn first_id(&self) -> Option<&str> {
        self.first().map(|key| &*key.id)
    }

    pub(crate) fn first(&self) -> Option<&RingKey> {
        self.keys.first()
    }

    pub(crate) fn find(&self, id: &str) -> Option<&RingKey> {
        self.keys.iter().find(|key| &*key.id == id)
    }
}

/// Whether a text can be the id of a key.
pub(crate) fn is_id(text: &str) -> bool {
    let clean = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(clean)
}

fn key_of_line(n: usize, line: &str) -> Result<RingKey, InvalidKeyRing> {
    let (id, encoded) = line.split_once('=').ok_or(InvalidKeyRing::Line(n))?;
    let (id, encoded) = (id.trim(), encoded.trim());
    if !is_id(id) {
        return Err(InvalidKeyRing::Id(n));
    }
    // Where base64 of this length ends is known only once it is decoded: room for its padding.
    let mut decoded = Zeroizing::new([0; KEY_BYTES + 1]);
    let length = STANDARD.decode_slice(encoded, &mut *decoded);
    if length != Ok(KEY_BYTES) {
        return Err(InvalidKeyRing::Key(n));
    }
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    bytes.copy_from_slice(&decoded[..KEY_BYTES]);
    let id = id.into();
    Ok(RingKey { id, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(byte: u8) -> String {
        STANDARD.encode([byte; KEY_BYTES])
    }

    fn refusal(text: &str) -> InvalidKeyRing {
        match KeyRing::parse(text.as_bytes()) {
            Ok(_) => panic!("accepted {text:?}"),
            Err(error) => error,
        }
    }

    #[test]
    fn the_first_key_seals_and_all_are_found() {
        let text = format!("# new\r\nk2={}\r\n\n  k1 = {}  \n", encoded(2), encoded(1));
        let ring = KeyRing::parse(text.as_bytes()).expect("a key file");
        assert_eq!(ring.first_id(), Some("k2"));
        assert_eq!(*ring.find("k1").expect("there").bytes, [1; KEY_BYTES]);
        assert!(ring.find("k3").is_none());
        assert!(KeyRing::default().is_empty());
    }

    #[test]
    fn a_mistake_is_named_with_its_line_and_without_the_key() {
        let good = format!("k1 = {}\n", encoded(1));
        let long = STANDARD.encode([3; KEY_BYTES + 1]);
        let unpadded = encoded(3).replace('=', "");
        for (more, expected) in [
            (encoded(9).replace('=', ""), InvalidKeyRing::Line(2)),
            (format!("k 2 = {}", encoded(3)), InvalidKeyRing::Id(2)),
            (
                format!("{} = {}", "k".repeat(33), encoded(3)),
                InvalidKeyRing::Id(2),
            ),
            (format!("{} = k2", encoded(9)), InvalidKeyRing::Id(2)),
            (format!("k2 = {long}"), InvalidKeyRing::Key(2)),
            (format!("k2 = {unpadded}"), InvalidKeyRing::Key(2)),
            (format!("\nk2 = \"{}\"", encoded(3)), InvalidKeyRing::Key(3)),
        ] {
            let error = refusal(&format!("{good}{more}\n"));
            assert_eq!(error, expected, "{more}");
            assert!(!error.to_string().contains(&encoded(9)[..16]), "{error}");
        }
        for (more, what) in [
            (format!("k1 = {}", encoded(2)), "id"),
            (format!("k2 = {}", encoded(1)), "key"),
        ] {
            let twice = InvalidKeyRing::Twice {
                line: 2,
                first: 1,
                what,
            };
            assert_eq!(refusal(&format!("{good}{more}")), twice);
        }
        assert_eq!(refusal("# none\n"), InvalidKeyRing::Empty);
        let many: String = (0..=32)
            .map(|n| format!("k{n} = {}\n", encoded(n)))
            .collect();
        assert_eq!(refusal(&many), InvalidKeyRing::TooMany(33));
        let large = "#".repeat(KEY_FILE_BYTES_MAX + 1);
        assert_eq!(refusal(&large), InvalidKeyRing::Text);
        assert!(KeyRing::parse(b"\xff").is_err());
    }
}
