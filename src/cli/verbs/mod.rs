//! One file a verb: its arguments, its help, and what it does.

pub(crate) mod bootstrap;
pub(crate) mod charm;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod daemon;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod history;
pub(crate) mod images;
pub(crate) mod list;
pub(crate) mod monitoring;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod reconciler;
pub(crate) mod reference;
pub(crate) mod remove;
pub(crate) mod render;
pub(crate) mod repair;
pub(crate) mod retry;
pub(crate) mod rollback;
pub(crate) mod status;
pub(crate) mod trainjob;
pub(crate) mod up;
pub(crate) mod upgrade;
pub(crate) mod version;
