//! Scenarios of the engine in a world of virtual time. [`harness`] is the world; the other files
//! hold one theme each.

mod backlog;
mod budget;
mod chaos;
mod chaos_backlog;
mod faults;
mod harness;
mod limits;
mod neighbours;
mod order;
mod ownership;
mod retry;
mod test_send;
