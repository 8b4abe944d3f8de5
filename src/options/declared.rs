//! Where an installation has its options declared, and what is declared there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use trainerd_catalog::Raw;
use trainerd_juju::desired::{Image, Intent, Mesh};

use super::Given;

/// Where the options of an installation are declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A YAML file, one `name: value` a line.
    File(PathBuf),
    /// A ConfigMap of the installation's namespace: each key is an option.
    ConfigMap {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The daemon's API.
    Api,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::ConfigMap { namespace, name } => write!(f, "ConfigMap {namespace}/{name}"),
            Self::Api => f.write_str("the daemon's API"),
        }
    }
}

/// Options, and who they are known as.
#[derive(Clone, Debug)]
pub(crate) struct OptionsSpec {
    /// The options.
    pub(crate) given: Given,
    /// Tells one spec from another: the sender's own, or a digest.
    pub(crate) generation: String,
    /// Somebody else is the one to act on them: this daemon only looks.
    pub(crate) standby: bool,
    /// What shall become of the installation.
    pub(crate) intent: Intent,
    /// The service mesh that the application is in.
    pub(crate) mesh: Option<Mesh>,
    /// The image that needs a password to be pulled.
    pub(crate) image: Option<Image>,
    /// The unit that they come from, where that is one of several: it is the one to write unless it is on standby.
    pub(crate) unit: Option<String>,
    /// Who asked for them, where that is known: a caller of the API.
    pub(crate) asked_by: Option<String>,
    /// uid of the ConfigMap that declares them, where one does.
    pub(crate) uid: Option<String>,
}

impl OptionsSpec {
    pub(crate) fn of(values: BTreeMap<String, Raw>, source: &super::Source) -> Self {
        // The order of a BTreeMap and JSON's own spelling make the text the same for the same options.
        let text: BTreeMap<&String, Value> = values
            .iter()
            .map(|(name, raw)| match raw {
                Raw::Text(text) => (name, Value::from(text.as_str())),
                Raw::Typed(value) => (name, value.clone()),
            })
            .collect();
        let generation = hex::encode(Sha256::digest(serde_json::to_vec(&text).unwrap_or_default()));
        Self {
            given: Given::of(values, source),
            generation,
            standby: false,
            intent: Intent::Run,
            mesh: None,
            image: None,
            unit: None,
            asked_by: None,
            uid: None,
        }
    }

    /// How much shall be logged.
    pub(crate) fn log_level(&self) -> &str {
        self.given.text("log-level").unwrap_or("info")
    }

    /// Whether CRDs stay when the installation goes.
    pub(crate) fn keeps_crds(&self) -> bool {
        self.given.text("crd-policy") != Some("delete")
    }
}

/// Which options a ConfigMap declares, as the daemon that follows it calls them.
pub(crate) fn generation_of(config_map: &Value) -> String {
    OptionsSpec::of(values_of(config_map), &super::Source::ConfigMap).generation
}

/// The options that a ConfigMap declares: each of its keys is one.
pub(crate) fn values_of(config_map: &Value) -> BTreeMap<String, Raw> {
    let data = config_map["data"].as_object().into_iter().flatten();
    data.map(|(name, value)| (name.clone(), Raw::from(value.as_str().unwrap_or_default().trim()))).collect()
}
