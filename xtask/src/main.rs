//! What people repeat: `cargo xtask …`.

fn main() {}
