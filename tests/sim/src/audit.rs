//! The auditor: knows everything, takes part in nothing, and names the first broken promise.
//!
//! Decides what each promise means as a check on facts: true times, records on logs, commits the
//! broker stored. What the engine says of itself is never believed, only compared. Which promises
//! are checked is in [`Promise::KEPT`]; the checks of one promise are in the file of its name.

mod backlog;
mod duplicates;
mod limits;
mod loss;
mod timing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use postrider_domain::{
    AttemptReport, AttemptResult, DeadLetterReason, DeliveryId, DiscardReason, Endpoint,
    EndpointId, EndpointState, Lane, Outcome, Slice, Timestamp,
};

use crate::clock::{HOUR, MICROS, MINUTE, Micros};
use crate::engine::{
    BYTES_MAX, Claim, CommitEntry, ENTRIES_MAX, METADATA_BYTES_MAX, StartAttempt, Ticket,
    WorkerSettings, WriteId, claim_of,
};
use crate::plan::Plan;

/// A life of a process.
pub(crate) type Who = (usize, u32);

/// What an installation promises (docs/delivery.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// P1: every delivery ends in exactly one visible state, or is still on a log that is read.
    NoLoss,
    /// P2: a request more than once only through a crash, and then only what it touched.
    BoundedDuplicates,
    /// P2: a write that is on its log though its acknowledgement was lost is repeated once, and its
    /// copy known, as long as the slice stays where it is.
    ForksKnown,
    /// P6: no attempt before it is due.
    NeverEarly,
    /// P6: no attempt later than 5 s after it is due and its endpoint admits it.
    NotLate,
    /// P4: at most so many attempts start in any interval.
    RateLimit,
    /// A receiver that asks for a pause gets one, and that uses up no attempt.
    AsksHeeded,
    /// Nothing starts while a write has failed.
    WritesFirst,
    /// A busy endpoint costs one copy of each delivery, however long.
    OneCopy,
    /// First attempts that come over the backlog keep its order, and nothing overtakes them.
    BacklogOrder,
    /// P8: requests in flight, sizes of commits.
    Bounds,
    /// P10: attempt records agree with requests.
    TruthfulLog,
    /// What is committed reads back, and belongs to who commits it.
    Commits,
    /// Nobody starts a request for a slice that somebody else has acquired since.
    SingleOwner,
    /// A broker whose clock is half a minute or more behind a worker's changes nothing but due times.
    AnySkew,
    /// Once everything is healed, everything comes to its end in bounded time.
    Progress,
}

impl Promise {
    /// Those that are checked. What is not here is not kept yet.
    pub const KEPT: &'static [Self] = &[
        Self::NoLoss,
        Self::BoundedDuplicates,
        Self::NeverEarly,
        Self::RateLimit,
        Self::AsksHeeded,
        Self::WritesFirst,
        Self::OneCopy,
        Self::BacklogOrder,
        Self::Bounds,
        Self::TruthfulLog,
        Self::Commits,
        Self::SingleOwner,
        Self::NotLate,
        Self::Progress,
    ];
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// True time since the beginning of the run, in microseconds.
    pub at: u64,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at as f64 / 1e6;
        write!(f, "{:?} after {seconds:.3} s: {}", self.promise, self.what)
    }
}

/// What a run did, for the people who count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Deliveries made.
    pub deliveries: u64,
    /// Requests sent.
    pub requests: u64,
    /// Requests for what was sent before, explained by a crash or a repeated record.
    pub duplicates: u64,
    /// Memories lost with work in them: crashes, expulsions.
    pub memories_lost: u64,
}

/// A delivery, or a record that is none.
#[derive(Debug)]
struct Item {
    /// `None` = garbage.
    endpoint: Option<EndpointId>,
    slice: Slice,
    made_at: Micros,
    /// Copies on lanes that no stored commit accounts for.
    live: u32,
    /// It has reached a visible end.
    ended: bool,
    /// A receiver acted on it.
    taken: bool,
    /// The sender of a request learnt that it was taken.
    success: bool,
    /// Highest attempt that was sent, and not answered by a request to wait.
    attempts: u32,
    /// Highest attempt that was sent.
    sent: u32,
    /// Attempts that failed, as far as their senders learnt of it.
    failures: u32,
    /// Where it lies in the backlog since its endpoint was paused, without an attempt, and how often it was put there by attempts.
    backlog_at: Option<i64>,
    spilled: BTreeMap<u32, u32>,
    /// It came over `redeliveries`.
    replay: bool,
    /// Its turn came.
    had_turn: bool,
    /// Its turn came, and passed before the request was made.
    held_up: bool,
    /// Requests sent.
    requests: u32,
    /// When the last report came.
    last_end: Micros,
    /// The sender's own decision when the next attempt is due.
    next: Option<(Who, u32, Timestamp)>,
    /// Who last did anything with it.
    touched: Option<Who>,
    /// Why it may be sent again.
    excuse: Option<&'static str>,
    /// It may lie twice on one log: a write was repeated whose first copy counts, or the router
    /// repeated it.
    forked: bool,
}

/// What is known of an endpoint over the whole run.
#[derive(Debug)]
struct EndpointFacts {
    concurrency_max: u16,
    concurrency: u16,
    /// By attempts made: the shortest wait any of its configurations asked for.
    floors: Vec<Micros>,
    /// Fewest attempts a configuration allowed.
    attempts_min: u32,
    window_min: Micros,
    window_max: Micros,
    /// Sum and largest of the waits, over all configurations.
    sum_max: Micros,
    wait_max: Micros,
    was_deleted: bool,
    was_disabled: bool,
    active: bool,
    paused: bool,
    changed_at: Micros,
    /// It never heals.
    dead: bool,
    /// It had no room for another request until then.
    full_until: Micros,
    limits: limits::Limits,
    /// By ownership: until when its receiver asked to be left alone, and when it did.
    asked: BTreeMap<(Who, Claim), (Micros, Timestamp)>,
    /// Its receiver never failed: it waits for nothing but its pauses.
    always_well: bool,
    /// It may be kept from requests until then.
    unwell_until: Micros,
    /// The first attempt over the backlog that came furthest, by ownership.
    first_over_backlog: (Option<(Who, Claim)>, i64),
    /// By ownership: what a lost one left behind is not counted against the next.
    in_flight: BTreeMap<(Who, Claim), u32>,
}

/// A request: who sends it, for which slice, under which claim.
type RequestKey = (Who, Slice, Claim, Ticket);

/// The auditor.
#[derive(Debug)]
pub(crate) struct Audit {
    begin: Micros,
    in_flight_max: u32,
    clock_spread: Micros,
    items: Vec<Item>,
    open: BTreeSet<u32>,
    by_id: BTreeMap<DeliveryId, u32>,
    endpoints: BTreeMap<EndpointId, EndpointFacts>,
    /// Who was given a slice last, and how often it was given.
    owners: BTreeMap<Slice, (Who, Micros)>,
    acquisitions: BTreeMap<Slice, Vec<Micros>>,
    /// The ownership a process is in, or was in last.
    claims: BTreeMap<(Who, Slice), Claim>,
    /// Those whose slices others may have.
    outcast: BTreeSet<Who>,
    /// What each is about, and when it is over at the latest.
    requests: BTreeMap<RequestKey, (u32, u32, Micros)>,
    /// A worker had no room for another request until then.
    full_until: BTreeMap<Who, Micros>,
    /// Something is wrong until then, so nothing is promised about how soon.
    disturbed_until: Micros,
    /// What each slice's owners told their successors.
    states: BTreeMap<Slice, backlog::Told>,
    healed_at: Option<Micros>,
    last_closed: Micros,
    counts: Counts,
    violation: Option<Violation>,
}

impl Audit {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            begin: crate::clock::BEGIN,
            in_flight_max: u32::try_from(plan.in_flight_max).unwrap_or(u32::MAX),
            clock_spread: plan.clock_spread(),
            items: Vec::new(),
            open: BTreeSet::new(),
            by_id: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            owners: BTreeMap::new(),
            acquisitions: BTreeMap::new(),
            claims: BTreeMap::new(),
            outcast: BTreeSet::new(),
            requests: BTreeMap::new(),
            full_until: BTreeMap::new(),
            disturbed_until: crate::clock::BEGIN + 2 * MINUTE,
            states: BTreeMap::new(),
            healed_at: None,
            last_closed: 0,
            counts: Counts::default(),
            violation: None,
        }
    }

    pub(crate) const fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// How many have not ended, or lie on a lane that is not committed behind them.
    pub(crate) fn open_items(&self) -> usize {
        self.open.len()
    }

    /// The first broken promise is kept: what follows from it says nothing new.
    fn broken(&mut self, now: Micros, promise: Promise, what: impl FnOnce() -> String) {
        if self.violation.is_none() && Promise::KEPT.contains(&promise) {
            self.violation = Some(Violation {
                promise,
                at: now - self.begin,
                what: what(),
            });
        }
    }

    /// A delivery is about to be written for the first time; its number.
    pub(crate) fn made(
        &mut self,
        now: Micros,
        id: Option<DeliveryId>,
        endpoint: Option<EndpointId>,
        slice: Slice,
    ) -> u32 {
        let item = self.items.len() as u32;
        self.items.push(Item {
            endpoint,
            slice,
            made_at: now,
            live: 0,
            ended: false,
            taken: false,
            success: false,
            attempts: 0,
            sent: 0,
            failures: 0,
            backlog_at: None,
            spilled: BTreeMap::new(),
            replay: false,
            had_turn: false,
            held_up: false,
            requests: 0,
            last_end: 0,
            next: None,
            touched: None,
            excuse: None,
            forked: false,
        });
        if let Some(id) = id {
            self.by_id.insert(id, item);
        }
        self.open.insert(item);
        self.counts.deliveries += 1;
        item
    }

    /// It is sent again on request.
    pub(crate) fn replayed(&mut self, item: u32) {
        self.item(item).replay = true;
    }

    fn is_replay(&self, item: u32) -> bool {
        self.items[item as usize].replay
    }

    /// The number the next delivery gets.
    pub(crate) fn next_item(&self) -> u32 {
        self.items.len() as u32
    }

    pub(crate) fn item_of(&self, id: DeliveryId) -> u32 {
        self.by_id[&id]
    }

    fn item(&mut self, item: u32) -> &mut Item {
        &mut self.items[item as usize]
    }

    /// An endpoint was created, changed or (`None`) deleted.
    pub(crate) fn endpoint_changed(
        &mut self,
        now: Micros,
        id: &EndpointId,
        endpoint: Option<&Endpoint>,
        settings: &WorkerSettings,
    ) {
        let facts = self
            .endpoints
            .entry(id.clone())
            .or_insert_with(|| EndpointFacts {
                concurrency_max: 0,
                concurrency: 0,
                floors: Vec::new(),
                attempts_min: u32::MAX,
                window_min: Micros::MAX,
                window_max: 0,
                sum_max: 0,
                wait_max: 0,
                was_deleted: false,
                was_disabled: false,
                active: true,
                paused: false,
                changed_at: now,
                dead: false,
                full_until: 0,
                limits: limits::Limits::default(),
                asked: BTreeMap::new(),
                always_well: true,
                unwell_until: 0,
                first_over_backlog: (None, i64::MIN),
                in_flight: BTreeMap::new(),
            });
        facts.limits.configured(endpoint);
        facts.changed_at = now;
        facts.paused = endpoint.is_some_and(|endpoint| endpoint.state == EndpointState::Paused);
        facts.active = endpoint.is_some_and(|endpoint| endpoint.state == EndpointState::Active);
        let Some(endpoint) = endpoint else {
            // What is in flight then is judged by the policy of those that do not say.
            facts.was_deleted = true;
            let attempts = settings.retry.schedule.len() as u32 + 1;
            facts.attempts_min = facts.attempts_min.min(attempts);
            let window = settings.retry.window.as_micros() as u64;
            facts.window_min = facts.window_min.min(window);
            facts.window_max = facts.window_max.max(window);
            return;
        };
        facts.was_disabled |= endpoint.state == EndpointState::Disabled;
        facts.concurrency = endpoint.concurrency.unwrap_or(settings.concurrency);
        facts.concurrency_max = facts.concurrency_max.max(facts.concurrency);
        let policy = endpoint.retry.as_ref().unwrap_or(&settings.retry);
        let waits: Vec<Micros> = policy
            .schedule
            .iter()
            .map(|wait| wait.as_micros() as u64)
            .collect();
        for (n, wait) in waits.iter().enumerate() {
            let floor = wait * (1_000 - u64::from(policy.jitter_permille)) / 1_000;
            match facts.floors.get_mut(n) {
                Some(before) => *before = floor.min(*before),
                None => facts.floors.push(floor),
            }
        }
        facts.attempts_min = facts.attempts_min.min(waits.len() as u32 + 1);
        let window = policy.window.as_micros() as u64;
        facts.window_min = facts.window_min.min(window);
        facts.window_max = facts.window_max.max(window);
        facts.sum_max = facts.sum_max.max(waits.iter().sum());
        facts.wait_max = facts.wait_max.max(waits.iter().copied().max().unwrap_or(0));
    }

    /// Its receiver stays dead.
    pub(crate) fn endpoint_dead(&mut self, id: &EndpointId) {
        if let Some(facts) = self.endpoints.get_mut(id) {
            facts.dead = true;
        }
    }

    /// For so long nothing is promised about how soon.
    pub(crate) fn disturb(&mut self, now: Micros, during: Micros) {
        self.disturbed_until = self.disturbed_until.max(now + during);
    }

    pub(crate) fn commit_trouble(&mut self, until: Micros) {
        self.disturbed_until = self.disturbed_until.max(until + 5 * MICROS);
    }

    pub(crate) fn healed(&mut self, now: Micros) {
        self.healed_at = Some(now);
    }

    /// An attempt is asked for while a write of its slice has failed.
    pub(crate) fn started_on_failed_writes(&mut self, now: Micros, host: usize, id: WriteId) {
        self.broken(now, Promise::WritesFirst, || {
            format!("w{host} asks for an attempt though {id:?} has failed")
        });
    }

    /// A request is handed to the kernel.
    pub(crate) fn started(
        &mut self,
        now: Micros,
        shows: Timestamp,
        who: Who,
        start: &StartAttempt,
        polled_at: Micros,
        running: u32,
    ) {
        let item = self.item_of(start.delivery.id);
        let ticket = start.ticket;
        self.counts.requests += 1;
        if running > self.in_flight_max {
            let most = self.in_flight_max;
            self.broken(now, Promise::Bounds, || {
                format!(
                    "w{} has {running} requests in flight, {most} at most",
                    who.0
                )
            });
        }
        // Endpoints that hang, and those nothing is known of, share half of it.
        if running >= self.in_flight_max.div_ceil(2) {
            self.full_until.insert(who, Micros::MAX);
        }
        if let Some((owner, since)) = self.owners.get(&ticket.slice).copied()
            && owner != who
        {
            let ago = (now - since) as f64 / 1e6;
            self.broken(now, Promise::SingleOwner, || {
                format!(
                    "w{} starts #{item} of slice {}, which w{} was given {ago:.3} s ago",
                    who.0, ticket.slice, owner.0
                )
            });
        }
        self.check_concurrency(now, who, item, start);
        self.check_timing(now, shows, who, item, start);
        self.check_repeated(now, who, item, start.attempt);
        self.check_limit(now, who, start);
        self.check_asked(now, shows, who, start, polled_at);
        let current = self.claims.get(&(who, ticket.slice)) == Some(&claim_of(ticket));
        let entry = self.item(item);
        if !current {
            // It was on its way out when its ownership was lost.
            entry.excuse.get_or_insert("late");
        }
        entry.touched = Some(who);
        entry.requests += 1;
        entry.attempts = entry.attempts.max(start.attempt);
        entry.sent = entry.sent.max(start.attempt);
        let key = (who, ticket.slice, claim_of(ticket), ticket);
        let ends_by = now + start.timeout.as_micros() as u64;
        self.requests.insert(key, (item, start.attempt, ends_by));
    }

    fn check_concurrency(&mut self, now: Micros, who: Who, item: u32, start: &StartAttempt) {
        let Some(facts) = self.endpoints.get_mut(&start.endpoint.id) else {
            return self.broken(now, Promise::TruthfulLog, || {
                format!("#{item} is sent to nobody")
            });
        };
        let claim = claim_of(start.ticket);
        let running = facts.in_flight.entry((who, claim)).or_default();
        *running += 1;
        let (running, most) = (*running, facts.concurrency_max);
        // It begins small, and anew after a failure.
        let sure = if facts.always_well { 4 } else { 1 };
        if running >= u32::from(facts.concurrency).min(sure) {
            facts.full_until = Micros::MAX;
        }
        if running > u32::from(most) {
            let id = &start.endpoint.id;
            self.broken(now, Promise::Bounds, || {
                format!("{id} has {running} requests in flight, {most} at most")
            });
        }
    }

    /// A report reaches the sender's engine; what it was about.
    pub(crate) fn reported(
        &mut self,
        now: Micros,
        shows: Timestamp,
        who: Who,
        ticket: Ticket,
        result: &AttemptResult,
    ) -> Option<(u32, u32)> {
        let key = (who, ticket.slice, claim_of(ticket), ticket);
        let (item, attempt, _) = self.requests.remove(&key)?;
        self.full_until.insert(who, now);
        let entry = self.item(item);
        if is_ask(result) {
            // It uses up no attempt.
            entry.attempts = entry.attempts.min(attempt - 1);
        } else {
            entry.last_end = now;
            entry.failures += u32::from(!is_success(result));
        }
        entry.success |= is_success(result);
        let endpoint = entry.endpoint.clone()?;
        let facts = self.endpoints.get_mut(&endpoint)?;
        facts.full_until = facts.full_until.min(now);
        facts.always_well &= is_success(result);
        if !is_success(result) {
            // Its breaker opens for no longer, its gate for as long as was asked.
            let asked = wait_asked_for(result).map_or(0, |wait| wait.as_micros() as u64);
            facts.unwell_until = facts.unwell_until.max(now + asked + 75 * MICROS);
        }
        if let Some(wait) = wait_asked_for(result) {
            let until = facts.asked.entry((who, claim_of(ticket))).or_default();
            *until = (now, until.1.max(shows + wait));
        }
        if let Some(running) = facts.in_flight.get_mut(&(who, claim_of(ticket))) {
            *running = running.saturating_sub(1);
        }
        Some((item, attempt))
    }

    /// A receiver acted on a request.
    pub(crate) fn taken(&mut self, item: u32) {
        self.item(item).taken = true;
    }

    /// A worker did something with a delivery that its log will show.
    pub(crate) fn touched(&mut self, who: Who, item: u32) {
        let zombie = self.outcast.contains(&who);
        let entry = self.item(item);
        entry.touched = Some(who);
        if zombie {
            // The next owner may find a copy that it knows nothing of.
            entry.excuse.get_or_insert("zombie");
        }
    }

    /// A worker decided when the next attempt is due.
    pub(crate) fn decided(&mut self, who: Who, item: u32, attempt: u32, next: Option<Timestamp>) {
        self.touched(who, item);
        self.item(item).next = next.map(|at| (who, attempt + 1, at));
    }

    /// A process was given a slice by the group.
    pub(crate) fn acquired(&mut self, now: Micros, slice: Slice, who: Who) {
        let others = self
            .requests
            .iter()
            .find(|((of, at, ..), (_, _, ends_by))| *at == slice && *of != who && *ends_by > now);
        if let Some(((of, ..), (item, ..))) = others {
            let (of, item) = (of.0, *item);
            self.broken(now, Promise::SingleOwner, || {
                format!(
                    "w{} gets slice {slice} while w{of} has a request for #{item} in flight",
                    who.0
                )
            });
        }
        self.owners.insert(slice, (who, now));
        self.acquisitions.entry(slice).or_default().push(now);
        self.outcast.remove(&who);
    }

    /// A process begins an ownership.
    pub(crate) fn claimed(&mut self, who: Who, slice: Slice, claim: Claim) {
        self.claims.insert((who, slice), claim);
    }

    /// A commit's form, as the broker sees it.
    pub(crate) fn commit_form(&mut self, now: Micros, entries: &[CommitEntry]) {
        let bytes: usize = entries.iter().map(|entry| entry.metadata.len()).sum();
        let longest = entries
            .iter()
            .map(|entry| entry.metadata.len())
            .max()
            .unwrap_or(0);
        if entries.len() > ENTRIES_MAX
            || bytes > BYTES_MAX + METADATA_BYTES_MAX
            || longest > METADATA_BYTES_MAX
        {
            let count = entries.len();
            self.broken(now, Promise::Bounds, || {
                format!("a commit of {count} lanes, {bytes} bytes, {longest} in one")
            });
        }
    }

    pub(crate) fn foreign_commit(&mut self, now: Micros, host: usize, slice: Slice, lane: Lane) {
        self.broken(now, Promise::Commits, || {
            format!("w{host} committed {lane}/{slice}, which is another's")
        });
    }

    /// An attempt record is on its log.
    pub(crate) fn attempt_logged(
        &mut self,
        now: Micros,
        item: u32,
        attempt: u32,
        report: Option<&AttemptReport>,
        outcome: Outcome,
        lost: bool,
    ) {
        let entry = &self.items[item as usize];
        let success = report.map(|report| is_success(&report.result));
        let truthful = match (success, outcome) {
            (Some(success), Outcome::Delivered) => success && entry.taken,
            (Some(success), _) => !success,
            (None, Outcome::Delivered | Outcome::Retry) => false,
            (None, _) => true,
        };
        if !truthful || (report.is_some() && attempt > entry.sent) {
            self.broken(now, Promise::TruthfulLog, || {
                format!("the log says attempt {attempt} of #{item} was {outcome:?}")
            });
        }
        self.check_reason(now, item, attempt, outcome);
        if matches!(outcome, Outcome::Delivered | Outcome::Discarded(_)) {
            self.end_item(now, item, outcome.as_str());
        }
        if lost {
            self.forked(item);
        }
    }

    fn check_reason(&mut self, now: Micros, item: u32, attempt: u32, outcome: Outcome) {
        let Some(endpoint) = &self.items[item as usize].endpoint else {
            return;
        };
        let Some(facts) = self.endpoints.get(endpoint) else {
            return;
        };
        let made_at = self.items[item as usize].made_at;
        let plausible = match outcome {
            Outcome::Discarded(DiscardReason::EndpointDeleted)
            | Outcome::DeadLettered(DeadLetterReason::EndpointUnknown) => facts.was_deleted,
            Outcome::Discarded(DiscardReason::EndpointDisabled) => facts.was_disabled,
            Outcome::DeadLettered(DeadLetterReason::AttemptsExhausted) => {
                let failures = self.items[item as usize].failures;
                attempt >= facts.attempts_min && failures >= facts.attempts_min
            }
            Outcome::DeadLettered(DeadLetterReason::WindowPassed) => {
                let next = now + facts.wait_max + facts.wait_max / 2 + self.clock_spread + MINUTE;
                next > made_at + facts.window_min
            }
            _ => true,
        };
        if !plausible {
            self.broken(now, Promise::TruthfulLog, || {
                format!("#{item} ended as {outcome:?} after {attempt} attempts, which no rule says")
            });
        }
    }

    /// A dead letter is on its log.
    pub(crate) fn dead_letter(
        &mut self,
        now: Micros,
        item: u32,
        attempts: u32,
        reason: DeadLetterReason,
        lost: bool,
    ) {
        self.check_reason(now, item, attempts, Outcome::DeadLettered(reason));
        self.end_item(now, item, "dead_lettered");
        if lost {
            self.forked(item);
        }
    }

    /// A record that is no delivery is in `dead-letters`.
    pub(crate) fn garbage_buried(&mut self, now: Micros, item: u32, lost: bool) {
        self.end_item(now, item, "dead_lettered");
        if lost {
            self.forked(item);
        }
    }

    /// A lane is given up by its reader. Nothing here deletes what is not settled, so nobody may.
    pub(crate) fn lane_lost(&mut self, now: Micros, who: Who, slice: Slice, lane: Lane) {
        let owner = self.owners.get(&slice).map(|(owner, _)| *owner);
        if owner == Some(who) && !self.outcast.contains(&who) {
            self.broken(now, Promise::NoLoss, || {
                format!("{lane}/{slice} is given up")
            });
        }
    }

    /// So much happened that it cannot be right.
    pub(crate) fn endless(&mut self, now: Micros) {
        self.broken(now, Promise::Progress, || {
            "the installation goes round in circles".to_owned()
        });
    }

    /// Long after everything was healed.
    pub(crate) fn check_progress(&mut self, now: Micros, all_committed: bool) {
        let Some(healed_at) = self.healed_at else {
            return;
        };
        let mut late = None;
        for &item in &self.open {
            let facts = self.items[item as usize]
                .endpoint
                .as_ref()
                .and_then(|id| self.endpoints.get(id));
            let waits = facts.map_or(0, |facts| {
                if facts.dead {
                    // What is never attempted ends with its window.
                    facts.window_max + 2 * facts.wait_max
                } else if facts.limits.ever() {
                    facts.window_max + 2 * facts.wait_max
                } else {
                    2 * facts.wait_max
                }
            });
            if now > healed_at + waits + 3 * HOUR {
                late = Some(item);
                break;
            }
        }
        if let Some(item) = late {
            let entry = &self.items[item as usize];
            let text = format!("{entry:?}");
            self.broken(now, Promise::Progress, || {
                format!("#{item} does not come to its end: {text}")
            });
        } else if self.open.is_empty()
            && !all_committed
            && now > self.last_closed.max(healed_at) + HOUR
        {
            self.broken(now, Promise::Progress, || {
                "a lane is not committed to its end".to_owned()
            });
        } else if self.open.is_empty()
            && all_committed
            && now > self.last_closed.max(healed_at) + HOUR
        {
            self.broken(now, Promise::Progress, || {
                "requests are in flight for ever".to_owned()
            });
        }
    }
}

/// Whether the receiver asks for a pause, which is no failure.
fn is_ask(result: &AttemptResult) -> bool {
    let AttemptResult::Response(response) = result else {
        return false;
    };
    let names_a_time = !response.headers.is_empty();
    response.status == 429 || (response.status == 503 && names_a_time)
}

/// The pause that the receiver asks for by name.
fn wait_asked_for(result: &AttemptResult) -> Option<std::time::Duration> {
    let AttemptResult::Response(response) = result else {
        return None;
    };
    let (_, value) = response.headers.first().filter(|_| is_ask(result))?;
    value.parse().ok().map(std::time::Duration::from_secs)
}

fn is_success(result: &AttemptResult) -> bool {
    matches!(result, AttemptResult::Response(response) if matches!(response.status, 200..=299))
}
