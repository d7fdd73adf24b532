//! What a request costs the sink: CPU of its process, for each kind of connection.
//!
//! `cargo build --release -p postrider-bench --bin bench` first.

use std::io::Write;
use std::time::Duration;

use postrider_bench::handshakes::{Handshakes, Wire};
use postrider_bench::samples::cpu_seconds;
use postrider_bench::sink::Sink;
use postrider_bench::sink::order::Connections;

const TIME: Duration = Duration::from_secs(8);

fn main() -> anyhow::Result<()> {
    let this = std::env::current_exe()?;
    let folder = this.ancestors().nth(2).expect("examples are in a folder");
    let log = folder.join("sink-cost.bin");
    let mut sink = Sink::start(&folder.join("bench"), log)?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "connections, wire: requests/s, CPU of the sink and of the sender in µs/request"
    )?;
    for (connections, wire) in [
        (Connections::Kept, Wire::Plain),
        (Connections::Kept, Wire::Tls),
        (Connections::New, Wire::Plain),
        (Connections::New, Wire::TlsWithSessions),
        (Connections::NewWithoutSessions, Wire::Tls),
    ] {
        sink.connections(connections)?;
        let handshakes = Handshakes {
            hosts: 1_000,
            in_flight: 64,
            time: TIME,
            body: 1_000,
            wire,
        };
        let before = cpu_seconds(sink.pid())?;
        let outcome = handshakes.run(&sink)?;
        let cpu = cpu_seconds(sink.pid())? - before;
        writeln!(
            out,
            "{connections:?}, {wire:?}: {:.0}/s, {:.1} and {:.1} µs ({} failed, {} resumed of {})",
            outcome.pace.rate(),
            cpu * 1e6 / outcome.pace.requests.max(1) as f64,
            outcome.pace.cpu_us(),
            outcome.pace.failed,
            outcome.resumed,
            outcome.connections
        )?;
    }
    Ok(())
}
