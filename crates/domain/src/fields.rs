//! Header fields of a request or response, as the attempt log shows them.
//!
//! Decides how they are held: one text and where each part of it ends, as an attempt has a dozen
//! fields, and two allocations for each are many.

use std::fmt;

/// Names and values in order; a name may repeat.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// Name, value, name, value …
    text: String,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Fields {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            text: String::new(),
            ends: Vec::new(),
        }
    }

    /// None yet, with room for so many, of so many bytes together.
    #[must_use]
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            ends: Vec::with_capacity(2 * fields),
        }
    }

    /// One more at the end.
    pub fn push(&mut self, name: &str, value: &str) {
        for part in [name, value] {
            self.text.push_str(part);
            self.ends.push(self.text.len());
        }
    }

    /// Name and value of each, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        let start = |part: usize| part.checked_sub(1).map_or(0, |before| self.ends[before]);
        let part = move |part: usize| &self.text[start(part)..self.ends[part]];
        (0..self.len()).map(move |field| (part(2 * field), part(2 * field + 1)))
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut all = Self::new();
        for (name, value) in fields {
            all.push(name.as_ref(), value.as_ref());
        }
        all
    }
}

/// The names.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.iter().map(|(name, _)| name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Fields;

    #[test]
    fn what_was_put_in_comes_out_in_order() {
        let fields = [("a", "1"), ("", ""), ("a", "ä"), ("b", "")];
        let all = Fields::from_iter(fields);
        assert_eq!(all.iter().collect::<Vec<_>>(), fields);
        assert_eq!((all.len(), all.iter().len()), (4, 4));
        assert!(!all.is_empty() && Fields::new().is_empty());
        assert_ne!(
            Fields::from_iter([("ab", "c")]),
            Fields::from_iter([("a", "bc")]),
            "equal means equal field by field"
        );
    }
}
