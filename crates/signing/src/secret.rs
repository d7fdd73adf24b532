//! The written form of a signing secret: `whsec_` and standard padded base64.
//!
//! Decides which texts are secrets. Leaves sealing at rest to others. No error repeats the text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider_domain::Secret;
use zeroize::Zeroizing;

const PREFIX: &str = "whsec_";

/// Fewest bytes of a key, from Standard Webhooks.
pub const SECRET_BYTES_MIN: usize = 24;
/// Most bytes of a key, from Standard Webhooks.
pub const SECRET_BYTES_MAX: usize = 64;

/// Characters of the longest key in base64.
const ENCODED_MAX: usize = SECRET_BYTES_MAX.div_ceil(3) * 4;

/// Why a text is not a signing secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// It does not begin with `whsec_`.
    #[error("a signing secret begins with {PREFIX}")]
    Prefix,
    /// What follows is not standard base64 with its padding.
    #[error("a signing secret is {PREFIX} and standard base64 with = padding")]
    Encoding,
    /// Too short to be safe, or too long to be one.
    #[error("a signing secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes when decoded")]
    Length,
}

/// Reads `whsec_…`.
///
/// # Errors
/// [`InvalidSecret`] says which rule the text breaks, and nothing of the text.
pub fn parse_secret(text: &str) -> Result<Secret, InvalidSecret> {
    let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret::Prefix)?;
    if encoded.len() > ENCODED_MAX {
        return Err(InvalidSecret::Length);
    }
    // A buffer of our own: nothing of the key stays behind in memory that was grown or shrunk.
    let mut key = Zeroizing::new([0; ENCODED_MAX / 4 * 3]);
    let length = STANDARD
        .decode_slice(encoded, key.as_mut_slice())
        .map_err(|_| InvalidSecret::Encoding)?;
    if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&length) {
        return Err(InvalidSecret::Length);
    }
    Ok(Secret::new(&key[..length]))
}

/// Writes `whsec_…`, to be shown once; wiped when dropped.
#[must_use]
pub fn format_secret(secret: &Secret) -> Zeroizing<String> {
    let encoded_len = secret.expose().len().div_ceil(3) * 4;
    let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + encoded_len));
    text.push_str(PREFIX);
    STANDARD.encode_string(secret.expose(), &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_and_written_back() {
        for length in SECRET_BYTES_MIN..=SECRET_BYTES_MAX {
            let key: Vec<u8> = (0..length).map(|n| n as u8 ^ 0xa5).collect();
            let text = format_secret(&Secret::new(key.clone()));
            assert!(text.starts_with(PREFIX));
            let read = parse_secret(&text).expect("what we wrote");
            assert_eq!(read.expose(), key);
        }
    }

    #[test]
    fn other_texts_are_refused_by_the_rule_they_break() {
        let of_length = |length| format_secret(&Secret::new(vec![7; length])).to_string();
        for (text, error) in [
            (String::new(), InvalidSecret::Prefix),
            ("whsk_AAAA".to_owned(), InvalidSecret::Prefix),
            (" whsec_AAAA".to_owned(), InvalidSecret::Prefix),
            (PREFIX.to_owned(), InvalidSecret::Length),
            (of_length(23), InvalidSecret::Length),
            (of_length(65), InvalidSecret::Length),
            (of_length(10_000), InvalidSecret::Length),
            (
                of_length(32).trim_end_matches('=').to_owned(),
                InvalidSecret::Encoding,
            ),
            (format!("{}\n", of_length(24)), InvalidSecret::Encoding),
            (
                format!("{PREFIX}{}", "-_".repeat(20)),
                InvalidSecret::Encoding,
            ),
            (format!("{PREFIX}é"), InvalidSecret::Encoding),
        ] {
            assert_eq!(parse_secret(&text).err(), Some(error), "{text:?}");
        }
    }
}
