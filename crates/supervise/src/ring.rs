//! The last of what a process wrote.

use std::collections::VecDeque;

/// Bytes that are kept of a service.
const MAX_BYTES: usize = 100 << 10;

/// Bytes that are kept of a line: one without an end must not be all that there is.
const MAX_LINE_BYTES: usize = 4 << 10;

/// The last lines of a service, within a bound.
#[derive(Clone, Debug)]
pub struct Ring {
    lines: VecDeque<String>,
    bytes: usize,
    limit: usize,
}

impl Default for Ring {
    fn default() -> Self {
        Self::new(MAX_BYTES)
    }
}

impl Ring {
    /// One that keeps so many bytes.
    pub fn new(limit: usize) -> Self {
        Self { lines: VecDeque::new(), bytes: 0, limit }
    }

    /// Adds a line; the oldest give way.
    pub fn push(&mut self, mut line: String) {
        if line.len() > MAX_LINE_BYTES {
            let end = (0..=MAX_LINE_BYTES).rev().find(|at| line.is_char_boundary(*at)).unwrap_or_default();
            line.truncate(end);
            line.push('…');
        }
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.bytes > self.limit {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len() + 1;
        }
    }

    /// The last lines, the newest last.
    pub fn last(&self, lines: usize) -> Vec<String> {
        self.lines.iter().skip(self.lines.len().saturating_sub(lines)).cloned().collect()
    }

    /// Forgets everything: the next process has a log of its own.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_are_dropped() {
        let mut ring = Ring::new(12);
        for line in ["one", "two", "three", "four"] {
            ring.push(line.to_owned());
        }
        assert_eq!(ring.last(20), ["three", "four"]);
        assert_eq!(ring.last(1), ["four"]);
        ring.push("longer than all of it".to_owned());
        assert_eq!(ring.last(20), Vec::<String>::new());
        ring.push("short".to_owned());
        assert_eq!(ring.last(20), ["short"]);
        ring.clear();
        assert!(ring.last(20).is_empty());
    }

    #[test]
    fn an_endless_line_is_cut_at_a_character_boundary() {
        let mut ring = Ring::default();
        ring.push("é".repeat(MAX_LINE_BYTES));
        let line = &ring.last(1)[0];
        assert!(line.len() <= MAX_LINE_BYTES + "…".len() && line.ends_with("é…"), "{}", line.len());
    }
}
