//! Why the installation is as it is, in the words of a status: what the charm shows as Juju's.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use trainerd_engine::ObjectStatus;
use trainerd_engine::drift_controller::{DriftState, StatusSnapshot};
use trainerd_juju::status::{Progress, Reason};
use trainerd_plan::drift::NotRepaired;
use trainerd_plan::order::{ObjectClass, object_class};
use trainerd_plan::plan::{Counts, Purpose};
use trainerd_plan::readiness::{PodFault, WorkloadStatus};
use trainerd_plan::reason::WaitingOn;

use super::status_store::{MeshApi, Phase, PlanView, StatusView};
use super::webhook_call;
use crate::problem::Problem;

/// A wait that is shorter is part of getting on, and the progress is shown instead of it.
const SHORT: Duration = Duration::from_secs(20);

/// A pull that fails for a shorter time may be no more than a busy registry.
const PULL: SignedDuration = SignedDuration::from_secs(60);

/// The reason that counts most of all that hold now.
pub(super) fn reason(view: &StatusView, now: Timestamp) -> Reason {
    let revision = view.snapshot.as_ref().map_or(0, |snapshot| snapshot.status.revision);
    match view.phase {
        Phase::Paused => Reason::Paused { revision },
        Phase::Standby => Reason::Standby,
        Phase::Ready if view.mesh_api == MeshApi::Missing => Reason::MeshApi,
        Phase::Ready => ready(view),
        Phase::Starting | Phase::Absent => Reason::Starting,
        Phase::Running => match view.plan.as_ref().filter(|plan| plan.ended.is_none()) {
            Some(plan) => waited_for(plan, now).unwrap_or_else(|| under_way(view, plan)),
            None => Reason::Starting,
        },
        Phase::Waiting => not_ready(view, now),
        Phase::Degraded
        | Phase::Refused
        | Phase::Failed
        | Phase::Invalid
        | Phase::Held
        | Phase::Disconnected => {
            view.reason.as_ref().map_or(Reason::Starting, |problem| in_the_way(view.phase, problem))
        }
    }
}

fn ready(view: &StatusView) -> Reason {
    if let Some(version) = &view.staged {
        return Reason::Staged { version: version.clone() };
    }
    // What admission makes of our own writes is recorded, and nobody's change.
    let admitted =
        |state: &DriftState| matches!(state, DriftState::Left { why: NotRepaired::Admission { .. } });
    let drift = || {
        let all = view.snapshot.iter().flat_map(|snapshot| &snapshot.drift);
        all.filter(|drift| !admitted(&drift.state))
    };
    let first = |drift: &trainerd_engine::drift_controller::DriftStatus| {
        format!("{}/{}", drift.object.kind, drift.object.name)
    };
    let immutable =
        |state: &DriftState| matches!(state, DriftState::Left { why: NotRepaired::Immutable { .. } });
    if let Some(object) = drift().find(|drift| immutable(&drift.state)).map(|drift| &drift.object)
        && object_class(object) != ObjectClass::Crd
    {
        return Reason::Immutable { kind: object.kind.clone(), name: object.name.clone() };
    }
    match drift().next() {
        Some(drifted) => Reason::DriftSeen { objects: drift().count(), first: first(drifted) },
        None => Reason::Settled,
    }
}

/// What a plan has waited for too long to be shown as getting on, the longest first.
fn waited_for(plan: &PlanView, now: Timestamp) -> Option<Reason> {
    let long = |since: Timestamp| now.duration_since(since) > SHORT.try_into().unwrap_or_default();
    let waiting = plan.waiting.iter().filter(|waiting| long(waiting.since));
    let mut waiting: Vec<_> = waiting.collect();
    waiting.sort_by_key(|waiting| waiting.since);
    let reasons = waiting.iter().filter_map(|waiting| waits(&waiting.on, None, now));
    // Of several the word that counts more is shown, and of those the longest wait.
    reasons.min_by_key(Reason::value)
}

/// What a wait is in a status. `component`: of what is waited for, where that is known.
fn waits(on: &WaitingOn, component: Option<&str>, now: Timestamp) -> Option<Reason> {
    let base = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    Some(match on {
        WaitingOn::CrdEstablished { crd } => Reason::CrdEstablished { crd: crd.clone() },
        WaitingOn::WebhookEndpoint { service } => Reason::WebhookEndpoint { service: base(service) },
        WaitingOn::CaBundle { object } => Reason::WebhookCert { service: object.name.clone() },
        WaitingOn::Admission { object, message } => webhook_call::trouble(message, &object.name),
        WaitingOn::Ready { object, message, workload } => {
            let component = component.unwrap_or(&object.name).to_owned();
            let (deployment, name) = (object.name.clone(), object.name.clone());
            match workload {
                Some(WorkloadStatus { fault: Some(PodFault::CrashLoop { restarts }), .. }) => {
                    Reason::CrashLoop { component, restarts: *restarts }
                }
                Some(WorkloadStatus { fault: Some(PodFault::ImagePull { image, since }), .. })
                    if since.is_some_and(|since| now.duration_since(since) > PULL) =>
                {
                    Reason::ImagePull { component, image: image.clone() }
                }
                Some(WorkloadStatus { ready, wanted, .. }) => {
                    Reason::DeploymentReady { deployment, ready: *ready, wanted: *wanted }
                }
                None => Reason::ObjectReady { name, message: message.clone() },
            }
        }
        WaitingOn::Deleted { .. } | WaitingOn::Lease { .. } | WaitingOn::Settling { .. } => return None,
    })
}

fn under_way(view: &StatusView, plan: &PlanView) -> Reason {
    let progress = Progress { done: plan.done, total: plan.total };
    let version = |revision: Option<u64>| {
        let revision = revision.and_then(|number| view.revisions.iter().find(|known| known.number == number));
        revision.and_then(|revision| revision.versions.get("trainer")).cloned()
    };
    if let Some(back) = &plan.back {
        return Reason::RollingBack { revision: back.to, progress };
    }
    let from = view.snapshot.as_ref().and_then(trainer);
    let to = || view.heading.clone().or_else(|| version(plan.revision)).unwrap_or_default();
    match plan.purpose {
        Purpose::Install if found(&plan.counts) > plan.counts.create => {
            Reason::Adopting { objects: found(&plan.counts) }
        }
        Purpose::Install => Reason::Installing { version: to(), progress },
        Purpose::Upgrade => Reason::Upgrading { from, to: to(), progress },
        Purpose::Rollback => Reason::RollingBack { revision: plan.revision.unwrap_or_default(), progress },
        Purpose::Change => Reason::Changing { progress },
        Purpose::Remove => Reason::Removing,
    }
}

/// Objects of a first installation that are there already, by whoever's hand.
fn found(counts: &Counts) -> usize {
    counts.change + counts.keep
}

/// The version of the trainer that is installed.
fn trainer(snapshot: &StatusSnapshot) -> Option<String> {
    Some(snapshot.status.components.get("trainer")?.version.to_string())
}

/// What an object that is not ready is in a status.
fn troubled(object: &ObjectStatus, now: Timestamp) -> Option<Reason> {
    let reason = waits(object.waiting_on.as_ref()?, Some(&object.component), now)?;
    Some(match reason {
        // It answers, if by fewer pods than there shall be.
        Reason::DeploymentReady { ready, wanted, .. } if ready > 0 => {
            Reason::Degraded { component: object.component.clone(), ready, wanted }
        }
        reason => reason,
    })
}

fn not_ready(view: &StatusView, now: Timestamp) -> Reason {
    let snapshot = view.snapshot.as_ref();
    let waiting = snapshot.into_iter().flat_map(|snapshot| &snapshot.status.objects);
    let reasons: Vec<Reason> = waiting.filter_map(|object| troubled(object, now)).collect();
    // Of several the word that counts most is shown; a component that continues with fewer pods comes last.
    if let Some(reason) = reasons.into_iter().min_by_key(Reason::value) {
        return reason;
    }
    let undone =
        snapshot.map_or(0, |snapshot| snapshot.drift.iter().filter(|drift| drift.state.is_undone()).count());
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

    use super::super::status_store::{RollingBack, Waiting};
    use super::*;
    use crate::problem::Exit;

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

    fn running(plan: PlanView) -> StatusView {
        let heading = Some("2.3.0".to_owned());
        StatusView { phase: Phase::Running, plan: Some(plan), heading, ..StatusView::default() }
    }

    fn waiting(object: Option<ObjectKey>, on: WaitingOn) -> Waiting {
        Waiting { object, text: on.to_string(), reason: on.word(), on, since: at(0) }
    }

    fn deployment(name: &str) -> ObjectKey {
        let (group, kind) = ("apps".to_owned(), "Deployment".to_owned());
        ObjectKey { group, kind, namespace: Some("kubeflow".into()), name: name.into() }
    }

    fn on(ready: i64, wanted: i64, fault: Option<PodFault>) -> WaitingOn {
        let workload = Some(WorkloadStatus { ready, wanted, fault });
        WaitingOn::Ready { object: deployment("a-lws"), message: "Available: 0/2".into(), workload }
    }

    fn pull(since: i64) -> PodFault {
        PodFault::ImagePull { image: "r.example/lws:v1".into(), since: Some(at(since)) }
    }

    #[test]
    fn pod_failures_are_shown_before_waits() {
        let status = |on: WaitingOn| ObjectStatus {
            component: "lws".into(),
            object: deployment("a-lws"),
            waiting: Some(on.text()),
            waiting_on: Some(on),
            drift: Vec::new(),
            admission: Vec::new(),
        };
        let now = at(100);
        let of = |on: WaitingOn| troubled(&status(on), now);
        let crash = Some(PodFault::CrashLoop { restarts: 4 });
        assert_eq!(of(on(0, 2, crash)), Some(Reason::CrashLoop { component: "lws".into(), restarts: 4 }));
        let image = "r.example/lws:v1".to_owned();
        assert_eq!(of(on(0, 2, Some(pull(39)))), Some(Reason::ImagePull { component: "lws".into(), image }));
        let waits = Reason::DeploymentReady { deployment: "a-lws".into(), ready: 0, wanted: 2 };
        assert_eq!(of(on(0, 2, Some(pull(41)))), Some(waits), "a pull of less than a minute");
        let degraded = Reason::Degraded { component: "lws".into(), ready: 1, wanted: 2 };
        assert_eq!(of(on(1, 2, None)), Some(degraded));
        let endpoint = WaitingOn::WebhookEndpoint { service: "kubeflow/hooks".into() };
        assert_eq!(of(endpoint), Some(Reason::WebhookEndpoint { service: "hooks".into() }));
    }

    #[test]
    fn an_unpullable_image_blocks_although_others_are_waited_for() {
        let mut plan = plan(Purpose::Install);
        let crd = WaitingOn::CrdEstablished { crd: "a".into() };
        plan.waiting = vec![waiting(None, crd), waiting(Some(deployment("a-lws")), on(0, 2, Some(pull(0))))];
        let view = running(plan);
        assert_eq!(reason_at(&view, 30), Reason::CrdEstablished { crd: "a".into() });
        let image = "r.example/lws:v1".to_owned();
        assert_eq!(reason_at(&view, 61), Reason::ImagePull { component: "a-lws".into(), image });
    }

    #[test]
    fn a_plan_shows_progress_until_a_wait_takes_long() {
        let mut plan = plan(Purpose::Install);
        let crd = ObjectKey { group: "g".into(), kind: "k".into(), namespace: None, name: "a".into() };
        plan.waiting = vec![waiting(Some(crd), WaitingOn::CrdEstablished { crd: "a".into() })];
        let view = running(plan);
        let progress = Progress { done: 3, total: 10 };
        assert_eq!(reason_at(&view, 19), Reason::Installing { version: "2.3.0".into(), progress });
        assert_eq!(reason_at(&view, 21), Reason::CrdEstablished { crd: "a".into() });
    }

    fn reason_at(view: &StatusView, seconds: i64) -> Reason {
        reason(view, at(seconds))
    }

    #[test]
    fn an_installation_of_mostly_existing_objects_is_an_adoption() {
        let mut plan = plan(Purpose::Install);
        plan.counts = Counts { create: 2, change: 3, delete: 0, keep: 5 };
        assert_eq!(reason_at(&running(plan.clone()), 0), Reason::Adopting { objects: 8 });
        plan.counts.create = 8;
        let progress = Progress { done: 3, total: 10 };
        assert_eq!(reason_at(&running(plan), 0), Reason::Installing { version: "2.3.0".into(), progress });
    }

    #[test]
    fn a_rollback_shows_its_target() {
        let mut plan = plan(Purpose::Upgrade);
        plan.back = Some(RollingBack { to: 1, reason: "r".into() });
        let progress = Progress { done: 3, total: 10 };
        assert_eq!(reason_at(&running(plan), 0), Reason::RollingBack { revision: 1, progress });
    }

    #[test]
    fn the_reason_of_a_problem_follows_its_code_and_phase() {
        let view = |phase, problem| StatusView { phase, reason: Some(problem), ..StatusView::default() };
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
        let view = StatusView { phase: Phase::Ready, staged: Some("2.3.0".into()), ..StatusView::default() };
        assert_eq!(reason_at(&view, 0), Reason::Staged { version: "2.3.0".into() });
        assert_eq!(reason_at(&StatusView { staged: None, ..view }, 0), Reason::Settled);
    }
}
