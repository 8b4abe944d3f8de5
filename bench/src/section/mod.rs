//! What is measured, a section a question.

pub(crate) mod change;
pub(crate) mod daemon;
pub(crate) mod memory;
pub(crate) mod plan;
pub(crate) mod readiness;
pub(crate) mod reconciler;
pub(crate) mod revision;
pub(crate) mod stack;
pub(crate) mod undo;
