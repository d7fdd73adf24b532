//! Which URLs and addresses a request may go to.
