//! Which versions run, where nothing is written down of an installation.

use std::collections::BTreeMap;

use semver::Version;
use serde_json::Value;
use trainerd_catalog::{Catalog, ImageRef};
use trainerd_engine::Engine;
use trainerd_plan::applyset;

use crate::options::Given;
use crate::problem::{Exit, Problem};

/// The versions of an installation of which nothing is written down, by the images that its Deployments run; `None`
/// where nothing of it runs.
pub(crate) async fn running(
    catalog: &Catalog,
    engine: &Engine,
    given: &Given,
) -> Result<Option<BTreeMap<String, Version>>, Problem> {
    let deployments = engine.deployments().await?;
    let mut versions = BTreeMap::new();
    for deployment in &deployments {
        let component = applyset::label(deployment, applyset::COMPONENT).unwrap_or_default();
        // A reconciler of our own runs under the trainer's name, at a version that is none of the trainer's.
        let known = catalog.versions(component);
        match versions_of(deployment).into_iter().find(|version| known.contains(version)) {
            Some(version) => drop(versions.insert(component.to_owned(), version)),
            // The others go with the trainer.
            None if component == "trainer" && given.is_default("trainer-version") => {
                let what = "failed to tell which version of the trainer runs";
                return Err(Problem::new(Exit::Refused, "version-unknown", what)
                    .because(
                        "there is no record of this installation, and the tag of the image is not a version",
                    )
                    .hint("set it with --set trainer-version=VERSION, or in the declared options"));
            }
            None => {}
        }
    }
    Ok((!versions.is_empty()).then_some(versions))
}

/// The versions that the images of a Deployment tell by their tags.
fn versions_of(deployment: &Value) -> Vec<Version> {
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array();
    let images = containers.into_iter().flatten().filter_map(|container| container["image"].as_str());
    images
        .filter_map(|text| {
            let image: ImageRef = text.parse().ok()?;
            let tag = image.tag()?;
            tag.strip_prefix('v').unwrap_or(tag).parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_version_is_read_from_the_image_tag() {
        for (image, expected) in [
            ("registry.k8s.io/jobset/jobset:v0.12.0", Some(Version::new(0, 12, 0))),
            ("localhost:5000/lws:0.8.0", Some(Version::new(0, 8, 0))),
            ("registry.k8s.io/jobset/jobset:main", None),
            ("registry.k8s.io/jobset/jobset", None),
        ] {
            let deployment = json!({"spec": {"template": {"spec": {"containers": [{"image": image}]}}}});
            assert_eq!(versions_of(&deployment), expected.into_iter().collect::<Vec<_>>(), "{image}");
        }
    }
}
