//! `grafana-dashboard`: interface `grafana_dashboard`, of which we are the provider.

use std::io::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lzma_rust2::{XzOptions, XzWriter};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Bag, CHARM, Topology, canonical};

/// Key of the dashboard among the templates.
const TEMPLATE: &str = "file:trainerd";

/// Identifies the dashboard whatever its content: 8 bytes of SHAKE-256 over `kubeflow-trainer-file:trainerd`, as the
/// interface's own library makes it. It only changes with those names.
const ALT_UID: &str = "cff0ba4d589f5cf0";

/// How hard xz tries: the library's default.
const PRESET: u32 = 6;

/// The leader's part. The same dashboard gives the same text.
///
/// # Errors
/// Only where memory runs out: nothing else is written to.
pub fn app_bag(topology: &Topology, dashboard: &Value) -> io::Result<Bag> {
    let templates = json!({TEMPLATE: {
        "charm": CHARM,
        "content": STANDARD.encode(packed(&canonical(dashboard))?),
        "dashboard_alt_uid": ALT_UID,
        "inject_dropdowns": true,
        "juju_topology": {
            "application": topology.application(),
            "model": topology.model,
            "model_uuid": topology.model_uuid,
            "unit": topology.unit.to_string(),
        },
    }});
    let uuid = Uuid::new_v5(&Uuid::NAMESPACE_OID, canonical(&templates).as_bytes());
    let value = json!({"templates": templates, "uuid": uuid.to_string()});
    Ok(Bag::from([("dashboards".to_owned(), canonical(&value))]))
}

fn packed(text: &str) -> io::Result<Vec<u8>> {
    let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(PRESET))?;
    writer.write_all(text.as_bytes())?;
    writer.finish()
}

/// What Grafana's charm says is wrong with our dashboards, if anything is.
pub fn remote_errors(remote: &Bag) -> Vec<String> {
    let event: Value =
        remote.get("event").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let errors = event["errors"].as_array().into_iter().flatten();
    errors
        .map(|error| {
            let text = |key: &str| error[key].as_str().unwrap_or_default();
            format!("{}: {}", text("dashboard_id"), text("error"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::topology;
    use super::*;

    #[test]
    fn the_dashboard_is_packed_reproducibly() {
        let dashboard = json!({"title": "trainerd", "panels": [1, 2]});
        let one = app_bag(&topology(), &dashboard).unwrap();
        assert_eq!(one, app_bag(&topology(), &dashboard).unwrap());
        let other = app_bag(&topology(), &json!({"title": "other"})).unwrap();
        let read = |bag: &Bag| -> Value { serde_json::from_str(&bag["dashboards"]).unwrap() };
        let (one, other) = (read(&one), read(&other));
        assert_ne!(one["uuid"], other["uuid"]);
        let template = &one["templates"][TEMPLATE];
        let bytes = STANDARD.decode(template["content"].as_str().unwrap()).unwrap();
        // The magic number of xz: what Python's lzma reads by itself.
        assert_eq!(bytes[..6], [0xfd, b'7', b'z', b'X', b'Z', 0]);
        let mut text = String::new();
        io::Read::read_to_string(&mut lzma_rust2::XzReader::new(&bytes[..], false), &mut text).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), dashboard);
        assert_eq!(template["juju_topology"]["unit"], "my-trainer/0");
    }

    #[test]
    fn errors_of_the_remote_application_name_the_dashboard() {
        let event = r#"{"valid":false,"errors":[{"dashboard_id":"file:trainerd","error":"bad"}]}"#;
        assert_eq!(remote_errors(&Bag::from([("event".into(), event.into())])), ["file:trainerd: bad"]);
        assert!(remote_errors(&Bag::new()).is_empty());
    }
}
