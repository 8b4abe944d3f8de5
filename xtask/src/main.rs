//! The entry point of `cargo xtask …`.

use std::process::ExitCode;

fn main() -> ExitCode {
    xtask::cli::run()
}
