//! `status --wait`: until what is declared is applied and settled, or cannot be.

use std::time::{Duration, Instant};

use trainerd_catalog::DAEMON_OPTIONS;
use trainerd_cluster::builtin;
use trainerd_engine::record::Outcome;
use trainerd_engine::{Engine, EngineError, State};

use crate::cli::context::Context;
use crate::cli::daemon_client::source_in_cluster;
use crate::cli::daemon_status::{DaemonProbe, DaemonStatus, DaemonView};
use crate::cli::verbs::plan::{GOES_ON, journal_text};
use crate::options::declared::generation_of;
use crate::problem::Exit;
use crate::problem::{Problem, lost};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// How long a daemon that has to be asked may be out of reach: its pod is moved, say.
const REACH: Duration = Duration::from_secs(30);

/// What a look says.
enum Verdict {
    /// All of it is so.
    Settled,
    /// Not yet, for this.
    Yet(String),
    /// The daemon cannot be asked.
    Unreachable(String),
    /// It will not be so before somebody does something.
    Never(Problem),
}

/// Waits; says what for whenever that changes.
pub(super) async fn wait(
    context: &Context,
    engine: &Engine,
    daemon_probe: &mut DaemonProbe,
) -> Result<(), Problem> {
    let began = Instant::now();
    let (mut told, mut lost_at) = (String::new(), None);
    loop {
        let why = match look(context, engine, daemon_probe).await? {
            Verdict::Settled => return Ok(()),
            Verdict::Never(problem) => return Err(problem),
            Verdict::Yet(why) => {
                lost_at = None;
                why
            }
            Verdict::Unreachable(why) => {
                if lost_at.get_or_insert_with(Instant::now).elapsed() > REACH {
                    let what = "failed to ask the daemon whether the declared options are applied";
                    return Err(Problem::new(Exit::Failed, "daemon-unreachable", what).because(why).hint(
                        "`trainerd status` shows the installation without the daemon; --socket selects a daemon on this machine",
                    ));
                }
                format!("the daemon cannot be reached: {why}")
            }
        };
        if why != told {
            context.printer.note(&format!("waiting: {why}"));
            told.clone_from(&why);
        }
        if let Some(timeout) = context.run.timeout.filter(|timeout| began.elapsed() >= timeout.0) {
            let what = format!("timed out after {} s", timeout.0.as_secs());
            return Err(Problem::new(Exit::TimedOut, "timed-out", what)
                .because(why)
                .hint("`trainerd status` shows what each object is waiting for"));
        }
        let pause = async {
            tokio::time::sleep(LOOK).await;
            Ok::<_, Problem>(())
        };
        context.interrupt.or(pause).await?;
    }
}

async fn look(
    context: &Context,
    engine: &Engine,
    daemon_probe: &mut DaemonProbe,
) -> Result<Verdict, Problem> {
    let state = context.interrupt.or(engine.open_damaged()).await?;
    let heard = async { Ok::<_, Problem>(daemon_probe.listen(engine, &state).await) };
    match context.interrupt.or(heard).await? {
        // The daemon has failed and may not know yet that it is to retry.
        Some(DaemonStatus::Known(_)) if !state.record().retry.is_empty() => {
            Ok(Verdict::Yet("a retry was requested".to_owned()))
        }
        Some(DaemonStatus::Known(knows)) => {
            let declared = context.interrupt.or(declared(engine, &state)).await?;
            Ok(of_daemon(&knows, declared.as_deref()))
        }
        Some(DaemonStatus::Unreachable(why)) => Ok(Verdict::Unreachable(why)),
        None if state.control().owner.is_some() && state.control().paused.is_none() => {
            Ok(Verdict::Unreachable("it is not running in the cluster".to_owned()))
        }
        None => of_engine(context, engine, &state).await,
    }
}

/// Which options the ConfigMap declares now, where that is the source: the daemon may not have heard of them yet.
async fn declared(engine: &Engine, state: &State) -> Result<Option<String>, EngineError> {
    let namespace = &engine.installation().namespace;
    let source = source_in_cluster(namespace);
    if state.control().owner.as_ref().is_none_or(|owner| owner.what != source) {
        return Ok(None);
    }
    let found = engine.cluster().get_opt(&builtin::config_map(), Some(namespace), DAEMON_OPTIONS).await;
    let found = found.map_err(|source| EngineError::Request {
        action: "read",
        what: format!("ConfigMap {namespace}/{DAEMON_OPTIONS}"),
        source,
    })?;
    Ok(found.map(|object| generation_of(&object)))
}

/// By what the daemon knows; `declared`: the options that it has to be about, where they are known otherwise.
fn of_daemon(knows: &DaemonView, declared: Option<&str>) -> Verdict {
    let seen = knows.declared.as_deref();
    let is_about = declared.is_none_or(|declared| seen == Some(declared));
    let word = DaemonStatus::Known(Box::new(knows.clone())).text();
    match knows.phase.as_str() {
        "paused" => Verdict::Never(
            Problem::new(
                Exit::Failed,
                "paused",
                "the daemon is paused: the declared options are not applied",
            )
            .because("somebody paused it")
            .hint("`trainerd resume` resumes it"),
        ),
        _ if !is_about && declared.is_some() && knows.phase != "invalid" => {
            Verdict::Yet(format!("the daemon has not processed the declared options yet ({word})"))
        }
        "running" | "starting" | "disconnected" | "waiting" => Verdict::Yet(word),
        phase @ ("invalid" | "refused" | "failed" | "held") => match knows.problem(phase) {
            Some(problem) => Verdict::Never(problem),
            None => Verdict::Yet(word),
        },
        _ if knows.settled && (seen.is_none() || knows.generation.as_deref() == seen) => Verdict::Settled,
        _ => Verdict::Yet(word),
    }
}

/// By what is seen, where no daemon keeps the installation: its last plan has to be done, and all of it ready.
async fn of_engine(context: &Context, engine: &Engine, state: &State) -> Result<Verdict, Problem> {
    if let Some(damage) = state.damage() {
        return Ok(Verdict::Never(lost(damage)));
    }
    let status = context.interrupt.or(engine.status(state)).await?;
    if let Some(journal) = &status.journal {
        let text = journal_text(journal, status.writer.as_deref());
        return Ok(match status.writer {
            Some(_) => Verdict::Yet(text),
            None => Verdict::Never(
                Problem::new(Exit::Failed, "plan-open", "a plan is open, and nobody is running it")
                    .because(text)
                    .hint(GOES_ON),
            ),
        });
    }
    if let Some(Outcome::Failed { reason }) = &status.outcome {
        let what = format!("revision {} failed", status.revision);
        return Ok(Verdict::Never(
            Problem::new(Exit::Failed, "failed", what)
                .because(reason.clone())
                .hint("`trainerd retry` retries it, `trainerd rollback` goes back"),
        ));
    }
    let waiting = status.objects.iter().find_map(|object| Some((&object.object, object.waiting.as_ref()?)));
    Ok(match waiting {
        Some((object, on)) => Verdict::Yet(format!("{object}: {on}")),
        None => Verdict::Settled,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn knows(phase: &str, generation: &str, declared: &str, code: Option<&str>) -> DaemonView {
        let reason = code.map(|code| json!({"code": code, "message": "m", "causes": ["c"], "hint": "h"}));
        serde_json::from_value(json!({
            "version": "0.1.0", "phase": phase, "reason": reason, "plan": null, "settled": phase == "ready",
            "generation": generation, "declared": declared,
        }))
        .unwrap()
    }

    #[test]
    fn settled_refers_to_the_current_generation() {
        let settled = |knows: &DaemonView, declared| matches!(of_daemon(knows, declared), Verdict::Settled);
        assert!(settled(&knows("ready", "g", "g", None), Some("g")));
        assert!(settled(&knows("ready", "g", "g", None), None));
        // The daemon has heard of it, and has not done it; or it has not even heard.
        assert!(!settled(&knows("ready", "f", "g", None), Some("g")));
        assert!(!settled(&knows("ready", "f", "f", None), Some("g")));
        assert!(!settled(&knows("running", "f", "g", None), Some("g")));
    }

    #[test]
    fn a_wait_that_cannot_succeed_ends_with_its_cause() {
        for (phase, code, exit) in [
            ("invalid", "invalid-options", Some(Exit::Input)),
            ("refused", "collision", Some(Exit::Refused)),
            ("failed", "rolled-back", Some(Exit::Failed)),
            ("held", "other-source", Some(Exit::Refused)),
            // Whoever has the lease will give it back.
            ("held", "lease-held", None),
        ] {
            let verdict = of_daemon(&knows(phase, "f", "g", Some(code)), Some("g"));
            match (verdict, exit) {
                (Verdict::Never(problem), Some(exit)) => {
                    assert_eq!((problem.exit, problem.code), (exit, phase));
                }
                (Verdict::Yet(_), None) => {}
                (_, exit) => assert!(exit.is_none(), "{phase} {code}"),
            }
        }
        assert!(matches!(of_daemon(&knows("paused", "g", "g", None), None), Verdict::Never(_)));
    }
}
