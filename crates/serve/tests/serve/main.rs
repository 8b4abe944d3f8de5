//! Whole servers, asked over unix sockets and loopback.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it is surprised"
)]

mod client;
mod limits;
mod shutdown;
mod streams;
mod tls;
mod unix;
