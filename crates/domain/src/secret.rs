//! Bytes that must not be seen.
//!
//! Decides that a secret has no `Debug`, no `Display`, and is wiped when dropped
//! (`docs/security.md`). Leaves sealing at rest to `signing` and `wire`.

use zeroize::Zeroizing;

/// Key material. Reading it is spelled out: [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Box<[u8]>>);

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes, for the one who signs with them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}
