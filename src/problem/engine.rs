//! Why the engine stopped.

use trainerd_cluster::lease::{LeaseError, LeaseLost};
use trainerd_engine::EngineError;
use trainerd_engine::error::{Failure, StoredError};
use trainerd_juju::status::Reason;
use trainerd_plan::object::ObjectKey;
use trainerd_plan::order::{ObjectClass, object_class};
use trainerd_plan::refused::Refused;

use super::Problem;
use super::cluster::{of_lease, of_lost_lease, of_request};
use super::damage::remedy_of_objects;
use crate::problem::Exit;

/// The code of a plan that has left out what is being deleted.
pub(crate) const PENDING_DELETION: &str = "held";

const GO_ON: &str = "the plan is journalled: run the same command again to continue it, or run it with other options to replace it; `trainerd rollback` goes back (`trainerd status` shows the progress)";

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let of = |exit, code| Problem::of(exit, code, &error);
        match &error {
            EngineError::Connect(source) => source.into(),
            EngineError::Request { source, .. } => {
                let (exit, code, hint) = of_request(source);
                of(exit, code).hint(hint)
            }
            EngineError::Refused(refused) => self::refused(refused),
            EngineError::Failed { cause, .. } => failed(&error, cause),
            EngineError::RolledBack { reason, .. } => of(Exit::Failed, "rolled-back")
                .because(reason.clone())
                .hint("the installation is as it was before: fix the cause, then retry the same options with `trainerd retry`; other options are applied as soon as they are set"),
            EngineError::TimedOut { seconds, waiting } => {
                Problem::new(Exit::TimedOut, "timed-out", format!("timed out after {seconds} s"))
                    .because(format!("still waiting for {waiting}"))
                    .hint(GO_ON)
            }
            EngineError::Interrupted => of(Exit::Interrupted, "interrupted")
                .because("a signal came while the plan was running")
                .hint(GO_ON),
            EngineError::Lease(source) => {
                let (exit, code, hint) = of_lease(source);
                let problem = of(exit, code).hint(hint);
                match source {
                    LeaseError::Held { holder, .. } => {
                        problem.with_reason(Reason::LeaseHeld { holder: holder.clone() })
                    }
                    LeaseError::Request { .. } => problem,
                }
            }
            EngineError::LeaseLost(source) => {
                let (exit, code, hint) = of_lost_lease(source);
                let problem = of(exit, code).hint(hint);
                match source {
                    LeaseLost::Yielded { to } | LeaseLost::Taken { holder: to } => {
                        problem.with_reason(Reason::LeaseHeld { holder: to.clone() })
                    }
                    LeaseLost::Removed | LeaseLost::Released | LeaseLost::Expired { .. } => problem,
                }
            }
            EngineError::Stored { source, .. } => of(Exit::Failed, code_of_stored(source)).hint(
                "restore the Secret from a backup, or go to another revision of `trainerd history`; nothing was changed",
            ),
            EngineError::Unreadable { revision, renderable, readable, .. } => {
                let remedy = remedy_of_objects(*renderable, *readable);
                of(Exit::Failed, "revision-unreadable")
                    .because(format!("what is kept of revision {revision} in the cluster is missing or damaged; nothing was changed"))
                    .hint(remedy)
            }
            EngineError::Packing(_) => of(Exit::Failed, "packing")
                .hint("a compressed object must fit into a Secret (1 MiB): make it smaller; nothing was changed"),
            EngineError::NoSuchRevision { number, known } => {
                let known = known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let why = if known.is_empty() { "there are none".to_owned() } else { format!("the revisions are {known}") };
                Problem::new(Exit::Input, "no-such-revision", format!("no revision {number}"))
                    .because(why)
                    .hint("`trainerd history` lists them")
            }
            EngineError::NoSuchComponent { name, known } => {
                Problem::new(Exit::Input, "no-such-component", format!("no component {name}"))
                    .because(format!("the components are {}", known.join(", ")))
                    .hint("name one of them, or leave it out for all")
            }
            EngineError::NotDeployed { .. } => of(Exit::Refused, "not-deployed")
                .because("a part of it would leave it half done; nothing was changed")
                .hint("run it for all components"),
            EngineError::NotInstalled { .. } => of(Exit::Failed, "not-installed")
                .because("trainerd has no record of it")
                .hint("install it with `trainerd up`, or name another with --namespace and --name"),
            EngineError::NothingBefore(_) => of(Exit::Input, "nothing-before")
                .because("it is the first one, or earlier ones are no longer kept")
                .hint("`trainerd history` lists the revisions; a first install is finished by `up` or deleted by `remove`"),
            EngineError::Journal(_) => of(Exit::Failed, "journal")
                .hint("somebody else changed the installation in the meantime: run the command again"),
            EngineError::ChangedMeanwhile { added } if !added.is_empty() => {
                let added = added.iter().map(|object| format!("{object} was not part of the plan that was shown"));
                of(Exit::Failed, "changed-meanwhile")
                    .because_all(added.collect())
                    .hint("run the command again to see what would be done now")
            }
            EngineError::PendingDeletion { pending } => of(Exit::Failed, PENDING_DELETION)
                .because_all(pending.iter().map(ToString::to_string).collect())
                .hint("everything else is done; run the command again once the deletion is complete (a daemon does so automatically)"),
            EngineError::ChangedMeanwhile { .. } => of(Exit::Failed, "changed-meanwhile")
                .because("another command changed it between this plan and its first write; nothing was written")
                .hint("run the command again to plan from the current state"),
            EngineError::Permissions(missing) => {
                let are = if missing.len() == 1 { "permission is" } else { "permissions are" };
                Problem::new(Exit::Cluster, "permission-missing", format!("{} {are} missing", missing.len()))
                    .because_all(missing.clone())
                    .hint("ask an administrator for the missing permissions, then run the command again; nothing was changed")
            }
        }
    }
}

/// Everything that was refused is told: whoever corrects one thing wants to know of the others.
fn refused(refused: &[Refused]) -> Problem {
    let problem = Problem::new(Exit::Refused, refusal_code(refused), "refused; nothing was changed")
        .because_all(refused.iter().map(ToString::to_string).collect())
        .hint(refusal_hint(refused));
    let problem = match refused.first().and_then(reason_of) {
        Some(reason) => problem.with_reason(reason),
        None => problem,
    };
    match refused.first().and_then(object_of) {
        Some(object) => problem.about(object),
        None => problem,
    }
}

/// What a refusal is in a status, where it has a text of its own there.
fn reason_of(refused: &Refused) -> Option<Reason> {
    let kind_and_name = |object: &ObjectKey| (object.kind.clone(), object.name.clone());
    match refused {
        Refused::Collision { object, owner } => {
            let (kind, name) = kind_and_name(object);
            Some(Reason::OwnedByOther { kind, name, owner: owner.clone() })
        }
        Refused::InstalledElsewhere { installation, objects } => {
            let (kind, name) = kind_and_name(objects.first()?);
            let owner = format!("{}/{}", installation.namespace, installation.name);
            Some(Reason::OwnedByOther { kind, name, owner })
        }
        // A CRD is never deleted to be made again.
        Refused::ImmutableField { object, .. } if object_class(object) != ObjectClass::Crd => {
            let (kind, name) = kind_and_name(object);
            Some(Reason::Immutable { kind, name })
        }
        Refused::WorkloadRefInUse { objects } => {
            let crd = "jobsets.jobset.x-k8s.io".to_owned();
            Some(Reason::CrdUnsafe { crd, objects: objects.len() })
        }
        _ => None,
    }
}

fn refusal_code(refused: &[Refused]) -> &'static str {
    match refused {
        [only] => code_of(only),
        _ => "refused",
    }
}

fn refusal_hint(refused: &[Refused]) -> String {
    let mut hints: Vec<&str> = refused.iter().map(Refused::hint).collect();
    hints.dedup();
    hints.join("; or ")
}

fn code_of(refused: &Refused) -> &'static str {
    match refused {
        Refused::Collision { .. } => "collision",
        Refused::InstalledElsewhere { .. } => "installed-elsewhere",
        Refused::ImmutableField { .. } => "immutable-field",
        Refused::FieldConflict { .. } => "field-conflict",
        Refused::LossyRollback { .. } => "lossy-rollback",
        Refused::WorkloadRefInUse { .. } => "workload-ref-in-use",
        Refused::NamespaceTerminating { .. } => "namespace-terminating",
        Refused::Terminating { .. } => "terminating",
        Refused::InUse { .. } => "in-use",
        Refused::CustomObjectsExist { .. } => "custom-objects-exist",
        Refused::Cycle { .. } => "cycle",
        Refused::Lint { .. } => "lint",
    }
}

fn object_of(refused: &Refused) -> Option<&ObjectKey> {
    match refused {
        Refused::Collision { object, .. }
        | Refused::ImmutableField { object, .. }
        | Refused::FieldConflict { object, .. }
        | Refused::InUse { object, .. }
        | Refused::Terminating { object, .. } => Some(object),
        Refused::WorkloadRefInUse { objects }
        | Refused::CustomObjectsExist { objects }
        | Refused::InstalledElsewhere { objects, .. } => objects.first(),
        Refused::Cycle { circle } => circle.first(),
        Refused::Lint { finding } => Some(&finding.object),
        Refused::LossyRollback { .. } | Refused::NamespaceTerminating { .. } => None,
    }
}

fn failed(error: &EngineError, cause: &Failure) -> Problem {
    let problem = Problem::of(Exit::Failed, "failed", error);
    match cause {
        Failure::Write { object, source, .. } => {
            let (_, code, hint) = of_request(source);
            Problem { code, ..problem.about(object).hint(hint) }
        }
        Failure::ChangedHands { object } => {
            let hint = "somebody changed its labels in the meantime: run the command again to plan from the current state";
            Problem { code: "changed-hands", ..problem.about(object).hint(hint) }
        }
        Failure::Overtaken { object, .. } => {
            let hint =
                "it was not changed: delete it with the tool that created it, then run the command again";
            Problem { code: "collision", ..problem.about(object).hint(hint) }
        }
        Failure::NotGivenBack { object, .. } => {
            let hint = "delete its labels applyset.kubernetes.io/part-of and trainerd.dev/*, or `remove` would delete the object";
            Problem { code: "not-given-back", ..problem.about(object).hint(hint) }
        }
        Failure::Refused(refused) => {
            let problem = Problem { code: refusal_code(refused), ..problem.hint(refusal_hint(refused)) };
            match refused.first().and_then(object_of) {
                Some(object) => problem.about(object),
                None => problem,
            }
        }
        Failure::NeverReady { object, .. } => {
            let hint = "fix the cause and run the command again; `trainerd status` shows what each object is waiting for";
            Problem { code: "never-ready", ..problem.about(object).hint(hint) }
        }
        Failure::Deleted { object } => {
            let hint = "run the command again to plan from the current state; if it happens again, look for who deletes it in `kubectl get events` and the cluster's audit log";
            Problem { code: "deleted-meanwhile", ..problem.about(object).hint(hint) }
        }
        Failure::NoProgress { seconds, waiting } => {
            let hint = "`trainerd status` shows what each object is waiting for; option progress-deadline sets how long to wait";
            let reason = Reason::Deadline { seconds: *seconds, cause: waiting.clone() };
            Problem { code: "no-progress", ..problem.hint(hint).with_reason(reason) }
        }
        Failure::Watch { source, .. } => {
            let (_, code, hint) = of_request(source);
            Problem { code, ..problem.hint(hint) }
        }
    }
}

fn code_of_stored(source: &StoredError) -> &'static str {
    match source {
        StoredError::NoData(_)
        | StoredError::Json(_)
        | StoredError::Base64(_)
        | StoredError::Compression(_) => "stored-damaged",
        StoredError::Chunk(_) => "chunk-damaged",
        StoredError::Digest { .. } => "digest-mismatch",
    }
}

#[cfg(test)]
mod tests {
    use trainerd_cluster::{ConnectError, RequestError};
    use trainerd_plan::plan::Purpose;

    use super::*;

    fn object() -> ObjectKey {
        let (group, kind, name) = ("apps".to_owned(), "Deployment".to_owned(), "a".to_owned());
        ObjectKey { group, kind, namespace: Some("ns".to_owned()), name }
    }

    fn request(source: RequestError) -> EngineError {
        EngineError::Request { action: "list", what: "pods".to_owned(), source }
    }

    fn failed_with(cause: Failure) -> EngineError {
        EngineError::Failed { purpose: Purpose::Install, revision: 1, cause: Box::new(cause) }
    }

    #[test]
    fn every_kind_has_its_exit_code_and_says_why_and_what_to_do() {
        let message = || "because".to_owned();
        let collision = || Refused::Collision { object: object(), owner: "Helm release x".to_owned() };
        let held = LeaseError::Held {
            namespace: "ns".to_owned(),
            name: "l".to_owned(),
            holder: "h".to_owned(),
            since: None,
        };
        let cases = [
            (
                EngineError::Connect(ConnectError::NoKubeconfig { paths: Vec::new() }),
                Exit::Cluster,
                "no-kubeconfig",
            ),
            (request(RequestError::Unauthorized { message: message() }), Exit::Cluster, "unauthorized"),
            (request(RequestError::Internal { message: message() }), Exit::Failed, "server-error"),
            (
                request(RequestError::NamespaceTerminating { message: message() }),
                Exit::Refused,
                "namespace-terminating",
            ),
            (EngineError::Refused(vec![collision()]), Exit::Refused, "collision"),
            (EngineError::Refused(vec![collision(), collision()]), Exit::Refused, "refused"),
            (
                failed_with(Failure::NeverReady { object: object(), message: message() }),
                Exit::Failed,
                "never-ready",
            ),
            (
                failed_with(Failure::NoProgress { seconds: 600, waiting: message() }),
                Exit::Failed,
                "no-progress",
            ),
            (
                EngineError::RolledBack {
                    purpose: Purpose::Upgrade,
                    revision: 2,
                    back: 1,
                    reason: message(),
                },
                Exit::Failed,
                "rolled-back",
            ),
            (EngineError::TimedOut { seconds: 5, waiting: message() }, Exit::TimedOut, "timed-out"),
            (EngineError::Interrupted, Exit::Interrupted, "interrupted"),
            (EngineError::Lease(held), Exit::Held, "lease-held"),
            (EngineError::NoSuchRevision { number: 3, known: vec![] }, Exit::Input, "no-such-revision"),
            (
                EngineError::NotInstalled { name: "a".to_owned(), namespace: "b".to_owned() },
                Exit::Failed,
                "not-installed",
            ),
            (EngineError::NothingBefore(1), Exit::Input, "nothing-before"),
            (
                EngineError::NoSuchComponent { name: "x".into(), known: vec!["trainer".into()] },
                Exit::Input,
                "no-such-component",
            ),
            (EngineError::NotDeployed { revision: 1 }, Exit::Refused, "not-deployed"),
            (EngineError::Permissions(vec![message()]), Exit::Cluster, "permission-missing"),
        ];
        for (error, exit, code) in cases {
            let problem = Problem::from(error);
            assert_eq!((problem.exit, problem.code), (exit, code), "{problem:?}");
            assert!(problem.hint.is_some() && !problem.causes.is_empty(), "{problem:?}");
        }
    }

    #[test]
    fn all_refusals_are_listed() {
        let refused = |name: &str| Refused::Collision {
            object: ObjectKey { name: name.to_owned(), ..object() },
            owner: "Helm release x".to_owned(),
        };
        let problem = Problem::from(EngineError::Refused(vec![refused("a"), refused("b")]));
        assert_eq!(problem.why().len(), 2);
        assert_eq!(problem.object.as_ref().map(|object| object.name.as_str()), Some("a"));
        assert_eq!(problem.hint.as_deref(), Some(refused("a").hint()));
    }
}
