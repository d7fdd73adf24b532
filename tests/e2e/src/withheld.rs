//! A broker whose answers to heartbeats can be withheld.
//!
//! Decides which answer: the next one that gives a member more slices than the one before, or fewer;
//! or, for a while, that no heartbeat gets to the broker. All else on the connection does. Clients of
//! tests come in by the other listener. Leaves what must hold then to the tests.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use postrider_test_support::Broker;

use crate::{free_port, wait_until};

/// `ConsumerGroupHeartbeat`, whose answers have the second version of headers.
const HEARTBEAT: i16 = 68;

/// What an answer says of a member's slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There are more than before.
    Gives,
    /// There are fewer.
    Takes,
}

/// A broker of the caller's own with a second listener.
pub struct WithholdingBroker {
    broker: Broker,
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The next answer that is kept.
    wanted: Option<Change>,
    /// No heartbeat gets through.
    silent: bool,
    /// How many slices each member was told last.
    told: HashMap<Vec<u8>, usize>,
}

impl WithholdingBroker {
    /// Withholds nothing yet.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let behind = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let listeners = |ours: SocketAddr| {
            format!("PLAINTEXT://@host@:@port@,CONTROLLER://@host@:@controller_port@,HELD://{ours}")
        };
        let broker = Broker::own_with(&[
            ("listeners", &listeners(behind)),
            ("advertised.listeners", &listeners(address)),
            (
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,HELD:PLAINTEXT",
            ),
        ]);
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        // ends with the process: nobody connects any more once the test is over
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Ok(broker) = TcpStream::connect(behind) {
                    relay(client, broker, Arc::clone(&shared));
                }
            }
        });
        Self {
            broker,
            address,
            state,
        }
    }

    /// Where all is allowed, and nothing withheld.
    pub const fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Where answers can be withheld.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Withholds the next answer of this kind.
    pub fn withhold(&self, change: Change) {
        self.state.lock().expect("no relay panics").wanted = Some(change);
    }

    /// Whether the group hears no heartbeat from now on.
    pub fn silence(&self, all: bool) {
        self.state.lock().expect("no relay panics").silent = all;
    }

    /// Waits until [`Self::withhold`] has its answer.
    #[track_caller]
    pub fn wait_until_withheld(&self, limit: Duration) {
        wait_until("an answer was withheld", limit, || {
            let state = self.state.lock().expect("no relay panics");
            state.wanted.is_none().then_some(())
        });
    }
}

impl State {
    /// Whether a member is not to hear that it has so many slices.
    fn withholds(&mut self, member: Vec<u8>, count: usize) -> bool {
        let before = self.told.insert(member, count).unwrap_or_default();
        let change = match count.cmp(&before) {
            std::cmp::Ordering::Greater => Change::Gives,
            std::cmp::Ordering::Less => Change::Takes,
            std::cmp::Ordering::Equal => return false,
        };
        self.wanted.take_if(|wanted| *wanted == change).is_some()
    }
}

/// Passes on what both say, until one of them ends.
fn relay(client: TcpStream, broker: TcpStream, state: Arc<Mutex<State>>) {
    let clone = |of: &TcpStream| of.try_clone().expect("a second descriptor");
    let (from_client, to_client) = (clone(&client), client);
    let (from_broker, to_broker) = (clone(&broker), broker);
    let heartbeats = Arc::<Mutex<Vec<i32>>>::default();
    let (asked, at) = (Arc::clone(&heartbeats), Arc::clone(&state));
    thread::spawn(move || {
        let note = |request: &[u8]| {
            let number = heartbeat(request).expect("a request has a number");
            asked.lock().expect("no relay panics").extend(number);
            number.is_none() || !at.lock().expect("no relay panics").silent
        };
        pass(from_client, to_broker, note);
    });
    thread::spawn(move || {
        let look = |answer: &[u8]| {
            let mut rest = answer;
            let number = i32::from_be_bytes(take(&mut rest).expect("an answer has a number"));
            let mut asked = heartbeats.lock().expect("no relay panics");
            let Some(index) = asked.iter().position(|other| *other == number) else {
                return true;
            };
            asked.swap_remove(index);
            let told = told(rest).expect("an answer to a heartbeat");
            let mut state = state.lock().expect("no relay panics");
            told.is_none_or(|(member, count)| !state.withholds(member, count))
        };
        pass(from_broker, to_client, look);
    });
}

/// Passes on what is said, a size and so many bytes each, if `look` says so.
fn pass(mut from: TcpStream, mut to: TcpStream, look: impl Fn(&[u8]) -> bool) {
    let mut next = || -> io::Result<()> {
        let mut size = [0; 4];
        from.read_exact(&mut size)?;
        let mut bytes = vec![0; u32::from_be_bytes(size) as usize];
        from.read_exact(&mut bytes)?;
        if look(&bytes) {
            to.write_all(&size)?;
            to.write_all(&bytes)?;
        }
        Ok(())
    };
    while next().is_ok() {}
    for end in [&from, &to] {
        // fails where the other direction has done so
        end.shutdown(Shutdown::Both).unwrap_or_default();
    }
}

/// The number of a request that is a heartbeat.
fn heartbeat(mut rest: &[u8]) -> anyhow::Result<Option<i32>> {
    let api = i16::from_be_bytes(take(&mut rest)?);
    let _version: [u8; 2] = take(&mut rest)?;
    let number = i32::from_be_bytes(take(&mut rest)?);
    Ok((api == HEARTBEAT).then_some(number))
}

/// The member and how many partitions it shall have; `None` = the answer does not say.
///
/// Its fields are those of `ConsumerGroupHeartbeatResponse` 0 and 1 behind the number of the request.
fn told(mut rest: &[u8]) -> anyhow::Result<Option<(Vec<u8>, usize)>> {
    tags(&mut rest)?;
    let _throttled: [u8; 4] = take(&mut rest)?;
    let _error: [u8; 2] = take(&mut rest)?;
    let _message = text(&mut rest)?;
    let member = text(&mut rest)?;
    let _epoch: [u8; 4] = take(&mut rest)?;
    let _interval: [u8; 4] = take(&mut rest)?;
    if take(&mut rest)? != [1] {
        return Ok(None);
    }
    let mut count = 0;
    for _ in 1..varint(&mut rest)? {
        let _topic: [u8; 16] = take(&mut rest)?;
        for _ in 1..varint(&mut rest)? {
            let _partition: [u8; 4] = take(&mut rest)?;
            count += 1;
        }
        tags(&mut rest)?;
    }
    Ok(Some((member, count)))
}

fn take<const N: usize>(rest: &mut &[u8]) -> anyhow::Result<[u8; N]> {
    let (taken, left) = rest.split_first_chunk().context("it is too short")?;
    *rest = left;
    Ok(*taken)
}

/// `UNSIGNED_VARINT`.
fn varint(rest: &mut &[u8]) -> anyhow::Result<usize> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let [byte] = take(rest)?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    bail!("a number without an end")
}

/// `COMPACT_NULLABLE_STRING`; empty without one.
fn text(rest: &mut &[u8]) -> anyhow::Result<Vec<u8>> {
    let length = varint(rest)?.saturating_sub(1);
    let (taken, left) = rest.split_at_checked(length).context("it is too short")?;
    *rest = left;
    Ok(taken.to_vec())
}

/// No tagged fields: there are none yet.
fn tags(rest: &mut &[u8]) -> anyhow::Result<()> {
    ensure!(varint(rest)? == 0, "fields that are not known here");
    Ok(())
}
