//! Loads the next chunks of a stream while earlier ones are sent.
//!
//! A stream has a window of chunks ahead of it. What is in memory already is not held; the others are loaded with slots and
//! memory that nobody else needs now. Chunks of one unit are loaded one after the other, so that they share a reader of
//! the source. Dropping the window cancels its loads and gives its memory back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::Context;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::chunks::{Chunk, Chunks, Key, Prefetched};
use crate::stream::Piece;

/// The window of a stream.
#[derive(Debug)]
pub(crate) struct Prefetch {
    chunks: Arc<Chunks>,
    context: Context,
    /// Rows of a chunk.
    rows: u64,
    window: VecDeque<Ahead>,
    /// The next piece to look at, and the next chunk in it.
    piece: usize,
    place: Option<u64>,
    /// The chunk that the stream is at.
    current: Option<Key>,
}

/// A chunk of the window; without a load where it was in memory.
#[derive(Debug)]
struct Ahead {
    key: Key,
    load: Option<Load>,
}

/// A load that ends with its owner.
#[derive(Debug)]
struct Load {
    task: JoinHandle<Option<Prefetched>>,
    has_started: Arc<AtomicBool>,
    /// Resolves when the load has ended; taken by the next load of the unit.
    ended: Option<oneshot::Receiver<()>>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Prefetch {
    /// For a stream over chunks of so many rows.
    pub(crate) fn new(chunks: Arc<Chunks>, rows: u64, context: Context) -> Self {
        Self { chunks, context, rows, window: VecDeque::new(), piece: 0, place: None, current: None }
    }

    /// The chunk, if its load has begun: it is waited for. One that still waits for a slot is left to the stream, whose
    /// loads go first.
    pub(crate) async fn take(&mut self, key: Key) -> Option<Arc<Chunk>> {
        self.current = Some(key);
        let ahead = self.window.pop_front_if(|ahead| ahead.key == key)?;
        let mut load = ahead.load?;
        if !load.has_started.load(Ordering::Acquire) {
            return None;
        }
        // Where it failed or panicked, the stream's own load meets the same.
        let prefetched = (&mut load.task).await.ok().flatten()?;
        Some(prefetched.chunk)
    }

    /// Extends the window to its size, as far as there is memory for it.
    pub(crate) fn advance(&mut self, pieces: &[Piece]) {
        while self.window.len() < self.chunks.prefetch_window() {
            let Some(key) = self.peek(pieces) else { return };
            let is_here = self.current == Some(key) || self.window.iter().any(|ahead| ahead.key == key);
            if is_here {
                self.step(pieces);
                continue;
            }
            let load = if self.chunks.is_cached(key) {
                None
            } else {
                let Some(reserved) = self.chunks.reserve_prefetch() else { return };
                Some(self.load(key, reserved))
            };
            self.window.push_back(Ahead { key, load });
            self.step(pieces);
        }
    }

    /// Cancels all loads and gives their memory back; the window is filled again when the stream continues.
    pub(crate) fn release(&mut self) {
        self.window.clear();
    }

    fn load(&mut self, key: Key, reserved: tokio::sync::OwnedSemaphorePermit) -> Load {
        let of_unit = self.window.iter_mut().rev().find(|ahead| ahead.key.0 == key.0);
        let before = of_unit.and_then(|ahead| ahead.load.as_mut()?.ended.take());
        let has_started = Arc::new(AtomicBool::new(false));
        let (ends, ended) = oneshot::channel::<()>();
        let (chunks, context) = (Arc::clone(&self.chunks), self.context.clone());
        let started = Arc::clone(&has_started);
        let task = tokio::spawn(async move {
            // Dropped with the load, however it ends.
            let _ends = ends;
            if let Some(before) = before {
                let _ = before.await;
            }
            chunks.prefetch(key, reserved, &started, &context).await
        });
        Load { task, has_started, ended: Some(ended) }
    }

    /// The chunk at which the window goes on.
    fn peek(&mut self, pieces: &[Piece]) -> Option<Key> {
        let piece = pieces.get(self.piece)?;
        let place = *self.place.get_or_insert(piece.first / self.rows);
        Some((piece.unit, place))
    }

    /// Moves on by a chunk.
    fn step(&mut self, pieces: &[Piece]) {
        let (Some(piece), Some(place)) = (pieces.get(self.piece), self.place) else { return };
        let last = (piece.first + piece.rows.saturating_sub(1)) / self.rows;
        if place < last {
            self.place = Some(place + 1);
        } else {
            self.piece += 1;
            self.place = None;
        }
    }
}

#[cfg(test)]
mod tests;
