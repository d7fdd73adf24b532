//! `postrider run`: the roles, for as long as the process lives.
//!
//! Decides what is checked before a role starts, and how signals end it: before that, SIGTERM and
//! SIGINT end it at once; then the first drains, commits and leaves, and one that comes more than a
//! second later exits at once. Leaves all work to the roles.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use crossbeam_channel::RecvTimeoutError;
use postrider_dispatcher::{Dispatcher, DispatcherSettings, Ended};
use postrider_router::{Router, RouterHandle, RouterSettings};
use postrider_signing::KeyRing;
use postrider_telemetry::Metrics;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::cli::start_logs;
use crate::exit::{Code, Failure};
use crate::installation::{Installation, Where};

/// Longest time a role takes to drain: attempts end within 60 s, and the engine gives up a drain
/// after 75 s.
const STOP_MAX: Duration = Duration::from_secs(85);
/// From then on the engine gives up what is in flight.
const DRAIN_MAX: Duration = Duration::from_secs(75);
/// Longest time the router takes to write and commit.
const ROUTER_STOP_MAX: Duration = Duration::from_secs(20);
/// One order may come as several signals: `timeout` and process groups send two.
const SAME_ORDER: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Roles to run in this process; none = all of them
    #[arg(value_enum, env = "POSTRIDER_ROLES", value_delimiter = ',')]
    roles: Vec<Role>,
    #[cfg(feature = "points")]
    #[command(flatten)]
    test_build: crate::test_build::TestBuild,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Events in, deliveries out
    Router,
    /// Deliveries in, requests out
    Dispatcher,
}

pub(crate) fn run(arguments: &Arguments, at: &Where, no_color: bool) -> Result<(), Failure> {
    let runtime = runtime()?;
    let signals = Signals::of(&runtime)?;
    let nothing_runs = runtime.spawn(exit_when_told(Signals::of(&runtime)?));
    let installation = at.load()?;
    start_logs(&installation.config.telemetry, no_color)?;
    #[cfg(feature = "points")]
    arguments.test_build.arm();
    let has = |role| arguments.roles.is_empty() || arguments.roles.contains(&role);
    if has(Role::Router) && installation.config.sources.is_empty() {
        return Err(installation.refuse(Failure::usage(
            "the router has nothing to read: name at least one intake topic under [[sources]], \
             or run only the dispatcher (`postrider run dispatcher`)",
        )));
    }
    // Only who sends opens secrets; a wrong key file is told without waiting for a broker.
    let keys = has(Role::Dispatcher).then(|| installation.keys());
    let keys = keys.transpose()?;
    let settings = installation.reach()?;
    let names: Vec<String> = installation
        .specs()
        .into_iter()
        .map(|spec| spec.name)
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    installation.check_topics(&settings, &names)?;
    if has(Role::Dispatcher) {
        installation.check_granted(&settings)?;
        raise_open_files(installation.config.dispatcher.in_flight_max);
    }
    nothing_runs.abort();
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    let roles = Roles {
        router: has(Role::Router)
            .then(|| start_router(&installation, &metrics))
            .transpose()?,
        dispatcher: keys
            .map(|keys| start_dispatcher(&installation, keys, &metrics, &runtime))
            .transpose()?,
    };
    log_start(&roles, &installation);
    if runtime.block_on(roles.until_told(signals))? {
        info!("stopped: everything committed");
    } else {
        warn!("stopped: what was not committed in time will be sent again");
    }
    Ok(())
}

fn log_start(roles: &Roles, installation: &Installation) {
    let config = &installation.config;
    let named = |there: bool, name| there.then_some(name);
    let names = [
        named(roles.router.is_some(), "router"),
        named(roles.dispatcher.is_some(), "dispatcher"),
    ];
    let names: Vec<&str> = names.into_iter().flatten().collect();
    let sources = config.sources.iter().map(|source| match &source.topics {
        postrider_config::Topics::Names(names) => names.join(","),
        postrider_config::Topics::Regex(pattern) => pattern.clone(),
    });
    info!(
        roles = names.join(","),
        brokers = config.kafka.brokers,
        prefix = config.kafka.prefix,
        slices = config.kafka.slices.get(),
        sources = sources.collect::<Vec<_>>().join(","),
        "running"
    );
}

/// Raises the soft limit of open files to what requests can need, as far as the hard one allows,
/// and has the kernel's table of them grow to that at once. Starts all the same: most installations
/// never have that many requests in flight.
fn raise_open_files(in_flight_max: usize) {
    let needed = open_files_needed(in_flight_max);
    let limit = match rlimit::increase_nofile_limit(needed) {
        Ok(limit) => limit,
        Err(error) => {
            warn!(%error, needed, "the limit of open files cannot be read or raised");
            return;
        }
    };
    if limit < needed {
        warn!(
            limit,
            needed,
            "too few open files for dispatcher.in_flight_max: attempts may fail; raise the hard \
             limit (ulimit -Hn, LimitNOFILE= of the service) or lower dispatcher.in_flight_max"
        );
    }
    if let Err(error) = grow_table_of_files(limit.min(needed)) {
        warn!(%error, "the table of open files grows while requests are sent: they may pause then");
    }
}

/// Opens a file under the highest number there may be, and closes it again. The kernel doubles the
/// table when it is full (at 64, 512, 1024, ... files), and in a process of several threads every
/// thread that opens a file waits for that: long on a busy machine, and it would be in the middle of
/// a burst. The table never shrinks.
fn grow_table_of_files(files: u64) -> Result<(), rustix::io::Errno> {
    let highest = i32::try_from(files.saturating_sub(1)).unwrap_or(i32::MAX);
    rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), highest).map(drop)
}

/// Files that may be open at once. A request holds six at most, while its name is looked up: two
/// questions, each sent up to three times from a socket of its own. Beside requests there are
/// Kafka's connections, and those that wait for another request.
fn open_files_needed(in_flight_max: usize) -> u64 {
    let requests = u64::try_from(in_flight_max).unwrap_or(u64::MAX);
    let kept = u64::try_from(postrider_egress::CONNECTIONS_KEPT_MAX).unwrap_or(u64::MAX);
    requests.saturating_mul(6).saturating_add(1024 + kept)
}

/// The runtime that requests run on; the roles' own loops are threads.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("requests")
        .build()
        .map_err(|e| Failure::new(Code::Bug, format!("cannot start the runtime: {e}")))
}

pub(crate) fn start_router(
    installation: &Installation,
    metrics: &Metrics,
) -> Result<RouterHandle, Failure> {
    let mut client = installation.kafka();
    client.client_id = format!("postrider-router-{}", worker());
    let settings =
        RouterSettings::from_config(&installation.config, client).map_err(Failure::usage)?;
    Router::start(settings, metrics.clone()).map_err(Failure::usage)
}

pub(crate) fn start_dispatcher(
    installation: &Installation,
    keys: Arc<KeyRing>,
    metrics: &Metrics,
    runtime: &Runtime,
) -> Result<Dispatcher, Failure> {
    let mut settings = DispatcherSettings::from_config(&installation.config, keys, &worker());
    settings.client.properties = installation.kafka().properties;
    Dispatcher::start(&settings, metrics.clone(), runtime.handle().clone()).map_err(Failure::usage)
}

/// Names this process among its siblings: host and process id.
fn worker() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let host = if host.is_empty() { "worker" } else { host };
    format!("{host}-{}", std::process::id())
}

struct Roles {
    router: Option<RouterHandle>,
    dispatcher: Option<Dispatcher>,
}

impl Roles {
    /// Runs until a signal comes or a role fails; then stops every role. Whether there was time to
    /// commit everything.
    async fn until_told(self, mut signals: Signals) -> Result<bool, Failure> {
        let (ends, mut ended) = mpsc::channel(2);
        let (stop, stopping) = crossbeam_channel::bounded::<()>(0);
        let mut running = 0;
        if let Some(router) = self.router {
            running += 1;
            let (ends, stopping) = (ends.clone(), stopping.clone());
            thread::spawn(move || ends.blocking_send(watch_router(router, &stopping)));
        }
        if let Some(dispatcher) = self.dispatcher {
            running += 1;
            let (ends, stopping) = (ends.clone(), stopping.clone());
            thread::spawn(move || ends.blocking_send(watch_dispatcher(dispatcher, &stopping)));
        }
        let mut failure = None;
        let mut stop = Some(stop);
        let mut told = Told::default();
        let mut committed = true;
        while running > 0 {
            tokio::select! {
                Some(end) = ended.recv() => {
                    running -= 1;
                    match end {
                        Ok(all) => committed &= all,
                        Err(reason) => {
                            error!(reason, "a role failed");
                            failure.get_or_insert(reason);
                        }
                    }
                    // One role alone is no installation: whoever restarts us restarts both.
                    stop = None;
                }
                () = signals.next() => told.stop_or_exit(&mut stop),
            }
        }
        drop(stop);
        failure.map_or(Ok(committed), |reason| {
            Err(Failure::new(Code::Unavailable, reason))
        })
    }
}

/// SIGTERM and SIGINT, from when it was made.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn of(runtime: &Runtime) -> Result<Self, Failure> {
        let _in_runtime = runtime.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(Failure::no)?,
            interrupt: signal(SignalKind::interrupt()).map_err(Failure::no)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// While no role runs there is nothing to drain; a check may wait long for a broker. As process 1
/// of a container it would hear no signal that it does not ask for.
async fn exit_when_told(mut signals: Signals) {
    signals.next().await;
    info!("told to stop: nothing was started");
    std::process::exit(0);
}

/// The signals so far.
#[derive(Debug, Default)]
pub(crate) struct Told {
    first: Option<Instant>,
}

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Stop,
    /// The same order again.
    Same,
    Exit,
}

impl Told {
    /// What a signal of this moment means.
    pub(crate) fn order(&mut self, now: Instant) -> Order {
        match self.first {
            None => {
                self.first = Some(now);
                Order::Stop
            }
            Some(first) if now.duration_since(first) < SAME_ORDER => Order::Same,
            Some(_) => Order::Exit,
        }
    }

    /// Stops the roles by closing their channel, or ends the process.
    fn stop_or_exit(&mut self, stop: &mut Option<crossbeam_channel::Sender<()>>) {
        match self.order(Instant::now()) {
            Order::Stop => {
                info!("told to stop: draining");
                *stop = None;
            }
            Order::Same => {}
            Order::Exit => {
                error!(
                    "told twice: exiting without draining; what was in flight will be sent again"
                );
                std::process::exit(1);
            }
        }
    }
}

fn watch_router(
    router: RouterHandle,
    stopping: &crossbeam_channel::Receiver<()>,
) -> Result<bool, String> {
    let failed = router.failed().clone();
    crossbeam_channel::select! {
        recv(failed) -> reason => {
            Err(reason.unwrap_or_else(|_| "the router ended".to_owned()))
        }
        recv(stopping) -> _closed => {
            let told = Instant::now();
            Ok(router.stop(ROUTER_STOP_MAX) && told.elapsed() < ROUTER_STOP_MAX)
        }
    }
}

fn watch_dispatcher(
    mut dispatcher: Dispatcher,
    stopping: &crossbeam_channel::Receiver<()>,
) -> Result<bool, String> {
    while let Err(RecvTimeoutError::Timeout) = stopping.recv_timeout(Duration::from_millis(50)) {
        match dispatcher.wait(Duration::ZERO) {
            None => {}
            Some(Ended::Failed(reason)) => return Err(reason),
            Some(Ended::Stopped) => return Err("the dispatcher ended unasked".to_owned()),
        }
    }
    dispatcher.stop();
    let told = Instant::now();
    match dispatcher.wait(STOP_MAX) {
        Some(Ended::Stopped) => Ok(told.elapsed() < DRAIN_MAX),
        Some(Ended::Failed(reason)) => Err(reason),
        None => Err("the dispatcher did not drain in time".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_signal_is_one_order() {
        let start = Instant::now();
        let mut told = Told::default();
        let mut after = |millis| told.order(start + Duration::from_millis(millis));
        assert_eq!(after(0), Order::Stop);
        assert_eq!(after(0), Order::Same);
        assert_eq!(after(999), Order::Same);
        assert_eq!(after(1_000), Order::Exit);
    }

    #[test]
    fn the_limit_of_open_files_is_raised_as_far_as_it_may_be() {
        let (_, hard) = rlimit::Resource::NOFILE.get().unwrap();
        raise_open_files(64);
        let (soft, _) = rlimit::Resource::NOFILE.get().unwrap();
        assert!(soft >= open_files_needed(64).min(hard), "{soft} of {hard}");
        // The kernel's table has room for all of them already.
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let room = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
        let room: u64 = room.unwrap().trim().parse().unwrap();
        assert!(room >= open_files_needed(64).min(hard), "room for {room}");
        // More than there can be is warned of, not refused.
        raise_open_files(usize::MAX);
    }
}
