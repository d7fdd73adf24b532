//! Load experiments against real workers on a real broker.
//!
//! Each is one command. It starts a broker, an installation, its workers (the `postrider` built
//! into the same folder) and the receivers, prints tables and marks, leaves them and all it
//! measured in `target/bench/NAME`, and exits 1 when a mark is missed:
//!
//! ```sh
//! cargo build --release -p postrider -p postrider-bench
//! target/release/bench max        # how much it takes, beside bare signed requests; 4 min
//! target/release/bench idle       # 20 events a second, beside two bare hops over topics; 4 min
//! target/release/bench steady     # half of what it takes: how late first attempts are; 3 min
//! target/release/bench tls        # 1 000 hosts that speak TLS, beside bare handshakes; 5 min
//! target/release/bench cold       # 100 000 endpoints on 10 000 hosts, beside 100; 10 min
//! target/release/bench hot        # one gets nine tenths of all events; 5 min
//! target/release/bench fanout     # one event for 10 000 endpoints; 2 min
//! target/release/bench burst      # six times the load for a minute; 5 min
//! target/release/bench sick       # 10 % hang, 5 % fail: what the healthy feel of it; 8 min
//! target/release/bench down       # one is away while 200 000 deliveries for it come; 12 min
//! target/release/bench ordered    # half of the endpoints take their events in order; 3 min
//! target/release/bench backlog    # 1 000 000 events wait when the workers start; 10 min
//! target/release/bench replay     # 1 000 000 are sent again beside a live load; 4 min
//! target/release/bench scale      # 1, 2 and 3 dispatchers with the same CPU each; 4 min
//! target/release/bench soak       # a steady load and a fault every 10 min; 8 h
//! target/release/bench retries    # 1 000 000 retries wait; 80 min
//! target/release/bench retries --direct --retries 5000000 --spread 600 --padding 200    # 40 min
//! target/release/bench budget     # where the CPU of a delivery goes, step by step; takes perf
//! target/release/bench all        # each of these, with one table at the end; hours
//! target/release/bench all --resume                     # goes on with it where it was ended
//! target/release/bench all --quick                      # each so small that a debug build does
//! target/release/bench compare target/bench/A target/bench/B
//! target/release/bench down --deliveries 20000 --before 20 --rest 50    # smaller; see --help
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `report.md`, `report.json` | settings, tables, marks; machine, versions, command |
//! | `run.svg` | latencies, deliveries, CPU and memory over time |
//! | `first-attempts`, `delivered`, `acknowledged`: `.hgrm`, `.csv` | HDR histograms |
//! | `after-acknowledged`, `bare-hops`: the same | of `idle`: from acknowledgement to arrival |
//! | `steady`: the same | of `steady`: first attempts of the events that count |
//! | `events.csv` | every event: when it was meant to be written, was sent, was acknowledged |
//! | `requests.bin` | every request in order of arrival ([`sink::log`]) |
//! | `samples.csv` | CPU, memory and file descriptors of every process, the broker's too, once a second; every 5 s context switches and sockets |
//! | `threads.csv` | CPU by name of thread, where it has changed |
//! | `broker.csv` | requests and bytes by API since the broker's start, every 10 s |
//! | `machine.csv` | CPU of the whole machine |
//! | `router.log`, `dispatcher-N.log` | what the workers logged; `dispatcher-N.2.log` is of the next one in its place |
//!
//! How it measures:
//!
//! - *Open model.* When an event is to be written is fixed before anything runs ([`plan`]), and
//!   latencies count from that time, not from when it was written: who is slow is not forgiven
//!   the events that waited for it.
//! - *Receivers* are a process of their own ([`sink`]), told apart by path and, where a profile says
//!   so, by host, and write each request down before they answer it. All times are of one machine's
//!   clock. What a request costs them: `cargo run --release -p postrider-bench --example sink-cost`.
//! - *Percentiles* are exact: all values are kept ([`stats`]).
//! - *Ratios.* Broker, workers, receivers and load share the machine, so marks are ratios within
//!   one run, or counts.
//!
//! A new experiment is a file in `profiles`: which endpoints there are, what happens in which
//! order, and the marks.

pub mod audit;
pub mod baseline;
pub mod broker_requests;
pub mod compare;
pub mod facts;
pub mod fleet;
pub mod handshakes;
pub mod histogram;
pub mod hops;
pub mod load;
pub mod plan;
pub mod plot;
pub mod profiles;
pub mod report;
pub mod rig;
pub mod samples;
pub mod sink;
pub mod stats;
pub mod suite;

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since the epoch.
///
/// # Panics
/// Before 1970.
pub fn now_us() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = since_epoch.expect("after 1970").as_micros();
    u64::try_from(micros).expect("before the year 584 556")
}
