//! What people read goes to stderr, data to stdout: one place for both.

use std::io::Write as _;

/// Tells the person at the terminal what is being done. A closed terminal is no reason to stop.
pub fn say(message: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// Prints one line of data. A reader that went away (`| head -1`) is no failure either.
pub fn print(data: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{data}");
}
