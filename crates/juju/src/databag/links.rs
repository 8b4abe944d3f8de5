//! `dashboard-links`: interface `kubeflow_dashboard_links`, which we require.

use serde::Serialize;

use super::{Bag, canonical};

/// A link of the Kubeflow dashboard. These six keys and no others: the provider does not survive a seventh.
#[derive(Clone, Debug, Serialize)]
struct Link {
    desc: &'static str,
    icon: &'static str,
    #[serde(rename = "link")]
    address: &'static str,
    location: Location,
    text: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// Where a link is shown: one of the places that the provider knows.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Location {
    Documentation,
}

/// The leader's part.
pub fn app_bag() -> Bag {
    let link = Link {
        desc: "Documentation for Kubeflow Trainer",
        icon: "icons:link",
        address: "https://www.kubeflow.org/docs/components/trainer/",
        location: Location::Documentation,
        text: "Kubeflow Trainer Documentation",
        kind: "item",
    };
    Bag::from([("dashboard_links".to_owned(), canonical(&[link]))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_has_its_exact_json() {
        let expected = r#"[{"desc":"Documentation for Kubeflow Trainer","icon":"icons:link","link":"https://www.kubeflow.org/docs/components/trainer/","location":"documentation","text":"Kubeflow Trainer Documentation","type":"item"}]"#;
        assert_eq!(app_bag()["dashboard_links"], expected);
    }
}
