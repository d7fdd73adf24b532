//! What has arrived while a course goes on. Leaves what it means to the audit.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use postrider_test_support::{Receipt, Verifier};

use super::journal::event_number;

/// What arrived so far, read from the receiver's log as it grows.
pub(super) struct Arrivals {
    log: PathBuf,
    read: u64,
    requests: usize,
    events: usize,
    arrived: Vec<bool>,
    /// The highest number that arrived of each slice; numbers take turns by slice.
    newest: Vec<Option<usize>>,
}

impl Arrivals {
    pub(super) fn of(verifier: &Verifier, slices: u16) -> Self {
        Self {
            log: verifier.log(),
            read: 0,
            requests: 0,
            events: 0,
            arrived: Vec::new(),
            newest: vec![None; slices.into()],
        }
    }

    /// Reads what has come since it looked last.
    pub(super) fn look(&mut self) {
        let mut text = String::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_string(&mut text)
        });
        if read.is_err() {
            return;
        }
        // a line without its end is still being written
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        for line in text[..whole].lines() {
            let receipt: Receipt = serde_json::from_str(line).expect("the log holds receipts");
            self.take(&receipt);
        }
    }

    /// Requests in all.
    pub(super) fn requests(&self) -> usize {
        self.requests
    }

    /// Different events among them.
    pub(super) fn events(&self) -> usize {
        self.events
    }

    /// Requests beyond the first of each event.
    pub(super) fn repeated(&self) -> usize {
        self.requests - self.events
    }

    fn take(&mut self, receipt: &Receipt) {
        self.requests += 1;
        let id = receipt.event.as_ref().and_then(|id| id.as_str());
        let Some(number) = id.and_then(event_number) else {
            return;
        };
        if self.arrived.len() <= number {
            self.arrived.resize(number + 1, false);
        }
        if !self.arrived[number] {
            self.arrived[number] = true;
            self.events += 1;
        }
        let slice = number % self.newest.len();
        self.newest[slice] = self.newest[slice].max(Some(number));
    }

    /// Whether every slice got an event of this number or a later one.
    pub(super) fn everywhere_since(&self, number: usize) -> bool {
        self.newest.iter().all(|newest| *newest >= Some(number))
    }
}
