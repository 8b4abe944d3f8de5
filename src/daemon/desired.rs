//! What shall be, as `PUT /v1/desired` says it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The body. A field that is not known is refused: a misspelt one would be taken for one that was left out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Desired {
    /// Version of the body's form.
    pub(super) schema: u32,
    /// Digest of the rest.
    pub(super) generation: String,
    /// Whether this daemon acts. Without a default: a standby that is taken for a leader writes.
    pub(super) role: Role,
    /// What for.
    #[serde(default)]
    pub(super) intent: Intent,
    /// The options.
    pub(super) options: BTreeMap<String, Value>,
    // Who sends it, and what the charm knows beside options: typed, so that nonsense is told, and not acted upon.
    #[serde(default, rename = "app")]
    _app: Option<String>,
    #[serde(default, rename = "model")]
    _model: Option<String>,
    #[serde(default, rename = "model-uuid")]
    _model_uuid: Option<String>,
    #[serde(default, rename = "unit")]
    _unit: Option<String>,
    #[serde(default, rename = "juju-version")]
    _juju_version: Option<String>,
    #[serde(default, rename = "charm-version")]
    _charm_version: Option<String>,
    #[serde(default, rename = "image")]
    _image: Option<Image>,
    #[serde(default, rename = "mesh")]
    _mesh: Option<Mesh>,
}

/// Whether a daemon acts on its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Role {
    /// It does.
    Leader,
    /// Another daemon does; this one looks.
    Standby,
}

/// What shall become of the installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Intent {
    /// It shall run.
    #[default]
    Run,
    /// It shall take on no more work.
    Drain,
    /// It shall go.
    Remove,
}

/// The image of the native reconciler.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "registrypath")]
    _registrypath: String,
    #[serde(default, rename = "username")]
    _username: Option<String>,
    #[serde(default, rename = "password")]
    _password: Option<String>,
}

/// The service mesh.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mesh {
    #[serde(rename = "type")]
    _kind: String,
    #[serde(default, rename = "labels")]
    _labels: BTreeMap<String, String>,
    #[serde(default, rename = "policies")]
    _policies: Vec<Value>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_misspelt_left_out_or_of_another_type_is_refused() {
        let body = json!({
            "schema": 1, "generation": "g", "app": "a", "model": "m", "model-uuid": "u", "unit": "a/0",
            "juju-version": "3.6.1", "charm-version": "1", "role": "standby", "intent": "run", "options": {},
            "image": null, "mesh": {"type": "istio", "labels": {"a": "b"}, "policies": []},
        });
        let parse = |body: &Value| serde_json::from_value::<Desired>(body.clone());
        assert_eq!(parse(&body).unwrap().role, Role::Standby);
        let set = |field: &str, value: Value| {
            let mut changed = body.clone();
            changed[field] = value;
            changed
        };
        let mut without = body.clone();
        without.as_object_mut().unwrap().remove("role");
        for (changed, said) in [
            (set("rolle", json!("standby")), "unknown field `rolle`"),
            (set("Role", json!("standby")), "unknown field `Role`"),
            (without, "missing field `role`"),
            (set("role", Value::Null), "invalid type: null"),
            (set("role", json!("Standby")), "unknown variant `Standby`"),
            (set("role", json!(true)), "invalid type: boolean"),
            (set("role", json!(["standby"])), "invalid type: sequence"),
            (set("intent", json!("stop")), "unknown variant `stop`"),
            (set("intents", json!("run")), "unknown field `intents`"),
            (set("unit", json!(0)), "invalid type: integer"),
            (set("options", json!([])), "invalid type: sequence"),
            (set("image", json!({"registrypath": "r", "pasword": "x"})), "unknown field `pasword`"),
            (set("mesh", json!({"type": "istio", "label": {}})), "unknown field `label`"),
        ] {
            let error = parse(&changed).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(said), "{changed}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
