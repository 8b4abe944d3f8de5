//! What people repeat: `cargo xtask …`.

pub mod cli;
pub mod cluster;
pub mod command;
pub mod files;
pub mod home;
pub mod image;
pub mod terminal;
