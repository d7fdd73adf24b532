//! JSON text of bounded size.

use std::io;

use crate::Unreadable;

/// JSON that is being written. Past the limit nothing more is taken.
pub(crate) struct Out {
    text: Vec<u8>,
    limit: usize,
}

impl Out {
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            text: Vec::new(),
            limit,
        }
    }

    pub(crate) fn into_text(self) -> Vec<u8> {
        self.text
    }

    pub(crate) fn raw(&mut self, text: &str) -> Result<(), Unreadable> {
        self.push(text.as_bytes())
    }

    /// A string in quotes, escaped.
    pub(crate) fn string(&mut self, text: &str) -> Result<(), Unreadable> {
        self.serialize(text)
    }

    /// A number; what JSON has no number for as text: `"NaN"`, `"Infinity"`, `"-Infinity"`.
    pub(crate) fn float(&mut self, number: f64) -> Result<(), Unreadable> {
        if number.is_finite() {
            return self.serialize(&number);
        }
        self.not_finite(number)
    }

    /// As [`Self::float`], with the digits that a 32-bit number has.
    pub(crate) fn float32(&mut self, number: f32) -> Result<(), Unreadable> {
        if number.is_finite() {
            return self.serialize(&number);
        }
        self.not_finite(number.into())
    }

    fn not_finite(&mut self, number: f64) -> Result<(), Unreadable> {
        self.raw(if number.is_nan() {
            "\"NaN\""
        } else if number > 0.0 {
            "\"Infinity\""
        } else {
            "\"-Infinity\""
        })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        if bytes.len() > self.limit - self.text.len() {
            return Err(Unreadable::TooLarge(self.limit));
        }
        self.text.extend_from_slice(bytes);
        Ok(())
    }

    fn serialize<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unreadable> {
        let limit = self.limit;
        serde_json::to_writer(self, value).map_err(|_| Unreadable::TooLarge(limit))
    }
}

impl io::Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
