//! `provide-cmr-mesh`, `require-cmr-mesh`: interface `cross_model_mesh`, by which applications of two models say who
//! they are.

use serde::Deserialize;
use serde_json::json;

use super::{Bag, Topology, canonical};

/// Key of the databag.
const KEY: &str = "cmr_data";

/// Who an application is in its own model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Identity {
    /// Its name there.
    pub app_name: String,
    /// Name of that model.
    pub juju_model_name: String,
}

/// The leader's part: who we are.
pub fn app_bag(topology: &Topology) -> Bag {
    let value = json!({"app_name": topology.application(), "juju_model_name": topology.model});
    Bag::from([(KEY.to_owned(), canonical(&value))])
}

/// Who the application at the other end is, if it says so.
pub fn identity(remote: &Bag) -> Option<Identity> {
    serde_json::from_str(remote.get(KEY)?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::topology;
    use super::*;

    #[test]
    fn the_identity_round_trips() {
        let bag = app_bag(&topology());
        assert_eq!(bag[KEY], r#"{"app_name":"my-trainer","juju_model_name":"kubeflow"}"#);
        let read = identity(&bag).unwrap();
        assert_eq!((read.app_name.as_str(), read.juju_model_name.as_str()), ("my-trainer", "kubeflow"));
        assert_eq!(identity(&Bag::from([(KEY.into(), "nonsense".into())])), None);
    }
}
