//! One version of one component: its `component.yaml`.

use std::collections::BTreeMap;

use semver::{Version, VersionReq};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::options::{Options, Provider, Reconciler};
use crate::process::Process;

/// The name under which `needs` lists the Kubernetes range.
pub(crate) const KUBERNETES: &str = "kubernetes";

/// The content of `templates/<component>/<version>/component.yaml`. File names are relative to `templates/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) name: String,
    pub(crate) version: Version,
    /// Other components whose readiness its workloads wait for, and `kubernetes`.
    #[serde(default)]
    pub(crate) needs: BTreeMap<String, VersionReq>,
    /// Components that it works with where they are installed.
    #[serde(default)]
    pub(crate) optional: BTreeMap<String, VersionReq>,
    /// The version of other components that goes with this one at `auto`.
    #[serde(default)]
    pub(crate) companions: BTreeMap<String, Version>,
    /// The versions from which an upgrade may come here in one step.
    pub(crate) upgrades_from: VersionReq,
    /// The options that change what is rendered, beside its own version.
    #[serde(default)]
    pub(crate) options: Vec<String>,
    #[serde(default)]
    pub(crate) images: BTreeMap<String, ImageEntry>,
    /// Variables for the templates.
    #[serde(default)]
    pub(crate) values: BTreeMap<String, Value>,
    #[serde(default)]
    pub(crate) crds: Vec<CrdEntry>,
    #[serde(default)]
    pub(crate) runtimes: Option<RuntimeList>,
    /// Edges beyond those that follow from kinds.
    #[serde(default)]
    pub(crate) order: Vec<OrderEntry>,
    #[serde(default)]
    pub(crate) files: Vec<String>,
    /// The file with objects whose dry-run creation shows that its webhooks answer.
    #[serde(default)]
    pub(crate) probes: Option<String>,
    /// What is run of ours, in a container or by the daemon itself.
    #[serde(default)]
    pub(crate) processes: BTreeMap<String, Process>,
}

/// A component refers to something of its own that it does not have: this build is broken.
#[derive(Debug, Error)]
#[error("{component} {version} refers to {what}, which it does not have")]
pub struct Dangling {
    /// The component.
    pub component: String,
    /// Its version.
    pub version: Version,
    /// What it refers to.
    pub what: String,
}

impl Manifest {
    /// That it refers to something that it does not have.
    pub(crate) fn dangling(&self, what: String) -> Dangling {
        Dangling { component: self.name.clone(), version: self.version.clone(), what }
    }
}

/// An image, and who may override it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageEntry {
    /// Upstream's reference; without a tag it takes `v` and the component's version.
    pub(crate) default: String,
    /// The option that overrides it.
    pub(crate) option: String,
    /// Its key in an option that holds several images.
    #[serde(default)]
    pub(crate) key: Option<String>,
    /// Ours, which takes its place where that is asked for.
    #[serde(default)]
    pub(crate) native: Option<Box<NativeEntry>>,
}

/// An image of ours, and the option that asks for it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NativeEntry {
    pub(crate) when: ProviderOption,
    pub(crate) image: ImageEntry,
}

/// The options with which one chooses between upstream's programs and ours.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ProviderOption {
    DataCacheServer,
    Initializers,
    Reconciler,
}

impl ImageEntry {
    /// The one of both that is used.
    pub(crate) fn of(&self, options: &Options) -> &Self {
        let Some(native) = &self.native else { return self };
        let is_ours = match native.when {
            ProviderOption::DataCacheServer => options.data_cache_server == Provider::Native,
            ProviderOption::Initializers => options.initializers == Provider::Native,
            ProviderOption::Reconciler => options.reconciler != Reconciler::Upstream,
        };
        if is_ours { &native.image } else { self }
    }

    /// Whether a container is rendered of it: what the daemon hosts has none.
    pub(crate) fn is_rendered(&self, options: &Options) -> bool {
        let is_reconciler =
            self.native.as_ref().is_some_and(|native| matches!(native.when, ProviderOption::Reconciler));
        !(is_reconciler && options.reconciler == Reconciler::Hosted)
    }
}

/// A CRD, which the type table emits without labels.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CrdEntry {
    pub(crate) name: String,
    /// The Service in the installation's namespace that converts between its versions.
    #[serde(default)]
    pub(crate) conversion: Option<String>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether only the native reconciler has it.
    #[serde(default)]
    pub(crate) native: bool,
}

/// The runtimes that a version has, out of a table that versions share.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuntimeList {
    /// The file with the table: [`RuntimeEntry`] by name.
    pub(crate) table: String,
    pub(crate) names: Vec<String>,
}

/// A training runtime: a template rendered with its own images and values.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuntimeEntry {
    pub(crate) file: String,
    /// The option without which the runtime cannot work.
    #[serde(default)]
    pub(crate) needs: Option<String>,
    /// By the role an image plays, its name in [`Manifest::images`]. The runtime's name overrides [`NODE`].
    pub(crate) images: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) values: BTreeMap<String, Value>,
}

/// The role of the image in which training runs.
pub(crate) const NODE: &str = "node";

/// `object` is written once `after` is ready; both as `Kind name`, rendered by the same component.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderEntry {
    pub(crate) object: String,
    pub(crate) after: String,
}

/// A version of a component with the table its runtimes come from.
#[derive(Clone, Debug)]
pub(crate) struct Component {
    pub(crate) manifest: Manifest,
    /// The runtimes of this version by name.
    pub(crate) runtimes: BTreeMap<String, RuntimeEntry>,
}
