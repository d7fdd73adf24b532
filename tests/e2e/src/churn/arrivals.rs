//! What has arrived while a course goes on. Leaves what it means to the audit.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use postrider_test_support::{Receipt, Verifier};

use super::endpoints::Endpoints;
use super::journal::event_of;

/// What arrived so far, read from the receiver's log as it grows.
pub(super) struct Arrivals {
    log: PathBuf,
    read: u64,
    requests: usize,
    events: usize,
    arrived: Vec<bool>,
    /// By path.
    slices: HashMap<String, u16>,
    /// The highest number that arrived of each slice.
    newest: Vec<Option<usize>>,
    /// The path of the experiment's subject, and who sent the last request there.
    subject: Option<String>,
    sender: Option<u32>,
}

impl Arrivals {
    pub(super) fn of(verifier: &Verifier, endpoints: &Endpoints, slices: u16) -> Self {
        let by_path = endpoints.iter().map(|e| (e.path.clone(), e.slice));
        Self {
            log: verifier.log(),
            read: 0,
            requests: 0,
            events: 0,
            arrived: Vec::new(),
            slices: by_path.collect(),
            newest: vec![None; slices.into()],
            subject: endpoints.subject.as_ref().map(|e| e.path.clone()),
            sender: None,
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

    /// Events that were taken; one that was refused is still to come.
    pub(super) fn events(&self) -> usize {
        self.events
    }

    /// Requests beyond one for each event that was taken.
    pub(super) fn repeated(&self) -> usize {
        self.requests - self.events
    }

    fn take(&mut self, receipt: &Receipt) {
        self.requests += 1;
        let Some(number) = event_of(receipt) else {
            return;
        };
        if self.arrived.len() <= number {
            self.arrived.resize(number + 1, false);
        }
        if !self.arrived[number] && (200..300).contains(&receipt.status) {
            self.arrived[number] = true;
            self.events += 1;
        }
        let slice = self.slices.get(&receipt.path);
        let newest = &mut self.newest[usize::from(*slice.expect("a path of ours"))];
        *newest = (*newest).max(Some(number));
        if self.subject.as_ref() == Some(&receipt.path) {
            self.sender = receipt.sender;
        }
    }

    /// The process that sent the last request for the experiment's subject.
    pub(super) fn sender_for_subject(&self) -> Option<u32> {
        self.sender
    }

    /// Whether every slice got an event of this number or a later one.
    pub(super) fn everywhere_since(&self, number: usize) -> bool {
        self.newest.iter().all(|newest| *newest >= Some(number))
    }
}
