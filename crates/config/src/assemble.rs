//! Layers in, [`Config`] out, or every mistake at once.
//!
//! Decides how variables and flags name keys, and the rules that concern several keys. Leaves each
//! single value to its kind.

use std::collections::BTreeMap;

use postrider_domain::{Network, SliceCount};
use postrider_guard::Policy;
use serde_json::Value;

use crate::config::{
    Config, Decode, Defaults, Dispatcher, Handshake, Kafka, Properties, Registration,
    SchemaRegistry, Secrets, Source, SourceMap, Telemetry, Topics,
};
use crate::environment::Environment;
use crate::file::File;
use crate::keys::{self, KEYS, Key, PROPERTIES, SOURCES};
use crate::kind::{Complaint, Kind};
use crate::mistake::{ConfigErrors, Mistake};
use crate::property;
use crate::reference::{HIDDEN, ShowRow};
use crate::tree::{Layer, Place, Setting, Settings, merge, place, stray};

/// Where a configuration comes from; later fields win over earlier ones, and all over the defaults.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file, if one was named.
    pub file: Option<File>,
    /// Variables `POSTRIDER__SECTION__KEY`.
    pub environment: Environment,
    /// Flags that stand for a key.
    pub overrides: Vec<Override>,
}

/// A flag's value for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The key: `kafka.brokers`.
    pub path: String,
    /// The value as text, read as a variable's value is.
    pub value: String,
    /// What to call it in `show` and in mistakes: `--brokers`.
    pub flag: String,
}

/// Lays defaults, file, environment and flags over each other and checks the outcome.
///
/// # Errors
/// Every mistake there is: unknown keys, wrong types, values out of bounds, reserved properties,
/// values that do not go together. None is a reason to stop looking for the others.
pub fn load(sources: Sources) -> Result<Config, ConfigErrors> {
    let mut mistakes = Vec::new();
    let mut layers = Vec::new();
    if let Some(file) = &sources.file {
        match file_layer(file) {
            Ok(layer) => layers.push(layer),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    for (name, value) in sources.environment.settings() {
        let source = format!("environment variable {name}");
        let layer = match value.to_str() {
            Some(text) => variable_layer(name, source, text),
            None => Err(mistake(name, &source, "bytes that are not UTF-8", "UTF-8")),
        };
        layer.map_or_else(|m| mistakes.push(m), |layer| layers.push(layer));
    }
    for Override { path, value, flag } in &sources.overrides {
        let layer = text_layer(path, format!("flag {flag}"), value);
        layer.map_or_else(|m| mistakes.push(m), |layer| layers.push(layer));
    }
    let mut settings = merge(layers);
    mistakes.append(&mut settings.mistakes);
    Reader {
        settings,
        mistakes,
        shown: Vec::new(),
    }
    .config()
}

fn mistake(path: &str, source: &str, found: &str, expected: &str) -> Mistake {
    Mistake {
        path: path.to_owned(),
        source: source.to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
    }
}

fn file_layer(file: &File) -> Result<Layer, Mistake> {
    let tree = file.parse()?;
    Layer::whole(file.name().to_owned(), &tree)
        .ok_or_else(|| mistake("", file.name(), "a single value or a list", "a table"))
}

/// `POSTRIDER__KAFKA__SLICES` names `kafka.slices`; below `POSTRIDER__KAFKA__PROPERTIES__` a single
/// underscore stands for librdkafka's dot, which few shells allow in a name.
fn variable_layer(name: &str, source: String, text: &str) -> Result<Layer, Mistake> {
    let stem = name.strip_prefix(Environment::PREFIX).unwrap_or(name);
    let path = stem.to_ascii_lowercase().replace("__", ".");
    match path
        .strip_prefix(PROPERTIES)
        .and_then(|p| p.strip_prefix('.'))
    {
        Some(property) => {
            let property = property.replace('_', ".");
            text_layer(&format!("{PROPERTIES}.{property}"), source, text)
        }
        None => text_layer(&path, source, text),
    }
}

/// One value given as text. The key says how to read it.
fn text_layer(path: &str, source: String, text: &str) -> Result<Layer, Mistake> {
    let property = path
        .strip_prefix(PROPERTIES)
        .and_then(|p| p.strip_prefix('.'));
    if let Some(property) = property {
        let steps: Vec<&str> = PROPERTIES.split('.').chain([property]).collect();
        return Ok(Layer::single(
            source,
            &steps,
            &Value::String(text.to_owned()),
        ));
    }
    let steps: Vec<&str> = path.split('.').collect();
    match place(path) {
        Place::Key(key) if !path.contains('[') => {
            Ok(Layer::single(source, &steps, &key.of_text(text)))
        }
        Place::Sources => {
            let json = serde_json::from_str::<Value>(text).ok();
            let list = json
                .filter(Value::is_array)
                .ok_or_else(|| mistake(path, &source, "other text", "a JSON list of tables"))?;
            Ok(Layer::single(source, &[SOURCES], &list))
        }
        _ => Err(stray(path, source)),
    }
}

/// Takes typed values out of the settings and remembers what was wrong.
struct Reader {
    settings: Settings,
    mistakes: Vec<Mistake>,
    shown: Vec<ShowRow>,
}

impl Reader {
    fn config(mut self) -> Result<Config, ConfigErrors> {
        let parts = (
            self.kafka(),
            self.sources(),
            self.schema_registry(),
            self.dispatcher(),
            self.egress(),
            self.network(),
            self.secrets(),
            self.registration(),
            self.telemetry(),
        );
        match parts {
            (
                Some(kafka),
                Some(sources),
                schema_registry,
                Some(dispatcher),
                Some(egress),
                Some(network),
                secrets,
                Some(registration),
                Some(telemetry),
            ) if self.mistakes.is_empty() => Ok(Config {
                kafka,
                sources,
                schema_registry,
                dispatcher,
                egress,
                network,
                secrets,
                registration,
                telemetry,
                shown: self.shown,
            }),
            _ => Err(ConfigErrors::new(self.mistakes)),
        }
    }

    /// A key's value or its default; `None` once a mistake is noted.
    fn take<K: Kind>(&mut self, key: &'static Key<K>) -> Option<K::Value> {
        let default = || {
            let text = key.default.expect("a key that is taken has a default");
            Setting {
                value: key.kind.of_text(text),
                source: "default".to_owned(),
            }
        };
        let setting = self.settings.keys.get(key.path).cloned();
        self.check(key, key.path, setting.unwrap_or_else(default))
    }

    /// A key that may be left out; `None` also once a mistake is noted.
    fn take_if_given<K: Kind>(&mut self, key: &'static Key<K>) -> Option<K::Value> {
        let setting = self.settings.keys.get(key.path).cloned()?;
        self.check(key, key.path, setting)
    }

    /// A key of an element of `sources`; its default, if any, is not shown twice.
    fn take_at<K: Kind>(&mut self, key: &'static Key<K>, index: usize) -> Option<K::Value> {
        let path = key.path.replacen("[]", &format!("[{index}]"), 1);
        let setting = self.settings.keys.get(&path).cloned().or_else(|| {
            key.default.map(|text| Setting {
                value: key.kind.of_text(text),
                source: "default".to_owned(),
            })
        })?;
        self.check(key, &path, setting)
    }

    fn check<K: Kind>(&mut self, key: &Key<K>, path: &str, setting: Setting) -> Option<K::Value> {
        let checked = key.kind.check(path, &setting.value);
        match checked {
            Ok(value) => {
                self.shown.push(ShowRow {
                    path: path.to_owned(),
                    value: key.kind.shown(&setting.value),
                    source: setting.source,
                });
                Some(value)
            }
            Err(complaints) => {
                for Complaint {
                    path,
                    found,
                    expected,
                } in complaints
                {
                    self.mistakes.push(Mistake {
                        path,
                        source: setting.source.clone(),
                        found,
                        expected,
                    });
                }
                None
            }
        }
    }

    fn source_of(&self, path: &str) -> String {
        let setting = self.settings.keys.get(path);
        setting.map_or_else(|| "default".to_owned(), |s| s.source.clone())
    }

    fn kafka(&mut self) -> Option<Kafka> {
        let brokers = self.take(&keys::BROKERS);
        let prefix = self.take(&keys::PREFIX);
        let slices = self.take(&keys::SLICES);
        let replication = self.take(&keys::REPLICATION);
        let properties = self.properties();
        Some(Kafka {
            brokers: brokers?,
            prefix: prefix?,
            slices: SliceCount::new(u16::try_from(slices?).ok()?)?,
            replication: u16::try_from(replication?).ok()?,
            properties,
        })
    }

    fn properties(&mut self) -> Properties {
        let mut properties = BTreeMap::new();
        for (name, setting) in std::mem::take(&mut self.settings.properties) {
            let path = format!("{PROPERTIES}.{name}");
            match property::check(&path, &name, &setting.value) {
                Ok(value) => {
                    let secret = property::is_secret(&name);
                    self.shown.push(ShowRow {
                        path,
                        value: Value::String(if secret {
                            HIDDEN.to_owned()
                        } else {
                            value.clone()
                        }),
                        source: setting.source,
                    });
                    properties.insert(name, value);
                }
                Err(complaint) => self.mistakes.push(Mistake {
                    path: complaint.path,
                    source: setting.source,
                    found: complaint.found,
                    expected: complaint.expected,
                }),
            }
        }
        Properties(properties)
    }

    fn sources(&mut self) -> Option<Vec<Source>> {
        let sources: Vec<Option<Source>> =
            (0..self.settings.sources).map(|i| self.source(i)).collect();
        let mut seen = BTreeMap::new();
        for (index, source) in sources.iter().enumerate() {
            let Some(Topics::Names(names)) = source.as_ref().map(|s| &s.topics) else {
                continue;
            };
            for name in names {
                if let Some(first) = seen.insert(name.clone(), index) {
                    let path = format!("sources[{index}].topics");
                    let origin = self.source_of(&path);
                    let found = format!("{name:?}, which sources[{first}] reads already");
                    self.mistakes
                        .push(mistake(&path, &origin, &found, "each topic once"));
                }
            }
        }
        sources.into_iter().collect()
    }

    fn source(&mut self, index: usize) -> Option<Source> {
        let names = self.take_at(&keys::TOPICS, index);
        let regex = self.take_at(&keys::TOPICS_REGEX, index);
        let decode = self.take_at(&keys::DECODE, index);
        let map = SourceMap {
            id: self.take_at(&keys::MAP_ID, index),
            event_type: self.take_at(&keys::MAP_TYPE, index),
            tenant: self.take_at(&keys::MAP_TENANT, index),
            time: self.take_at(&keys::MAP_TIME, index),
            ordering_key: self.take_at(&keys::MAP_ORDERING_KEY, index),
        };
        self.source_rules(index, decode);
        let topics = names
            .map(Topics::Names)
            .or_else(|| regex.map(Topics::Regex));
        Some(Source {
            topics: topics?,
            decode: decode?,
            map,
        })
    }

    /// What the keys of one source ask of each other.
    fn source_rules(&mut self, index: usize, decode: Option<Decode>) {
        let at = format!("sources[{index}]");
        let given = |key: &str| self.settings.keys.contains_key(&format!("{at}.{key}"));
        let mapped = KEYS
            .iter()
            .filter_map(|k| k.path().strip_prefix("sources[].map."));
        let any_map = mapped.into_iter().any(|name| given(&format!("map.{name}")));
        let (topics, regex) = (given("topics"), given("topics_regex"));
        let no_type = !given("map.type");
        let mut wrong = Vec::new();
        if topics && regex {
            wrong.push((
                "topics_regex",
                "both topics and topics_regex",
                "one of them",
            ));
        } else if !topics && !regex {
            wrong.push(("topics", "nothing", "topics or topics_regex"));
        }
        match decode {
            Some(Decode::CloudEvents) if any_map => {
                wrong.push((
                    "map",
                    "a map with decode = \"cloudevents\"",
                    "none: it is for JSON",
                ));
            }
            Some(Decode::Json) if no_type => wrong.push((
                "map.type",
                "nothing",
                "where the event type is, such as \"/type\", because decode is json",
            )),
            _ => {}
        }
        for (key, found, expected) in wrong {
            let path = format!("{at}.{key}");
            let below = |p: &&String| p.starts_with(&format!("{at}."));
            let some_key = self.settings.keys.keys().find(below).cloned();
            let origin = self.source_of(some_key.as_deref().unwrap_or(&path));
            self.mistakes.push(mistake(&path, &origin, found, expected));
        }
    }

    fn schema_registry(&mut self) -> Option<SchemaRegistry> {
        let url = self.take_if_given(&keys::REGISTRY_URL);
        let user = self.take_if_given(&keys::REGISTRY_USER);
        let password = self.take_if_given(&keys::REGISTRY_PASSWORD);
        let token = self.take_if_given(&keys::REGISTRY_TOKEN);
        let ca_file = self.take_if_given(&keys::REGISTRY_CA_FILE);
        self.registry_rules();
        Some(SchemaRegistry {
            url: url?,
            user: user.zip(password),
            token,
            ca_file: ca_file.map(Into::into),
        })
    }

    /// What the keys of the registry ask of each other.
    fn registry_rules(&mut self) {
        let given = |key: &'static str| self.settings.keys.contains_key(key).then_some(key);
        let url = given(keys::REGISTRY_URL.path);
        let user = given(keys::REGISTRY_USER.path);
        let password = given(keys::REGISTRY_PASSWORD.path);
        let token = given(keys::REGISTRY_TOKEN.path);
        let other = user.or(password).or(token);
        let other = other.or_else(|| given(keys::REGISTRY_CA_FILE.path));
        let mut wrong = Vec::new();
        if let (None, Some(other)) = (url, other) {
            wrong.push((
                keys::REGISTRY_URL.path,
                other,
                "nothing",
                "where the registry is",
            ));
        }
        match (user, password) {
            (Some(user), None) => wrong.push((
                keys::REGISTRY_PASSWORD.path,
                user,
                "nothing",
                "the password of schema_registry.user",
            )),
            (None, Some(password)) => wrong.push((
                keys::REGISTRY_USER.path,
                password,
                "nothing",
                "whose schema_registry.password it is",
            )),
            _ => {}
        }
        if let (Some(token), Some(_)) = (token, user.or(password)) {
            let found = "a token beside user and password";
            wrong.push((keys::REGISTRY_TOKEN.path, token, found, "one of them"));
        }
        for (path, told_by, found, expected) in wrong {
            let origin = self.source_of(told_by);
            self.mistakes.push(mistake(path, &origin, found, expected));
        }
    }

    fn dispatcher(&mut self) -> Option<Dispatcher> {
        let in_flight_max = self.take(&keys::IN_FLIGHT_MAX);
        let ownership = self.take(&keys::OWNERSHIP);
        let session = self.take(&keys::SESSION);
        let heartbeat = self.take(&keys::HEARTBEAT);
        let concurrency = self.take(&keys::CONCURRENCY);
        let timeout = self.take(&keys::TIMEOUT);
        let retry = self.take(&keys::RETRY);
        let dispatcher = Dispatcher {
            in_flight_max: usize::try_from(in_flight_max?).ok()?,
            ownership: ownership?,
            session: session?,
            heartbeat: heartbeat?,
            defaults: Defaults {
                concurrency: u16::try_from(concurrency?).ok()?,
                timeout: timeout?,
                retry: retry?,
            },
        };
        self.timing_rules(&dispatcher);
        Some(dispatcher)
    }

    /// The heartbeat must be heard within a session, and attempts end within the lease
    /// ([`Dispatcher::timeout_max`]): a lease that ends before it can be renewed starts none.
    fn timing_rules(&mut self, dispatcher: &Dispatcher) {
        let written = humantime::format_duration;
        let (session, heartbeat) = (dispatcher.session, dispatcher.heartbeat);
        let timeout = dispatcher.defaults.timeout;
        let timeout_max = dispatcher.timeout_max();
        let reserve = Dispatcher::LEASE_MARGIN + Dispatcher::LEASE_MIN;
        let (path, found, expected) = if heartbeat * 3 > session {
            let expected = format!(
                "at most a third of dispatcher.session ({}), {}",
                written(session),
                written(session / 3)
            );
            (keys::HEARTBEAT.path, heartbeat, expected)
        } else if timeout_max < Dispatcher::TIMEOUT_MAX_MIN {
            let expected = format!(
                "at least {}: dispatcher.heartbeat {} + reserve {} + the shortest timeout of an \
                 endpoint {}",
                written(heartbeat + reserve + Dispatcher::TIMEOUT_MAX_MIN),
                written(heartbeat),
                written(reserve),
                written(Dispatcher::TIMEOUT_MAX_MIN)
            );
            (keys::SESSION.path, session, expected)
        } else if timeout > timeout_max {
            let expected = format!(
                "at most {}: dispatcher.session {} - dispatcher.heartbeat {} - reserve {}; shorten \
                 it, or make the session at least {}",
                written(timeout_max),
                written(session),
                written(heartbeat),
                written(reserve),
                written(timeout + heartbeat + reserve)
            );
            (keys::TIMEOUT.path, timeout, expected)
        } else {
            return;
        };
        let origin = self.source_of(path);
        let found = written(found).to_string();
        self.mistakes
            .push(mistake(path, &origin, &found, &expected));
    }

    fn egress(&mut self) -> Option<Policy> {
        let allow_http = self.take(&keys::ALLOW_HTTP);
        let ports = self.take(&keys::PORTS);
        let allow_ranges = self.take(&keys::ALLOW_RANGES);
        let ports: Result<_, _> = ports?.into_iter().map(u16::try_from).collect();
        Some(Policy {
            allow_http: allow_http?,
            ports: ports.ok()?,
            allow_ranges: allow_ranges?,
        })
    }

    fn network(&mut self) -> Option<Network> {
        let proxy = self.take(&keys::PROXY);
        let source_addresses = self.take(&keys::SOURCE_ADDRESSES);
        Some(Network {
            proxy: proxy?,
            source_addresses: source_addresses?,
        })
    }

    fn secrets(&mut self) -> Secrets {
        Secrets {
            key_file: self.take_if_given(&keys::KEY_FILE).map(Into::into),
        }
    }

    fn registration(&mut self) -> Option<Registration> {
        let handshake = self.take(&keys::HANDSHAKE);
        let origin = self.take(&keys::ORIGIN);
        let (handshake, origin) = (handshake?, origin?);
        if handshake == Handshake::CloudEvents && origin.is_empty() {
            let source = self.source_of(keys::HANDSHAKE.path);
            let expected = "a DNS name of yours, because registration.handshake is cloudevents";
            self.mistakes
                .push(mistake(keys::ORIGIN.path, &source, "nothing", expected));
        }
        Some(Registration { handshake, origin })
    }

    fn telemetry(&mut self) -> Option<Telemetry> {
        let log = self.take(&keys::LOG);
        let format = self.take(&keys::LOG_FORMAT);
        Some(Telemetry {
            log: log?,
            format: format?,
        })
    }
}
