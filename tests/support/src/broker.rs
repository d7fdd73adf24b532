//! A real Apache Kafka on 127.0.0.1, for as long as the test process lives.
//!
//! How it is configured, started and found ready is decided by `kafka/broker.sh`, which a `keeper`
//! runs. Clients are the tests' own business.

use std::fs;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::keeper::{Keeper, Ready};

/// Names another broker for [`Broker::shared`], as `HOST:PORT[,HOST:PORT…]`.
const BROKERS_VARIABLE: &str = "POSTRIDER_TEST_BROKERS";

/// What `kafka-server-start.sh` and `kafka-run-class.sh` of Kafka 4.1 set, and that it tells its
/// counters.
const AS_SHIPPED: [(&str, &str); 3] = [
    ("BROKER_JMX", "1"),
    ("KAFKA_HEAP_OPTS", "-Xms1G -Xmx1G"),
    (
        "KAFKA_JVM_PERFORMANCE_OPTS",
        "-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 \
         -XX:+ExplicitGCInvokesConcurrent -XX:MaxInlineLevel=15",
    ),
];

/// A broker and the addresses its clients start from.
///
/// Its groups have sessions of 15 s and heartbeats of 1 s, topics do not appear by themselves
/// (`kafka/server.properties`).
pub struct Broker {
    ready: Ready,
    /// `None`: someone else's broker.
    keeper: Option<Keeper>,
}

impl Broker {
    /// The broker that all tests share: the one that `POSTRIDER_TEST_BROKERS` names, else one
    /// that this process starts at the first call. Use [`crate::unique_prefix`] for every name.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| named_by_environment().unwrap_or_else(Self::own))
    }

    /// A broker of the caller's own, to be killed, frozen and started again; it ends with the
    /// value. Takes 2–4 s of one core to start.
    pub fn own() -> Self {
        Self::own_with(&[])
    }

    /// As [`Broker::own`], with these settings of `server.properties` beside ours or in place of
    /// them.
    pub fn own_with(settings: &[(&str, &str)]) -> Self {
        Self::started(settings, &[])
    }

    /// As [`Broker::own_with`], with the heap and the collector that Kafka's own start scripts
    /// give it, for who measures: a small one stands still for 20 ms and more, often, to collect
    /// garbage. Takes 1 GiB.
    pub fn as_shipped_with(settings: &[(&str, &str)]) -> Self {
        Self::started(settings, &AS_SHIPPED)
    }

    fn started(settings: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        let mut keeper = Keeper::spawn(&[], &[], settings, environment);
        let ready = keeper.start();
        Self {
            ready,
            keeper: Some(keeper),
        }
    }

    /// What goes into `bootstrap.servers`; the same across [`Broker::start_again`].
    pub fn bootstrap(&self) -> &str {
        &self.ready.bootstrap
    }

    /// Its process id, another one after [`Broker::start_again`]; `None` = someone else's broker.
    pub const fn pid(&self) -> Option<u32> {
        self.ready.pid
    }

    /// Kafka's tool that prints counters of a broker, told where those of this one are; `None` =
    /// it does not tell them: only one made by [`Broker::as_shipped_with`] does. It ends with
    /// whoever starts it.
    pub fn jmx_tool(&self) -> Option<Command> {
        let port = self.ready.jmx_port?;
        // as little as it can do with: it runs beside what is measured
        let mut command = tool("-Xmx48m", "org.apache.kafka.tools.JmxTool");
        let url = format!("service:jmx:rmi:///jndi/rmi://127.0.0.1:{port}/jmxrmi");
        command.args(["--jmx-url", &url]);
        Some(command)
    }

    /// Kafka's tool of this class, told where this broker is. A run takes 1–2 s of one core; it
    /// ends with whoever starts it.
    pub fn tool(&self, class: &str) -> Command {
        let mut command = tool("-Xmx128m", class);
        command.args(["--bootstrap-server", self.bootstrap()]);
        command
    }

    /// The version of Apache Kafka that brokers of tests run; `None` before any was started here.
    pub fn version() -> Option<String> {
        let jars = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/kafka/jars");
        let mut names = fs::read_dir(jars).ok()?.flatten();
        names.find_map(|jar| {
            let name = jar.file_name().into_string().ok()?;
            let version = name.strip_prefix("kafka-clients-")?.strip_suffix(".jar")?;
            Some(version.to_owned())
        })
    }

    /// Copies what it has logged since it was made into a folder, a file for each start.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn copy_logs(&self, folder: &Path) -> io::Result<()> {
        match &self.keeper {
            Some(keeper) => keeper.copy_logs(folder, ""),
            None => Ok(()),
        }
    }

    /// Ends it without warning (SIGKILL).
    pub fn kill(&mut self) {
        self.keeper().order("kill", "stopped");
    }

    /// Ends it in order (SIGTERM) and waits until it is gone.
    pub fn stop(&mut self) {
        self.keeper().order("stop", "stopped");
    }

    /// Starts it with the same address and data, and waits until it is ready.
    pub fn start_again(&mut self) {
        self.ready = self.keeper().start();
    }

    /// Stops its threads (SIGSTOP): connections stay open and nothing is answered.
    pub fn freeze(&mut self) {
        self.keeper().order("freeze", "frozen");
    }

    /// Lets it go on after [`Broker::freeze`].
    pub fn thaw(&mut self) {
        self.keeper().order("thaw", "thawed");
    }

    fn keeper(&mut self) -> &mut Keeper {
        self.keeper
            .as_mut()
            .expect("a broker made by own() has a keeper")
    }
}

fn tool(heap: &str, class: &str) -> Command {
    let jars = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/kafka/jars/*");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "java", heap]);
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(jars).arg(class);
    command
}

#[expect(
    clippy::disallowed_methods,
    reason = "configures tests, not the product"
)]
fn named_by_environment() -> Option<Broker> {
    let bootstrap = std::env::var(BROKERS_VARIABLE)
        .ok()
        .filter(|value| !value.is_empty())?;
    let reached = bootstrap.split(',').any(accepts);
    assert!(
        reached,
        "{BROKERS_VARIABLE}={bootstrap}: no broker accepts connections there"
    );
    Some(Broker {
        ready: Ready {
            bootstrap,
            pid: None,
            jmx_port: None,
        },
        keeper: None,
    })
}

fn accepts(address: &str) -> bool {
    let resolved = address.to_socket_addrs().into_iter().flatten();
    let mut connections =
        resolved.map(|address| TcpStream::connect_timeout(&address, Duration::from_secs(5)));
    connections.any(|connection| connection.is_ok())
}

#[cfg(test)]
mod tests {
    use super::{Broker, accepts};
    use std::process::Command;

    fn metadata(broker: &Broker) -> String {
        let output = Command::new("kcat")
            .args(["-L", "-m", "20", "-b", broker.bootstrap()])
            .output()
            .expect("scripts/setup.sh test installs kcat");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn the_shared_broker_answers_a_foreign_client() {
        let listed = metadata(Broker::shared());
        assert!(listed.contains(" brokers:"), "{listed}");
    }

    #[test]
    fn a_broker_of_ones_own_dies_and_comes_back_at_the_same_address() {
        let mut broker = Broker::own();
        let address = broker.bootstrap().to_owned();
        assert!(accepts(&address));

        broker.kill();
        assert!(!accepts(&address));
        broker.start_again();
        assert_eq!(broker.bootstrap(), address);
        let listed = metadata(&broker);
        assert!(listed.contains(&address), "{listed}");
        assert!(
            listed.contains("__consumer_offsets"),
            "groups have to wait: {listed}"
        );

        broker.freeze();
        broker.thaw();
        broker.stop();
        assert!(!accepts(&address));
    }

    #[test]
    fn a_dropped_broker_is_gone() {
        let broker = Broker::own();
        let address = broker.bootstrap().to_owned();
        drop(broker);
        assert!(!accepts(&address));
    }
}
