//! What the charm says to the daemon: `PUT /v1/desired`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::databag::canonical;

/// Version of this shape, and of the API.
pub const SCHEMA: u32 = 1;

/// Whether this unit acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It does.
    Leader,
    /// Another one does.
    Standby,
}

/// What shall become of the installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// It is kept as the options say.
    #[default]
    Run,
    /// This daemon finishes what it is at, releases the lease, and does no more.
    Drain,
    /// It is taken away.
    Remove,
}

/// An image, with what is needed to pull it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its reference.
    pub registrypath: String,
    /// Who pulls it.
    #[serde(default)]
    pub username: String,
    /// By which password.
    #[serde(default)]
    pub password: String,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image").field("registrypath", &self.registrypath).finish_non_exhaustive()
    }
}

/// The mesh that the application is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mesh {
    /// Which: `istio`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Labels that put a pod into it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What the charm asked the mesh for.
    #[serde(default)]
    pub policies: Vec<Value>,
}

/// What shall be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Desired {
    /// [`SCHEMA`].
    pub schema: u32,
    /// See [`generation`].
    pub generation: String,
    /// The application: name of the installation.
    #[serde(default)]
    pub app: Option<String>,
    /// The model: namespace of the installation.
    #[serde(default)]
    pub model: Option<String>,
    /// UUID of the model.
    #[serde(default)]
    pub model_uuid: Option<String>,
    /// The unit that says so.
    #[serde(default)]
    pub unit: Option<String>,
    /// Version of Juju.
    #[serde(default)]
    pub juju_version: Option<String>,
    /// Version of the charm.
    #[serde(default)]
    pub charm_version: Option<String>,
    /// Whether the unit acts.
    pub role: Role,
    /// What shall become of the installation.
    #[serde(default)]
    pub intent: Intent,
    /// The options.
    pub options: BTreeMap<String, Value>,
    /// Image of the native reconciler.
    #[serde(default)]
    pub image: Option<Image>,
    /// The mesh, where there is one.
    #[serde(default)]
    pub mesh: Option<Mesh>,
}

impl Desired {
    /// As it is sent: with its generation.
    pub fn to_json(&self) -> Value {
        // A struct of strings and JSON always serialises.
        let mut body = serde_json::to_value(self).unwrap_or_default();
        body["generation"] = generation(&body).into();
        body
    }
}

/// SHA-256 of a body without its generation, in canonical JSON: sorted keys, no spaces.
pub fn generation(body: &Value) -> String {
    let mut body = body.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("generation");
    }
    hex::encode(Sha256::digest(canonical(&body).as_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_generation_is_the_digest_of_the_canonical_body() {
        let one = json!({"schema": 1, "options": {"b": 1, "a": [true, null, "x"]}, "generation": "g"});
        let other = json!({"options": {"a": [true, null, "x"], "b": 1}, "schema": 1});
        assert_eq!(generation(&one), generation(&other));
        assert_ne!(generation(&one), generation(&json!({"schema": 1})));
    }

    #[test]
    fn the_desired_state_round_trips_and_debug_hides_the_password() {
        let image = Image { registrypath: "r".into(), username: "u".into(), password: "hidden".into() };
        let desired = Desired {
            schema: SCHEMA,
            generation: String::new(),
            app: Some("my-trainer".into()),
            model: Some("kubeflow".into()),
            model_uuid: None,
            unit: None,
            juju_version: None,
            charm_version: None,
            role: Role::Standby,
            intent: Intent::Drain,
            options: BTreeMap::from([("settle".to_owned(), json!(5))]),
            image: Some(image),
            mesh: None,
        };
        let body = desired.to_json();
        assert_eq!(body["generation"], generation(&body));
        let read: Desired = serde_json::from_value(body).unwrap();
        assert_eq!((read.role, read.intent), (Role::Standby, Intent::Drain));
        assert!(!format!("{read:?}").contains("hidden"));
        assert!(
            serde_json::from_value::<Desired>(json!({"schema": 1, "generation": "", "options": {}})).is_err()
        );
    }

    #[test]
    fn misspelt_missing_and_mistyped_fields_are_rejected() {
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
