//! An installation of Postrider with topics, a configuration file and a prefix of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use postrider_kafka::ClientSettings;
use postrider_kafka::admin::{self, TopicSpec};
use postrider_test_support::{Broker, unique_prefix};
use tempfile::TempDir;

use crate::process::Process;
use crate::records::{self, Attempt, DeadLetter};
use crate::secured::SecuredBroker;
use crate::withheld::WithholdingBroker;
use crate::{kcat, text, wait_until};

/// Partitions of each intake topic.
const INTAKE_PARTITIONS: i32 = 4;
/// Largest record an intake topic takes: above what Postrider delivers.
const INTAKE_BYTES_MAX: usize = 4 << 20;
/// What the tests' brokers grant a group, and timeouts that fit into it.
pub const DISPATCHER: &str = r#"[dispatcher]
session = "15s"
heartbeat = "1s"
defaults.timeout = "2s"
"#;
/// Where endpoints of tests are, unless a test says otherwise.
const LOOPBACK: [&str; 1] = ["127.0.0.0/8"];
/// How long a broker of a busy machine may take to make topics.
const TOPICS_WITHIN: Duration = Duration::from_secs(60);

/// What an installation is made for.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// What goes into `bootstrap.servers`.
    pub bootstrap: &'a str,
    /// Copies of each record; with 3, two have to be in sync.
    pub replication: i32,
    /// Where its endpoints may be.
    pub allow_ranges: &'a [&'a str],
    /// Slices.
    pub slices: u16,
    /// `[dispatcher]` and what else its configuration file has.
    pub sections: &'a str,
}

/// Its topics stay on the broker; all else ends with the value.
pub struct Installation {
    folder: TempDir,
    bootstrap: String,
    replication: i32,
    prefix: String,
    intake: Vec<String>,
    files: std::cell::Cell<u32>,
    authority: Option<PathBuf>,
}

impl Installation {
    /// With all its topics. `intake` are the intake topics' names behind the prefix, all of them
    /// decoded as CloudEvents or as JSON with `/id`, `/type`, `/tenant` and perhaps `/key`.
    pub fn new(broker: &Broker, slices: u16, intake: &[&str]) -> Self {
        Self::with(broker, slices, intake, DISPATCHER)
    }

    /// With all its topics, and with these sections of the configuration file in place of
    /// `[dispatcher]` with what the tests' brokers grant.
    pub fn with(broker: &Broker, slices: u16, intake: &[&str], sections: &str) -> Self {
        Self::set_up(&on(broker, slices, sections), intake)
    }

    /// With all its topics.
    pub fn set_up(setup: &Setup<'_>, intake: &[&str]) -> Self {
        let installation = Self::configured(setup, intake);
        installation.make_topics(intake);
        installation
    }

    /// As [`Installation::with`], for a Postrider that gets in with credentials only.
    pub fn secured(broker: &SecuredBroker, slices: u16, intake: &[&str], sections: &str) -> Self {
        let setup = on(broker.broker(), slices, sections);
        let installation = Self::configured(&setup, intake);
        installation.reach_by(broker.address(), &broker.properties());
        installation.make_topics(intake);
        installation
    }

    /// As [`Installation::with`], for a Postrider whose answers can be withheld.
    pub fn withheld(broker: &WithholdingBroker, slices: u16, intake: &[&str]) -> Self {
        let setup = on(broker.broker(), slices, DISPATCHER);
        let installation = Self::configured(&setup, intake);
        installation.reach_by(&broker.address().to_string(), &[]);
        installation.make_topics(intake);
        installation
    }

    /// With a configuration file only.
    pub fn without_topics(broker: &Broker, slices: u16, intake: &[&str]) -> Self {
        Self::configured(&on(broker, slices, DISPATCHER), intake)
    }

    fn configured(setup: &Setup<'_>, intake: &[&str]) -> Self {
        let prefix = format!("{}.", unique_prefix("e2e"));
        let intake: Vec<String> = intake
            .iter()
            .map(|name| format!("{prefix}{name}"))
            .collect();
        let installation = Self {
            folder: TempDir::new().expect("a folder for the installation"),
            bootstrap: setup.bootstrap.to_owned(),
            replication: setup.replication,
            prefix,
            intake,
            files: std::cell::Cell::new(0),
            authority: None,
        };
        installation.configure(setup);
        installation
    }

    fn configure(&self, setup: &Setup<'_>) {
        let Setup {
            allow_ranges,
            slices,
            sections,
            ..
        } = setup;
        let Self {
            bootstrap,
            replication,
            prefix,
            intake,
            ..
        } = self;
        let text = format!(
            r#"[kafka]
brokers = "{bootstrap}"
prefix = "{prefix}"
slices = {slices}
replication = {replication}

[[sources]]
topics = {intake:?}
decode = "auto"
[sources.map]
id = "/id"
type = "/type"
tenant = "/tenant"
ordering_key = "/key"

[egress]
allow_http = true
allow_ranges = {allow_ranges:?}

{sections}"#
        );
        fs::write(self.config(), text).expect("the folder is ours");
    }

    fn make_topics(&self, intake: &[&str]) {
        self.postrider(&["topics", "apply"]).expect_done();
        intake.iter().for_each(|name| self.make_intake(name));
    }

    /// Postrider reaches the brokers at this address from now on, and with these properties of
    /// librdkafka; clients of the test's own go on as they were.
    fn reach_by(&self, brokers: &str, properties: &[(&str, String)]) {
        let read = fs::read_to_string(self.config()).expect("the folder is ours");
        let line = |brokers: &str| format!("brokers = {brokers:?}\n");
        let mut text = read.replacen(&line(&self.bootstrap), &line(brokers), 1);
        assert_ne!(text, read, "the brokers' line is as it was written");
        text.push_str("\n[kafka.properties]\n");
        for (name, value) in properties {
            text.push_str(&format!("{name:?} = {value:?}\n"));
        }
        fs::write(self.config(), text).expect("the folder is ours");
    }

    /// Workers trust the certificate authorities in this PEM file, in place of the system's.
    pub fn trust(&mut self, authority: PathBuf) {
        self.authority = Some(authority);
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("postrider.toml")
    }

    /// What goes into `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The full name of a topic of ours, or of an intake topic.
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Makes an intake topic.
    pub fn make_intake(&self, name: &str) {
        let settings = self.client();
        let size = ("max.message.bytes".into(), INTAKE_BYTES_MAX.to_string());
        let in_sync = ("min.insync.replicas".into(), "2".to_owned());
        let spec = TopicSpec {
            name: self.topic(name),
            partitions: INTAKE_PARTITIONS,
            replication: self.replication,
            configs: [size]
                .into_iter()
                .chain((self.replication >= 3).then_some(in_sync))
                .collect(),
        };
        let plan = admin::plan(&settings, &[spec], TOPICS_WITHIN).expect("the broker is there");
        let failures = admin::apply(&settings, &plan, TOPICS_WITHIN).expect("the broker is there");
        assert!(failures.is_empty(), "{failures:?}");
    }

    /// How a client of the test's own reaches the broker.
    pub fn client(&self) -> ClientSettings {
        ClientSettings {
            brokers: self.bootstrap.clone(),
            properties: Vec::new(),
            client_id: "postrider-e2e".to_owned(),
        }
    }

    /// Runs a command of the binary to its end.
    pub fn postrider(&self, arguments: &[&str]) -> Answer {
        let started = Instant::now();
        let output = Command::new(binary())
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .expect("the binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Answer {
            command: arguments.join(" "),
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            took: started.elapsed(),
        }
    }

    /// Creates or changes endpoints: `endpoint apply`.
    pub fn endpoints(&self, yaml: &str) {
        let file = self.file("endpoints.yaml", yaml.as_bytes());
        self.postrider(&["endpoint", "apply", "-f", text(&file)])
            .expect_done();
    }

    /// Starts `postrider run` with these roles.
    pub fn worker(&self, roles: &[&str]) -> Process {
        self.worker_logging_to(roles, self.new_path("worker.log"))
    }

    /// As [`Installation::worker`], of the test build with kill points, with flags of its own.
    pub fn test_build(&self, role: &str, flags: &[&str]) -> Process {
        let config = self.config();
        let first = ["--config", text(&config), "run", role];
        let arguments = first.iter().chain(flags).copied();
        let log = self.new_path("test-build.log");
        Process::start(&[], &beside("postrider-points"), arguments, None, log)
    }

    /// As [`Installation::worker`], with the file that it logs to.
    pub fn worker_logging_to(&self, roles: &[&str], log: PathBuf) -> Process {
        self.worker_within(&[], roles, log)
    }

    /// As [`Installation::worker_logging_to`], behind the words of a command that becomes another,
    /// as `nsenter` does.
    pub fn worker_within(&self, within: &[String], roles: &[&str], log: PathBuf) -> Process {
        let config = self.config();
        let arguments = ["--config", text(&config), "run"];
        let arguments = arguments.iter().chain(roles).copied();
        Process::start(within, &binary(), arguments, self.authority.as_deref(), log)
    }

    /// Starts any command of the binary, whose output is its log.
    pub fn background(&self, arguments: &[&str]) -> Process {
        let config = self.config();
        let first = ["--config", text(&config)];
        let log = self.new_path("command.log");
        let arguments = first.iter().chain(arguments).copied();
        Process::start(&[], &binary(), arguments, self.authority.as_deref(), log)
    }

    /// A file of these bytes, whose name is new and ends like `name`.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.new_path(name);
        fs::write(&path, bytes).expect("the folder is ours");
        path
    }

    fn new_path(&self, name: &str) -> PathBuf {
        let number = self.files.get();
        self.files.set(number + 1);
        self.folder.path().join(format!("{number}-{name}"))
    }

    /// Puts one event per line on an intake topic.
    pub fn publish(&self, intake: &str, lines: &[String]) {
        let file = self.file("events", (lines.join("\n") + "\n").as_bytes());
        self.produce(intake, &["-l", text(&file)]);
    }

    /// Puts one record on an intake topic, with these headers (`name=value`).
    pub fn publish_bytes(&self, intake: &str, headers: &[&str], value: &[u8]) {
        let file = self.file("record", value);
        let mut arguments: Vec<&str> = headers.iter().flat_map(|h| ["-H", h]).collect();
        arguments.push(text(&file));
        self.produce(intake, &arguments);
    }

    /// Runs `kcat -P` on an intake topic.
    pub fn produce(&self, intake: &str, arguments: &[&str]) {
        kcat::produce(&self.bootstrap, &self.topic(intake), arguments);
    }

    /// Everything on a topic.
    pub fn read(&self, name: &str) -> Vec<kcat::Read> {
        kcat::consume(&self.bootstrap, &self.topic(name))
    }

    /// Everything on `attempts`.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.read("attempts").iter().map(records::attempt).collect()
    }

    /// Waits until `attempts` satisfies `enough`.
    ///
    /// # Panics
    /// When it does not within `limit`.
    #[track_caller]
    pub fn wait_for_attempts(
        &self,
        limit: Duration,
        enough: impl Fn(&[Attempt]) -> bool,
    ) -> Vec<Attempt> {
        wait_until("enough attempt records", limit, || {
            Some(self.attempts()).filter(|attempts| enough(attempts))
        })
    }

    /// Waits until `dead-letters` holds `count` records.
    ///
    /// # Panics
    /// When it does not within `limit`.
    #[track_caller]
    pub fn wait_for_dead_letters(&self, limit: Duration, count: usize) -> Vec<DeadLetter> {
        let read = wait_until("enough dead letters", limit, || {
            Some(self.read("dead-letters")).filter(|read| read.len() >= count)
        });
        read.into_iter().map(DeadLetter::from).collect()
    }
}

fn on<'a>(broker: &'a Broker, slices: u16, sections: &'a str) -> Setup<'a> {
    Setup {
        bootstrap: broker.bootstrap(),
        replication: 1,
        allow_ranges: &LOOPBACK,
        slices,
        sections,
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Answer {
    /// What was asked.
    pub command: String,
    /// The exit code; `None` = ended by a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Answer {
    /// What it printed.
    ///
    /// # Panics
    /// When its code is not 0.
    #[track_caller]
    pub fn expect_done(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }

    /// What it complained about, which holds every one of `parts`.
    ///
    /// # Panics
    /// When its code is another, or a part is missing.
    #[track_caller]
    pub fn expect_refusal(self, code: i32, parts: &[&str]) -> String {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in {self:#?}");
        }
        self.stderr
    }
}

/// The binary beside this one.
pub fn binary() -> PathBuf {
    beside("postrider")
}

/// The binary of that name beside this one: `postrider`, or the test build `postrider-points`.
pub fn beside(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this program has a path");
    let beside = |folder: &Path| Some(folder.join(name)).filter(|path| path.is_file());
    // tests are one folder deeper
    this.ancestors()
        .skip(1)
        .take(2)
        .find_map(beside)
        .unwrap_or_else(|| {
            panic!(
                "no {name} beside {}: build it first, as scripts/test does",
                this.display()
            )
        })
}
