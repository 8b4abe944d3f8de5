//! Components that are left to others: whether somebody else's controller runs in the cluster, at a version that fits.
//!
//! A component is in the cluster when its CRD is served. Its version is told by the Deployments of its controller,
//! known by the label `app.kubernetes.io/name`: by their label `app.kubernetes.io/version`, else by the tag of an image.
//! An image's name tells nothing: mirrors and operators rename it, and something else may be called alike.

use std::collections::BTreeSet;

use semver::{Version, VersionReq};
use serde_json::Value;
use trainerd_catalog::{Catalog, ImageRef, Needed, Resolution, UnmetNeed};
use trainerd_cluster::{Cluster, ListParams, RequestError, builtin};
use trainerd_engine::{Engine, EngineError};
use trainerd_plan::applyset;
use trainerd_plan::desired::{Desired, Installation};

use crate::problem::{Exit, Problem};

const NAME: &str = "app.kubernetes.io/name";
const VERSION: &str = "app.kubernetes.io/version";
/// What lets a plan continue where a version cannot be told.
pub(crate) const UNKNOWN_VERSION: &str = "--allow unknown-version";

/// A Deployment of a controller.
#[derive(Clone, Debug, PartialEq)]
struct Controller {
    /// `namespace/name`.
    place: String,
    version: Option<Version>,
    runs: bool,
}

/// What is in the cluster of a component that is left to others.
#[derive(Clone, Debug, PartialEq)]
enum Found {
    /// Its CRD is not served, or is this installation's own and nobody else has a controller for it.
    Absent,
    /// All its controllers have 0 replicas.
    Stopped(Vec<String>),
    /// A controller that runs has a version that does not fit; the other ones do not make up for it.
    Unfit { place: String, version: Version },
    /// The version cannot be told of one that runs, or there is none that is labelled.
    Untold(Vec<String>),
    /// All that run fit.
    Fits,
}

/// Whether every component that a resolution leaves to others is there. `lenient`: one whose version cannot be told
/// is taken for fitting.
///
/// # Errors
/// For the first that is not there, does not run, does not fit, or does not tell its version.
pub(crate) async fn check(
    cluster: &Cluster,
    catalog: &Catalog,
    resolution: &Resolution,
    installation: &Installation,
    lenient: impl Fn(&str) -> bool,
) -> Result<(), Problem> {
    if resolution.external.is_empty() {
        return Ok(());
    }
    let deployments = deployments(cluster).await?;
    for (component, needed) in &resolution.external {
        let crds = crds(cluster, catalog, component).await?;
        let found = judge(component, needed, crds.as_deref(), &deployments, installation);
        if let Some(problem) = problem(component, needed, found, lenient(component)) {
            return Err(problem);
        }
    }
    Ok(())
}

/// The components that a revision needs, that are left to others, and that nobody runs, whatever the version.
pub(crate) async fn absent(engine: &Engine, desired: &Desired) -> Result<Vec<String>, Problem> {
    let left: BTreeSet<&str> = desired.left_to_others().collect();
    if left.is_empty() {
        return Ok(Vec::new());
    }
    let (catalog, cluster) = (Catalog::builtin()?, engine.cluster());
    let deployments = deployments(cluster).await?;
    let mut absent = Vec::new();
    for component in left {
        let any = Needed { by: String::new(), version: Version::new(0, 0, 0), range: VersionReq::STAR };
        let crds = crds(cluster, &catalog, component).await?;
        let found = judge(component, &any, crds.as_deref(), &deployments, engine.installation());
        if matches!(found, Found::Absent | Found::Stopped(_)) {
            absent.push(component.to_owned());
        }
    }
    Ok(absent)
}

async fn deployments(cluster: &Cluster) -> Result<Vec<Value>, Problem> {
    let list = cluster.list(&builtin::deployment(), &ListParams::default()).await;
    Ok(list.map_err(failed("Deployments"))?.items)
}

/// The CRDs of a component; `None` where one of them is missing.
async fn crds(cluster: &Cluster, catalog: &Catalog, component: &str) -> Result<Option<Vec<Value>>, Problem> {
    let mut crds = Vec::new();
    for name in catalog.crds_of(component) {
        crds.push(
            cluster
                .get_opt(&builtin::custom_resource_definition(), None, name)
                .await
                .map_err(failed(name))?,
        );
    }
    Ok(crds.into_iter().collect())
}

fn failed(what: &str) -> impl FnOnce(RequestError) -> EngineError {
    let what = what.to_owned();
    move |source| EngineError::Request { action: "read", what, source }
}

/// What there is of a component; `crds` are its own, `None` where one of them is missing.
fn judge(
    component: &str,
    needed: &Needed,
    crds: Option<&[Value]>,
    deployments: &[Value],
    installation: &Installation,
) -> Found {
    let Some(crds) = crds.filter(|crds| crds.iter().all(is_established)) else { return Found::Absent };
    let own = |object: &Value| {
        applyset::label(object, applyset::INSTALLATION) == Some(&installation.name)
            && applyset::label(object, applyset::NAMESPACE) == Some(&installation.namespace)
    };
    let controllers: Vec<Controller> = deployments
        .iter()
        .filter(|object| !own(object))
        .filter_map(|object| controller(component, object))
        .collect();
    let places = |all: &[Controller]| all.iter().map(|one| one.place.clone()).collect::<Vec<_>>();
    let running: Vec<Controller> = controllers.iter().filter(|one| one.runs).cloned().collect();
    if controllers.is_empty() {
        return if crds.iter().all(own) { Found::Absent } else { Found::Untold(Vec::new()) };
    }
    if running.is_empty() {
        return Found::Stopped(places(&controllers));
    }
    let told = running.iter().filter_map(|one| Some((one, one.version.as_ref()?)));
    let mut unfit = told.filter(|(_, version)| !needed.range.matches(version));
    if let Some((one, version)) = unfit.next() {
        return Found::Unfit { place: one.place.clone(), version: version.clone() };
    }
    let untold: Vec<Controller> = running.into_iter().filter(|one| one.version.is_none()).collect();
    if untold.is_empty() { Found::Fits } else { Found::Untold(places(&untold)) }
}

fn is_established(crd: &Value) -> bool {
    let conditions = crd["status"]["conditions"].as_array().into_iter().flatten();
    crd["metadata"]["deletionTimestamp"].is_null()
        && conditions.into_iter().any(|one| one["type"] == "Established" && one["status"] == "True")
}

/// A Deployment as a controller of the component, if its labels or those of its pods say that it is one.
fn controller(component: &str, deployment: &Value) -> Option<Controller> {
    let metadata = &deployment["metadata"];
    let template = &deployment["spec"]["template"];
    let labels = [&metadata["labels"], &template["metadata"]["labels"]];
    if !metadata["deletionTimestamp"].is_null() || !labels.iter().any(|labels| labels[NAME] == component) {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let labelled = labels.iter().find_map(|labels| version(labels[VERSION].as_str()?));
    let images = template["spec"]["containers"].as_array().into_iter().flatten();
    let tagged = || {
        images.into_iter().find_map(|container| {
            let image: ImageRef = container["image"].as_str()?.parse().ok()?;
            version(image.tag()?)
        })
    };
    Some(Controller {
        place: format!("{}/{}", text(&metadata["namespace"]), text(&metadata["name"])),
        version: labelled.or_else(tagged),
        // Kubernetes' default is one.
        runs: deployment["spec"]["replicas"].as_i64().unwrap_or(1) > 0,
    })
}

/// `v0.12.0`, `0.12.0-3` and `0.12.0_build`: the version that a text begins with.
fn version(text: &str) -> Option<Version> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts = text.splitn(3, '.');
    let (major, minor, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    Some(Version::new(major.parse().ok()?, minor.parse().ok()?, rest.get(..digits)?.parse().ok()?))
}

fn problem(component: &str, needed: &Needed, found: Found, is_lenient: bool) -> Option<Problem> {
    let unmet = |version: Option<Version>| {
        let (component, needed) = (component.to_owned(), needed.clone());
        Problem::from(UnmetNeed { component, needed, found: version })
    };
    let Needed { by, version: needs, range } = needed;
    match found {
        Found::Fits => None,
        Found::Absent => Some(unmet(None)),
        Found::Unfit { place, version } => Some(
            unmet(Some(version))
                .because(format!("Deployment {place} runs it, and it is not in the option components")),
        ),
        Found::Stopped(places) => Some(
            Problem::new(
                Exit::Refused,
                "unmet-need",
                format!("{component} does not run in the cluster; {by} {needs} needs {range}"),
            )
            .because(format!("Deployment {} has 0 replicas", places.join(" and Deployment ")))
            .hint(format!("scale it up, or add {component} to option components")),
        ),
        Found::Untold(_) if is_lenient => None,
        Found::Untold(places) => {
            let why = if places.is_empty() {
                format!("its CRD is served, and no Deployment has the label {NAME}={component}")
            } else {
                let places = places.join(" and Deployment ");
                format!(
                    "Deployment {places} has neither the label {VERSION} nor an image with a version for its tag"
                )
            };
            Some(
                Problem::new(
                    Exit::Refused,
                    "unknown-version",
                    format!(
                        "failed to tell the version of {component} in the cluster; {by} {needs} needs {range}"
                    ),
                )
                .because(why)
                .hint(format!("if you know that it is compatible: {UNKNOWN_VERSION}")),
            )
        }
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "values are written in place")]
mod tests {
    use serde_json::json;

    use super::*;

    fn needed() -> Needed {
        Needed {
            by: "trainer".to_owned(),
            version: Version::new(2, 3, 0),
            range: ">=0.12.0, <0.13.0".parse().unwrap(),
        }
    }

    fn own() -> Installation {
        Installation { name: "kubeflow-trainer".to_owned(), namespace: "kubeflow-system".to_owned() }
    }

    fn crd(labels: Value) -> Value {
        json!({"metadata": {"labels": labels}, "status": {"conditions": [{"type": "Established", "status": "True"}]}})
    }

    fn deployment(name: &str, labels: Value, image: &str, replicas: i64) -> Value {
        json!({
            "metadata": {"namespace": "jobset-operator", "name": name, "labels": labels},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"image": image}]}}},
        })
    }

    const DIGEST: &str = "@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn told(crds: Option<Vec<Value>>, deployments: &[Value]) -> String {
        let found = judge("jobset", &needed(), crds.as_deref(), deployments, &own());
        match problem("jobset", &needed(), found, false) {
            None => "fits".to_owned(),
            Some(problem) => format!("{}: {}", problem.code, problem.message),
        }
    }

    #[test]
    fn external_controllers_are_found_by_crd_and_labels() {
        let name = json!({NAME: "jobset"});
        let both = json!({NAME: "jobset", VERSION: "v0.12.0"});
        let digest = format!("registry.example.com/job-set/jobset-rhel9{DIGEST}");
        let tagged = format!("registry.example.com/job-set/jobset-rhel9:v0.12.3-1{DIGEST}");
        let mirror = "registry.example.com/mirror/jobset-controller:v0.12.0";
        let one = |labels: &Value, image: &str| vec![deployment("a", labels.clone(), image, 1)];
        let served = || Some(vec![crd(json!({}))]);
        let absent = "unmet-need: jobset is not in the cluster; trainer 2.3.0 needs >=0.12.0, <0.13.0";
        let untold = "unknown-version: failed to tell the version of jobset in the cluster; trainer 2.3.0 needs >=0.12.0, <0.13.0";
        let unfit =
            "unmet-need: jobset 0.11.1 in the cluster does not fit; trainer 2.3.0 needs >=0.12.0, <0.13.0";
        let mut pods = deployment("a", json!({}), mirror, 1);
        pods["spec"]["template"]["metadata"] = json!({"labels": name});
        for (what, crds, deployments, expected) in [
            ("by digest", served(), one(&both, &digest), "fits"),
            ("tag and digest", served(), one(&name, &tagged), "fits"),
            ("another name", served(), one(&name, mirror), "fits"),
            ("labels of the pods", served(), vec![pods], "fits"),
            ("no CRD", None, one(&both, &digest), absent),
            ("merely called alike", served(), one(&json!({}), "example.com/x/jobset:v0.12.0"), untold),
            ("a digest alone", served(), one(&name, &digest), untold),
            ("another version", served(), one(&name, "example.com/jobset:v0.11.1"), unfit),
            (
                "0 replicas",
                served(),
                vec![deployment("a", both.clone(), &digest, 0)],
                "unmet-need: jobset does not run in the cluster; trainer 2.3.0 needs >=0.12.0, <0.13.0",
            ),
        ] {
            assert_eq!(told(crds, &deployments), expected, "{what}");
        }
    }

    #[test]
    fn the_choice_between_controllers_does_not_depend_on_order() {
        let old = deployment("old", json!({NAME: "jobset", VERSION: "0.11.1"}), "x:1", 1);
        let new = deployment("new", json!({NAME: "jobset", VERSION: "0.12.0"}), "x:1", 1);
        let stopped = deployment("old", json!({NAME: "jobset", VERSION: "0.11.1"}), "x:1", 0);
        let served = || Some(vec![crd(json!({}))]);
        let first = told(served(), &[old.clone(), new.clone()]);
        assert!(first.starts_with("unmet-need: jobset 0.11.1"), "{first}");
        assert_eq!(told(served(), &[new.clone(), old]), first);
        // One that does not run has no say.
        assert_eq!(told(served(), &[new.clone(), stopped.clone()]), "fits");
        assert_eq!(told(served(), &[stopped, new]), "fits");
    }

    #[test]
    fn own_controllers_are_not_external() {
        let labels =
            json!({applyset::INSTALLATION: "kubeflow-trainer", applyset::NAMESPACE: "kubeflow-system"});
        let mut controller = labels.clone();
        controller[NAME] = json!("jobset");
        controller[VERSION] = json!("0.12.0");
        let found = told(Some(vec![crd(labels)]), &[deployment("a", controller, "x:1", 1)]);
        assert!(found.starts_with("unmet-need: jobset is not in the cluster"), "{found}");
    }

    #[test]
    fn an_unknown_version_can_be_allowed_and_nothing_else() {
        let untold = || Found::Untold(vec!["a/b".to_owned()]);
        assert_eq!(problem("jobset", &needed(), untold(), true), None);
        let refused = problem("jobset", &needed(), untold(), false).unwrap();
        assert!(refused.hint.unwrap().ends_with("--allow unknown-version"));
        assert!(problem("jobset", &needed(), Found::Absent, true).is_some());
    }
}
