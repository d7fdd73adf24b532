//! The sink as whoever started it sees it: a process, its addresses, its orders, its log.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, ensure};

use super::log::Reader;
use super::order::{Behaviour, Connections, Order, Ready};
use super::{SIDE_DOOR, authority, host, path};

/// By which way requests come to a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Always open.
    Main,
    /// It can be closed, and refuses connections then, or muted.
    Side,
    /// Always open; receivers are spread over so many hosts, in turn.
    Hosts(u32),
    /// The same, with TLS.
    Tls(u32),
}

/// A running sink. Ends when dropped, and when the starter dies.
pub struct Sink {
    process: Child,
    /// `None` only while dropping.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    ready: Ready,
    log: PathBuf,
}

impl Sink {
    /// Starts `program sink --log LOG`; the log is a new file.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(program: &Path, log: PathBuf) -> anyhow::Result<Self> {
        let mut process = Command::new(program)
            .args(["sink", "--log"])
            .arg(&log)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| program.display().to_string())?;
        let orders = process.stdin.take();
        let mut answers = BufReader::new(process.stdout.take().context("piped above")?);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let ready = serde_json::from_str(&line).with_context(|| format!("it said {line:?}"))?;
        Ok(Self {
            process,
            orders,
            answers,
            ready,
            log,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Where a receiver gets its requests.
    pub fn url(&self, receiver: u32, door: Door) -> String {
        let path = path(receiver);
        match door {
            Door::Main => format!("http://127.0.0.1:{}{path}", self.ready.port),
            Door::Side => format!("http://{SIDE_DOOR}:{}{path}", self.ready.side_door),
            Door::Hosts(hosts) => {
                format!(
                    "http://{}:{}{path}",
                    host(receiver % hosts),
                    self.ready.port
                )
            }
            Door::Tls(hosts) => {
                format!(
                    "https://{}:{}{path}",
                    host(receiver % hosts),
                    self.ready.tls
                )
            }
        }
    }

    /// The port that is always open, with TLS or without.
    pub fn port(&self, tls: bool) -> u16 {
        if tls { self.ready.tls } else { self.ready.port }
    }

    /// What every `step`-th receiver, from `first` on and below `end`, does from now on.
    ///
    /// # Errors
    /// The sink is gone.
    pub fn behave(
        &mut self,
        first: u32,
        end: u32,
        step: u32,
        behaviour: Behaviour,
    ) -> anyhow::Result<()> {
        self.order(&Order::Behave {
            receivers: first..end,
            step,
            behaviour,
        })
    }

    /// The side door refuses connections.
    ///
    /// # Errors
    /// The sink is gone.
    pub fn close_side_door(&mut self) -> anyhow::Result<()> {
        self.order(&Order::CloseSideDoor)
    }

    /// The side door does not answer to new connections.
    ///
    /// # Errors
    /// The sink is gone, or somebody else has the port.
    pub fn mute_side_door(&mut self) -> anyhow::Result<()> {
        self.order(&Order::MuteSideDoor)
    }

    /// The side door takes connections again.
    ///
    /// # Errors
    /// The sink is gone, or somebody else has the port.
    pub fn open_side_door(&mut self) -> anyhow::Result<()> {
        self.order(&Order::OpenSideDoor)
    }

    /// What becomes of connections from now on.
    ///
    /// # Errors
    /// The sink is gone.
    pub fn connections(&mut self, connections: Connections) -> anyhow::Result<()> {
        self.order(&Order::Connections(connections))
    }

    /// The PEM file of the authority that its certificates are of.
    pub fn authority(&self) -> PathBuf {
        authority::file(&self.log)
    }

    /// Reads its log from the beginning.
    ///
    /// # Errors
    /// The log is gone.
    pub fn reader(&self) -> anyhow::Result<Reader> {
        Ok(Reader::open(&self.log)?)
    }

    fn order(&mut self, order: &Order) -> anyhow::Result<()> {
        let orders = self.orders.as_mut().context("taken only while dropping")?;
        writeln!(orders, "{}", serde_json::to_string(order)?)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        ensure!(answer.trim() == r#""done""#, "the sink answered {answer:?}");
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.orders.take());
        // it ends with its input
        drop(self.process.wait());
    }
}
