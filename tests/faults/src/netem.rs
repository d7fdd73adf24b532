//! A slow and lossy line between workers and brokers, where the kernel has no `netem`.
//!
//! Decides when a packet goes on: after the delay, sooner or later by at most the jitter, drawn
//! evenly, so that packets overtake one another as they do with the kernel's; or never. The line is
//! two TUN devices, one beside the brokers and one in the worker's namespace; only packets between
//! that worker and brokers take it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tun_rs::{DeviceBuilder, SyncDevice};

use crate::network::{BROKERS, HUB, Network, broker, broker_address, run};

/// What is longer than any packet here.
const PACKET_MAX: usize = 65_536;
/// The first of the routing tables that nobody else uses.
const TABLE: u32 = 100;

/// What happens to packets, each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How long they take, on average.
    pub delay: Duration,
    /// How much sooner or later.
    pub jitter: Duration,
    /// How many of 100 are lost.
    pub loss_percent: u32,
}

impl Shape {
    /// When a packet of now goes on; `None` = never.
    fn due(self, now: Instant, random: &mut fastrand::Rng) -> Option<Instant> {
        if random.u32(0..100) < self.loss_percent {
            return None;
        }
        let around = self.jitter.mul_f64(2.0 * random.f64());
        Some(now + self.delay.saturating_sub(self.jitter) + around)
    }
}

/// A line, until it is taken down.
pub struct Line {
    worker: String,
    address: String,
    number: u32,
    threads: Vec<JoinHandle<()>>,
}

impl Line {
    /// Puts it between a worker, whose address is given, and all brokers; numbers tell lines apart.
    ///
    /// # Errors
    /// There are no TUN devices here, or a tool fails.
    pub fn put(
        network: &Network,
        worker: &str,
        number: u32,
        shape: Shape,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let address = network.address(worker).to_owned();
        let (near, far) = (format!("near-{number}"), format!("far-{number}"));
        let device = |name: &str| DeviceBuilder::new().name(name).build_sync();
        let (at_hub, at_worker) = (Arc::new(device(&near)?), Arc::new(device(&far)?));
        let table = (TABLE + number).to_string();
        let keeper = network.keeper(worker).to_string();
        for line in [
            format!("link set {far} netns {keeper}"),
            format!("link set {near} up"),
            format!("route add {address}/32 dev {near} table {table}"),
            // what the program and the receivers send takes the bridge
            format!("rule add iif hub to {address} lookup {table}"),
        ] {
            run(Command::new("ip").args(line.split(' ')), "")?;
        }
        network.run(worker, &format!("ip link set {far} up"), "")?;
        for id in BROKERS {
            let route = format!(
                "ip route add {}/32 dev {far} src {address}",
                broker_address(id)
            );
            network.run(worker, &route, "")?;
            network.run(
                &broker(id),
                &format!("ip route add {address}/32 via {HUB}"),
                "",
            )?;
        }
        let there = way(&at_hub, &at_worker, shape, seed);
        let back = way(&at_worker, &at_hub, shape, seed ^ 1);
        let threads = there.into_iter().chain(back).collect();
        Ok(Self {
            worker: worker.to_owned(),
            address,
            number,
            threads,
        })
    }

    /// Takes it down; packets under way are lost.
    ///
    /// # Errors
    /// A tool fails.
    pub fn take(self, network: &Network) -> anyhow::Result<()> {
        let Self {
            worker,
            address,
            number,
            threads,
        } = self;
        for id in BROKERS {
            network.run(&broker(id), &format!("ip route del {address}/32"), "")?;
        }
        // routes and rules of a device go with it; reading it ends
        network.run(&worker, &format!("ip link del far-{number}"), "")?;
        for line in [
            format!("rule del iif hub to {address} lookup {}", TABLE + number),
            format!("link del near-{number}"),
        ] {
            run(Command::new("ip").args(line.split(' ')), "")?;
        }
        for thread in threads {
            // it has nothing to say
            drop(thread.join());
        }
        Ok(())
    }
}

/// The two threads of a direction: one reads, one sends when the time has come.
fn way(
    from: &Arc<SyncDevice>,
    to: &Arc<SyncDevice>,
    shape: Shape,
    seed: u64,
) -> [JoinHandle<()>; 2] {
    let (sender, packets) = channel();
    let (from, to) = (Arc::clone(from), Arc::clone(to));
    let reader = thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut packet = vec![0; PACKET_MAX];
        // an error here is the end of the device
        while let Ok(length) = from.recv(&mut packet) {
            let Some(due) = shape.due(Instant::now(), &mut random) else {
                continue;
            };
            if sender.send((due, packet[..length].to_vec())).is_err() {
                return;
            }
        }
    });
    [reader, thread::spawn(move || forward(&packets, &to))]
}

fn forward(packets: &Receiver<(Instant, Vec<u8>)>, to: &SyncDevice) {
    let mut waiting: BinaryHeap<Reverse<(Instant, Vec<u8>)>> = BinaryHeap::new();
    loop {
        let now = Instant::now();
        while waiting.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            if let Some(Reverse((_, packet))) = waiting.pop() {
                // a device that is gone takes nothing: the packet is lost
                drop(to.send(&packet));
            }
        }
        let next = waiting.peek().map(|Reverse((due, _))| *due - now);
        match packets.recv_timeout(next.unwrap_or(Duration::from_secs(1))) {
            Ok(packet) => waiting.push(Reverse(packet)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Shape;

    #[test]
    fn delays_lie_around_the_delay_and_some_packets_are_lost() {
        let shape = Shape {
            delay: Duration::from_millis(200),
            jitter: Duration::from_millis(100),
            loss_percent: 5,
        };
        let (now, mut random) = (Instant::now(), fastrand::Rng::with_seed(1));
        let dues: Vec<Duration> = (0..10_000)
            .filter_map(|_| shape.due(now, &mut random))
            .map(|due| due - now)
            .collect();
        assert!((9_400..9_600).contains(&dues.len()), "{}", dues.len());
        let of = |ms| Duration::from_millis(ms);
        assert!(dues.iter().all(|due| (of(100)..=of(300)).contains(due)));
        let mean = dues.iter().sum::<Duration>() / u32::try_from(dues.len()).unwrap();
        assert!((of(195)..of(205)).contains(&mean), "{mean:?}");
    }
}
