//! How the objects of an installation are called: values for the templates, by profile.

use std::collections::BTreeMap;

use serde::Serialize;
use trainerd_plan::desired::{Installation, Naming};

/// Name of the daemon: of the component, of the installation that it is, and of its Deployment and ServiceAccount.
pub const DAEMON: &str = "trainerd";

/// What makes Juju's admission webhook leave an object alone: it would label it for deletion with its application.
const NOT_JUJU: (&str, &str) = ("model.juju.is/disable-webhook", "true");

/// Labels that Juju's admission writes, and so nobody else may.
const OF_JUJU: &str = "app.kubernetes.io/managed-by";

/// The names, as templates know them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Names {
    #[serde(skip)]
    pub(crate) naming: Naming,
    /// Whether they are those of a Juju application.
    charm: bool,
    /// What names of the trainer's objects begin with.
    trainer: String,
    /// Its Deployment.
    manager: String,
    /// Its pods' labels, as the inside of a YAML map.
    manager_labels: String,
    /// Those that its Service selects by.
    manager_selector: String,
    /// What names of JobSet's objects begin with.
    jobset: String,
    jobset_labels: String,
    /// Its pods' label `control-plane`.
    jobset_plane: String,
    /// What names of LeaderWorkerSet's objects begin with.
    lws: String,
    lws_labels: String,
    lws_plane: String,
    /// A further label, as the inside of a YAML map, of JobSet's objects and of most of LeaderWorkerSet's.
    managed: &'static str,
}

impl Names {
    pub(crate) fn of(naming: Naming, installation: &Installation) -> Self {
        let own = str::to_owned;
        let name = |name: &str| format!("app.kubernetes.io/name: {name}");
        match naming {
            Naming::Upstream => Self {
                naming,
                charm: false,
                trainer: own("kubeflow-trainer"),
                manager: own("kubeflow-trainer-controller-manager"),
                manager_labels: format!(
                    "app.kubernetes.io/component: manager, {}, app.kubernetes.io/part-of: kubeflow",
                    name("trainer")
                ),
                manager_selector: own("app.kubernetes.io/component: manager"),
                jobset: own("jobset"),
                jobset_labels: format!("app.kubernetes.io/instance: jobset, {}", name("jobset")),
                jobset_plane: own("controller-manager"),
                lws: own("lws"),
                lws_labels: format!("app.kubernetes.io/instance: lws, {}", name("lws")),
                lws_plane: own("controller-manager"),
                managed: ", app.kubernetes.io/managed-by: kustomize",
            },
            Naming::Charm => {
                let Installation { name: application, namespace } = installation;
                let (jobset, lws) = (format!("{application}-jobset"), format!("{application}-lws"));
                let manager = format!(
                    "app.kubernetes.io/component: manager, {}",
                    name(&format!("{application}-manager"))
                );
                Self {
                    naming,
                    charm: true,
                    trainer: application.clone(),
                    manager: application.clone(),
                    manager_selector: manager.clone(),
                    manager_labels: manager,
                    jobset_labels: name(&jobset),
                    jobset,
                    jobset_plane: format!("{namespace}-{application}"),
                    lws_labels: name(&lws),
                    lws,
                    lws_plane: format!("{application}-controller-manager"),
                    managed: "",
                }
            }
        }
    }

    /// What a Service of a component is called that upstream calls so.
    pub(crate) fn service(&self, upstream: &str) -> String {
        if self.charm { format!("{}-{upstream}", self.trainer) } else { upstream.to_owned() }
    }

    /// The labels of a CRD that upstream labels so. Juju would delete it with the application otherwise, and all that
    /// is stored under it.
    pub(crate) fn labels_of_crd(&self, upstream: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut labels = upstream.clone();
        if self.charm {
            labels.remove(OF_JUJU);
            labels.insert(NOT_JUJU.0.to_owned(), NOT_JUJU.1.to_owned());
        }
        labels
    }
}
