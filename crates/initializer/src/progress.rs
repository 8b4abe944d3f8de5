//! How far a download is: a bar on a terminal, else lines of JSON.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A bar where standard error is a terminal, else lines, one each ten seconds.
    Auto,
    /// A bar.
    Bar,
    /// A line of JSON each second, on standard output.
    Json,
    /// Nothing.
    None,
}

/// Counts of a download.
#[derive(Debug, Default)]
pub struct Progress {
    files: AtomicU64,
    files_done: AtomicU64,
    bytes: AtomicU64,
    bytes_done: AtomicU64,
}

/// A line of progress.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// When.
    pub time: String,
    /// `listing`, `downloading`, `provisioning`, `done` or `error`.
    pub phase: &'static str,
    /// Files that are whole.
    pub files_done: u64,
    /// All files.
    pub files_total: u64,
    /// Bytes that are written, those of earlier attempts included.
    pub bytes_done: u64,
    /// All bytes.
    pub bytes_total: u64,
    /// Bytes a second, lately.
    pub rate: u64,
    /// Seconds that are left at that rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<u64>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Progress {
    /// So many files and bytes are to come.
    pub fn expect(&self, files: u64, bytes: u64) {
        self.files.store(files, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// So many bytes were brought.
    pub fn bring(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes have to be brought again.
    pub fn take_back(&self, bytes: u64) {
        let less = |done: u64| Some(done.saturating_sub(bytes));
        let _ = self.bytes_done.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// A file is whole.
    pub fn file_done(&self) {
        self.files_done.fetch_add(1, Ordering::Relaxed);
    }

    /// As a line; `before` is the number of bytes some seconds ago.
    pub fn line(&self, phase: &'static str, now: Timestamp, before: u64, elapsed: Duration) -> Line {
        let bytes_done = self.bytes_done.load(Ordering::Relaxed);
        let bytes_total = self.bytes.load(Ordering::Relaxed);
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = bytes_done.saturating_sub(before).saturating_mul(1000) / millis;
        Line {
            time: format!("{now:.0}"),
            phase,
            files_done: self.files_done.load(Ordering::Relaxed),
            files_total: self.files.load(Ordering::Relaxed),
            bytes_done,
            bytes_total,
            rate,
            eta: bytes_total.saturating_sub(bytes_done).checked_div(rate),
            error: None,
        }
    }
}

/// Shows progress until it ends.
#[derive(Debug)]
pub struct Display {
    progress: Arc<Progress>,
    phase: &'static str,
    how: How,
    begun: Instant,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Debug)]
enum How {
    Bar(ProgressBar),
    Json(Duration),
    None,
}

impl Display {
    /// Begins to show.
    pub fn start(progress: Arc<Progress>, phase: &'static str, shown: Shown, is_terminal: bool) -> Self {
        let how = match (shown, is_terminal) {
            (Shown::None, _) => How::None,
            (Shown::Bar, _) | (Shown::Auto, true) => How::Bar(bar()),
            (Shown::Json, _) => How::Json(Duration::from_secs(1)),
            (Shown::Auto, false) => How::Json(Duration::from_secs(10)),
        };
        let task = tokio::spawn(tick(Arc::clone(&progress), phase, how.clone()));
        Self { progress, phase, how, begun: Instant::now(), task }
    }

    /// Ends it, with what went wrong.
    pub fn end(self, error: Option<String>) {
        self.task.abort();
        match self.how {
            How::None => {}
            How::Bar(bar) => bar.finish_and_clear(),
            How::Json(_) => {
                let phase = if error.is_some() { "error" } else { "done" };
                let mut line = self.progress.line(phase, Timestamp::now(), 0, self.begun.elapsed());
                line.eta = None;
                line.error = error;
                print(&line);
            }
        }
        tracing::debug!("{} took {:.1} s", self.phase, self.begun.elapsed().as_secs_f64());
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let template = "{bar:32.green/dim} {bytes}/{total_bytes} {bytes_per_sec} eta {eta} {msg}";
    // A template that does not parse falls back to indicatif's own.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar
}

async fn tick(progress: Arc<Progress>, phase: &'static str, how: How) {
    let pause = match &how {
        How::None => return,
        How::Bar(_) => Duration::from_millis(100),
        How::Json(pause) => *pause,
    };
    let mut before = 0;
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(pause).await;
        let line = progress.line(phase, Timestamp::now(), before, last.elapsed());
        before = line.bytes_done;
        last = Instant::now();
        match &how {
            How::Bar(bar) => {
                bar.set_length(line.bytes_total);
                bar.set_position(line.bytes_done);
                bar.set_message(format!("{}/{} files", line.files_done, line.files_total));
            }
            How::Json(_) => print(&line),
            How::None => {}
        }
    }
}

/// A line on standard output; where nobody reads it, nothing is lost.
fn print(line: &Line) {
    if let Ok(text) = serde_json::to_string(line) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_rate_and_the_time_that_is_left() {
        let progress = Progress::default();
        progress.expect(2, 3000);
        progress.bring(1000);
        progress.file_done();
        let now: Timestamp = "2026-01-01T00:00:00.4Z".parse().unwrap();
        let line = progress.line("downloading", now, 500, Duration::from_secs(1));
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"time":"2026-01-01T00:00:00Z","phase":"downloading","filesDone":1,"filesTotal":2,"bytesDone":1000,"bytesTotal":3000,"rate":500,"eta":4}"#
        );
        progress.take_back(5000);
        assert_eq!(progress.line("downloading", now, 500, Duration::from_secs(1)).eta, None);
    }
}
