//! What there is to configure, and what is configured, as rows to print.
//!
//! Decides the rows and the reference page's text, both from `keys`. Leaves tables, JSON and YAML
//! on the terminal to the binary.

use serde::Serialize;
use serde_json::Value;

use crate::keys::{AnyKey, KEYS, SINCE};
use crate::property::RESERVED;

/// What stands in place of a secret.
pub(crate) const HIDDEN: &str = "[hidden]";

/// The effective value of one key.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShowRow {
    /// The key: `kafka.slices`, `sources[0].topics`.
    pub path: String,
    /// Its value; `"[hidden]"` for a secret.
    pub value: Value,
    /// `default`, a file's name, `environment variable …` or `flag …`.
    pub source: String,
}

/// One key's description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReferenceRow {
    /// The key; `sources[]` stands for every element.
    pub path: &'static str,
    /// The type's name.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The value when nothing is said; `None` = none.
    pub default: Option<Value>,
    /// What is accepted: bounds, unit, words.
    pub accepts: String,
    /// What it does and what raising it costs.
    pub meaning: &'static str,
    /// The first version that has it.
    pub since: &'static str,
}

/// Every key, in order.
#[must_use]
pub fn reference() -> Vec<ReferenceRow> {
    let mut rows: Vec<ReferenceRow> = KEYS.into_iter().map(row).collect();
    let kafka = rows.iter().take_while(|row| row.path.starts_with("kafka."));
    rows.insert(kafka.count(), properties_row());
    rows
}

fn row(key: &dyn AnyKey) -> ReferenceRow {
    ReferenceRow {
        path: key.path(),
        kind: key.name(),
        default: key.default_text().map(|text| key.of_text(text)),
        accepts: key.expected(),
        meaning: key.meaning(),
        since: SINCE,
    }
}

/// The one entry whose names are not ours.
fn properties_row() -> ReferenceRow {
    ReferenceRow {
        path: "kafka.properties.*",
        kind: "text",
        default: None,
        accepts: "any librdkafka property but the reserved ones below".to_owned(),
        meaning: "Handed to every Kafka client as it is, for security above all. Values of \
                  passwords and keys are hidden in `config show`.",
        since: SINCE,
    }
}

/// The page `docs/reference/configuration.md`.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = HEAD.to_owned();
    let mut section = "";
    for row in reference() {
        let own = section_of(row.path);
        if own != section {
            section = own;
            page += &format!("\n## {section}\n");
        }
        let default = match &row.default {
            Some(value) => format!("default `{value}`"),
            None => "no default".to_owned(),
        };
        page += &format!(
            "\n### `{}`\n{}\n\n- {}, {default}, since {}\n- accepts {}\n",
            row.path, row.meaning, row.kind, row.since, row.accepts
        );
    }
    page += "\n## Reserved librdkafka properties\n\n| property | why |\n|---|---|\n";
    for (name, reason) in RESERVED {
        page += &format!("| `{name}` | {reason} |\n");
    }
    page
}

fn section_of(path: &'static str) -> &'static str {
    match path.split_once('.').map(|(first, _)| first) {
        Some("sources[]") => "[[sources]]",
        Some("schema_registry") => "[schema_registry]",
        Some("kafka") => "[kafka]",
        Some("dispatcher") => "[dispatcher]",
        Some("egress") => "[egress]",
        Some("secrets") => "[secrets]",
        Some("registration") => "[registration]",
        _ => "[telemetry]",
    }
}

const HEAD: &str = "# Configuration

<!-- Generated: cargo run -p postrider-config --example reference -->

Four layers, the last wins: defaults, one file (TOML; YAML or JSON by its extension), environment variables, flags.
`postrider config check` reports every mistake at once, `postrider config show` prints each effective value with its source, `postrider config reference` prints this page's content.
A commented file with every key: [postrider.toml](postrider.toml).

## Environment variables
`POSTRIDER__SECTION__KEY`, two underscores between the steps: `POSTRIDER__KAFKA__SLICES=64`, `POSTRIDER__DISPATCHER__DEFAULTS__TIMEOUT=15s`.

- Lists: separated by commas, or a JSON list: `POSTRIDER__EGRESS__PORTS=443,8443`.
- A retry policy of one's own: JSON: `POSTRIDER__DISPATCHER__DEFAULTS__RETRY={\"schedule\":[\"5s\",\"1m\"],\"window\":\"1h\"}`.
- librdkafka properties: one underscore for each dot: `POSTRIDER__KAFKA__PROPERTIES__SASL_PASSWORD` sets `sasl.password`.
- Sources, all of them: JSON: `POSTRIDER__SOURCES=[{\"topics\":[\"payments.events\"]}]`.

Variables with a single underscore after `POSTRIDER` stand for flags of the command line, not for keys.

## Together
- `dispatcher.heartbeat` is at most a third of `dispatcher.session`.
- `dispatcher.defaults.timeout` is at most `dispatcher.session` - `dispatcher.heartbeat` - 12 s, by default 28 s.
  A worker that falls silent starts attempts only as long as they end before the group gives its slices to another.
  Of the 12 s, 2 s are for clocks, 10 s to renew the lease while the group's coordinator changes.
- The same bound holds for endpoints: effective timeout = min(endpoint's `timeout`, session - heartbeat - 12 s).
  A longer session allows longer timeouts, and delays the take-over after a crash.
- A source has `topics` or `topics_regex`, not both; a topic stands in one source.
- With `decode = \"json\"` the map says at least where the type is; with `cloudevents` there is no map; with `debezium-outbox` every key of it may be left out.
- `[schema_registry]` has a `url`, and `user` with `password`, or `token`, or neither.

Keys that belong to later versions (`[api]`, `[admin]`, `telemetry.otlp_endpoint`) are refused, not ignored.
";
