//! What the CRDs say beside their schemas. None of it has changed between the versions we know.

use trainerd_schema::{Column, Crd, CrdVersion, Scale, Scope};

use crate::releases::CrdChannel;

/// A CRD of a component.
pub(crate) struct Root {
    pub(crate) component: &'static str,
    /// Full name: `<plural>.<group>`.
    pub(crate) name: &'static str,
    pub(crate) crd: Crd,
    /// Annotations that are the same in every version.
    pub(crate) annotations: &'static [(&'static str, &'static str)],
    /// Whether the component answers conversion requests for it.
    pub(crate) converts: bool,
    /// Whether no release has it, and the native reconciler does.
    pub(crate) native: bool,
}

impl Root {
    /// Whether that channel has it.
    pub(crate) fn is_of(&self, channel: CrdChannel) -> bool {
        !self.native || channel == CrdChannel::Native
    }
}

const AGE: Column = Column { name: "Age", of: "date", json_path: ".metadata.creationTimestamp" };

const fn text(name: &'static str, json_path: &'static str) -> Column {
    Column { name, of: "string", json_path }
}

const fn number(name: &'static str, json_path: &'static str) -> Column {
    Column { name, of: "integer", json_path }
}

/// A version that is the only one: served and stored, without columns or subresources.
const fn only(name: &'static str, type_name: &'static str) -> CrdVersion {
    CrdVersion { name, type_name, served: true, storage: true, columns: &[], status: false, scale: None }
}

/// Every CRD, by name.
pub(crate) const ROOTS: &[Root] = &[
    Root {
        component: "trainer",
        name: "clustertrainingruntimes.trainer.kubeflow.org",
        crd: Crd {
            group: "trainer.kubeflow.org",
            kind: "ClusterTrainingRuntime",
            plural: "clustertrainingruntimes",
            short_names: &[],
            scope: Scope::Cluster,
            versions: &[only("v1alpha1", "TrainingRuntime")],
        },
        annotations: &[],
        converts: false,
        native: false,
    },
    Root {
        component: "jobset",
        name: "jobsets.jobset.x-k8s.io",
        crd: Crd {
            group: "jobset.x-k8s.io",
            kind: "JobSet",
            plural: "jobsets",
            short_names: &[],
            scope: Scope::Namespaced,
            versions: &[CrdVersion {
                columns: &[
                    text("TerminalState", ".status.terminalState"),
                    text("Restarts", ".status.restarts"),
                    text("Completed", r#".status.conditions[?(@.type=="Completed")].status"#),
                    text("Suspended", ".spec.suspend"),
                    AGE,
                ],
                status: true,
                ..only("v1alpha2", "JobSet")
            }],
        },
        // Upstream's kustomization never fills these variables in: the text is what gets installed.
        annotations: &[("cert-manager.io/inject-ca-from", "$(CERTIFICATE_NAMESPACE)/$(CERTIFICATE_NAME)")],
        converts: true,
        native: false,
    },
    Root {
        component: "lws",
        name: "leaderworkersets.leaderworkerset.x-k8s.io",
        crd: Crd {
            group: "leaderworkerset.x-k8s.io",
            kind: "LeaderWorkerSet",
            plural: "leaderworkersets",
            short_names: &["lws"],
            scope: Scope::Namespaced,
            versions: &[CrdVersion {
                columns: &[
                    number("Ready", ".status.readyReplicas"),
                    number("Desired", ".spec.replicas"),
                    number("Up-to-date", ".status.updatedReplicas"),
                    AGE,
                ],
                status: true,
                scale: Some(Scale {
                    spec_replicas: ".spec.replicas",
                    status_replicas: ".status.replicas",
                    label_selector: Some(".status.hpaPodSelector"),
                }),
                ..only("v1", "LeaderWorkerSet")
            }],
        },
        annotations: &[],
        converts: true,
        native: false,
    },
    // Trainer's main branch has it, without columns.
    Root {
        component: "trainer",
        name: "optimizationjobs.trainer.kubeflow.org",
        crd: Crd {
            group: "trainer.kubeflow.org",
            kind: "OptimizationJob",
            plural: "optimizationjobs",
            short_names: &[],
            scope: Scope::Namespaced,
            versions: &[CrdVersion {
                columns: &[
                    text("State", ".status.conditions[-1:].type"),
                    text("Best", ".status.result.trainJobName"),
                    AGE,
                ],
                status: true,
                ..only("v1alpha1", "OptimizationJob")
            }],
        },
        annotations: &[],
        converts: false,
        native: true,
    },
    Root {
        component: "trainer",
        name: "trainingruntimes.trainer.kubeflow.org",
        crd: Crd {
            group: "trainer.kubeflow.org",
            kind: "TrainingRuntime",
            plural: "trainingruntimes",
            short_names: &[],
            scope: Scope::Namespaced,
            versions: &[only("v1alpha1", "TrainingRuntime")],
        },
        annotations: &[],
        converts: false,
        native: false,
    },
    Root {
        component: "trainer",
        name: "trainjobs.trainer.kubeflow.org",
        crd: Crd {
            group: "trainer.kubeflow.org",
            kind: "TrainJob",
            plural: "trainjobs",
            short_names: &[],
            scope: Scope::Namespaced,
            versions: &[CrdVersion {
                columns: &[text("State", ".status.conditions[-1:].type"), AGE],
                status: true,
                ..only("v1alpha1", "TrainJob")
            }],
        },
        annotations: &[],
        converts: false,
        native: false,
    },
];

#[cfg(test)]
mod tests {
    use super::ROOTS;

    #[test]
    fn names_are_those_of_the_definitions_and_sorted() {
        for root in ROOTS {
            assert_eq!(root.name, root.crd.name());
        }
        assert!(ROOTS.is_sorted_by_key(|root| root.name));
    }
}
