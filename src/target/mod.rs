//! From options to what is wanted of a cluster: versions that fit it, and the objects.

pub(crate) mod changes;
pub(crate) mod external;
pub(crate) mod hosted;
pub(crate) mod newer;
mod running;

use std::collections::BTreeMap;

use semver::Version;
use trainerd_catalog::{Catalog, Current, Options, Resolution};
use trainerd_engine::revision::Header;
use trainerd_engine::{Engine, State, revision};
use trainerd_plan::desired::{Desired, Installation, Naming};
use trainerd_plan::plan::Purpose;

use self::changes::{OptionChange, Patched, explained, patched};
use self::running::running;
use crate::options::Given;
use crate::problem::Problem;

/// The component versions of what is installed.
pub(crate) fn installed(state: &State) -> Option<BTreeMap<String, Version>> {
    let versions = state.header()?.components.iter();
    Some(versions.map(|(name, component)| (name.clone(), component.version.clone())).collect())
}

/// What is wanted, and by which way.
pub(crate) struct Target {
    pub(crate) desired: Desired,
    pub(crate) resolution: Resolution,
    pub(crate) purpose: Purpose,
    /// Whether this is a stop on the way: an upgrade over several versions makes a revision of each.
    pub(crate) is_stop: bool,
    /// The options that change, and why.
    pub(crate) options: Vec<OptionChange>,
    /// The patches, and what they change.
    pub(crate) patched: Vec<Patched>,
}

impl Target {
    /// Whether it waits for a person: another version under the policy `manual`, or what somebody went back from, which
    /// would undo what he did.
    pub(crate) fn is_staged(&self, engine: &Engine, state: &State) -> bool {
        let Some(current) = &state.current else { return false };
        let by_hand = self.desired.options.get("upgrade-policy").is_some_and(|policy| policy == "manual");
        if by_hand && self.purpose == Purpose::Upgrade {
            return true;
        }
        let (Purpose::Rollback, Some(parent)) = (current.header.purpose, current.header.parent) else {
            return false;
        };
        let digest = revision::digest(&self.desired);
        let left = engine.known_history(state).into_iter().find(|(header, _)| header.number == parent);
        left.is_some_and(|(header, _)| header.digest == digest)
    }
}

/// Works out what the options want of this cluster, or the first stop on the way there.
pub(crate) async fn resolve(
    catalog: &Catalog,
    engine: &Engine,
    state: &State,
    given: &Given,
) -> Result<Target, Problem> {
    let from = match installed(state) {
        // What is written down was lost, perhaps; what runs tells all the same.
        None if state.version().is_none() || state.damage().is_some() => {
            running(catalog, engine, given).await?
        }
        known => known,
    };
    let current = from.as_ref().map(|components| Current { components });
    let mut options = given.parse(catalog)?;
    let mut resolution = catalog.resolve(&options, current)?;
    let way = match &from {
        Some(from) => catalog.upgrade_path(from, &resolution.versions())?,
        None => Vec::new(),
    };
    let is_stop = way.len() > 1;
    let mut given = given.clone();
    if let [stop, _, ..] = way.as_slice() {
        for (component, version) in stop {
            if let Some(option) = version_option(catalog, component) {
                given.set_one(&option, &version.to_string());
            }
        }
        options = given.parse(catalog)?;
        resolution = catalog.resolve(&options, current)?;
    }
    let kubernetes = engine.cluster().version().await?;
    catalog.check_kubernetes(&resolution, kubernetes.git_version())?;
    // What was left to others before was let through then, or has told its version.
    let was_left = |component: &str| from.as_ref().is_some_and(|from| !from.contains_key(component));
    let lenient = |component: &str| given.allows_unknown_version() || was_left(component);
    external::check(engine.cluster(), catalog, &resolution, engine.installation(), lenient).await?;
    let resolution = resolution.on(kubernetes.semver());
    let purpose = purpose(from.as_ref(), &resolution.versions());
    let from = from.unwrap_or_default();
    let (installation, naming) = (engine.installation().clone(), engine.naming(state));
    let desired =
        render(catalog.clone(), options.clone(), resolution.clone(), installation, naming, from).await?;
    let before = state.current.as_ref().map(|current| &current.header);
    let changes = explained(before, &desired, &given);
    let patched = patched(&options, &desired);
    Ok(Target { desired, resolution, purpose, is_stop, options: changes, patched })
}

/// The desired state of a revision of which all is known but the objects.
pub(crate) async fn rendered_again(
    catalog: &Catalog,
    engine: &Engine,
    header: &Header,
) -> Result<Desired, Problem> {
    let options = Given::of_revision(&header.given, &header.options).parse(catalog)?;
    let components = &header.components;
    let components =
        components.iter().map(|(name, component)| (name.clone(), component.version.clone())).collect();
    let resolution = catalog.resolve(&options, Some(Current { components: &components }))?;
    let installation = engine.installation().clone();
    render(catalog.clone(), options, resolution, installation, header.naming, components).await
}

/// Renders aside: it takes a while, and what it leaves behind of the memory that it took is not among what stays.
async fn render(
    catalog: Catalog,
    options: Options,
    resolution: Resolution,
    installation: Installation,
    naming: Naming,
    from: BTreeMap<String, Version>,
) -> Result<Desired, Problem> {
    let rendered = move || catalog.render_change(&options, &resolution, &installation, naming, &from);
    match tokio::task::spawn_blocking(rendered).await {
        Ok(rendered) => Ok(rendered?),
        Err(error) => Err(Problem::crashed(&error)),
    }
}

/// The option that chooses a component's version, if any does.
pub(crate) fn version_option(catalog: &Catalog, component: &str) -> Option<String> {
    let option = format!("{component}-version");
    catalog.schema().options.contains_key(&option).then_some(option)
}

/// What a change from these versions to those is called.
pub(crate) fn purpose(from: Option<&BTreeMap<String, Version>>, to: &BTreeMap<String, Version>) -> Purpose {
    match from {
        None => Purpose::Install,
        Some(from) if to.iter().any(|(name, version)| from.get(name).is_some_and(|old| old < version)) => {
            Purpose::Upgrade
        }
        Some(_) => Purpose::Change,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_higher_version_makes_an_upgrade() {
        let versions =
            |trainer: &str| BTreeMap::from([("trainer".to_owned(), trainer.parse::<Version>().unwrap())]);
        let more = |trainer: &str| {
            let mut versions = versions(trainer);
            versions.insert("lws".to_owned(), Version::new(0, 8, 0));
            versions
        };
        assert_eq!(purpose(None, &versions("2.3.0")), Purpose::Install);
        assert_eq!(purpose(Some(&versions("2.2.1")), &versions("2.3.0")), Purpose::Upgrade);
        assert_eq!(purpose(Some(&versions("2.3.0")), &versions("2.3.0")), Purpose::Change);
        assert_eq!(purpose(Some(&versions("2.3.0")), &more("2.3.0")), Purpose::Change);
    }
}
