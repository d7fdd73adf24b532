//! The router's loop: records in, deliveries out, offsets committed behind them.
//!
//! Decides the order of work in one turn, when intake stops and goes on, when offsets are committed,
//! and how a revocation and a stop are answered. Leaves what an event becomes to `fan_out`, what is
//! settled to `progress`, which schema is known to `schemas`, and sending again to `writes`.
//!
//! One thread drives everything: the consumer, the producer's answers, the catalogue, the endpoints'
//! filters. Nothing in a turn waits longer than [`IDLE`], but for questions to a broker that is away
//! (half a second), and filters that take long are asked in slices of [`SLICE`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use postrider_domain::Record;
use postrider_engine::commits::pause_after;
use postrider_kafka::ClientError;
use postrider_kafka::intake::{Intake, IntakeEvent, SourcePartition};
use postrider_points as points;
use postrider_schema::SchemaId;
use postrider_telemetry::{FilterDecision, Metrics};
use postrider_wire::event;
use tracing::{error, info, warn};

use crate::endpoints::Endpoints;
use crate::fan_out::{Asked, FanOut};
use crate::filters::Filters;
use crate::progress::{Begun, Frontier, Progress, Ticket};
use crate::reject;
use crate::schemas::Schemas;
use crate::settings::RouterSettings;
use crate::sources::Sources;
use crate::standing::{self, Standing};
use crate::unwanted::Unwanted;
use crate::waiting::Waiting;
use crate::writes::{self, Answer, What, Write, Writes};

/// Longest wait for a record; answers and catalogue changes are looked at in between.
pub(crate) const IDLE: Duration = Duration::from_millis(20);
/// Wait for room: answers come within milliseconds.
const FULL: Duration = Duration::from_millis(5);
/// Records taken in one turn.
const BATCH: usize = 100;
/// Without room for so long, partitions are paused and polling goes on, to keep the membership.
const STALL: Duration = Duration::from_secs(1);
/// Longest time that filters of one event are asked before answers, commits and the group have their
/// turn; one filter takes 2 ms at most.
const SLICE: Duration = Duration::from_millis(10);
/// What a crash repeats at most (with the same delivery ids).
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for acknowledgements of revoked partitions; then the successor repeats the rest.
const DRAIN: Duration = Duration::from_secs(10);

/// Everything of a running router.
pub(crate) struct Router {
    settings: RouterSettings,
    metrics: Metrics,
    sources: Sources,
    schemas: Schemas,
    endpoints: Endpoints,
    writes: Writes,
    intake: Intake,
    progress: Progress,
    filters: Filters,
    /// The event whose deliveries are being written.
    current: Option<(FanOut, Ticket)>,
    /// It is not done because its slice of time was over, not because there was no room.
    sliced: bool,
    /// Read and not begun: their partition was full, or they came while there was no room.
    held: VecDeque<Record>,
    /// Partitions whose next record is of a schema that is not known yet.
    standing: Standing,
    /// Since when there is no room.
    stalled_since: Option<Instant>,
    waiting: Waiting,
    unwanted: Unwanted,
    /// The commit on its way.
    sent: Vec<Frontier>,
    commit_at: Instant,
    refused_at: Instant,
    /// How many commits in a row were refused.
    refused: u32,
    /// Partitions drain until then at the latest.
    drain_until: Option<Instant>,
}

/// Why a router ended.
pub(crate) enum Ended {
    /// It was told to.
    Stopped,
    /// It cannot go on.
    Failed(String),
}

impl From<ClientError> for Ended {
    fn from(error: ClientError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Router {
    pub(crate) fn new(
        settings: RouterSettings,
        metrics: Metrics,
        sources: Sources,
        schemas: Schemas,
        endpoints: Endpoints,
        writes: Writes,
        intake: Intake,
    ) -> Self {
        let now = Instant::now();
        Self {
            settings,
            metrics,
            sources,
            schemas,
            endpoints,
            writes,
            intake,
            progress: Progress::default(),
            filters: Filters::default(),
            current: None,
            sliced: false,
            held: VecDeque::new(),
            standing: Standing::default(),
            stalled_since: None,
            waiting: Waiting::new(now),
            unwanted: Unwanted::new(now),
            sent: Vec::new(),
            commit_at: now + COMMIT_INTERVAL,
            refused_at: now,
            refused: 0,
            drain_until: None,
        }
    }

    /// Routes until told to stop; why it ended, and when leaving must be over.
    pub(crate) fn route_until_told(&mut self, orders: &Receiver<Duration>) -> (Ended, Instant) {
        let soon = || Instant::now() + Duration::from_secs(1);
        loop {
            match orders.try_recv() {
                Err(TryRecvError::Empty) => {}
                Ok(within) => {
                    let deadline = Instant::now() + within;
                    return (self.finish(deadline), deadline);
                }
                Err(TryRecvError::Disconnected) => return (Ended::Stopped, soon()),
            }
            if let Err(ended) = self.turn() {
                return (ended, soon());
            }
        }
    }

    fn turn(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        self.endpoints.take_changes();
        self.take_answers(now)?;
        self.take_schemas();
        self.emit();
        self.take_held();
        self.tend_revocation(now);
        self.commit_when_due(now);
        self.waiting.look(now, &self.intake);
        self.unwanted.tell_when_due(now);
        if self.has_room() {
            self.stalled_since = None;
            self.intake.resume();
            self.read()
        } else {
            self.stall(now)
        }
    }

    /// Whether one more record may be begun.
    fn has_room(&self) -> bool {
        self.has_room_for(0)
    }

    /// Whether a record of so many bytes may be begun: what it becomes is about as large.
    fn has_room_for(&self, bytes: usize) -> bool {
        let idle = self.current.is_none() && self.held.is_empty();
        idle && self.standing.has_room() && self.writes.has_room(bytes)
    }

    fn read(&mut self) -> Result<(), Ended> {
        let mut timeout = IDLE;
        for _ in 0..BATCH {
            let Some(event) = self.intake.poll(timeout) else {
                break;
            };
            self.handle(event)?;
            timeout = Duration::ZERO;
            if !self.has_room() {
                break;
            }
        }
        Ok(())
    }

    /// Waits for answers. Short stalls leave the consumer alone, as pausing drops what it fetched
    /// ahead; in long ones it is paused and polled, or the group would take us for dead.
    fn stall(&mut self, now: Instant) -> Result<(), Ended> {
        let since = *self.stalled_since.get_or_insert(now);
        if now.duration_since(since) >= STALL {
            self.intake.pause();
            while let Some(event) = self.intake.poll(Duration::ZERO) {
                self.handle(event)?;
            }
        }
        match self.writes.next_answer(self.patience()) {
            Some(answer) => self.take_answer(answer),
            None => Ok(()),
        }
    }

    /// How long to wait for an answer when there is nothing else to do.
    const fn patience(&self) -> Duration {
        if self.sliced { Duration::ZERO } else { FULL }
    }

    fn handle(&mut self, event: IntakeEvent) -> Result<(), Ended> {
        match event {
            IntakeEvent::Record(record) => {
                points::reach!("router.record.read");
                if self.has_room_for(record.len()) {
                    self.begin(record);
                } else {
                    self.held.push_back(record);
                }
            }
            IntakeEvent::Assigned(partitions) => {
                info!(
                    partitions = partitions.len(),
                    "intake partitions taken over"
                );
                self.waiting.joined();
                self.start_over(&partitions);
            }
            IntakeEvent::Revoked(partitions) => {
                for revoked in &partitions {
                    self.progress.drain(&revoked.topic, revoked.partition);
                }
                self.forget_held(&partitions);
                self.drain_until
                    .get_or_insert_with(|| Instant::now() + DRAIN);
            }
            IntakeEvent::Lost(partitions) => {
                warn!(
                    partitions = partitions.len(),
                    "the group took intake partitions away unasked; events may be routed twice, \
                     with the same delivery ids"
                );
                for lost in &partitions {
                    self.progress.release(&lost.topic, lost.partition);
                }
                self.progress.release_drained();
                self.refused = 0;
                self.drain_until = None;
                self.forget_held(&partitions);
            }
            IntakeEvent::Restarted {
                partition,
                expected,
                low,
                high,
            } => {
                error!(
                    topic = &*partition.topic,
                    partition = partition.partition,
                    committed = expected,
                    oldest = low,
                    end = high,
                    "alarm: the next offset to read is not in the log (retention passed it, or the \
                     topic was truncated or made anew); reading starts again at the oldest record"
                );
                self.start_over(&[partition]);
            }
            IntakeEvent::Committed(result) => self.committed(result),
            IntakeEvent::Failed(reason) => return Err(Ended::Failed(reason)),
        }
        Ok(())
    }

    fn start_over(&mut self, partitions: &[SourcePartition]) {
        for place in partitions {
            self.progress.assign(&place.topic, place.partition);
        }
        self.forget_held(partitions);
    }

    /// Records of an earlier assignment will be read again, by us or by others.
    fn forget_held(&mut self, partitions: &[SourcePartition]) {
        self.held.retain(|record| {
            let origin = &record.origin;
            let of =
                |p: &SourcePartition| p.topic == origin.topic && p.partition == origin.partition;
            !partitions.iter().any(of)
        });
        for place in partitions {
            if self.standing.forget(place) {
                self.intake.let_go(place);
            }
        }
        self.metrics.awaiting_schema(self.standing.count());
    }

    /// Partitions that waited for nothing but the schemas that came go on where they stood.
    fn take_schemas(&mut self) {
        while let Some(id) = self.schemas.next_answer() {
            for (place, records) in self.standing.answered(id) {
                for record in records.into_iter().rev() {
                    self.held.push_front(record);
                }
                self.intake.let_go(&place);
            }
            self.metrics.awaiting_schema(self.standing.count());
        }
    }

    /// Lets the record's partition stand until the schemas are known: its next records must not
    /// overtake it. All others go on.
    fn stand(&mut self, record: Record, schemas: Vec<SchemaId>) {
        let origin = &record.origin;
        info!(%origin, schema = %schemas[0], "a partition stands until its record's schema is known");
        self.intake.hold(&standing::place(&record));
        self.standing.stand(record, schemas);
        self.metrics.awaiting_schema(self.standing.count());
    }

    fn take_held(&mut self) {
        while self.current.is_none() {
            let before = self.held.len();
            let fits = |record: &mut Record| self.writes.has_room(record.len());
            let Some(record) = self.held.pop_front_if(fits) else {
                return;
            };
            self.begin(record);
            if self.held.len() == before {
                return;
            }
        }
    }

    fn begin(&mut self, record: Record) {
        let Some(record) = self.standing.pass(record) else {
            return;
        };
        let origin = &record.origin;
        if self.progress.takes(&origin.topic, origin.partition) {
            let rule = self.sources.rule_of(&origin.topic);
            let missing = self.schemas.missing(&record, rule);
            if !missing.is_empty() {
                return self.stand(record, missing);
            }
        }
        match self
            .progress
            .begin(&origin.topic, origin.partition, origin.offset)
        {
            Begun::Open(ticket) => self.route(&record, ticket),
            Begun::Full => self.held.push_front(record),
            Begun::Skip => {}
        }
    }

    fn route(&mut self, record: &Record, ticket: Ticket) {
        self.metrics.event_consumed();
        let rule = self.sources.rule_of(&record.origin.topic);
        let unframed = self.schemas.unframed(record, rule);
        let event = match &unframed {
            Ok(None) => event::decode(record, rule),
            Ok(Some(unframed)) => event::decode(unframed, rule),
            Err(undeliverable) => Err(undeliverable.clone()),
        };
        match event {
            Ok(event) => {
                points::reach!("router.event.decoded");
                let (topic, slices) = (self.settings.topics.deliveries(), self.settings.slices);
                let catalog = self.endpoints.by_tenant();
                match FanOut::new(event, &record.origin, catalog, topic, slices) {
                    Ok(fan_out) => {
                        self.current = Some((fan_out, ticket));
                        self.emit();
                    }
                    Err(event) => {
                        self.metrics.event_unmatched();
                        self.unwanted.note(event, &record.origin);
                        self.progress.acknowledge(ticket);
                    }
                }
            }
            Err(undeliverable) => {
                self.metrics.event_rejected(undeliverable.reason);
                let settings = &self.settings;
                let letter =
                    reject::record(record, &undeliverable, &settings.topics, settings.slices);
                self.write_letter(letter, ticket);
                self.progress.acknowledge(ticket);
            }
        }
    }

    /// Writes the current event's deliveries, as many as there is room and time for.
    fn emit(&mut self) {
        self.sliced = false;
        let Some((fan_out, ticket)) = &mut self.current else {
            return;
        };
        let (ticket, template) = (*ticket, Arc::clone(fan_out.template()));
        let bytes = writes::cost(template.sample());
        let begun = Instant::now();
        while fan_out.remaining() == 0 || self.writes.has_room(bytes) {
            let Some(asked) = fan_out.ask(&mut self.filters) else {
                if !fan_out.is_wanted() {
                    self.metrics.event_unmatched();
                    let event = Box::new(template.event().clone());
                    self.unwanted.note(event, template.origin());
                }
                self.progress.acknowledge(ticket);
                self.current = None;
                return;
            };
            let decision = match asked {
                Asked::Wanted {
                    endpoint,
                    record,
                    filtered,
                } => {
                    self.progress.expect(ticket);
                    let template = Arc::clone(&template);
                    let dropped = points::has_fault!("router.delivery.dropped")
                        && template.event().id.ends_with('3');
                    let what = What::Delivery { template, endpoint };
                    points::reach!("router.delivery.unwritten");
                    if dropped {
                        self.progress.acknowledge(ticket);
                    } else {
                        self.writes.send(record, Write::new(ticket, what));
                    }
                    points::reach!("router.delivery.written");
                    filtered.then_some(FilterDecision::Matched)
                }
                Asked::Unwanted => Some(FilterDecision::Differed),
                Asked::Undecided { endpoint, why } => {
                    let topics = &self.settings.topics;
                    let letter = reject::undecided(&template, &endpoint, &why, topics);
                    self.progress.expect(ticket);
                    let record = Arc::clone(&letter.record);
                    let what = What::DeadLetter(letter);
                    self.writes.send(&record, Write::new(ticket, what));
                    Some(FilterDecision::Undecided)
                }
            };
            let Some(decision) = decision else { continue };
            self.metrics.filter_decided(decision);
            if begun.elapsed() >= SLICE {
                self.sliced = true;
                return;
            }
        }
    }

    fn write_letter(&mut self, letter: reject::Letter, ticket: Ticket) {
        self.progress.expect(ticket);
        let record = Arc::clone(&letter.record);
        let what = What::DeadLetter(letter);
        self.writes.send(&record, Write::new(ticket, what));
    }

    fn take_answers(&mut self, now: Instant) -> Result<(), Ended> {
        while let Some(answer) = self.writes.next_answer(Duration::ZERO) {
            self.take_answer(answer)?;
        }
        while let Some(answer) = self.writes.retry(now) {
            self.take_answer(answer)?;
        }
        self.writes.tell_when_late(now);
        Ok(())
    }

    fn take_answer(&mut self, answer: Answer) -> Result<(), Ended> {
        match answer {
            Answer::Written(write) => {
                points::reach!("router.delivery.acked");
                match &write.what {
                    What::Delivery { .. } => self.metrics.delivery_written(),
                    What::DeadLetter(letter) => self.metrics.dead_lettered(letter.reason),
                }
                self.progress.acknowledge(write.ticket);
                let progress = &self.progress;
                points::reach!("router.fan_out.partly_acked", if progress.is_open(write.ticket));
                points::reach!("router.fan_out.acked", if !progress.is_open(write.ticket));
            }
            Answer::TooLarge(write) => {
                let letter = reject::refused(&write.what, &self.settings.topics);
                self.write_letter(letter, write.ticket);
                self.progress.acknowledge(write.ticket);
            }
            Answer::Fatal(reason) => return Err(Ended::Failed(reason)),
        }
        Ok(())
    }

    fn commit_when_due(&mut self, now: Instant) {
        if now >= self.commit_at && self.sent.is_empty() {
            self.commit(now);
        }
    }

    /// While partitions are handed back, or the router stops: that takes a few seconds, in which the
    /// pause does not grow, or the last commit might not be tried again.
    fn commit_unless_refused_lately(&mut self, now: Instant) {
        if now >= self.refused_at + pause_after(1) {
            self.commit(now);
        }
    }

    /// Sends what moved. One request at a time: two could be stored in the wrong order when the
    /// coordinator moves.
    fn commit(&mut self, now: Instant) {
        self.commit_at = now + COMMIT_INTERVAL;
        let mut frontiers = self.progress.frontiers();
        if frontiers.is_empty() {
            return;
        }
        if frontiers.len() > Intake::COMMIT_MAX {
            frontiers.truncate(Intake::COMMIT_MAX);
            self.commit_at = now;
        }
        let offsets = frontiers.iter().map(|f| (&*f.topic, f.partition, f.offset));
        points::reach!("router.commit.unsent");
        if self.intake.commit(offsets) {
            points::reach!("router.commit.sent");
            self.sent = frontiers;
        } else {
            self.refused_at = now;
        }
    }

    fn committed(&mut self, result: Result<(), String>) {
        let sent = std::mem::take(&mut self.sent);
        match result {
            Ok(()) => {
                points::reach!("router.commit.accepted");
                self.refused = 0;
                self.progress.committed(&sent);
            }
            Err(error) => {
                warn!(
                    error,
                    partitions = sent.len(),
                    "a commit was refused and is sent again"
                );
                self.refused = self.refused.saturating_add(1);
                self.refused_at = Instant::now();
                self.commit_at = self.refused_at + pause_after(self.refused);
            }
        }
    }

    /// Hands revoked partitions back once they are settled and committed, or out of time.
    fn tend_revocation(&mut self, now: Instant) {
        let Some(until) = self.drain_until else {
            return;
        };
        if now < until {
            if !self.progress.is_drained() || !self.sent.is_empty() {
                return;
            }
            if self
                .progress
                .frontiers()
                .iter()
                .any(|frontier| frontier.draining)
            {
                self.commit_unless_refused_lately(now);
                return;
            }
        }
        for (topic, partition, open) in self.progress.unsettled() {
            warn!(
                topic,
                partition, open, "handed back unsettled; the next owner repeats these"
            );
        }
        self.intake.hand_back();
        self.progress.release_drained();
        self.drain_until = None;
    }

    /// Settles and commits everything begun, as far as the time allows.
    fn finish(&mut self, deadline: Instant) -> Ended {
        points::reach!("router.stop.begun");
        self.held.clear();
        self.standing.clear();
        self.metrics.awaiting_schema(0);
        self.intake.pause();
        loop {
            let now = Instant::now();
            if now >= deadline {
                let outstanding = self.writes.outstanding();
                warn!(
                    outstanding,
                    "stopped before everything was settled; it will be repeated"
                );
                return Ended::Stopped;
            }
            match self.finish_turn(now) {
                Ok(true) => {
                    points::reach!("router.stop.committed");
                    return Ended::Stopped;
                }
                Ok(false) => {}
                Err(ended) => return ended,
            }
        }
    }

    /// Whether everything is settled and committed.
    fn finish_turn(&mut self, now: Instant) -> Result<bool, Ended> {
        self.take_answers(now)?;
        self.emit();
        while let Some(event) = self.intake.poll(Duration::ZERO) {
            // A record that slipped through the pause is not begun: it will be read again.
            if !matches!(event, IntakeEvent::Record(_)) {
                self.handle(event)?;
            }
        }
        self.tend_revocation(now);
        if self.progress.is_settled() && self.sent.is_empty() {
            if self.progress.frontiers().is_empty() {
                return Ok(true);
            }
            self.commit_unless_refused_lately(now);
        }
        if let Some(answer) = self.writes.next_answer(self.patience()) {
            self.take_answer(answer)?;
        }
        Ok(false)
    }

    /// Leaves the group.
    pub(crate) fn close(self, deadline: Instant) {
        self.endpoints.stop();
        let left = deadline.saturating_duration_since(Instant::now());
        if !self.intake.close(left.max(Duration::from_secs(1))) {
            warn!("leaving the group takes too long; its partitions move when the session ends");
        }
    }
}
