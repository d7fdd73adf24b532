//! One module per command; each decides its flags, what it asks of the other crates and how the
//! result is shown.

pub(crate) mod attempt;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod dead_letter;
pub(crate) mod dev;
pub(crate) mod endpoint;
pub(crate) mod event;
pub(crate) mod listen;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod signature;
pub(crate) mod slice;
pub(crate) mod topics;
