//! The initializer against servers on this machine that are slow, busy, cut answers off, or change.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod clouds;
mod download;
mod line;
mod loopback;
mod s3;
