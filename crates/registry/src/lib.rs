//! Schemas from a schema registry.
//!
//! Decides how the registry is asked, that a schema is asked for until there is an answer (a registry
//! that is away, or refuses everything, is no answer), and how long a schema that is not there is looked for, as
//! replicas of a registry learn of a new one late. Leaves who waits, and what is remembered, to the
//! router; what a schema means to `schema`.
//!
//! A client of its own, beside that of `egress`: the address is the operator's and may be a private
//! one, so nothing here goes through the guard that merchants' addresses go through (ADR 0032).
//!
//! Source: Confluent's schema registry API, which others offer too: `/schemas/ids/{id}`,
//! `/schemas/guids/{guid}`, `/subjects/{subject}/versions/{version}`.
#![warn(missing_docs)]

mod client;
mod find;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::Receiver;
use postrider_domain::Secret;
use postrider_schema::{Schema, SchemaId};
use tokio::sync::mpsc;

use client::Client;

/// Where the registry is, and how it is spoken to. No `Debug`: it holds a password.
#[derive(Clone)]
pub struct RegistrySettings {
    /// `http` or `https`, without user and password; a path is a prefix.
    pub url: String,
    /// Who asks.
    pub credentials: Credentials,
    /// PEM certificates of the authorities that are trusted; `None` = the system's.
    pub ca_file: Option<PathBuf>,
}

/// Who asks.
#[derive(Clone)]
pub enum Credentials {
    /// Nobody in particular.
    None,
    /// HTTP basic authentication.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A bearer token.
    Bearer(Secret),
}

/// Why the registry cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The address is none.
    #[error("schema_registry.url: {0}")]
    Url(String),
    /// The certificates cannot be used.
    #[error("schema_registry.ca_file {path}: {reason}")]
    CaFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS library did not start.
    #[error(
        "the client of the schema registry cannot be set up ({0}); are the system's CA certificates installed (package ca-certificates)?"
    )]
    Tls(String),
    /// The system gives no thread or runtime.
    #[error("cannot start the client of the schema registry: {0}")]
    Thread(#[from] std::io::Error),
}

/// Of the client's thread: schemas are compiled on it, and what compiles them calls itself, up to a
/// bound that needs a small part of this.
const STACK_BYTES: usize = 8 << 20;

/// What is heard of the registry.
#[derive(Debug)]
pub enum Event {
    /// The answer to a question, one for each.
    Answer(SchemaId, Answer),
    /// A request failed and is made again; there are many of these while a registry is away.
    Failed(String),
}

/// What a schema is.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This, which takes so many bytes of memory, about.
    Schema(Arc<Schema>, usize),
    /// Not there, or refused though others are not, for 30 s; or there, but of no use. Why.
    None(Arc<str>),
}

/// A client with a thread of its own. Dropping it ends both.
pub struct Registry {
    questions: Option<mpsc::UnboundedSender<SchemaId>>,
    events: Receiver<Event>,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    /// Starts the client. The registry itself may be away.
    ///
    /// # Errors
    /// [`RegistryError`] when a setting is wrong.
    pub fn start(settings: RegistrySettings) -> Result<Self, RegistryError> {
        let client = Arc::new(Client::new(settings)?);
        // Answers, one for each question, and a failure for each request, a few in a second.
        let (reports, events) = crossbeam_channel::unbounded();
        let (questions, mut asked) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = thread::Builder::new()
            .name("registry".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                runtime.block_on(async {
                    while let Some(id) = asked.recv().await {
                        tokio::spawn(find::until_answered(
                            Arc::clone(&client),
                            id,
                            reports.clone(),
                        ));
                    }
                });
                // A name that is being looked up would be waited for otherwise.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            questions: Some(questions),
            events,
            thread: Some(thread),
        })
    }

    /// Asks for a schema; one [`Event::Answer`] follows, when the registry gives it. Asking twice
    /// is twice the work, so the caller remembers what it has asked for; so many questions are open.
    pub fn ask(&self, id: SchemaId) {
        if let Some(questions) = &self.questions {
            // Fails only when the thread has panicked.
            questions.send(id).ok();
        }
    }

    /// What has been heard.
    #[must_use]
    pub const fn events(&self) -> &Receiver<Event> {
        &self.events
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests;
