mod endpoint;
mod mapping;

use trainerd_plan::desired::Installation;
use trainerd_plan::object::ObjectKey;

fn installation() -> Installation {
    Installation { name: "trainer".to_owned(), namespace: "kubeflow".to_owned() }
}

fn deployment(name: &str) -> ObjectKey {
    ObjectKey {
        group: "apps".to_owned(),
        kind: "Deployment".to_owned(),
        namespace: Some("kubeflow".to_owned()),
        name: name.to_owned(),
    }
}
