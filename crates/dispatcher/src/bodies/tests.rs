//! Facts about where bodies are made.

use bytes::Bytes;
use postrider_domain::{Delivery, Event, Format, Slice, Template, Tenant, Timestamp};
use postrider_engine::io::{Claim, Ticket};

use super::*;

const SOON: Duration = Duration::from_secs(30);

pub(crate) fn start(id: u128, format: Format, data: &'static [u8]) -> StartAttempt {
    let mut endpoint = Endpoint::new(
        "ep_1".parse().unwrap(),
        Tenant::default(),
        "http://127.0.0.1:9/",
    );
    endpoint.format = format;
    let event = Event {
        id: "evt_1".into(),
        source: "/payments".into(),
        event_type: "payment.captured".into(),
        tenant: Tenant::default(),
        time: None,
        ordering_key: None,
        content_type: Some("application/json".into()),
        traceparent: None,
        extensions: Vec::new(),
        data: Bytes::from_static(data),
        accepted_at: Timestamp::default(),
    };
    let delivery = Delivery {
        id: DeliveryId::from_bytes(id.to_be_bytes()),
        endpoint: endpoint.id.clone(),
        event,
        attempts: 0,
        due: None,
        test: false,
    };
    StartAttempt {
        ticket: Ticket {
            slice: Slice(0),
            claim: Claim(1),
            entry: 1,
            unproven: true,
            replay: false,
            decided_at: Timestamp::default(),
        },
        delivery: Arc::new(delivery),
        endpoint: Arc::new(endpoint),
        attempt: 1,
        timeout: Duration::from_secs(5),
        not_after: Timestamp::MAX,
    }
}

fn template(id: u128) -> StartAttempt {
    let template = Template {
        source: "{{ data }}".into(),
        content_type: "application/json".into(),
    };
    start(id, Format::Template(template), b"{\"a\":1}")
}

async fn of(bodies: &Bodies, start: &StartAttempt, wait: Duration) -> Option<Bytes> {
    let made = bodies.of(start, Arc::default(), wait).await?;
    Some(made.unwrap().into_owned().body)
}

/// Waits for something that other tasks do.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let in_time = tokio::time::timeout(SOON, so).await;
    in_time.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// However short each start waits, and however long it takes.
#[tokio::test]
async fn what_was_made_too_late_is_there_for_the_next_start() {
    let bodies = Bodies::bounded(1, 4 << 20);
    let start = template(1);
    let busy = Arc::clone(&bodies.0.makers).acquire_owned().await.unwrap();
    for _ in 0..3 {
        assert_eq!(of(&bodies, &start, Duration::ZERO).await, None);
        assert_eq!(bodies.0.left().makings.len(), 1);
    }
    drop(busy);
    let next = async {
        loop {
            if let Some(body) = of(&bodies, &start, Duration::ZERO).await {
                return body;
            }
            tokio::task::yield_now().await;
        }
    };
    let body = tokio::time::timeout(SOON, next).await.expect("a body");
    assert_eq!(body, "{\"a\":1}");
    let left = bodies.0.left();
    assert_eq!((left.makings.len(), left.bytes), (0, 0), "it is used once");
}

#[tokio::test]
async fn what_is_kept_is_for_that_version_of_its_endpoint() {
    let bodies = Bodies::bounded(1, 4 << 20);
    let first = template(1);
    let body = of(&bodies, &first, SOON).await.unwrap();
    let rendered = Rendered {
        content_type: "text/plain".into(),
        headers: Vec::new(),
        body,
    };
    bodies.keep(&first, rendered.clone());
    // the thread that made it answers before it lets go of what it was given
    let let_go = async {
        while Arc::strong_count(&first.endpoint) > 1 {
            tokio::task::yield_now().await;
        }
    };
    let let_go = tokio::time::timeout(SOON, let_go).await;
    let_go.expect("nor are its secrets kept");
    let taken = bodies.0.left().take(&first);
    assert_eq!(taken.unwrap().await.unwrap(), Ok(rendered.clone()));
    bodies.keep(&first, rendered);
    let second = template(1);
    assert!(bodies.0.left().take(&second).is_none());
    assert_eq!(bodies.0.left().bytes, 0);
}

#[tokio::test]
async fn what_waits_is_bounded_and_let_go_soon() {
    let bodies = Bodies::bounded(1, 4 << 20);
    let _busy = Arc::clone(&bodies.0.makers).acquire_owned().await.unwrap();
    let starts: Vec<_> = (0..100).map(template).collect();
    for start in &starts {
        assert_eq!(of(&bodies, start, Duration::ZERO).await, None);
    }
    let waiting = LEFT_BYTES_MAX / postrider_payload::BODY_BYTES_MAX;
    assert_eq!(bodies.0.left().makings.len(), waiting);
    let deliveries = || {
        starts
            .iter()
            .map(|start| Arc::strong_count(&start.delivery))
    };
    until("the others are forgotten", || {
        deliveries().filter(|count| *count > 1).count() == waiting
    })
    .await;
    bodies.0.left().sweep(Instant::now() + LEFT_FOR);
    assert_eq!(bodies.0.left().bytes, 0);
    until("they are forgotten", || {
        deliveries().all(|count| count == 1)
    })
    .await;
}

#[tokio::test]
async fn bodies_have_room_until_they_are_let_go() {
    let all = 1 << 20;
    let bodies = Bodies::bounded(1, all);
    let room = || bodies.0.room.available_permits();
    let (made, plain) = (template(1), start(2, Format::Standard, b"1"));
    let body = of(&bodies, &made, SOON).await.unwrap();
    until("it takes what it is", || room() == all / UNIT - 1).await;
    // The next one could be as large as all there is.
    let next = template(3);
    assert_eq!(of(&bodies, &next, Duration::from_millis(5)).await, None);
    // Nor is it overtaken by small ones.
    assert_eq!(of(&bodies, &plain, Duration::from_millis(5)).await, None);
    // The event's own bytes take none.
    let raw = start(4, Format::Raw, b"1");
    assert!(of(&bodies, &raw, Duration::ZERO).await.is_some());
    let part = body.slice(2..3);
    drop(body);
    assert_eq!(of(&bodies, &next, Duration::from_millis(5)).await, None);
    drop(part);
    assert!(of(&bodies, &next, SOON).await.is_some());
    assert!(of(&bodies, &plain, SOON).await.is_some());
    until("all of it is free", || room() == all / UNIT).await;
}
