//! The client that lanes are read with: made, and made anew when nothing else helps.
//!
//! Decides that the new client is ready before the old one goes, and that the end of the old one,
//! which may take as long as librdkafka likes, is waited for by nobody and by one thread at most.
//! Leaves when to make one to `silence`, and where it reads to the reader.

use std::io;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tracing::info;

use crate::client::{ClientError, ClientSettings, LogContext};

/// Why the old client is still there.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotRenewed {
    /// The new one was refused.
    #[error(transparent)]
    Refused(#[from] ClientError),
    /// The one before it has not ended yet.
    #[error("the client before it has not ended yet")]
    Leaving,
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    NoThread(#[from] io::Error),
}

/// Makes the clients of one reader.
pub(super) struct Renewal {
    settings: ClientSettings,
    group: String,
    leaving: Leaving,
}

impl Renewal {
    pub(super) fn new(settings: &ClientSettings, group: &str) -> Self {
        Self {
            settings: settings.clone(),
            group: group.to_owned(),
            leaving: Leaving::default(),
        }
    }

    /// A client that reads nothing yet.
    ///
    /// # Errors
    /// librdkafka refuses a property, or gives no client.
    pub(super) fn make(&self) -> Result<BaseConsumer<LogContext>, ClientError> {
        self.settings
            .consumer(&self.group)
            .create_with_context(LogContext::new())
            .map_err(ClientError::refused("make a consumer"))
    }

    /// Puts a new client, which reads these lanes, in place of the old one. What the old one holds
    /// and was not taken from it is dropped with it.
    ///
    /// # Errors
    /// [`NotRenewed`], and then `client` is as it was.
    pub(super) fn replace(
        &mut self,
        client: &mut BaseConsumer<LogContext>,
        lanes: &TopicPartitionList,
    ) -> Result<(), NotRenewed> {
        let leaving = self.leaving.make_room()?;
        let new = self.make()?;
        new.incremental_assign(lanes)
            .map_err(ClientError::refused("start reading lanes"))?;
        let old = std::mem::replace(client, new);
        // There is room: one at a time.
        drop(leaving.send(old));
        Ok(())
    }
}

/// What is let go of by a thread of its own, because its end may take long; one at a time.
#[derive(Default)]
struct Leaving {
    /// Never waited for, not even when the reader ends.
    thread: Option<JoinHandle<()>>,
}

impl Leaving {
    /// # Errors
    /// What was let go of before has not ended yet, or the system gives no thread.
    fn make_room<T: Send + 'static>(&mut self) -> Result<Sender<T>, NotRenewed> {
        let busy = |thread: &JoinHandle<()>| !thread.is_finished();
        if self.thread.as_ref().is_some_and(busy) {
            return Err(NotRenewed::Leaving);
        }
        // The thread first: without one, who was to be let go of stays where it is.
        let (sender, leaving) = bounded::<T>(1);
        let let_go = move || {
            if let Ok(old) = leaving.recv() {
                drop(old);
                info!("a client that was replaced has ended");
            }
        };
        let thread = thread::Builder::new()
            .name("end client".to_owned())
            .spawn(let_go)?;
        self.thread = Some(thread);
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crossbeam_channel::Receiver;

    use super::*;

    /// Ends when it is allowed to.
    struct Slow(Receiver<()>);

    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.recv().unwrap_or_default();
        }
    }

    #[test]
    fn one_that_does_not_end_holds_up_nobody_but_the_next() {
        let mut leaving = Leaving::default();
        let (allow, allowed) = bounded(1);
        let first = leaving.make_room().unwrap();
        assert!(first.send(Slow(allowed)).is_ok());
        assert!(leaving.make_room::<Slow>().is_err());
        allow.send(()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while leaving.make_room::<Slow>().is_err() {
            assert!(Instant::now() < deadline, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn room_that_is_not_used_is_free_again() {
        let mut leaving = Leaving::default();
        drop(leaving.make_room::<()>().unwrap());
        let deadline = Instant::now() + Duration::from_secs(30);
        while leaving.make_room::<()>().is_err() {
            assert!(Instant::now() < deadline, "it stays taken");
            thread::sleep(Duration::from_millis(5));
        }
    }
}
