//! The load of one experiment: few events, that bring every step about.
//!
//! Decides which endpoints there are, what their receivers do, which events come when, and when all
//! of them have ended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use postrider_domain::NewRecord;
use postrider_kafka::Producer;
use postrider_kafka::producer::ANY_PARTITION;
use postrider_test_support::{Receipt, Verifier};

use crate::kcat::Read;
use crate::{DeadLetter, Installation, SECRET};

pub(super) const INTAKE: &str = "events";
/// What receivers do, by what their paths begin with; all others answer 200 at once.
pub(super) const RULES: &[&str] = &[
    "--delay",
    "/slow/=400",
    "--fail-first",
    "/flaky/=1",
    "--always",
    "/dead/=422",
    "--fail-share",
    "/ordered/=30",
];
/// At most so many attempts...
pub(super) const LIMIT: usize = 4;
/// ...in any interval so long: longer than a slice is without an owner after a crash.
pub(super) const LIMIT_PER: Duration = Duration::from_secs(30);
/// Between batches, so that commits fall between them.
pub(super) const PAUSE: Duration = Duration::from_millis(700);
/// The longest wait of a schedule: over a rung.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(31);
/// So many requests show that deliveries are under way.
pub(super) const SOME: usize = 20;
const FLUSH_MAX: Duration = Duration::from_secs(30);

/// The endpoints of a tenant.
struct Kind {
    tenant: &'static str,
    endpoints: usize,
    /// What their paths begin with.
    rule: &'static str,
    more: &'static str,
}

const KINDS: &[Kind] = &[
    Kind {
        tenant: "fan",
        endpoints: 3,
        rule: "ok",
        more: "",
    },
    Kind {
        tenant: "slow",
        endpoints: 1,
        rule: "slow",
        more: "",
    },
    Kind {
        tenant: "rung",
        endpoints: 1,
        rule: "flaky",
        more: "retry: { schedule: [31s], window: 1h, jitter: 0 }\n",
    },
    Kind {
        tenant: "memory",
        endpoints: 1,
        rule: "flaky",
        more: "retry: { schedule: [3s], window: 1h, jitter: 0 }\n",
    },
    Kind {
        tenant: "dead",
        endpoints: 1,
        rule: "dead",
        more: "retry: { schedule: [1s], window: 1h, jitter: 0 }\n",
    },
    Kind {
        tenant: "limited",
        endpoints: 1,
        rule: "ok",
        more: "rate_limit: { attempts: 4, per: 30s }\n",
    },
    Kind {
        tenant: "ordered",
        endpoints: 1,
        rule: "ordered",
        more: "ordering: key\nretry: { schedule: [1s, 1s, 1s], window: 1h, jitter: 0 }\n",
    },
];

/// Events that are written together: how many each tenant gets.
pub(super) struct Batch(&'static [(&'static str, usize)]);

impl Batch {
    /// Before all else.
    pub(super) fn warm_up() -> Self {
        Self(&[("fan", 1)])
    }

    /// Before the kill.
    pub(super) fn first() -> [Self; 4] {
        let all: &[(&str, usize)] = &[
            ("fan", 2),
            ("slow", 2),
            ("rung", 1),
            ("memory", 1),
            ("dead", 1),
            ("limited", 1),
            ("ordered", 4),
        ];
        [(); 4].map(|()| Self(all))
    }

    /// After it.
    pub(super) fn again() -> Self {
        Self(&[("fan", 2), ("memory", 1), ("limited", 1), ("ordered", 4)])
    }
}

/// An event for all endpoints of a tenant.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: String,
    tenant: &'static str,
    pub(super) key: Option<String>,
}

/// Everything that was written, and to what it has to come.
pub(super) struct Load {
    name: String,
    topic: Arc<str>,
    producer: Producer<()>,
    acked: Arc<AtomicUsize>,
    pub(super) events: Vec<Event>,
}

impl Load {
    /// For an experiment of this name, which is in all paths.
    pub(super) fn new(installation: &Installation, name: &str) -> anyhow::Result<Self> {
        let acked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&acked);
        let producer = Producer::new(&installation.client(), move |(), outcome| {
            count.fetch_add(usize::from(outcome.is_ok()), Ordering::Relaxed);
        })?;
        Ok(Self {
            name: name.to_owned(),
            topic: installation.topic(INTAKE).into(),
            producer,
            acked,
            events: Vec::new(),
        })
    }

    /// What `endpoint apply` gets.
    pub(super) fn endpoints(&self, verifier: &Verifier) -> String {
        let documents = KINDS.iter().flat_map(|kind| {
            (0..kind.endpoints).map(|number| {
                let Kind { tenant, more, .. } = kind;
                format!(
                    "---\nid: ep_{tenant}_{number}\ntenant: {tenant}\nurl: {}\n\
                     signing: {{ scheme: standard, secrets: [{{ id: s1, value: {SECRET} }}] }}\n{more}",
                    verifier.url(&self.path(kind, number)),
                )
            })
        });
        documents.collect()
    }

    fn path(&self, kind: &Kind, number: usize) -> String {
        format!("/{}/{}/ep_{}_{number}", kind.rule, self.name, kind.tenant)
    }

    /// Writes events, and waits until they are acknowledged. Those of one ordering key follow one
    /// another on one partition.
    pub(super) fn publish(&mut self, batch: &Batch) -> anyhow::Result<()> {
        for (tenant, count) in batch.0 {
            for number in 0..*count {
                let so_far = self.events.iter().filter(|e| e.tenant == *tenant).count();
                // half of a batch for each of two keys
                let key = (*tenant == "ordered").then(|| format!("key-{}", number * 2 / count));
                self.events.push(Event {
                    id: format!("{tenant}-{so_far}"),
                    tenant,
                    key,
                });
                let event = self.events.last().expect("pushed above");
                let member = event.key.as_ref();
                let member = member.map_or(String::new(), |key| format!(r#","key":"{key}""#));
                let json = format!(
                    r#"{{"id":"{}","type":"payment.captured","tenant":"{tenant}"{member}}}"#,
                    event.id
                );
                let key = event.key.clone().unwrap_or_else(|| (*tenant).to_owned());
                let record = NewRecord {
                    topic: Arc::clone(&self.topic),
                    partition: ANY_PARTITION,
                    key: Some(Bytes::from(key)),
                    value: Some(Bytes::from(json)),
                    headers: Vec::new(),
                };
                let sent = self.producer.send(&record, ());
                sent.map_err(|(error, ())| error)?;
            }
        }
        let flushed = self.producer.flush(FLUSH_MAX);
        let acked = self.acked.load(Ordering::Relaxed);
        ensure!(
            flushed && acked == self.events.len(),
            "{acked} events are on the log"
        );
        Ok(())
    }

    /// Every (event, path) that has to be delivered, or, where `dead`, to become a dead letter.
    pub(super) fn expected(&self, dead: bool) -> BTreeSet<(String, String)> {
        let kinds = KINDS.iter().filter(|kind| (kind.tenant == "dead") == dead);
        let pairs = kinds.flat_map(|kind| {
            let of_it = self
                .events
                .iter()
                .filter(|event| event.tenant == kind.tenant);
            of_it.flat_map(move |event| {
                (0..kind.endpoints).map(|number| (event.id.clone(), self.path(kind, number)))
            })
        });
        pairs.collect()
    }

    /// The path of the one endpoint of a tenant.
    pub(super) fn path_of(&self, tenant: &str) -> String {
        let kind = KINDS.iter().find(|kind| kind.tenant == tenant);
        self.path(kind.expect("a tenant of ours"), 0)
    }

    /// Requests of this experiment.
    pub(super) fn own(&self, mut receipts: Vec<Receipt>) -> Vec<Receipt> {
        receipts.retain(|receipt| self.is_own(receipt));
        receipts
    }

    fn is_own(&self, receipt: &Receipt) -> bool {
        receipt.path.split('/').nth(2) == Some(&self.name)
    }

    /// How many requests came.
    pub(super) fn arrived(&self, receipts: &[Receipt]) -> usize {
        receipts
            .iter()
            .filter(|receipt| self.is_own(receipt))
            .count()
    }

    /// How many deliveries were not taken yet.
    pub(super) fn missing(&self, receipts: &[Receipt]) -> usize {
        let taken = receipts.iter().filter(|r| (200..300).contains(&r.status));
        let taken: BTreeSet<(String, String)> = taken.map(pair).collect();
        self.expected(false).difference(&taken).count()
    }

    /// How many that have to become dead letters are none yet.
    pub(super) fn not_dead(&self, dead_letters: &[Read]) -> usize {
        let there: BTreeSet<String> = dead_letters
            .iter()
            .map(|read| DeadLetter::from(read.clone()).header("ce_id").to_owned())
            .collect();
        let expected = self.expected(true);
        expected
            .iter()
            .filter(|(id, _)| !there.contains(id))
            .count()
    }
}

/// The event of a request and where it came.
pub(super) fn pair(receipt: &Receipt) -> (String, String) {
    let event = receipt.event.as_ref().and_then(|id| id.as_str());
    (event.unwrap_or_default().to_owned(), receipt.path.clone())
}
