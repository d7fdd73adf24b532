//! Which topics are read, and how the records of each become events.
//!
//! Decides which source a topic belongs to (names before patterns, then the order of the sources)
//! and that none of Postrider's own topics may be one, as its records would go round for ever.
//! Leaves decoding to `wire`.

use std::collections::HashMap;
use std::sync::Arc;

use postrider_domain::SliceCount;
use postrider_wire::{DecodeRule, Topics};
use regex_lite::Regex;

/// Intake topics that are decoded alike: one of the configuration's `[[sources]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Which topics.
    pub topics: SourceTopics,
    /// How their records are read.
    pub rule: DecodeRule,
}

/// Which topics a source reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceTopics {
    /// These.
    Names(Vec<String>),
    /// Every topic whose whole name matches, now and later; `^` and `$` may be left out.
    Pattern(String),
}

/// Why sources cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSources {
    /// There is none.
    #[error("no [[sources]] are configured: the router needs at least one intake topic")]
    None,
    /// A pattern is no regular expression.
    #[error("topics_regex {pattern:?} is no regular expression: {reason}")]
    Pattern {
        /// As configured.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A source reads what Postrider writes.
    #[error("{source_topics} reads {topic}, which Postrider writes itself: leave it out")]
    OwnTopic {
        /// The pattern or the name.
        source_topics: String,
        /// Our topic.
        topic: Arc<str>,
    },
}

/// The sources, ready to be asked for each record.
#[derive(Debug)]
pub(crate) struct Sources {
    rules: Vec<DecodeRule>,
    patterns: Vec<(Regex, usize)>,
    /// By full topic name; a topic that a pattern matched is remembered.
    by_topic: HashMap<Arc<str>, usize>,
}

impl Sources {
    /// `notices` may be read: its events are for endpoints, and one about an endpoint that fails
    /// makes no further one.
    pub(crate) fn new(sources: &[Source], own: &Topics) -> Result<Self, InvalidSources> {
        if sources.is_empty() {
            return Err(InvalidSources::None);
        }
        let mut this = Self {
            rules: sources.iter().map(|source| source.rule.clone()).collect(),
            patterns: Vec::new(),
            by_topic: HashMap::new(),
        };
        for (index, source) in sources.iter().enumerate() {
            match &source.topics {
                SourceTopics::Names(names) => {
                    let entries = names.iter().map(|name| (Arc::from(&**name), index));
                    this.by_topic.extend(entries);
                }
                SourceTopics::Pattern(pattern) => {
                    this.patterns.push((whole_name(pattern)?, index));
                }
            }
        }
        this.refuse_own(sources, own)?;
        Ok(this)
    }

    /// How records of a topic are read. The broker matches patterns too; should it see a match that
    /// is none here, the last source with a pattern counts.
    pub(crate) fn rule_of(&mut self, topic: &Arc<str>) -> &DecodeRule {
        let index = match self.by_topic.get(topic) {
            Some(index) => *index,
            None => {
                let matching = self
                    .patterns
                    .iter()
                    .find(|(pattern, _)| pattern.is_match(topic));
                let index = matching
                    .or_else(|| self.patterns.last())
                    .map_or(0, |(_, index)| *index);
                self.by_topic.insert(Arc::clone(topic), index);
                index
            }
        };
        &self.rules[index]
    }

    fn refuse_own(&self, sources: &[Source], own: &Topics) -> Result<(), InvalidSources> {
        let one = SliceCount::new(1).expect("1 is a slice count");
        let specs = own.specs(one, 1);
        let ours = specs
            .iter()
            .map(|spec| &spec.name)
            .filter(|name| *name != own.notices());
        for topic in ours {
            let by_pattern = self
                .patterns
                .iter()
                .find(|(pattern, _)| pattern.is_match(topic));
            let source_topics = match by_pattern {
                Some((_, index)) => match &sources[*index].topics {
                    SourceTopics::Pattern(pattern) => format!("topics_regex {pattern:?}"),
                    SourceTopics::Names(names) => format!("topics {names:?}"),
                },
                None if self.by_topic.contains_key(topic) => "a source".to_owned(),
                None => continue,
            };
            return Err(InvalidSources::OwnTopic {
                source_topics,
                topic: Arc::clone(topic),
            });
        }
        Ok(())
    }
}

fn whole_name(pattern: &str) -> Result<Regex, InvalidSources> {
    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| InvalidSources::Pattern {
        pattern: pattern.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use postrider_wire::{FieldRef, Mapping};

    use super::*;

    fn named(names: &[&str]) -> Source {
        Source {
            topics: SourceTopics::Names(names.iter().map(|&n| n.to_owned()).collect()),
            rule: DecodeRule::CloudEvents,
        }
    }

    fn matching(pattern: &str) -> Source {
        let mapping = Mapping {
            event_type: FieldRef::parse(&format!("/{}", pattern.len())).unwrap(),
            id: None,
            tenant: None,
            time: None,
            ordering_key: None,
        };
        Source {
            topics: SourceTopics::Pattern(pattern.to_owned()),
            rule: DecodeRule::Json(mapping),
        }
    }

    fn own() -> Topics {
        Topics::new("postrider.")
    }

    #[test]
    fn a_name_goes_before_a_pattern_and_patterns_match_whole_names() {
        let all = [
            matching("^payments\\..*"),
            named(&["payments.v1"]),
            matching("^pay.*$"),
        ];
        let mut sources = Sources::new(&all, &own()).unwrap();
        let mut rule = |topic: &str| sources.rule_of(&topic.into()).clone();
        assert_eq!(rule("payments.v1"), all[1].rule);
        assert_eq!(rule("payments.v2"), all[0].rule);
        assert_eq!(rule("payouts"), all[2].rule);
        assert_eq!(rule("payouts"), all[2].rule, "remembered");
    }

    #[test]
    fn our_own_topics_are_no_source() {
        let refused = |source| {
            Sources::new(&[source], &own())
                .map(drop)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused(matching("^.*")),
            "topics_regex \"^.*\" reads postrider.endpoints, which Postrider writes itself: leave it out"
        );
        assert!(refused(named(&["a", "postrider.dead-letters"])).contains("dead-letters"));
        assert!(Sources::new(&[named(&["postrider.notices"])], &own()).is_ok());
    }

    #[test]
    fn a_broken_pattern_and_no_source_are_told() {
        let broken = Sources::new(&[matching("^(a")], &own())
            .map(drop)
            .unwrap_err();
        assert!(broken.to_string().contains("\"^(a\""), "{broken}");
        assert_eq!(
            Sources::new(&[], &own()).map(drop),
            Err(InvalidSources::None)
        );
    }
}
