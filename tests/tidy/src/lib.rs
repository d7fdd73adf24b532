//! Rules about the repository itself, run as tests.
