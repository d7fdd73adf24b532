//! `postrider dev`: everything in one process, with a receiver that misbehaves and demo traffic.
//!
//! Decides when the demo is over and what it ends with. Its parts: `plan` (what is played and
//! expected), `stage` (broker, topics, receiver, endpoints), `feeds` (the news), `ledger` (what
//! became of each delivery), `screen` (how it looks).

mod feeds;
mod ledger;
mod plan;
mod screen;
mod stage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::builder::BoolishValueParser;
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, bounded};
use postrider_catalog::by_tenant::ByTenant;
use postrider_dispatcher::{Dispatcher, Ended};
use postrider_domain::{Event, SliceCount};
use postrider_kafka::embedded::Watch;
use postrider_router::RouterHandle;
use postrider_telemetry::Metrics;
use postrider_wire::dead_letter::Content;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;

use self::feeds::{Arrival, Feeds, NEWS_MAX, Never, News, Publisher};
use self::ledger::{End, Ledger};
use self::screen::Screen;
use self::stage::Stage;
use super::run::{Order, Told, runtime, start_dispatcher, start_router};
use crate::cli::start_logs;
use crate::exit::{Code, Failure};
use crate::input;
use crate::installation::Where;
use crate::output::{Format, Output};
use crate::receiver::Verdict;

/// With `--exit`: how long nothing may happen before the demo is called stuck. The longest wait
/// of the schedules is a tenth of it.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// How often it is looked whether somebody wants to stop, or a role ended.
const LOOK: Duration = Duration::from_millis(50);
/// Longest time the roles may take to stop; requests to the receiver are answered at once.
const STOP_MAX: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Demo events to publish
    #[arg(long, env = "POSTRIDER_EVENTS", value_name = "N", default_value_t = 10)]
    events: u32,
    /// How many of them per second
    #[arg(long, env = "POSTRIDER_RATE", value_name = "R", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// Demo endpoints: healthy, flaky, dead, and again
    #[arg(long, env = "POSTRIDER_ENDPOINTS", value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(1..=1_000))]
    endpoints: u16,
    /// Stop when every delivery is settled; exit 0 only if all went as expected
    #[arg(long, env = "POSTRIDER_EXIT", value_parser = BoolishValueParser::new())]
    exit: bool,
    /// Print only a summary, as one JSON object; the same as -o json
    #[arg(long, env = "POSTRIDER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

pub(crate) fn run(
    arguments: &Arguments,
    at: &Where,
    output: Output,
    no_color: bool,
) -> Result<(), Failure> {
    let output = if arguments.json {
        Output::new(Format::Json, true)
    } else {
        output
    };
    let endpoints = plan::endpoints(arguments.endpoints);
    let slices = SliceCount::new(stage::SLICES).expect("more than none");
    let embedded = at.brokers.is_none();
    plan::check(arguments.events, &endpoints, slices, embedded).map_err(Failure::usage)?;
    let stage = Stage::new(at)?;
    start_logs(&stage.installation.config.telemetry, no_color)?;
    if at.brokers_by_variable() {
        // Before anything is written: a variable is easily forgotten.
        output.note(&format!(
            "Using Kafka at {} because POSTRIDER_BROKERS is set; unset it for the embedded broker",
            stage.installation.config.kafka.brokers
        ))?;
    }
    let settings = stage.make_topics()?;
    let runtime = runtime()?;
    let told = watch_signals(&runtime)?;
    let (news_in, news) = bounded(NEWS_MAX);
    let (stop, stopping) = bounded::<Never>(0);

    let full = news_in.clone();
    let watch = embedded.then(|| {
        Watch::start(&settings, move |overflow| {
            let reason = format!("{overflow}; stopped. --brokers takes a real Kafka instead");
            drop(full.send(News::Failed(Failure::no(reason))));
        })
    });
    let watch = watch.transpose()?;
    let mut feeds = Feeds::follow(&stage, &settings, &news_in, &stopping)?;
    let arrivals = news_in.clone();
    let receiver = stage.open(&runtime, &endpoints, move |seen| {
        drop(arrivals.send(News::Arrived(Arrival::of(seen))));
    })?;
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    let roles = Roles {
        router: start_router(&stage.installation, &metrics)?,
        dispatcher: start_dispatcher(
            &stage.installation,
            stage.installation.keys()?,
            &metrics,
            &runtime,
        )?,
    };
    let screen = Screen::new(output);
    let introduced = screen.introduce(&stage, &receiver.url(), &endpoints);
    let name = format!("{:08x}", u32::from_be_bytes(input::random()?));
    let publisher = Publisher {
        settings,
        intake: stage.intake.clone(),
        run: name.clone(),
        events: arguments.events,
        rate: arguments.rate,
    };
    feeds.publish(publisher, &news_in, &stopping);
    drop(news_in);
    let mut demo = Demo {
        ledger: Ledger::new(&name, arguments.events, endpoints),
        catalog: ByTenant::new(),
        screen,
        exit: arguments.exit,
        roles,
        told,
        heard: Instant::now(),
        settled: false,
    };
    let played = introduced
        .map_err(Failure::from)
        .and_then(|()| demo.play(&stage, &news));
    drop(stop);
    let ended = demo.end(&stage, &news, played);
    drop(news);
    feeds.join();
    drop(watch);
    runtime.block_on(receiver.stop());
    ended
}

/// The demo while it runs.
struct Demo {
    ledger: Ledger,
    /// To tell events that no endpoint wants.
    catalog: ByTenant,
    screen: Screen,
    exit: bool,
    roles: Roles,
    told: Arc<AtomicBool>,
    /// When something was last heard of the demo's own deliveries.
    heard: Instant,
    settled: bool,
}

/// Why the demo is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Settled,
    Told,
    Stuck,
}

impl Demo {
    /// Until it is over or fails.
    fn play(&mut self, stage: &Stage, news: &Receiver<News>) -> Result<Over, Failure> {
        loop {
            match news.recv_timeout(LOOK) {
                Ok(one) => self.take(one)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(Over::Told),
            }
            if self.told.load(Ordering::Relaxed) {
                return Ok(Over::Told);
            }
            self.roles.check()?;
            if !self.settled && self.ledger.is_settled() {
                self.settled = true;
                if self.exit {
                    return Ok(Over::Settled);
                }
                self.screen.settled(stage, self.ledger.planned())?;
            }
            if self.exit && self.heard.elapsed() > STUCK_AFTER {
                return Ok(Over::Stuck);
            }
        }
    }

    fn take(&mut self, news: News) -> Result<(), Failure> {
        let ours = match &news {
            News::Published(event) => {
                self.screen.published(event)?;
                let ours = self.ledger.published(&event.source, &event.id);
                let wants = |event: &Event| {
                    let mut matching = self.catalog.matching(&event.tenant, &event.event_type);
                    matching.next().is_some()
                };
                if !ours && !wants(event) {
                    self.screen.no_endpoint(event)?;
                }
                ours
            }
            News::Endpoint(..) => false,
            News::Arrived(arrival) => {
                let valid = arrival.verdict == Verdict::Valid;
                let event = self.ledger.event_of(&arrival.delivery);
                let endpoint = self.ledger.endpoint_at(&arrival.path);
                self.screen.arrived(arrival, event.as_deref(), endpoint)?;
                self.ledger.arrived(&arrival.delivery, valid)
            }
            News::Attempt(attempt) => {
                self.screen.attempt(attempt)?;
                let reason = || attempt.reason.as_deref().unwrap_or_default().to_owned();
                match &*attempt.outcome {
                    "delivered" => self.ledger.ended(&attempt.delivery_id, End::Delivered),
                    "discarded" => self
                        .ledger
                        .ended(&attempt.delivery_id, End::Discarded(reason())),
                    _ => self.ledger.follows(&attempt.delivery_id),
                }
            }
            News::DeadLetter(letter) => {
                self.screen.dead_letter(letter)?;
                let delivery = match &letter.content {
                    Content::Delivery(delivery) => delivery.id.to_string(),
                    Content::Input { .. } => String::new(),
                };
                let end = End::DeadLettered(letter.reason.to_string());
                self.ledger.ended(&delivery, end)
            }
            News::Failed(_) => false,
        };
        if ours {
            self.heard = Instant::now();
        }
        match news {
            News::Failed(failure) => Err(failure),
            News::Endpoint(id, endpoint) => {
                self.catalog.apply(id, endpoint.map(|endpoint| *endpoint));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Stops the roles, taking what they still have to say, and sums up.
    fn end(
        mut self,
        stage: &Stage,
        news: &Receiver<News>,
        played: Result<Over, Failure>,
    ) -> Result<(), Failure> {
        let took = self.screen.elapsed();
        self.roles.dispatcher.stop();
        let deadline = Instant::now() + STOP_MAX;
        let stopped = loop {
            // The output may be gone, which `played` knows already, or will.
            while let Ok(one) = news.try_recv() {
                drop(self.take(one));
            }
            match self.roles.dispatcher.wait(LOOK) {
                Some(ended) => break Some(ended),
                None if Instant::now() >= deadline => break None,
                None => {}
            }
        };
        self.roles.router.stop(STOP_MAX);
        if stopped != Some(Ended::Stopped) {
            warn!(?stopped, "the dispatcher did not stop as it should");
        }
        let over = played?;
        let summary = self.ledger.summary();
        self.screen.summary(stage, &summary, took)?;
        let differs = summary.unexpected.join("\n  ");
        match over {
            Over::Stuck => Err(Failure::no(format!(
                "nothing happened for {} s, so the demo is stuck; POSTRIDER__TELEMETRY__LOG=info \
                 tells more:\n  {differs}",
                STUCK_AFTER.as_secs()
            ))),
            Over::Told if self.exit && !summary.ok => Err(Failure::no(format!(
                "the demo was stopped before all was settled:\n  {differs}"
            ))),
            Over::Settled if !summary.ok => Err(Failure::no(format!(
                "the demo did not go as expected:\n  {differs}"
            ))),
            Over::Settled | Over::Told => Ok(()),
        }
    }
}

struct Roles {
    router: RouterHandle,
    dispatcher: Dispatcher,
}

impl Roles {
    /// Refuses to go on when one has ended.
    fn check(&mut self) -> Result<(), Failure> {
        let ended = |what: String| Err(Failure::new(Code::Unavailable, what));
        match self.router.failed().try_recv() {
            Ok(reason) => return ended(format!("the router failed: {reason}")),
            Err(TryRecvError::Disconnected) => return ended("the router ended".to_owned()),
            Err(TryRecvError::Empty) => {}
        }
        match self.dispatcher.wait(Duration::ZERO) {
            Some(Ended::Failed(reason)) => ended(format!("the dispatcher failed: {reason}")),
            Some(Ended::Stopped) => ended("the dispatcher ended".to_owned()),
            None => Ok(()),
        }
    }
}

/// The first SIGINT or SIGTERM ends the demo, one that comes later the process.
fn watch_signals(runtime: &Runtime) -> Result<Arc<AtomicBool>, Failure> {
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    let _in_runtime = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::no)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::no)?;
    runtime.spawn(async move {
        let mut signals = Told::default();
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            match signals.order(Instant::now()) {
                Order::Stop => tell.store(true, Ordering::Relaxed),
                Order::Same => {}
                Order::Exit => std::process::exit(1),
            }
        }
    });
    Ok(told)
}
