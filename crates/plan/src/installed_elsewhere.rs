//! A second installation where there can be one: said once, not once an object.

use std::collections::BTreeMap;

use crate::applyset;
use crate::desired::Installation;
use crate::object::ObjectKey;
use crate::observed::{LiveObject, Observed};
use crate::refused::Refused;

/// The same refusals, with those of objects that another installation has gathered into one for each of these.
pub fn gathered(refused: Vec<Refused>, observed: &Observed) -> Vec<Refused> {
    let mut theirs: BTreeMap<(String, String), Vec<ObjectKey>> = BTreeMap::new();
    let mut others = Vec::new();
    for refusal in refused {
        let owner = match &refusal {
            Refused::Collision { object, .. } => observed.objects.get(object).and_then(installation_of),
            _ => None,
        };
        match (owner, refusal) {
            (Some(owner), Refused::Collision { object, .. }) => {
                theirs.entry((owner.namespace, owner.name)).or_default().push(object);
            }
            (_, refusal) => others.push(refusal),
        }
    }
    let elsewhere = theirs.into_iter().map(|((namespace, name), objects)| Refused::InstalledElsewhere {
        installation: Installation { name, namespace },
        objects,
    });
    elsewhere.chain(others).collect()
}

/// The installation of trainerd that an object says it belongs to.
fn installation_of(live: &LiveObject) -> Option<Installation> {
    let label = |name| applyset::label(&live.value, name).map(str::to_owned);
    Some(Installation { name: label(applyset::INSTALLATION)?, namespace: label(applyset::NAMESPACE)? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::object::Resource;

    #[test]
    fn objects_of_another_installation_are_reported_once() {
        let resource = Resource {
            group: String::new(),
            version: "v1".into(),
            kind: "ConfigMap".into(),
            plural: "configmaps".into(),
            namespaced: false,
        };
        let mut observed = Observed::default();
        let mut collisions = Vec::new();
        for number in 0..30 {
            let name = format!("a-{number:02}");
            let mut value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
            if number < 29 {
                value["metadata"]["labels"] =
                    json!({(applyset::INSTALLATION): "first", (applyset::NAMESPACE): "there"});
            }
            let object = ObjectKey::of(&value).unwrap();
            let live = LiveObject { resource: resource.clone(), value };
            collisions.push(Refused::Collision { object: object.clone(), owner: live.owner() });
            observed.objects.insert(object, live);
        }
        let gathered = gathered(collisions, &observed);
        assert_eq!(gathered.len(), 2, "{gathered:#?}");
        assert_eq!(
            gathered[0].to_string(),
            "installation first is in this cluster already, in namespace there (29 objects belong to it), and there \
             can be one a cluster"
        );
        assert!(matches!(&gathered[1], Refused::Collision { object, .. } if object.name == "a-29"));
    }
}
