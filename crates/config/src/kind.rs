//! What values look like: one kind per type and bounds, used by checks and reference alike.
//!
//! Decides the syntax of each kind, in a file and as the text of a variable or flag. Leaves which
//! key has which kind to `keys`.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use postrider_domain::{RetryPolicy, RetryPreset, Secret};
use serde_json::Value;

use crate::reference::HIDDEN;

/// A mistake in a value, its source not known here.
#[derive(Debug)]
pub(crate) struct Complaint {
    pub(crate) path: String,
    pub(crate) found: String,
    pub(crate) expected: String,
}

/// A kind of value.
pub(crate) trait Kind: Sync {
    /// What it becomes.
    type Value;

    /// A short name for the reference: `duration`.
    fn name(&self) -> &'static str;

    /// What is accepted, bounds and unit included, to stand after "expected".
    fn expected(&self) -> String;

    /// A variable's or flag's text as the value a file would hold.
    fn of_text(&self, text: &str) -> Value {
        Value::String(text.to_owned())
    }

    /// The typed value, or what is wrong with it, at `path`.
    fn check(&self, path: &str, value: &Value) -> Result<Self::Value, Vec<Complaint>>;

    /// The value as `show` may show it.
    fn shown(&self, value: &Value) -> Value {
        value.clone()
    }

    /// The complaint that `value` is not what was expected.
    fn refuse<T>(&self, path: &str, value: &Value) -> Result<T, Vec<Complaint>> {
        Err(vec![Complaint {
            path: path.to_owned(),
            found: quote(value),
            expected: self.expected(),
        }])
    }
}

/// A value as a mistake shows it, cut where it gets long.
pub(crate) fn quote(value: &Value) -> String {
    const SHOWN_MAX: usize = 80;
    let text = match value {
        Value::Null => return "nothing".to_owned(),
        Value::Object(_) => return "a table".to_owned(),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Text that passes a test.
pub(crate) struct Text {
    pub(crate) expected: &'static str,
    pub(crate) accepts: fn(&str) -> bool,
}

impl Kind for Text {
    type Value = String;

    fn name(&self) -> &'static str {
        "text"
    }

    fn expected(&self) -> String {
        self.expected.to_owned()
    }

    fn check(&self, path: &str, value: &Value) -> Result<String, Vec<Complaint>> {
        match value.as_str() {
            Some(text) if (self.accepts)(text) => Ok(text.to_owned()),
            _ => self.refuse(path, value),
        }
    }
}

/// Text that is never shown.
pub(crate) struct Hidden {
    pub(crate) expected: &'static str,
    pub(crate) accepts: fn(&str) -> bool,
}

impl Kind for Hidden {
    type Value = Secret;

    fn name(&self) -> &'static str {
        "secret text"
    }

    fn expected(&self) -> String {
        self.expected.to_owned()
    }

    fn shown(&self, _: &Value) -> Value {
        Value::String(HIDDEN.to_owned())
    }

    fn check(&self, path: &str, value: &Value) -> Result<Secret, Vec<Complaint>> {
        match value.as_str() {
            Some(text) if (self.accepts)(text) => Ok(Secret::new(text.as_bytes())),
            _ => Err(vec![Complaint {
                path: path.to_owned(),
                found: "something else".to_owned(),
                expected: self.expected(),
            }]),
        }
    }
}

/// The address of a server, without user and password, of which a mistake shows nothing.
pub(crate) struct BaseUrl;

impl Kind for BaseUrl {
    type Value = String;

    fn name(&self) -> &'static str {
        "URL"
    }

    fn expected(&self) -> String {
        "http://HOST or https://HOST with port and path if need be, without user, query and \
         fragment"
            .to_owned()
    }

    fn check(&self, path: &str, value: &Value) -> Result<String, Vec<Complaint>> {
        let text = value.as_str().unwrap_or_default();
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        let clean = |rest: &str| {
            let graphic = rest.bytes().all(|byte| byte.is_ascii_graphic());
            graphic && !rest.starts_with(['/', ':']) && !rest.contains(['@', '?', '#', '\\'])
        };
        if rest.is_some_and(|rest| !rest.is_empty() && clean(rest)) {
            return Ok(text.to_owned());
        }
        Err(vec![Complaint {
            path: path.to_owned(),
            found: "something else".to_owned(),
            expected: self.expected(),
        }])
    }
}

/// `true` or `false`.
pub(crate) struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn name(&self) -> &'static str {
        "boolean"
    }

    fn expected(&self) -> String {
        "true or false".to_owned()
    }

    fn of_text(&self, text: &str) -> Value {
        text.parse()
            .map_or_else(|_| Value::String(text.to_owned()), Value::Bool)
    }

    fn check(&self, path: &str, value: &Value) -> Result<bool, Vec<Complaint>> {
        value.as_bool().map_or_else(|| self.refuse(path, value), Ok)
    }
}

/// A whole number within bounds, both included.
pub(crate) struct Whole {
    pub(crate) min: u16,
    pub(crate) max: u32,
}

impl Kind for Whole {
    type Value = u32;

    fn name(&self) -> &'static str {
        "whole number"
    }

    fn expected(&self) -> String {
        format!("a whole number from {} to {}", self.min, self.max)
    }

    fn of_text(&self, text: &str) -> Value {
        text.parse::<i64>()
            .map_or_else(|_| Value::String(text.to_owned()), Value::from)
    }

    fn check(&self, path: &str, value: &Value) -> Result<u32, Vec<Complaint>> {
        let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
        number
            .filter(|n| (u32::from(self.min)..=self.max).contains(n))
            .map_or_else(|| self.refuse(path, value), Ok)
    }
}

/// A duration within bounds, both included, written with a unit.
pub(crate) struct Span {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

impl Kind for Span {
    type Value = Duration;

    fn name(&self) -> &'static str {
        "duration"
    }

    fn expected(&self) -> String {
        let written = humantime::format_duration;
        format!(
            "a duration from {} to {}, with its unit (ms, s, m, h, d), in quotes",
            written(self.min),
            written(self.max)
        )
    }

    fn check(&self, path: &str, value: &Value) -> Result<Duration, Vec<Complaint>> {
        let duration = value
            .as_str()
            .and_then(|t| humantime::parse_duration(t).ok());
        duration
            .filter(|d| (self.min..=self.max).contains(d))
            .map_or_else(|| self.refuse(path, value), Ok)
    }
}

/// One of a few words.
pub(crate) struct Choice<T: 'static> {
    pub(crate) options: &'static [(&'static str, T)],
    /// Words of the contract that have no effect yet.
    pub(crate) not_yet: &'static [&'static str],
}

impl<T: Copy + Sync> Kind for Choice<T> {
    type Value = T;

    fn name(&self) -> &'static str {
        "choice"
    }

    fn expected(&self) -> String {
        let words: Vec<String> = self.options.iter().map(|(w, _)| format!("{w:?}")).collect();
        words.join(" or ")
    }

    fn check(&self, path: &str, value: &Value) -> Result<T, Vec<Complaint>> {
        let word = value.as_str().unwrap_or_default();
        if let Some((_, option)) = self.options.iter().find(|(w, _)| *w == word) {
            return Ok(*option);
        }
        if self.not_yet.contains(&word) {
            return Err(vec![Complaint {
                path: path.to_owned(),
                found: format!("{word:?}, which is not available in this version"),
                expected: self.expected(),
            }]);
        }
        self.refuse(path, value)
    }
}

/// A network, or one address.
pub(crate) struct Network;

impl Kind for Network {
    type Value = IpNet;

    fn name(&self) -> &'static str {
        "network"
    }

    fn expected(&self) -> String {
        "a network in CIDR form such as \"10.1.0.0/16\"".to_owned()
    }

    fn check(&self, path: &str, value: &Value) -> Result<IpNet, Vec<Complaint>> {
        let network = value.as_str().and_then(|text| text.parse().ok());
        network.map_or_else(|| self.refuse(path, value), Ok)
    }
}

/// An IP address.
pub(crate) struct Address;

impl Kind for Address {
    type Value = IpAddr;

    fn name(&self) -> &'static str {
        "address"
    }

    fn expected(&self) -> String {
        "an IP address such as \"192.0.2.1\"".to_owned()
    }

    fn check(&self, path: &str, value: &Value) -> Result<IpAddr, Vec<Complaint>> {
        let address = value.as_str().and_then(|text| text.parse().ok());
        address.map_or_else(|| self.refuse(path, value), Ok)
    }
}

/// A list of one kind. As text: separated by commas, or a JSON list.
pub(crate) struct List<K> {
    pub(crate) item: K,
    pub(crate) name: &'static str,
    pub(crate) min: usize,
    pub(crate) max: usize,
}

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn name(&self) -> &'static str {
        self.name
    }

    fn expected(&self) -> String {
        let (min, max) = (self.min, self.max);
        format!("a list of {min} to {max}, each {}", self.item.expected())
    }

    fn of_text(&self, text: &str) -> Value {
        if text.trim_start().starts_with('[') {
            return serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        }
        let items = text.split(',').map(str::trim).filter(|t| !t.is_empty());
        items.map(|item| self.item.of_text(item)).collect()
    }

    fn check(&self, path: &str, value: &Value) -> Result<Self::Value, Vec<Complaint>> {
        let Some(items) = value
            .as_array()
            .filter(|items| (self.min..=self.max).contains(&items.len()))
        else {
            return self.refuse(path, value);
        };
        let (mut good, mut complaints) = (Vec::new(), Vec::new());
        for (index, item) in items.iter().enumerate() {
            match self.item.check(&format!("{path}[{index}]"), item) {
                Ok(item) => good.push(item),
                Err(more) => complaints.extend(more),
            }
        }
        if complaints.is_empty() {
            Ok(good)
        } else {
            Err(complaints)
        }
    }
}

/// A retry policy: a preset's name, or `{schedule, window, jitter}`. As text: the name, or JSON.
pub(crate) struct Retry;

impl Retry {
    const WAIT_MIN: Duration = Duration::from_millis(100);
    const WINDOW: Span = Span {
        min: Duration::from_secs(1),
        max: RetryPolicy::WINDOW_MAX,
    };
    const SCHEDULE: List<Span> = List {
        item: Span {
            min: Self::WAIT_MIN,
            max: RetryPolicy::WINDOW_MAX,
        },
        name: "list of durations",
        min: 0,
        max: RetryPolicy::SCHEDULE_LEN_MAX,
    };

    fn own_policy(
        path: &str,
        table: &serde_json::Map<String, Value>,
    ) -> Result<RetryPolicy, Vec<Complaint>> {
        let standard = RetryPolicy::default();
        let mut complaints = Vec::new();
        let mut schedule = None;
        let (mut window, mut jitter_permille) = (standard.window, standard.jitter_permille);
        for (name, value) in table {
            let at = format!("{path}.{name}");
            let outcome = match name.as_str() {
                "schedule" => Self::SCHEDULE
                    .check(&at, value)
                    .map(|waits| schedule = Some(waits)),
                "window" => Self::WINDOW.check(&at, value).map(|w| window = w),
                "jitter" => jitter(&at, value).map(|j| jitter_permille = j),
                _ => Err(vec![Complaint {
                    path: at,
                    found: "an unknown key".to_owned(),
                    expected: "schedule, window or jitter".to_owned(),
                }]),
            };
            complaints.extend(outcome.err().into_iter().flatten());
        }
        if !table.contains_key("schedule") {
            complaints.push(Complaint {
                path: format!("{path}.schedule"),
                found: "nothing".to_owned(),
                expected: Self::SCHEDULE.expected(),
            });
        }
        match schedule {
            Some(waits) if complaints.is_empty() => Ok(RetryPolicy {
                schedule: waits.into(),
                window,
                jitter_permille,
            }),
            _ => Err(complaints),
        }
    }
}

fn jitter(path: &str, value: &Value) -> Result<u16, Vec<Complaint>> {
    let share = value.as_f64().map(|share| (share * 1_000.0).round());
    match share {
        Some(permille)
            if (0.0..=f64::from(RetryPolicy::JITTER_PERMILLE_MAX)).contains(&permille) =>
        {
            Ok(permille as u16)
        }
        _ => Err(vec![Complaint {
            path: path.to_owned(),
            found: quote(value),
            expected: "a share from 0 to 0.5, such as 0.1".to_owned(),
        }]),
    }
}

impl Kind for Retry {
    type Value = RetryPolicy;

    fn name(&self) -> &'static str {
        "retry policy"
    }

    fn expected(&self) -> String {
        let names: Vec<String> = RetryPreset::ALL.map(|p| format!("{:?}", p.name())).into();
        format!(
            "{} or a table with schedule, window (up to 30 days), jitter (0 to 0.5)",
            names.join(", ")
        )
    }

    fn of_text(&self, text: &str) -> Value {
        let json = text
            .trim_start()
            .starts_with('{')
            .then(|| serde_json::from_str(text));
        json.and_then(Result::ok)
            .unwrap_or_else(|| Value::String(text.to_owned()))
    }

    fn check(&self, path: &str, value: &Value) -> Result<RetryPolicy, Vec<Complaint>> {
        match value {
            Value::Object(table) => Self::own_policy(path, table),
            Value::String(name) => match name.parse::<RetryPreset>() {
                Ok(preset) => Ok(preset.policy()),
                Err(()) => self.refuse(path, value),
            },
            _ => self.refuse(path, value),
        }
    }
}
