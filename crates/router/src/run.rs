//! A router's life: load the endpoints, join the group, route, leave.
//!
//! Decides that no event is read before every endpoint is known. Leaves routing to `router`.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use postrider_kafka::intake::{Intake, IntakeSettings};
use postrider_telemetry::Metrics;
use tracing::{info, warn};

use crate::endpoints::Endpoints;
use crate::router::{Ended, IDLE, Router};
use crate::schemas::Schemas;
use crate::settings::RouterSettings;
use crate::sources::{SourceTopics, Sources};
use crate::writes::Writes;

/// Loads the catalogue, joins the group and routes until told to stop, within the time that comes
/// with the order.
pub(crate) fn run(
    settings: RouterSettings,
    metrics: Metrics,
    sources: Sources,
    schemas: Schemas,
    mut endpoints: Endpoints,
    writes: Writes,
    orders: &Receiver<Duration>,
) -> Ended {
    if let Err(ended) = load(&mut endpoints, orders) {
        endpoints.stop();
        return ended;
    }
    let intake = match Intake::subscribe(&settings.client, intake_settings(&settings)) {
        Ok(intake) => intake,
        Err(error) => return error.into(),
    };
    info!(
        endpoints = endpoints.by_tenant().catalog().len(),
        "the router has its endpoints and joins its group"
    );
    let mut router = Router::new(
        settings, metrics, sources, schemas, endpoints, writes, intake,
    );
    let (ended, deadline) = router.route_until_told(orders);
    router.close(deadline);
    ended
}

/// Waits until every endpoint is known: an event routed before would miss some.
fn load(endpoints: &mut Endpoints, orders: &Receiver<Duration>) -> Result<(), Ended> {
    let mut told_at = Instant::now();
    while !endpoints
        .load(IDLE)
        .map_err(|_| Ended::Failed("the endpoints reader ended".into()))?
    {
        if !matches!(orders.try_recv(), Err(TryRecvError::Empty)) {
            return Err(Ended::Stopped);
        }
        if told_at.elapsed() > Duration::from_secs(10) {
            told_at = Instant::now();
            let (partitions, so_far) = (endpoints.loading(), endpoints.by_tenant().catalog().len());
            warn!(
                partitions,
                so_far, "still loading endpoints; no event is read before"
            );
        }
    }
    Ok(())
}

fn intake_settings(settings: &RouterSettings) -> IntakeSettings {
    let (mut topics, mut patterns) = (Vec::new(), Vec::new());
    for source in &settings.sources {
        match &source.topics {
            SourceTopics::Names(names) => topics.extend_from_slice(names),
            SourceTopics::Pattern(pattern) => patterns.push(pattern.clone()),
        }
    }
    IntakeSettings {
        group: settings.topics.router_group().to_string(),
        topics,
        patterns,
        protocol: settings.protocol,
    }
}
