//! Why the installation is as it is, in the words of a status: what the charm shows as Juju's.

use std::time::Duration;

use jiff::Timestamp;
use trainerd_engine::upkeep::Outlook;
use trainerd_juju::status::{Progress, Reason};
use trainerd_plan::plan::Purpose;

use super::board::{Phase, PlanView, View};
use crate::cli::errors::Problem;

/// A wait that is shorter is part of getting on, and the progress is shown instead of it.
const SHORT: Duration = Duration::from_secs(20);

/// The reason that counts most of all that hold now.
pub(super) fn reason(view: &View, now: Timestamp) -> Reason {
    let revision = view.outlook.as_ref().map_or(0, |outlook| outlook.status.revision);
    match view.phase {
        Phase::Paused => Reason::Paused { revision },
        Phase::Standby => Reason::Standby,
        Phase::Ready => ready(view),
        Phase::Starting | Phase::Absent => Reason::Starting,
        Phase::Running => match view.plan.as_ref().filter(|plan| plan.ended.is_none()) {
            Some(plan) => waited_for(plan, now).unwrap_or_else(|| under_way(view, plan)),
            None => Reason::Starting,
        },
        Phase::Waiting => not_ready(view),
        Phase::Refused | Phase::Failed | Phase::Invalid | Phase::Held | Phase::Disconnected => {
            view.reason.as_ref().map_or(Reason::Starting, |problem| in_the_way(view.phase, problem))
        }
    }
}

fn ready(view: &View) -> Reason {
    if let Some(version) = &view.staged {
        return Reason::Staged { version: version.clone() };
    }
    let drift = || view.outlook.iter().flat_map(|outlook| &outlook.drift);
    let first =
        |drift: &trainerd_engine::upkeep::DriftStatus| format!("{}/{}", drift.object.kind, drift.object.name);
    match drift().next() {
        Some(drifted) => Reason::DriftSeen { objects: drift().count(), first: first(drifted) },
        None => Reason::Settled,
    }
}

/// What a plan has waited for too long to be shown as getting on, the longest first.
fn waited_for(plan: &PlanView, now: Timestamp) -> Option<Reason> {
    let long = |since: Timestamp| now.duration_since(since) > SHORT.try_into().unwrap_or_default();
    let waiting = plan.waiting.iter().filter(|waiting| long(waiting.since));
    let waiting = waiting.min_by_key(|waiting| waiting.since)?;
    let name = waiting.object.as_ref().map(|object| object.name.clone()).unwrap_or_default();
    match waiting.reason {
        "CrdEstablished" => Some(Reason::CrdEstablished { crd: name }),
        "WebhookEndpoint" => Some(Reason::WebhookEndpoint { service: name }),
        "CaBundle" | "Admission" => Some(Reason::WebhookCert { service: name }),
        "Ready" => {
            // The text begins with the object; what it says of it comes after.
            let message = waiting.text.split_once(": ").map_or(waiting.text.as_str(), |(_, message)| message);
            Some(Reason::ObjectReady { name, message: message.to_owned() })
        }
        _ => None,
    }
}

fn under_way(view: &View, plan: &PlanView) -> Reason {
    let progress = Progress { done: plan.done, total: plan.total };
    let version = |revision: Option<u64>| {
        let revision = revision.and_then(|number| view.revisions.iter().find(|known| known.number == number));
        revision.and_then(|revision| revision.versions.get("trainer")).cloned()
    };
    if let Some(back) = &plan.back {
        return Reason::RollingBack { revision: back.to, progress };
    }
    let from = view.outlook.as_ref().and_then(trainer);
    let to = || view.heading.clone().or_else(|| version(plan.revision)).unwrap_or_default();
    match plan.purpose {
        Purpose::Install => Reason::Installing { version: to(), progress },
        Purpose::Upgrade => Reason::Upgrading { from: from.unwrap_or_default(), to: to(), progress },
        Purpose::Rollback => Reason::RollingBack { revision: plan.revision.unwrap_or_default(), progress },
        Purpose::Change => Reason::Changing { progress },
        Purpose::Remove => Reason::Removing,
    }
}

/// The version of the trainer that is installed.
fn trainer(outlook: &Outlook) -> Option<String> {
    Some(outlook.status.components.get("trainer")?.version.to_string())
}

fn not_ready(view: &View) -> Reason {
    let outlook = view.outlook.as_ref();
    let mut waiting = outlook.into_iter().flat_map(|outlook| &outlook.status.objects);
    let first = waiting.find_map(|object| Some((&object.object, object.waiting.clone()?)));
    if let Some((object, message)) = first {
        return Reason::ObjectReady { name: object.name.clone(), message };
    }
    let undone =
        outlook.map_or(0, |outlook| outlook.drift.iter().filter(|drift| drift.state.is_undone()).count());
    if undone > 0 { Reason::Repairing { objects: undone } } else { Reason::Starting }
}

fn in_the_way(phase: Phase, problem: &Problem) -> Reason {
    if let Some(reason) = &problem.reason {
        return (**reason).clone();
    }
    // What and why in one line; a cause that says everything is enough.
    let cause = match problem.why().as_slice() {
        [] => problem.message.clone(),
        why if phase == Phase::Refused => why.join("; "),
        why => format!("{}: {}", problem.message, why.join("; ")),
    };
    match (problem.code, phase) {
        ("permission-missing" | "forbidden", _) => Reason::Forbidden,
        (code, Phase::Disconnected) => Reason::ApiUnavailable { cause: code.to_owned() },
        (_, Phase::Held) => Reason::LeaseHeld { holder: cause },
        (_, Phase::Failed) => Reason::Failed { cause },
        _ => Reason::Refused { cause },
    }
}

#[cfg(test)]
mod tests {
    use trainerd_plan::object::ObjectKey;
    use trainerd_plan::plan::Counts;

    use super::super::board::{Back, Waiting};
    use super::*;
    use crate::cli::exit::Exit;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn plan(purpose: Purpose) -> PlanView {
        PlanView {
            purpose,
            revision: Some(2),
            counts: Counts::default(),
            done: 3,
            total: 10,
            started: at(0),
            ended: None,
            error: None,
            waiting: Vec::new(),
            back: None,
        }
    }

    fn running(plan: PlanView) -> View {
        let heading = Some("2.3.0".to_owned());
        View { phase: Phase::Running, plan: Some(plan), heading, ..View::default() }
    }

    #[test]
    fn a_plan_shows_how_far_it_is_until_it_waits_for_long() {
        let mut plan = plan(Purpose::Install);
        let crd = ObjectKey { group: "g".into(), kind: "k".into(), namespace: None, name: "a".into() };
        let (text, reason) = ("a to be established".to_owned(), "CrdEstablished");
        plan.waiting = vec![Waiting { object: Some(crd), text, reason, since: at(0) }];
        let view = running(plan);
        let progress = Progress { done: 3, total: 10 };
        assert_eq!(reason_at(&view, 19), Reason::Installing { version: "2.3.0".into(), progress });
        assert_eq!(reason_at(&view, 21), Reason::CrdEstablished { crd: "a".into() });
    }

    fn reason_at(view: &View, seconds: i64) -> Reason {
        reason(view, at(seconds))
    }

    #[test]
    fn the_way_back_says_where_it_goes() {
        let mut plan = plan(Purpose::Upgrade);
        plan.back = Some(Back { to: 1, reason: "r".into() });
        let progress = Progress { done: 3, total: 10 };
        assert_eq!(reason_at(&running(plan), 0), Reason::RollingBack { revision: 1, progress });
    }

    #[test]
    fn a_problem_is_what_it_was_said_to_be_and_else_its_code_and_phase_tell() {
        let view = |phase, problem| View { phase, reason: Some(problem), ..View::default() };
        let problem = |code| Problem::new(Exit::Failed, code, "what").because("why");
        let held = problem("lease-held").with_reason(Reason::LeaseHeld { holder: "b".into() });
        assert_eq!(reason_at(&view(Phase::Held, held), 0), Reason::LeaseHeld { holder: "b".into() });
        let of = |phase, code| reason_at(&view(phase, problem(code)), 0);
        assert_eq!(of(Phase::Refused, "permission-missing"), Reason::Forbidden);
        assert_eq!(of(Phase::Refused, "x"), Reason::Refused { cause: "why".into() });
        assert_eq!(of(Phase::Failed, "x"), Reason::Failed { cause: "what: why".into() });
        let gone = Reason::ApiUnavailable { cause: "unreachable".into() };
        assert_eq!(of(Phase::Disconnected, "unreachable"), gone);
    }

    #[test]
    fn an_upgrade_that_waits_for_a_person_is_active() {
        let view = View { phase: Phase::Ready, staged: Some("2.3.0".into()), ..View::default() };
        assert_eq!(reason_at(&view, 0), Reason::Staged { version: "2.3.0".into() });
        assert_eq!(reason_at(&View { staged: None, ..view }, 0), Reason::Settled);
    }
}
