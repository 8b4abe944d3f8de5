//! The initializer against servers on this machine that are slow, busy, cut answers off, or change.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod download;
mod loopback;
mod s3;
