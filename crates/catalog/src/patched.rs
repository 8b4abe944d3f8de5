//! Where rendering meets the patches.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use trainerd_plan::desired::{Desired, DesiredObject, Installation, Naming};
use trainerd_plan::object::ObjectKey;

use crate::catalog::Catalog;
use crate::names::DAEMON;
use crate::options::{InvalidOptions, Options, PATCHES, Rule};
use crate::patches::{Context, Patch, PatchFault, apply};
use crate::render::RenderError;
use crate::resolve::{Resolution, Resolved, Why};

impl Catalog {
    /// [`Catalog::render`] for an installation that has other versions now: a patch whose target these have, and those
    /// of the resolution have not, is told so.
    ///
    /// # Errors
    /// As [`Catalog::render`].
    pub fn render_change(
        &self,
        options: &Options,
        resolution: &Resolution,
        installation: &Installation,
        naming: Naming,
        from: &BTreeMap<String, Version>,
    ) -> Result<Desired, RenderError> {
        match self.render_as(options, resolution, installation, naming) {
            Err(RenderError::Patches(invalid)) => {
                let before = self.before(options, installation, naming, from);
                let versions = |versions: &BTreeMap<String, Version>| {
                    let named = versions.iter().filter(|(name, _)| resolution.components.contains_key(*name));
                    named.map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", ")
                };
                Err(RenderError::Patches(invalid.map(|mut error| {
                    if let (Rule::Patch(entry, PatchFault::NoTarget { target, .. }), Some(before)) =
                        (&error.rule, &before)
                        && options
                            .patches
                            .iter()
                            .any(|patch| patch.entry == *entry && patch.targets(before).next().is_some())
                    {
                        let (from, to) = (versions(from), versions(&resolution.versions()));
                        let gone = PatchFault::TargetGone { target: target.clone(), from, to };
                        error.rule = Rule::Patch(*entry, gone);
                    }
                    error
                })))
            }
            other => other,
        }
    }

    /// What was rendered at these versions, without patches; `None` where the catalog cannot say.
    fn before(
        &self,
        options: &Options,
        installation: &Installation,
        naming: Naming,
        from: &BTreeMap<String, Version>,
    ) -> Option<Vec<DesiredObject>> {
        let mut runtimes = BTreeSet::new();
        let mut components = BTreeMap::new();
        for (name, version) in from {
            runtimes.extend(self.component(name, version).ok()?.runtimes.keys().cloned());
            components.insert(name.clone(), Resolved { version: version.clone(), why: Why::Installed });
        }
        let options = options.without_patches();
        let resolution = Resolution { components, runtimes, external: BTreeMap::new(), kubernetes: None };
        Some(self.render_as(&options, &resolution, installation, naming).ok()?.objects)
    }

    /// Applies the patches that are for these objects.
    pub(crate) fn patch(
        &self,
        options: &Options,
        resolution: &Resolution,
        keeps: &Installation,
        objects: &mut BTreeMap<ObjectKey, DesiredObject>,
    ) -> Result<(), RenderError> {
        let is_daemon = resolution.components.contains_key(DAEMON);
        let own: Vec<&Patch> =
            options.patches.iter().filter(|patch| patch.is_for_daemon() == is_daemon).collect();
        if own.is_empty() {
            return Ok(());
        }
        let of_daemon = if is_daemon { Vec::new() } else { self.keys_of_daemon(options, keeps)? };
        let context = Context {
            table: trainerd_api::table().map_err(RenderError::Table)?,
            versions: &resolution.versions(),
            of_daemon: &of_daemon,
            kubernetes: resolution.kubernetes.as_ref(),
        };
        let wrong = apply(&own, objects, &context).into_iter();
        let errors =
            wrong.map(|(entry, fault, near)| options.error(PATCHES, Rule::Patch(entry, fault), near));
        Ok(InvalidOptions::check(errors.collect())?)
    }

    fn keys_of_daemon(&self, options: &Options, keeps: &Installation) -> Result<Vec<ObjectKey>, RenderError> {
        if self.newest(DAEMON).is_none() {
            return Ok(Vec::new());
        }
        let options = options.without_patches();
        let desired = self.render_daemon(&options, keeps)?;
        Ok(desired.objects.iter().map(DesiredObject::key).collect())
    }
}
