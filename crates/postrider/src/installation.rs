//! The installation a command speaks about: its configuration and its topics.
//!
//! Decides how flags override the file, how long a command waits for a broker, and that nothing is
//! written while the topics and the configuration disagree about the number of slices.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postrider_config::{Config, Environment, File, Override, Sources};
use postrider_domain::EndpointId;
use postrider_kafka::admin::{self, Plan, TopicSpec};
use postrider_kafka::{ClientSettings, connect_check};
use postrider_signing::KeyRing;
use postrider_wire::Topics;

use crate::exit::Failure;
use crate::key_file;

/// How long a command waits for a broker before it gives up with exit code 69.
pub(crate) const WAIT: Duration = Duration::from_secs(10);

/// A configuration and the names that follow from it.
pub(crate) struct Installation {
    pub(crate) config: Config,
    /// Where it was read, if it was.
    pub(crate) file: Option<PathBuf>,
    pub(crate) topics: Topics,
}

/// Where the configuration comes from beside the environment.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Where {
    /// Configuration file: TOML, or YAML or JSON by its extension
    #[arg(
        short,
        long,
        global = true,
        env = "POSTRIDER_CONFIG",
        value_name = "FILE"
    )]
    pub(crate) config: Option<PathBuf>,
    /// Kafka brokers, host:port, comma-separated; overrides kafka.brokers
    #[arg(long, global = true, env = "POSTRIDER_BROKERS", value_name = "LIST")]
    pub(crate) brokers: Option<String>,
}

impl Where {
    /// File, environment and flags, in that order.
    pub(crate) fn sources(&self) -> Result<Sources, Failure> {
        let read = |path: &Path| {
            std::fs::File::open(path).map_err(|error| {
                Failure::usage(format!("cannot read {}: {error}", path.display()))
            })?;
            Ok::<File, Failure>(File::read(path)?)
        };
        let file = self.config.as_deref().map(read).transpose()?;
        let brokers = self.brokers.iter().map(|value| Override {
            path: "kafka.brokers".to_owned(),
            value: value.clone(),
            flag: "--brokers".to_owned(),
        });
        Ok(Sources {
            file,
            environment: Environment::of_process(),
            overrides: brokers.collect(),
        })
    }

    /// Whether the brokers are named by `POSTRIDER_BROKERS` alone: clap takes the flag first.
    pub(crate) fn brokers_by_variable(&self) -> bool {
        let flag =
            |argument: std::ffi::OsString| argument.to_string_lossy().starts_with("--brokers");
        self.brokers.is_some() && !std::env::args_os().any(flag)
    }

    pub(crate) fn load(&self) -> Result<Installation, Failure> {
        let file = self.config.clone();
        let loaded = postrider_config::load(self.sources()?);
        let config = loaded.map_err(|errors| refuse(file.as_ref(), errors.into()))?;
        let topics = Topics::new(&config.kafka.prefix);
        Ok(Installation {
            config,
            file,
            topics,
        })
    }
}

/// Whoever is refused something may only have forgotten to name the file.
fn refuse(file: Option<&PathBuf>, failure: Failure) -> Failure {
    match file {
        Some(_) => failure,
        None => failure.and(
            "no configuration file was given (--config or POSTRIDER_CONFIG); defaults are in force",
        ),
    }
}

impl Installation {
    /// The keys that seal secrets, none without a key file.
    ///
    /// # Errors
    /// The key file cannot be read, or is none.
    pub(crate) fn keys(&self) -> Result<Arc<KeyRing>, Failure> {
        match &self.config.secrets.key_file {
            None => Ok(Arc::default()),
            Some(path) => Ok(Arc::new(key_file::read(path)?)),
        }
    }

    /// A failure that the configuration may be to blame for.
    pub(crate) fn refuse(&self, failure: Failure) -> Failure {
        refuse(self.file.as_ref(), failure)
    }

    /// How to speak to the brokers.
    pub(crate) fn kafka(&self) -> ClientSettings {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        ClientSettings {
            brokers: self.config.kafka.brokers.clone(),
            properties: self.config.kafka.properties.iter().map(owned).collect(),
            client_id: "postrider".to_owned(),
        }
    }

    /// The same, once a broker has answered.
    pub(crate) fn reach(&self) -> Result<ClientSettings, Failure> {
        let settings = self.kafka();
        connect_check(&settings, WAIT).map_err(|error| {
            let mut rows = self.config.show().iter();
            let unnamed = rows.any(|row| row.path == "kafka.brokers" && row.source == "default");
            if unnamed {
                self.refuse(error.into())
            } else {
                error.into()
            }
        })?;
        Ok(settings)
    }

    /// The group named to brokers by commands that only look; nothing ever joins it.
    pub(crate) fn group(&self) -> String {
        format!("{}cli", self.config.kafka.prefix)
    }

    /// Where everything about an endpoint is, on every per-endpoint topic.
    pub(crate) fn partition(&self, endpoint: &EndpointId) -> i32 {
        self.config.kafka.slices.slice_of(endpoint).0.into()
    }

    /// Every topic as it should be.
    pub(crate) fn specs(&self) -> Vec<TopicSpec> {
        let kafka = &self.config.kafka;
        let specs = self.topics.specs(kafka.slices, kafka.replication);
        let spec = |spec: &postrider_wire::TopicSpec| TopicSpec {
            name: spec.name.to_string(),
            partitions: spec.partitions.into(),
            replication: spec.replication.into(),
            configs: spec
                .configs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        };
        specs.iter().map(spec).collect()
    }

    /// What there is of the topics and what is missing.
    pub(crate) fn plan(&self, settings: &ClientSettings) -> Result<Plan, Failure> {
        Ok(admin::plan(settings, &self.specs(), WAIT)?)
    }

    /// Refuses when a topic has another number of partitions than there are slices.
    pub(crate) fn check_slices(&self, plan: &Plan) -> Result<(), Failure> {
        if plan.wrong.is_empty() {
            return Ok(());
        }
        let topics: Vec<String> = plan
            .wrong
            .iter()
            .map(|wrong| format!("\n  {wrong}"))
            .collect();
        Err(self.refuse(Failure::usage(format!(
            "kafka.slices is {}, but the cluster says otherwise:{}\n\
             the number of slices is fixed for the life of an installation: set kafka.slices to \
             what the topics have, or choose another kafka.prefix",
            self.config.kafka.slices.get(),
            topics.concat()
        ))))
    }

    /// Refuses when one of these topics of ours is not there, or has the wrong number of partitions.
    pub(crate) fn check_topics(
        &self,
        settings: &ClientSettings,
        needed: &[&str],
    ) -> Result<(), Failure> {
        let plan = self.plan(settings)?;
        self.check_slices(&plan)?;
        let missing = plan.missing.iter().map(|spec| &*spec.name);
        let missing: Vec<&str> = missing.filter(|name| needed.contains(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(self.refuse(Failure::no(format!(
            "missing topics: {}; `postrider topics apply` makes them",
            missing.join(", ")
        ))))
    }
}
