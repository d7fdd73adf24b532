//! The auditor: knows everything, takes part in nothing, and names the first broken promise.
//!
//! Decides what each promise means as a check on facts: true times, records on logs, commits the
//! broker stored. What the engine says of itself is never believed, only compared. Which promises
//! are checked is in [`Promise::KEPT`]; the checks of one promise are in the file of its name.

mod backlog;
mod duplicates;
mod endpoints;
mod limits;
mod loss;
mod memory;
mod order;
mod progress;
mod promise;
mod requests;
mod timing;
mod truth;

use std::collections::{BTreeMap, BTreeSet};

use postrider_domain::{DeliveryId, EndpointId, Lane, Slice, Timestamp};

use crate::clock::{MICROS, MINUTE, Micros};
use crate::engine::{
    BYTES_MAX, Claim, CommitEntry, ENTRIES_MAX, METADATA_BYTES_MAX, Ticket, WriteId,
};
use crate::plan::Plan;
use endpoints::EndpointFacts;
pub(crate) use memory::Handed;
pub use memory::Reached;
pub use promise::{Counts, Promise, Violation};

/// A life of a process.
pub(crate) type Who = (usize, u32);

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
    /// By which name it waits for others, where its endpoint never had another order.
    key: Option<Box<str>>,
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
    /// What each worker holds of a slice.
    memories: BTreeMap<(Who, Slice), memory::Memory>,
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
            memories: BTreeMap::new(),
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
            key: None,
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

    /// A lane is given up by its reader. Nothing here deletes what is not settled, so nobody may.
    pub(crate) fn lane_lost(&mut self, now: Micros, who: Who, slice: Slice, lane: Lane) {
        let owner = self.owners.get(&slice).map(|(owner, _)| *owner);
        if owner == Some(who) && !self.outcast.contains(&who) {
            self.broken(now, Promise::NoLoss, || {
                format!("{lane}/{slice} is given up")
            });
        }
    }
}
