//! The state of Juju's controller, in the file that the hook tools read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::Error;

/// Juju's state of one unit.
pub struct World {
    /// Name of the application.
    pub application: String,
    /// Number of the unit.
    pub(super) number: usize,
    folder: PathBuf,
    /// See `integration/cluster/juju/hook-tool/world.go`.
    pub content: Value,
}

impl World {
    /// A unit with default options, except those that make tests fast; unit 0 is the leader.
    pub(super) fn new(application: &str, number: usize, folder: &Path) -> Result<Self, Error> {
        let path = super::workspace().join("config.yaml");
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", path))?;
        let schema: Value =
            serde_yaml::from_str(&text).map_err(|_| Error::Missing("the options' schema".into()))?;
        let options = schema["options"].as_object().into_iter().flatten();
        let mut config: Map<String, Value> =
            options.map(|(name, option)| (name.clone(), option["default"].clone())).collect();
        config.insert("small-footprint".into(), true.into());
        config.insert("settle".into(), 0.into());
        let unit = format!("{application}/{number}");
        let content = json!({
            "app": application,
            "unit": unit,
            "config": config,
            "leader": [number == 0],
            "units": {unit.clone(): "active"},
            "relations": {},
            "state": {},
            "unit-status": {"status": "unknown", "message": ""},
            "app-status": {"status": "unknown", "message": ""},
            "version": "",
            "resources": {},
            "addresses": ["10.1.2.3"],
            "faults": [],
            "logs": [],
        });
        Ok(Self { application: application.to_owned(), number, folder: folder.to_owned(), content })
    }

    /// Changes the folder of the file.
    pub(super) fn move_to(&mut self, folder: &Path) {
        folder.clone_into(&mut self.folder);
    }

    /// Copies the application's state from another unit.
    pub(super) fn copy_shared(&mut self, other: &Self) {
        for key in ["config", "units", "app-status", "resources", "addresses"] {
            self.content[key] = other.content[key].clone();
        }
        let Some(relations) = other.content["relations"].as_object() else { return };
        let own = self.content["relations"].take();
        let shared = relations.iter().map(|(id, relation)| {
            let mut relation = relation.clone();
            // The unit databag is the unit's own.
            relation["unit-bag"] = own[id]["unit-bag"].as_object().cloned().unwrap_or_default().into();
            (id.clone(), relation)
        });
        self.content["relations"] = shared.collect::<Map<String, Value>>().into();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn write(&self) -> Result<(), Error> {
        let path = self.path("world.json");
        std::fs::write(&path, self.content.to_string()).map_err(Error::io("write", path))
    }

    fn read(&self, name: &str) -> Result<Value, Error> {
        let path = self.path(name);
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        serde_json::from_str(&text).map_err(Error::json("what the hook tools wrote"))
    }

    /// Prepares the state for a hook.
    pub(super) fn before_hook(&mut self, path: &str, more: &[(&str, String)]) -> Result<(), Error> {
        let find = |wanted: &str| {
            more.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let relation = find("JUJU_RELATION_ID");
        self.content["hook-relation"] = relation.rsplit(':').next().unwrap_or_default().into();
        self.content["remote-app"] = find("JUJU_REMOTE_APP").into();
        self.content["remote-unit"] = find("JUJU_REMOTE_UNIT").into();
        if !path.starts_with("actions/") {
            self.content["action"] = Value::Null;
        }
        for file in ["txn.json", "calls.jsonl"] {
            // They exist only if an earlier hook called a tool.
            let _ = std::fs::remove_file(self.path(file));
        }
        self.write()
    }

    /// Commits what a hook wrote, if it succeeded. Returns its calls.
    pub(super) fn after_hook(&mut self, success: bool) -> Result<Vec<Value>, Error> {
        self.content = self.read("world.json")?;
        if success && self.path("txn.json").exists() {
            let txn = self.read("txn.json")?;
            merge(&mut self.content["state"], &txn["state"]);
            for (bags, key) in [("app-bags", "app-bag"), ("unit-bags", "unit-bag")] {
                for (id, changes) in txn[bags].as_object().into_iter().flatten() {
                    merge(&mut self.content["relations"][id][key], changes);
                }
            }
            self.write()?;
        }
        let calls = std::fs::read_to_string(self.path("calls.jsonl")).unwrap_or_default();
        calls.lines().map(|line| serde_json::from_str(line).map_err(Error::json("a call"))).collect()
    }

    /// The status that `juju status` shows of the unit, or of the application.
    pub fn status(&self, of: &str) -> (String, String) {
        let text = |key: &str| self.content[of][key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("message"))
    }

    /// Our databag of a relation.
    pub fn bag(&self, relation: &str, bag: &str) -> BTreeMap<String, String> {
        serde_json::from_value(self.content["relations"][relation][bag].clone()).unwrap_or_default()
    }
}

/// Merges changes; an empty text deletes.
fn merge(into: &mut Value, changes: &Value) {
    if !into.is_object() {
        *into = json!({});
    }
    let Some(known) = into.as_object_mut() else { return };
    for (key, value) in changes.as_object().into_iter().flatten() {
        if value == "" {
            known.remove(key);
        } else {
            known.insert(key.clone(), value.clone());
        }
    }
}
