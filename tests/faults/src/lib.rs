//! Faults on three real brokers, and the audit that judges what they did to deliveries.
//!
//! ```sh
//! cargo build -p postrider -p postrider-faults
//! target/debug/faults list                          # which there are
//! target/debug/faults leader --seed 7               # one, by name or number
//! target/debug/faults all                           # one after the other
//! target/debug/faults nemesis --minutes 20 --seed 7 # two to four at a time, again and again
//! ```
//!
//! Each run has three Kafka brokers (three copies, two of them in sync), a router, three
//! dispatchers (the `postrider` built into the same folder) and a steady load, in network
//! namespaces of its own ([`network`]); needs `unshare`, `nsenter`, `ip` and `nft`, and no root
//! where unprivileged user namespaces are allowed. It prints what was counted and what had to hold
//! ([`judge`]), exits 1 when something did not, and leaves in `target/faults/NAME`:
//!
//! | file | holds |
//! | --- | --- |
//! | `report.md`, `report.json` | settings with the seed, tables, marks |
//! | `actions.csv` | what was done, when |
//! | `events.csv`, `requests.bin`, `attempts.csv` | every event, request and attempt record |
//! | `samples-*.csv` | memory, CPU and file descriptors of each worker, once a second |
//! | `router-*.log`, `dispatcher-*.log`, `N-broker-*.log` | what workers and brokers logged |
//!
//! A new fault is a row of the table in [`rows`]; what it does is a function on a [`stage::Stage`],
//! in a file of its own or beside its family.

pub mod fault;
pub mod given_up;
pub mod judge;
pub mod kafka;
pub mod load;
pub mod nemesis;
pub mod netem;
pub mod network;
pub mod rows;
pub mod stage;
