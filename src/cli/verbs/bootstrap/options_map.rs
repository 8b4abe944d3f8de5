//! The ConfigMap in which the options are declared: made where it is absent, and otherwise edited like people edit it.

use serde_json::{Map, Value, json};
use trainerd_catalog::{DAEMON, DAEMON_OPTIONS, Options};
use trainerd_cluster::{Cluster, CreateParams, RequestError, builtin};
use trainerd_engine::{Engine, EngineError};
use trainerd_plan::applyset;

use crate::options::declared::values_of;
use crate::options::{Given, Source, plain};
use crate::problem::Problem;

/// The ConfigMap as it was found.
pub(super) struct OptionsMap {
    cluster: Cluster,
    namespace: String,
    found: Option<Value>,
}

impl OptionsMap {
    /// Reads it.
    pub(super) async fn read(cluster: &Cluster, namespace: &str) -> Result<Self, EngineError> {
        let found = cluster.get_opt(&builtin::config_map(), Some(namespace), DAEMON_OPTIONS).await;
        let found = found.map_err(|source| failed("read", namespace, source))?;
        Ok(Self { cluster: cluster.clone(), namespace: namespace.to_owned(), found })
    }

    /// Whether it exists, whoever created it.
    pub(super) fn exists(&self) -> bool {
        self.found.is_some()
    }

    /// Whether it is `bootstrap` that made it, so that it goes with the daemon.
    pub(super) fn is_made_by(&self, daemon: &Engine) -> bool {
        self.found.as_ref().is_some_and(|found| daemon.made(found))
    }

    /// The options that it declares; `None` where there is none.
    pub(super) fn declared(&self) -> Option<Given> {
        Some(Given::of(values_of(self.found.as_ref()?), &Source::ConfigMap))
    }

    /// Makes it. One that somebody else made meanwhile stays as it is.
    pub(super) async fn create(&self, manifest: &Value) -> Result<(), Problem> {
        let mut manifest = manifest.clone();
        // As on a namespace: whoever takes the daemon out again knows by it that this was nobody else's.
        manifest["metadata"]["annotations"][applyset::CREATED_FOR] = Value::from(DAEMON);
        match self.cluster.create(&builtin::config_map(), &manifest, CreateParams::default()).await {
            Ok(_) | Err(RequestError::AlreadyExists { .. }) => Ok(()),
            Err(source) => Err(failed("create", &self.namespace, source).into()),
        }
    }

    /// Sets the options that were given, and no other; returns those that it did not say already. The labels of an
    /// ApplySet, by which earlier versions of trainerd held it, are taken off.
    pub(super) async fn set(&self, options: &Options) -> Result<Vec<String>, EngineError> {
        let said = |name: &str| self.found.as_ref().and_then(|found| found["data"][name].as_str());
        let mut data = Map::new();
        for name in options.given() {
            let value = options.values().get(name).map(plain).unwrap_or_default();
            if said(name) != Some(&value) {
                data.insert(name.clone(), Value::from(value));
            }
        }
        let held =
            self.found.as_ref().is_some_and(|found| applyset::label(found, applyset::PART_OF).is_some());
        if data.is_empty() && !held {
            return Ok(Vec::new());
        }
        let set = data.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect();
        let mut patch = json!({ "data": data });
        if held {
            let of_set =
                [applyset::PART_OF, applyset::INSTALLATION, applyset::NAMESPACE, applyset::COMPONENT];
            let labels: Map<String, Value> =
                of_set.into_iter().map(|name| (name.to_owned(), Value::Null)).collect();
            patch["metadata"] = json!({"labels": labels, "annotations": {(applyset::CREATED_FOR): DAEMON}});
        }
        let (kind, namespace) = (builtin::config_map(), Some(self.namespace.as_str()));
        let params = CreateParams { metadata_only: true, ..CreateParams::default() };
        let patched = self.cluster.patch_merge(&kind, namespace, DAEMON_OPTIONS, &patch, params).await;
        patched.map_err(|source| failed("change", &self.namespace, source))?;
        Ok(set)
    }
}

fn failed(action: &'static str, namespace: &str, source: RequestError) -> EngineError {
    EngineError::Request { action, what: format!("ConfigMap {namespace}/{DAEMON_OPTIONS}"), source }
}
