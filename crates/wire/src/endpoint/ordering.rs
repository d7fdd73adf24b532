//! Which deliveries of an endpoint wait for each other, and what a delivery that is given up does
//! to those behind it.
//!
//! Decides which of both go together. Leaves keeping the order to `engine`.

use postrider_domain::{OnExhausted, Ordering};

use super::form::{on_exhausted_name, ordering_name};
use super::read::Mistakes;
use crate::attributes::clip;

/// Both; the default in place of one that is noted as a mistake.
pub(super) fn order(
    ordering: Option<&str>,
    on_exhausted: Option<&str>,
    mistakes: &mut Mistakes,
) -> (Ordering, OnExhausted) {
    let orderings = [Ordering::None, Ordering::Key, Ordering::Endpoint];
    let ordering = match ordering {
        None => Some(Ordering::default()),
        Some(text) => {
            let known = orderings.into_iter().find(|o| ordering_name(*o) == text);
            if known.is_none() {
                let message = format!("expected none, key or endpoint, found {:?}", clip(text));
                mistakes.push("ordering", message);
            }
            known
        }
    };
    let both = [OnExhausted::Continue, OnExhausted::Block];
    let on_exhausted = match on_exhausted {
        None => OnExhausted::default(),
        Some(text) => {
            let known = both.into_iter().find(|o| on_exhausted_name(*o) == text);
            if known.is_none() {
                let message = format!("expected continue or block, found {:?}", clip(text));
                mistakes.push("on_exhausted", message);
            }
            known.unwrap_or_default()
        }
    };
    // Of an ordering that cannot be read nobody knows whether it is one.
    if ordering == Some(Ordering::None) && on_exhausted == OnExhausted::Block {
        mistakes.push(
            "on_exhausted",
            "block holds back what waits for a delivery, and without an order nothing waits: \
             it needs ordering: key or ordering: endpoint",
        );
    }
    (ordering.unwrap_or_default(), on_exhausted)
}
