//! The real service on loopback, asked as sidecars, operators, clients and browsers ask it.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod harness;

mod sign_in;
