//! What was asked of the broker: requests and their bytes by API.
//!
//! Decides how it is found out: Kafka's own `JmxTool`, one process for the whole run, reads the
//! broker's counters every ten seconds; a process for each reading would cost the machine a second
//! of CPU every time. Clients' statistics would tell their own requests only, and cost the workers
//! whose CPU is measured.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::ops::Range;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Context;
use postrider_test_support::Broker;

use crate::report::{Folder, Report};

/// How often the counters are read.
const EVERY_MS: &str = "10000";
/// What is asked for; `*` stands for the API and its version.
const OBJECTS: [&str; 4] = [
    "kafka.network:type=RequestMetrics,name=RequestsPerSec,*",
    "kafka.network:type=RequestMetrics,name=RequestBytes,*",
    "kafka.server:type=BrokerTopicMetrics,name=BytesInPerSec",
    "kafka.server:type=BrokerTopicMetrics,name=BytesOutPerSec",
];

/// Counters since the broker's start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    requests: f64,
    bytes: f64,
}

/// All of them at a time, by API; records' bytes as [`RECORDS_IN`] and [`RECORDS_OUT`].
type Reading = (u64, BTreeMap<String, Counts>);

/// Counted as `Fetch` too.
const COUNTED_TWICE: [&str; 2] = ["FetchConsumer", "FetchFollower"];
const RECORDS_IN: &str = "(records written)";
const RECORDS_OUT: &str = "(records read)";

/// Reads the counters from start to drop.
pub struct BrokerRequests {
    tool: Child,
    readings: Arc<Mutex<Vec<Reading>>>,
}

impl BrokerRequests {
    /// `None`: a broker that does not tell.
    ///
    /// # Errors
    /// The tool does not start.
    pub fn start(broker: &Broker) -> anyhow::Result<Option<Self>> {
        let Some(mut command) = broker.jmx_tool() else {
            return Ok(None);
        };
        for object in OBJECTS {
            command.args(["--object-name", object]);
        }
        command.args([
            "--attributes",
            "Count,Mean",
            "--report-format",
            "properties",
        ]);
        command.args(["--reporting-interval", EVERY_MS]);
        let mut tool = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("the tool that reads the broker's counters")?;
        let lines = BufReader::new(tool.stdout.take().context("piped above")?).lines();
        let readings: Arc<Mutex<Vec<Reading>>> = Arc::default();
        let told = Arc::clone(&readings);
        thread::spawn(move || {
            let mut reader = Parser::default();
            for line in lines.map_while(Result::ok) {
                if let Some(reading) = reader.take(&line) {
                    lock(&told).push(reading);
                }
            }
        });
        Ok(Some(Self { tool, readings }))
    }

    /// The process that reads them.
    pub fn pid(&self) -> u32 {
        self.tool.id()
    }

    /// Adds a table of the time between the first and the last reading within.
    pub fn report(&self, report: &mut Report, between: &Range<u64>) {
        let readings = lock(&self.readings);
        let mut within = readings.iter().filter(|(at, _)| between.contains(at));
        let (Some((from, before)), Some((to, after))) = (within.next(), within.next_back()) else {
            return;
        };
        let seconds = (to - from) as f64 / 1e6;
        let mut rows: Vec<(f64, Vec<String>)> = Vec::new();
        for (api, after) in after {
            let before = before.get(api).copied().unwrap_or_default();
            let requests = (after.requests - before.requests) / seconds;
            let bytes = (after.bytes - before.bytes) / seconds;
            let kib = format!("{:.1}", bytes / 1_024.0);
            let shown = if requests > 0.0 {
                format!("{requests:.1}")
            } else {
                String::new()
            };
            if requests > 0.0 || bytes > 0.0 {
                rows.push((requests, vec![api.clone(), shown, kib]));
            }
        }
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        let title = format!("Broker, {seconds:.0} s");
        let columns = ["API", "requests/s", "KiB/s"];
        report.table(
            &title,
            &columns,
            rows.into_iter().map(|row| row.1).collect(),
        );
    }

    /// Writes every reading as lines, one for each API that was asked at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, folder: &Folder) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(folder.file("broker.csv"))?);
        writeln!(out, "at_us,api,requests,bytes")?;
        for (at_us, counts) in lock(&self.readings).iter() {
            for (api, Counts { requests, bytes }) in counts {
                writeln!(out, "{at_us},{api},{requests:.0},{bytes:.0}")?;
            }
        }
        out.flush()
    }
}

impl Drop for BrokerRequests {
    fn drop(&mut self) {
        // it may have ended with the broker
        drop(self.tool.kill());
        drop(self.tool.wait());
    }
}

fn lock(readings: &Mutex<Vec<Reading>>) -> MutexGuard<'_, Vec<Reading>> {
    readings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the tool prints: `time=MILLISECONDS`, then `OBJECT:ATTRIBUTE=VALUE` for each.
#[derive(Default)]
struct Parser {
    at_us: u64,
    counts: BTreeMap<String, Counts>,
    /// Of the size of requests: how many, until their mean is known.
    sized: BTreeMap<String, (f64, f64)>,
}

impl Parser {
    /// A reading that is complete, when the next one begins.
    fn take(&mut self, line: &str) -> Option<Reading> {
        let (name, value) = line.rsplit_once('=')?;
        if name == "time" {
            let before = std::mem::take(self);
            self.at_us = value.parse::<u64>().ok()? * 1_000;
            return before.complete();
        }
        let value: f64 = value.parse().ok()?;
        let (object, attribute) = name.rsplit_once(':')?;
        let (_, properties) = object.split_once(':')?;
        let property = |key: &str| {
            let mut all = properties.split(',').filter_map(|p| p.split_once('='));
            all.find_map(|(name, value)| (name == key).then_some(value))
        };
        let api = property("request").unwrap_or_default().to_owned();
        if COUNTED_TWICE.contains(&api.as_str()) {
            return None;
        }
        match (property("name")?, attribute) {
            // versions of an API are counted apart
            ("RequestsPerSec", "Count") => self.counts.entry(api).or_default().requests += value,
            ("RequestBytes", "Count") => self.sized.entry(api).or_default().0 = value,
            ("RequestBytes", "Mean") => self.sized.entry(api).or_default().1 = value,
            ("BytesInPerSec", "Count") => self.records(RECORDS_IN, value),
            ("BytesOutPerSec", "Count") => self.records(RECORDS_OUT, value),
            _ => {}
        }
        None
    }

    fn records(&mut self, name: &str, bytes: f64) {
        self.counts.entry(name.to_owned()).or_default().bytes = bytes;
    }

    fn complete(mut self) -> Option<Reading> {
        for (api, (count, mean)) in self.sized {
            // the mean is over all there ever were
            self.counts.entry(api).or_default().bytes = count * mean;
        }
        self.counts.retain(|_, counts| *counts != Counts::default());
        (self.at_us > 0).then_some((self.at_us, self.counts))
    }
}

#[cfg(test)]
mod tests {
    use postrider_test_support::Broker;

    use super::{BrokerRequests, Parser, RECORDS_IN, lock};

    #[test]
    fn versions_add_up_and_bytes_are_count_times_mean() {
        let lines = [
            "Trying to connect to JMX url: service:jmx:rmi:///jndi/rmi://127.0.0.1:1/jmxrmi",
            "time=1000",
            "kafka.network:type=RequestMetrics,name=RequestsPerSec,request=Fetch,version=16:Count=5",
            "kafka.network:type=RequestMetrics,name=RequestsPerSec,request=Fetch,version=17:Count=2",
            "kafka.network:type=RequestMetrics,name=RequestsPerSec,request=FetchConsumer,version=17:Count=7",
            "kafka.network:type=RequestMetrics,name=RequestBytes,request=Fetch:Count=7",
            "kafka.network:type=RequestMetrics,name=RequestBytes,request=Fetch:Mean=10.0",
            "kafka.network:type=RequestMetrics,name=RequestBytes,request=Vote:Count=0",
            "kafka.network:type=RequestMetrics,name=RequestBytes,request=Vote:Mean=0.0",
            "kafka.server:type=BrokerTopicMetrics,name=BytesInPerSec:Count=99",
        ];
        let mut parser = Parser::default();
        assert!(lines.iter().all(|line| parser.take(line).is_none()));
        let (at_us, counts) = parser.take("time=2000").unwrap();
        assert_eq!((at_us, counts.len()), (1_000_000, 2));
        assert_eq!(
            (counts["Fetch"].requests, counts["Fetch"].bytes),
            (7.0, 70.0)
        );
        assert_eq!(counts[RECORDS_IN].bytes, 99.0);
    }

    #[test]
    fn a_broker_tells() {
        let broker = Broker::as_shipped_with(&[]);
        let requests = BrokerRequests::start(&broker).unwrap().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while lock(&requests.readings).is_empty() {
            assert!(std::time::Instant::now() < deadline, "no reading came");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let (_, counts) = lock(&requests.readings)[0].clone();
        // the script that starts it asks for the coordinator
        assert!(counts["FindCoordinator"].requests >= 1.0, "{counts:?}");
        assert!(counts["FindCoordinator"].bytes > 0.0, "{counts:?}");
    }
}
