//! Errors as people and scripts get them: what, why, and what to do about it.
//!
//! The crates' errors are typed and know nothing of exit codes and hints; here each variant is given both, and
//! a new variant does not compile until it has them.

mod catalog;
mod cluster;
mod damage;
mod engine;
mod exit;
mod input;
mod trainjob;

use std::error::Error;

use serde::Serialize;
use trainerd_causes::{in_one_line, texts};
use trainerd_engine::Marker;
use trainerd_juju::status::Reason;
use trainerd_plan::object::ObjectKey;

pub(crate) use self::catalog::{DEFECT, given_somewhere};
pub(crate) use self::damage::{LEFT_REMEDY, counted, damage_text, left_text, lost, remedy};
pub(crate) use self::engine::PENDING_DELETION;
pub(crate) use self::exit::{Exit, MEANINGS};
pub(crate) use self::input::InputError;
pub(crate) use self::trainjob::TrainJobError;

/// Why a command did not do what was asked. Its JSON shape is a public contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// How the process ends.
    #[serde(skip)]
    pub(crate) exit: Exit,
    /// What kind of problem, for scripts; stable.
    pub(crate) code: &'static str,
    /// What, in one line.
    pub(crate) message: String,
    /// Why: each the cause of the one before, or several beside each other (see `chained`).
    pub(crate) causes: Vec<String>,
    /// What to do, in one line.
    pub(crate) hint: Option<String>,
    /// The object it is about.
    pub(crate) object: Option<ObjectKey>,
    /// What it is in a status, where it is more than its code says.
    #[serde(skip)]
    pub(crate) reason: Option<Box<Reason>>,
    /// Whether `causes` is a chain rather than a list.
    #[serde(skip)]
    chained: bool,
}

impl Problem {
    /// A problem without cause, hint and object.
    pub(crate) fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            exit,
            code,
            message,
            causes: Vec::new(),
            hint: None,
            object: None,
            reason: None,
            chained: true,
        }
    }

    /// An error with its chain of causes.
    pub(crate) fn of(exit: Exit, code: &'static str, error: &dyn Error) -> Self {
        Self { causes: chain(error), ..Self::new(exit, code, error.to_string()) }
    }

    /// With one cause.
    pub(crate) fn because(self, cause: impl Into<String>) -> Self {
        Self { causes: vec![cause.into()], ..self }
    }

    /// With several causes that do not follow from each other.
    fn because_all(self, causes: Vec<String>) -> Self {
        Self { causes, chained: false, ..self }
    }

    /// With what to do about it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// With what it is in a status.
    pub(crate) fn with_reason(self, reason: Reason) -> Self {
        Self { reason: Some(Box::new(reason)), ..self }
    }

    /// About an object.
    fn about(self, object: &ObjectKey) -> Self {
        Self { object: Some(object.clone()), ..self }
    }

    /// The options are declared somewhere else.
    pub(crate) fn other_source(owner: &Marker) -> Self {
        let message = format!("the options of this installation are declared in {}", owner.what);
        let why =
            format!("a daemon reconciles it with them (`trainerd {}`, since {:.0})", owner.by, owner.since);
        Self::new(Exit::Refused, "other-source", message).because(why)
    }

    /// Something that could not be printed.
    pub(crate) fn output(error: &dyn Error) -> Self {
        Self::new(Exit::Failed, "output", "failed to write the output").because(error.to_string())
    }

    /// The daemon ended although nobody asked it to.
    pub(crate) fn crashed(error: &dyn Error) -> Self {
        Self::of(Exit::Failed, "daemon", error).hint("fix the cause and start it again; nothing is lost")
    }

    /// A process that the daemon hosts did not become what it was to be.
    pub(crate) fn not_hosted(error: &dyn Error) -> Self {
        Self::of(Exit::Failed, "not-hosted", error)
            .hint("only a daemon starts this command; use `trainerd daemon --host reconciler`")
    }

    /// Broken off before anything was changed.
    pub(crate) fn interrupted_before_changes() -> Self {
        Self::new(Exit::Interrupted, "interrupted", "interrupted")
            .because("a signal came before anything was changed")
            .hint("run the same command again when you are ready")
    }

    /// The time was over before anything was changed.
    pub(crate) fn timed_out_before_changes(timeout: std::time::Duration) -> Self {
        Self::new(Exit::TimedOut, "timed-out", format!("timed out after {} s", timeout.as_secs_f64()))
            .because("--timeout was over before anything was changed")
            .hint("allow more time with --timeout; -vv shows every request")
    }

    /// A signal came, and the end in good order took too long.
    pub(crate) fn interrupted_unanswered() -> Self {
        Self::new(Exit::Interrupted, "interrupted", "interrupted")
            .because("a signal came, and the API server did not answer the last request in time")
            .hint("the plan is journalled: run the same command again to continue it")
    }

    /// A person said no.
    pub(crate) fn declined() -> Self {
        Self::new(Exit::Failed, "declined", "nothing was changed")
            .because("the plan was not confirmed")
            .hint("answer y or give --yes to continue")
    }

    /// Nobody can be asked.
    pub(crate) fn unconfirmed() -> Self {
        Self::new(Exit::Input, "unconfirmed", "this needs a confirmation; nothing was changed")
            .because("it deletes data that cannot be restored, and stdin or stderr is not a terminal")
            .hint("give --yes to continue without being asked")
    }

    /// Why, a line each: a chain is one line.
    pub(crate) fn why(&self) -> Vec<String> {
        if self.chained && !self.causes.is_empty() {
            vec![self.causes.join(": ")]
        } else {
            self.causes.clone()
        }
    }

    /// One JSON object in one line.
    pub(crate) fn to_json(&self) -> String {
        // A struct of strings always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The causes of an error, a line each, outermost first.
fn chain(error: &dyn Error) -> Vec<String> {
    texts(error).iter().skip(1).map(|text| in_one_line(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_one_line_and_lists_one_line_per_item() {
        let causes = || vec!["why".to_owned(), "deeper".to_owned()];
        let problem = || Problem::new(Exit::Failed, "x", "what");
        assert_eq!(Problem { causes: causes(), ..problem() }.why(), ["why: deeper"]);
        assert_eq!(problem().because_all(causes()).why(), ["why", "deeper"]);
    }

    #[test]
    fn json_errors_have_five_fields() {
        let problem = Problem::new(Exit::Input, "some-code", "what").because("why").hint("do");
        assert_eq!(
            problem.to_json(),
            r#"{"code":"some-code","message":"what","causes":["why"],"hint":"do","object":null}"#
        );
    }
}
