//! The compiled filters of endpoints.
//!
//! Decides which are kept: those asked lately, by their text, so that endpoints with the same
//! filter share one. There may be a million endpoints, each with a filter of its own; compiling
//! one takes 20 µs, keeping one about 90 bytes for each of its nodes. Leaves compiling and deciding
//! to `filter`.

use std::collections::HashMap;
use std::sync::Arc;

use postrider_domain::Event;
use postrider_filter::{Decision, Filter, InvalidFilter, Seen, Undecided};

/// Compiled filters by their text.
#[derive(Debug)]
pub struct Filters {
    young: Generation,
    /// What was young before; what is asked of it is young again.
    old: Generation,
    /// Most nodes of a generation.
    nodes_max: usize,
}

impl Default for Filters {
    fn default() -> Self {
        Self {
            young: Generation::default(),
            old: Generation::default(),
            // About 22 MB, and there are two generations.
            nodes_max: 250_000,
        }
    }
}

type Compiled = Arc<Result<Filter, InvalidFilter>>;

#[derive(Debug, Default)]
struct Generation {
    by_text: HashMap<Arc<str>, Compiled>,
    nodes: usize,
}

impl Filters {
    /// Whether an endpoint with this filter wants the event.
    pub fn decide(&mut self, text: &Arc<str>, event: &Event, seen: &mut Seen) -> Decision {
        if let Err(undecided) = seen.admit(text) {
            return Decision::Undecided(undecided);
        }
        match &*self.compiled(text) {
            Ok(filter) => filter.decide(event, seen),
            // No such endpoint gets through `wire`; if one did, its events must not be lost.
            Err(invalid) => Decision::Undecided(Undecided::Invalid(invalid.clone())),
        }
    }

    fn compiled(&mut self, text: &Arc<str>) -> Compiled {
        if let Some(found) = self.young.by_text.get(text) {
            return Arc::clone(found);
        }
        let found = self.old.by_text.remove(text);
        let compiled = found.unwrap_or_else(|| Arc::new(Filter::compile(text)));
        // The text counts as well: it may outlive its endpoint here.
        let nodes = compiled.as_ref().as_ref().map_or(1, Filter::nodes) + text.len() / 90;
        if self.young.nodes + nodes > self.nodes_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.nodes += nodes;
        self.young
            .by_text
            .insert(Arc::clone(text), Arc::clone(&compiled));
        compiled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n: usize) -> Arc<str> {
        format!("data.amount > {n}").into()
    }

    #[test]
    fn the_same_text_is_compiled_once() {
        let mut filters = Filters::default();
        let first = filters.compiled(&text(1));
        assert!(Arc::ptr_eq(&first, &filters.compiled(&text(1))));
        assert!(!Arc::ptr_eq(&first, &filters.compiled(&text(2))));
    }

    #[test]
    fn what_is_asked_stays_and_what_is_kept_is_bounded() {
        let mut filters = Filters {
            nodes_max: 40,
            ..Filters::default()
        };
        let often = filters.compiled(&text(0));
        for n in 1..100 {
            filters.compiled(&text(n));
            assert!(Arc::ptr_eq(&often, &filters.compiled(&text(0))), "{n}");
            for generation in [&filters.young, &filters.old] {
                assert!(generation.nodes <= 40 && generation.by_text.len() <= 10);
            }
        }
        for kept in [&filters.young, &filters.old] {
            assert!(!kept.by_text.contains_key(&text(1)));
        }
    }
}
