//! Scenarios of the engine in a world of virtual time. [`harness`] is the world; the other files
//! hold one theme each.

mod backlog;
mod budget;
mod chaos;
mod harness;
mod limits;
mod order;
mod ownership;
mod retry;
mod review1;
mod review1_chaos;
