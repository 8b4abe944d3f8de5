//! What people repeat: `cargo xtask …`.

pub mod bench;
pub mod cargo;
pub mod charm;
pub mod cli;
pub mod cluster;
pub mod command;
mod debian;
pub mod demo;
pub mod examples;
pub mod files;
pub mod foreground;
pub mod fuzz;
pub mod generate;
pub mod home;
pub mod image;
pub mod lint;
mod python;
pub mod specs;
pub mod steps;
pub mod terminal;
pub mod test;
pub mod torture;
pub mod vectors;
