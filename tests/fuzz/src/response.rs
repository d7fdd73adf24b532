//! A response of any bytes, over a real connection.
//!
//! Input: what a receiver writes before it closes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use postrider_domain::{AttemptResult, Timestamp};
use postrider_egress::{BODY_BYTES_MAX, Egress, Request};
use postrider_engine::verdict::{Verdict, judge};
use postrider_guard::Policy;
use tokio::runtime::Runtime;

/// As long as an exchange may take: what is written is there at once.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An exchange ends before its deadline, keeps no more than it says, and has a verdict.
pub(crate) fn response(input: &[u8]) {
    static WORLD: OnceLock<Mutex<World>> = OnceLock::new();
    let world = WORLD.get_or_init(|| Mutex::new(World::new()));
    let world = world.lock().unwrap_or_else(PoisonError::into_inner);
    world
        .answers
        .send(input.to_vec())
        .expect("the receiver runs");
    let request = Request {
        method: Method::POST,
        url: format!("http://{}/", world.address).into(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{}"),
        timeout: TIMEOUT,
    };
    let now = Timestamp::from_secs(1_674_087_231);
    let report = world.runtime.block_on(world.egress.send(now, request));
    assert!(report.phases.total < TIMEOUT, "{:?}", report.result);
    if let AttemptResult::Response(response) = &report.result {
        assert!(
            (100..=999).contains(&response.status),
            "{}",
            response.status
        );
        assert!(response.body.len() <= BODY_BYTES_MAX);
        let headers = response.headers.iter();
        let bytes: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes <= 8 << 10, "{bytes} bytes of headers are kept");
        let taken = judge(&report.result, None, now).0 == Verdict::Delivered;
        assert_eq!(taken, (200..=299).contains(&response.status));
    }
}

struct World {
    runtime: Runtime,
    egress: Egress,
    address: SocketAddr,
    answers: SyncSender<Vec<u8>>,
}

impl World {
    fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (answers, answer) = sync_channel::<Vec<u8>>(1);
        std::thread::spawn(move || {
            while let Ok(answer) = answer.recv() {
                let Ok((mut stream, _)) = listener.accept() else {
                    return;
                };
                let mut request = [0; 4096];
                // a request this small comes in one piece; then the end, so that none is reused
                if stream.read(&mut request).is_ok_and(|read| read > 0) {
                    drop(stream.write_all(&answer));
                }
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().expect("a runtime");
        let policy = Policy {
            allow_http: true,
            allow_ranges: vec!["127.0.0.0/8".parse().expect("a range")],
            ..Policy::default()
        };
        Self {
            runtime,
            egress: Egress::new(policy, "Postrider/fuzz").expect("a client"),
            address,
            answers,
        }
    }
}
