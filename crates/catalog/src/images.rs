//! Every image that a resolution uses, and how each is overridden.

use std::collections::BTreeMap;

use serde::Serialize;
use thiserror::Error;

use crate::catalog::{Catalog, LookupError};
use crate::component::{Component, Dangling, NODE};
use crate::image::ImageRef;
use crate::options::Options;
use crate::resolve::Resolution;

/// Why images cannot be listed.
#[derive(Debug, Error)]
pub enum ImagesError {
    /// Of what the catalog does not have.
    #[error(transparent)]
    Unknown(#[from] LookupError),
    /// A component refers to one that it does not have.
    #[error(transparent)]
    Dangling(#[from] Dangling),
}

/// An image that is rendered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Image {
    /// The component whose objects name it.
    pub component: String,
    /// Its name in the component; for a runtime's image the name of the runtime.
    pub name: String,
    /// The reference as it is rendered: overridden, or tagged and rewritten to the registry.
    pub reference: String,
    /// The option that overrides it.
    pub option: String,
    /// Its key, where the option holds several images: `<key>=<image>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Catalog {
    /// Every image of every component that is installed, sorted by component and name. Rendering refuses an
    /// object with any other image, so nothing can be missing here.
    pub fn images(&self, options: &Options, resolution: &Resolution) -> Result<Vec<Image>, ImagesError> {
        let mut images = BTreeMap::new();
        for (name, resolved) in &resolution.components {
            let component = self.component(name, &resolved.version)?;
            for image in images_of(component, options, resolution)? {
                images.insert((image.component.clone(), image.name.clone()), image);
            }
        }
        Ok(images.into_values().collect())
    }
}

/// The images of one component; those that several runtimes share come up once for each.
fn images_of(
    component: &Component,
    options: &Options,
    resolution: &Resolution,
) -> Result<Vec<Image>, Dangling> {
    let manifest = &component.manifest;
    let image = |name: &str, entry: &str, key: Option<String>, runtime: Option<&str>| {
        let chosen = manifest.images.get(entry).map(|image| image.of(options));
        let option = chosen.map(|image| image.option.clone()).unwrap_or_default();
        let reference = reference(component, options, entry, runtime)?.to_string();
        Ok(Image { component: manifest.name.clone(), name: name.to_owned(), reference, option, key })
    };
    if manifest.runtimes.is_none() {
        // A process has no image.
        return manifest
            .images
            .iter()
            .filter(|(_, entry)| entry.is_rendered(options))
            .map(|(name, entry)| image(name, name, entry.key.clone(), None))
            .collect();
    }
    let mut images = Vec::new();
    for (name, runtime) in component.runtimes.iter().filter(|(name, _)| resolution.runtimes.contains(*name)) {
        for (role, entry) in &runtime.images {
            images.push(if role == NODE {
                image(name, entry, Some(name.clone()), Some(name))?
            } else {
                let key = manifest.images.get(entry).and_then(|image| image.key.clone());
                image(entry, entry, key, None)?
            });
        }
    }
    Ok(images)
}

/// The reference of an image of a component: the override of `runtime` or of the image itself, else upstream's,
/// with the component's version where upstream gives no tag; at the registry that is asked for, unless an override
/// names one of its own.
pub(crate) fn reference(
    component: &Component,
    options: &Options,
    entry: &str,
    runtime: Option<&str>,
) -> Result<ImageRef, Dangling> {
    let manifest = &component.manifest;
    let dangling = || manifest.dangling(format!("image {entry}"));
    let image = manifest.images.get(entry).ok_or_else(dangling)?.of(options);
    let overrides = [
        runtime.and_then(|runtime| options.runtime_images.get(runtime)),
        image.key.as_ref().and_then(|key| options.runtime_images.get(key)),
        options.images.get(&image.option),
    ];
    let reference = match overrides.into_iter().flatten().next() {
        // Who names a registry means it: only what has none is looked for at that of the option.
        Some(given) if given.has_host() => return Ok(given.clone()),
        Some(given) => given.clone(),
        None => image
            .default
            .parse::<ImageRef>()
            .map_err(|_| dangling())?
            .tagged(&format!("v{}", manifest.version)),
    };
    Ok(match &options.image_registry {
        Some(registry) => reference.at(registry),
        None => reference,
    })
}
