//! Everything that only a real broker, real processes and real requests can show.
//!
//! One program, so that its tests share a broker and the machine's cores.

mod broker_failure;
mod canary;
mod dead_letters;
mod formats;
mod handshake;
mod intake;
mod kill_and_stop;
mod kill_points;
mod refusals;
mod retries;
mod schemes;
mod sealing;
mod secured;
mod squeezed;
mod stopping;
mod test_send;
mod withheld;

use std::time::Duration;

use postrider_e2e::{Process, SECRET};

/// How long a worker may take to join its group, and a first delivery to arrive, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// The document of one endpoint; `more` are further lines of it.
fn endpoint(id: &str, tenant: &str, url: &str, more: &str) -> String {
    format!(
        "---\nid: {id}\ntenant: {tenant}\nurl: {url}\n\
         signing: {{ scheme: standard, secrets: [{{ id: s1, value: {SECRET} }}] }}\n{more}\n"
    )
}

/// One JSON event for the sources of an installation.
fn event(id: &str, tenant: &str) -> String {
    format!(r#"{{"id":"{id}","type":"payment.captured","tenant":"{tenant}"}}"#)
}

/// Waits until a worker with both roles does both.
fn wait_until_ready(worker: &mut Process) {
    worker.wait_for_log(SOON, "slices assigned");
    worker.wait_for_log(SOON, "intake partitions taken over");
}
