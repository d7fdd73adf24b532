//! The values everything else in Postrider speaks of: identifiers, events, endpoints, deliveries,
//! attempts and their outcomes.
//!
//! Decides what a well-formed value is (an [`EndpointId`] that exists is valid) and the three pure
//! mappings that every part must agree on: endpoint id to slice ([`mod@slice`]), remaining wait to rung
//! ([`lane`]) and preset name to retry schedule ([`retry`]).
//! Leaves to others: how values are written down (`wire`), what is done with them (`engine`), and
//! every clock, socket and random number.
#![warn(missing_docs)]

pub mod attempt;
pub mod auth;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod fields;
pub mod ids;
pub mod lane;
pub mod network;
pub mod record;
pub mod remembered;
pub mod retry;
pub mod secret;
pub mod shown;
pub mod slice;
pub mod success;
pub mod time;

pub use attempt::{
    AttemptError, AttemptReport, AttemptResult, DeadLetterReason, DiscardReason, ErrorKind,
    Outcome, Phases, RequestSummary, Response,
};
pub use auth::{Auth, ClientCertificate, Credentials, OAuth2};
pub use delivery::{Delivery, Origin};
pub use endpoint::{
    Endpoint, EndpointState, Format, Jws, OnExhausted, OpenBanking, Ordering, RateLimit, Scheme,
    Signing, SigningKey, SigningSecret, Template, TypePattern,
};
pub use event::Event;
pub use fields::Fields;
pub use ids::{DeliveryId, EndpointId, InvalidId, Tenant};
pub use lane::{Lane, Rung};
pub use network::{Network, ProxyServer};
pub use record::{NewRecord, Record};
pub use remembered::{BacklogMemory, Head, LimiterMemory, Remembered, Reserved};
pub use retry::{RetryPolicy, RetryPreset};
pub use secret::Secret;
pub use slice::{Slice, SliceCount};
pub use success::{Success, Unmet};
pub use time::Timestamp;
