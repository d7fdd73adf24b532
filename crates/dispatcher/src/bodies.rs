//! Where bodies are made, and how much memory they take.
//!
//! Decides that what takes long is made on a thread nobody waits for, by as many at a time as there
//! are processors, in turn; that all bodies that are no event's own bytes have room within
//! [`BYTES_MAX`], until the last of their bytes is let go; and that what was made too late for its
//! attempt is kept for the next one, which comes soon: else an endpoint whose attempts may start
//! only within a moment, as with a rate limit, would never be sent a body that takes longer. Leaves
//! what a body is to `payload`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_domain::{DeliveryId, Endpoint, ErrorKind};
use postrider_engine::io::StartAttempt;
use postrider_payload::{Rendered, Renderer, Unrenderable, bytes_at_most, takes_long};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::spawn_blocking;

use crate::request::Failure;

/// Bytes of bodies of a worker's attempts.
const BYTES_MAX: usize = 256 << 20;

/// Of them, what may wait for the next start of its delivery, by its largest size.
const LEFT_BYTES_MAX: usize = 64 << 20;

/// What one that waits counts at least.
const LEFT_BYTES_MIN: usize = 16 << 10;

/// How long it waits; the engine starts again within a fraction of it.
const LEFT_FOR: Duration = Duration::from_secs(5);

/// The unit in which room is counted.
const UNIT: usize = 1 << 10;

type Made = Result<Rendered<'static>, Failure>;

/// Makes bodies. Cloning is a reference count.
#[derive(Clone)]
pub(crate) struct Bodies(Arc<Shared>);

struct Shared {
    /// As many as there are processors: more at a time would end no sooner, and each takes memory.
    makers: Arc<Semaphore>,
    room: Arc<Semaphore>,
    left: Mutex<Left>,
}

impl Bodies {
    pub(crate) fn new() -> Self {
        let processors = available_parallelism().map_or(1, std::num::NonZero::get);
        Self::bounded(processors, BYTES_MAX)
    }

    fn bounded(makers: usize, bytes: usize) -> Self {
        Self(Arc::new(Shared {
            makers: Arc::new(Semaphore::new(makers)),
            room: Arc::new(Semaphore::new(bytes / UNIT)),
            left: Mutex::default(),
        }))
    }

    /// What the endpoint gets; `None` when it was not there within `wait`. It is made nevertheless,
    /// in its turn, for the next start of the delivery.
    pub(crate) async fn of<'a>(
        &self,
        start: &'a StartAttempt,
        renderer: Arc<Renderer>,
        wait: Duration,
    ) -> Option<Result<Rendered<'a>, Failure>> {
        let (endpoint, delivery) = (&*start.endpoint, &*start.delivery);
        let Some(most) = bytes_at_most(endpoint, delivery) else {
            return Some(renderer.render(endpoint, delivery).map_err(unrenderable));
        };
        let left = self.0.left().take(start);
        let mut making = match left {
            Some(making) => making,
            None => {
                // Where others wait for room there is none.
                if !takes_long(endpoint, delivery)
                    && let Ok(room) = Arc::clone(&self.0.room).try_acquire_many_owned(units(most))
                {
                    let made = renderer.render(endpoint, delivery).map_err(unrenderable);
                    return Some(made.map(|made| held(made, room)));
                }
                self.begin(start, renderer, most)
            }
        };
        match tokio::time::timeout(wait, &mut making).await {
            Ok(Ok(made)) => Some(made),
            // It ends without a result when the runtime ends, or rendering panicked.
            Ok(Err(_)) => {
                let message = "making the body ended without a result".to_owned();
                Some(Err((ErrorKind::Internal, message)))
            }
            Err(_) => {
                self.leave(start, most, making);
                None
            }
        }
    }

    /// It was made too late: it waits for the next start of the delivery.
    pub(crate) fn keep(&self, start: &StartAttempt, rendered: Rendered<'_>) {
        if let Some(most) = bytes_at_most(&start.endpoint, &start.delivery) {
            let (made, making) = oneshot::channel();
            drop(made.send(Ok(rendered.into_owned())));
            self.leave(start, most, making);
        }
    }

    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.0.left().makings.len()
    }

    /// Makes a body, unless nobody wants it any more when its turn comes.
    fn begin(
        &self,
        start: &StartAttempt,
        renderer: Arc<Renderer>,
        most: usize,
    ) -> oneshot::Receiver<Made> {
        let (mut result, making) = oneshot::channel();
        let (makers, room) = (Arc::clone(&self.0.makers), Arc::clone(&self.0.room));
        let (endpoint, delivery) = (Arc::clone(&start.endpoint), Arc::clone(&start.delivery));
        tokio::spawn(async move {
            let turn = async {
                let maker = makers.acquire_owned().await.ok()?;
                Some((maker, room.acquire_many_owned(units(most)).await.ok()?))
            };
            let turn = tokio::select! {
                biased;
                () = result.closed() => None,
                turn = turn => turn,
            };
            let Some((maker, room)) = turn else { return };
            spawn_blocking(move || {
                let made = renderer.render(&endpoint, &delivery);
                let made = made.map(Rendered::into_owned).map_err(unrenderable);
                drop(maker);
                // Whoever waited may be gone.
                drop(result.send(made.map(|made| held(made, room))));
            });
        });
        making
    }

    fn leave(&self, start: &StartAttempt, most: usize, making: oneshot::Receiver<Made>) {
        let mut left = self.0.left();
        left.put(start, most, making);
        if left.swept || left.makings.is_empty() {
            return;
        }
        left.swept = true;
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LEFT_FOR).await;
                let mut left = shared.left();
                left.sweep(Instant::now());
                if left.makings.is_empty() {
                    left.swept = false;
                    return;
                }
            }
        });
    }
}

impl Shared {
    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What attempts did not wait for any longer: made or being made.
#[derive(Default)]
struct Left {
    makings: HashMap<DeliveryId, Making>,
    bytes: usize,
    /// A task lets go of what is old.
    swept: bool,
}

struct Making {
    /// That very value, whose secrets are not kept by it.
    endpoint: Weak<Endpoint>,
    bytes: usize,
    since: Instant,
    made: oneshot::Receiver<Made>,
}

impl Left {
    fn take(&mut self, start: &StartAttempt) -> Option<oneshot::Receiver<Made>> {
        let making = self.makings.remove(&start.delivery.id)?;
        self.bytes -= making.bytes;
        let same = std::ptr::eq(making.endpoint.as_ptr(), Arc::as_ptr(&start.endpoint));
        same.then_some(making.made)
    }

    /// Nothing goes for a newer one: what is there is used, or let go, in a moment.
    fn put(&mut self, start: &StartAttempt, most: usize, made: oneshot::Receiver<Made>) {
        self.take(start);
        let bytes = most.max(LEFT_BYTES_MIN);
        if self.bytes + bytes > LEFT_BYTES_MAX {
            return;
        }
        self.bytes += bytes;
        let making = Making {
            endpoint: Arc::downgrade(&start.endpoint),
            bytes,
            since: Instant::now(),
            made,
        };
        self.makings.insert(start.delivery.id, making);
    }

    fn sweep(&mut self, now: Instant) {
        let bytes = &mut self.bytes;
        self.makings.retain(|_, making| {
            let young = now.saturating_duration_since(making.since) < LEFT_FOR;
            if !young {
                *bytes -= making.bytes;
            }
            young
        });
    }
}

/// A body and the room it takes.
struct Held {
    body: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// The same, holding room for its size until nobody has its body.
fn held(mut made: Rendered<'_>, mut room: OwnedSemaphorePermit) -> Rendered<'_> {
    let used = room.split(units(made.body.len()) as usize);
    made.body = Bytes::from_owner(Held {
        body: made.body,
        // One that is larger than was thought has all there is.
        _room: used.unwrap_or(room),
    });
    made
}

/// Never more than there are.
fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.min(BYTES_MAX).div_ceil(UNIT)).unwrap_or(u32::MAX)
}

fn unrenderable(error: Unrenderable) -> Failure {
    (ErrorKind::Unrenderable, error.to_string())
}

#[cfg(test)]
pub(crate) mod tests;
