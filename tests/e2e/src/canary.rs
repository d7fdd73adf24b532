//! Texts that may be seen in few places, and whether they were seen elsewhere.
//!
//! Decides in which forms a text counts as seen: as it is, in hexadecimal, percent-encoded, in
//! base64 wherever it begins in what was encoded, and as a list of bytes. Leaves which text may be
//! where to the test.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// A text that is nowhere by chance.
#[derive(Debug)]
pub struct Canary {
    /// What it stands for.
    pub name: &'static str,
    forms: Vec<(&'static str, String)>,
}

impl Canary {
    /// Of at least 12 bytes, so that its forms are nowhere by chance either.
    ///
    /// # Panics
    /// When it is shorter.
    pub fn new(name: &'static str, text: &str) -> Self {
        assert!(text.len() >= 12, "{name} is too short");
        let bytes = text.as_bytes();
        let each = |form: fn(&u8) -> String| bytes.iter().map(form).collect::<Vec<_>>();
        let mut forms = vec![
            ("as it is", text.to_owned()),
            ("hexadecimal", each(|b| format!("{b:02x}")).concat()),
            ("hexadecimal", each(|b| format!("{b:02X}")).concat()),
            ("percent-encoded", each(|b| format!("%{b:02x}")).concat()),
            ("percent-encoded", each(|b| format!("%{b:02X}")).concat()),
            ("bytes", each(u8::to_string).join(", ")),
        ];
        for before in 0..3 {
            let padded = [&vec![0; before][..], bytes].concat();
            // only characters that nothing beside the text has a part in
            let (first, end) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
            let standard = STANDARD_NO_PAD.encode(&padded);
            let url_safe = URL_SAFE_NO_PAD.encode(&padded);
            forms.push(("base64", standard[first..end].to_owned()));
            forms.push(("base64", url_safe[first..end].to_owned()));
        }
        Self { name, forms }
    }

    /// In which form, and with what around it, it stands in `text`.
    pub fn seen_in(&self, text: &str) -> Option<String> {
        self.forms.iter().find_map(|(form, needle)| {
            let at = text.find(needle)?;
            let from = text.floor_char_boundary(at.saturating_sub(160));
            let to = text.ceil_char_boundary(at + needle.len() + 40);
            Some(format!("{form}: … {} …", &text[from..to]))
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_canary_is_seen_in_every_form_and_nowhere_else() {
        let canary = Canary::new("it", "canary-2718281828");
        for around in ["", "a", "ab", "abc", "{\"id\": \""] {
            let text = format!("{around}canary-2718281828{around}");
            assert!(canary.seen_in(&text).is_some());
            assert!(
                canary.seen_in(&STANDARD.encode(&text)).is_some(),
                "{around:?}"
            );
            assert!(canary.seen_in(&format!("{:?}", text.as_bytes())).is_some());
        }
        assert!(
            canary
                .seen_in("63616e6172792d32373138323831383238")
                .is_some()
        );
        assert!(canary.seen_in("canary-2718281829").is_none());
    }
}
