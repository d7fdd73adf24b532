//! An endpoint's filter of any text, and data of any bytes.
//!
//! Input: lines, the expression; the data.

use postrider_filter::{Filter, Seen};

use crate::sample;
use crate::text::head_and_body;

/// A filter decides, and of the same event alike, whoever asked before.
pub(crate) fn filter(input: &[u8]) {
    let (lines, data) = head_and_body(input);
    let Ok(filter) = Filter::compile(&lines.join("\n")) else {
        return;
    };
    let event = sample::event(data);
    let seen = &mut Seen::default();
    let decision = filter.decide(&event, seen);
    assert_eq!(filter.decide(&event, seen), decision, "asked again");
    assert_eq!(filter.decide(&event, &mut Seen::default()), decision);
}
