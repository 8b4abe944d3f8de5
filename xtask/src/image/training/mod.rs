//! `cargo xtask image NAME`: the image of a training runtime, for machines without a container engine.
//!
//! Layers: packages of Debian, packages of PyPI, Python packages of this checkout, files that images share, files of the recipe.
//! Each is cached by what it is made of, so images with the same packages share them, here and on a node.

mod debian;
mod error;
mod layer;
mod python;
mod recipe;
mod tree;

use std::path::{Path, PathBuf};

pub use error::Error;
use layer::Cache;
pub(crate) use recipe::Recipe;
use recipe::key;
use sha2::{Digest as _, Sha256};

use super::oci::{self, Layer, LayeredImage};
use crate::files;
use crate::home::Home;

/// An image that was made.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    /// Its archive.
    pub(crate) path: PathBuf,
    /// Digest of its manifest.
    pub(crate) digest: String,
    /// Bytes of its layers, unpacked.
    pub(crate) unpacked: u64,
}

/// The recipe of that name.
pub(crate) fn recipe(home: &Home, name: &str) -> Result<Recipe, Error> {
    Recipe::read(&folder(home), name)
}

/// Names of all recipes, sorted.
pub(crate) fn names(home: &Home) -> Result<Vec<String>, Error> {
    recipe::names(&folder(home))
}

fn folder(home: &Home) -> PathBuf {
    home.checkout().join("images")
}

fn cache(home: &Home) -> Result<Cache, Error> {
    let folder = home.images();
    files::make_folder(&folder)?;
    Ok(Cache::new(folder))
}

/// Makes the image's layers, where the cache lacks them.
pub(crate) fn prepare(home: &Home, recipe: &Recipe) -> Result<(), Error> {
    layers(home, &cache(home)?, recipe).map(|_| ())
}

fn layers(home: &Home, cache: &Cache, recipe: &Recipe) -> Result<Vec<Layer>, Error> {
    let mut layers = vec![debian::layer(cache, recipe)?];
    layers.extend(python::layer(cache, recipe)?);
    if let Some(python) = recipe.python() {
        for folder in &python.own {
            let name = folder.file_name().unwrap_or_default();
            let inside = python::packages(python).join(name);
            layers.push(folder_layer(cache, &home.checkout().join(folder), &inside, &|_| 0)?);
        }
    }
    let user_home = Path::new("home").join(&recipe.user().name);
    let owner = |path: &Path| if path.starts_with(&user_home) { recipe.user().uid } else { 0 };
    for overlay in recipe.overlays() {
        layers.push(folder_layer(cache, &overlay, Path::new(""), &owner)?);
    }
    Ok(layers)
}

/// Makes the image of layers that the cache has, or will have.
pub(crate) fn make(
    home: &Home,
    recipe: &Recipe,
    reference: Option<&str>,
    output: Option<&Path>,
) -> Result<Made, Error> {
    let cache = cache(home)?;
    let layers = layers(home, &cache, recipe)?;
    let unpacked = layers.iter().map(|layer| layer.unpacked).sum();
    let reference = reference.unwrap_or_else(|| recipe.reference());
    let user = format!("{0}:{0}", recipe.user().uid);
    let folder = format!("/home/{}", recipe.user().name);
    let image = LayeredImage {
        references: &[reference],
        layers: &layers,
        user: &user,
        env: recipe.env(),
        command: &["bash".to_owned()],
        folder: &folder,
    };
    let path = match output {
        Some(path) => path.to_owned(),
        None => cache.path(&format!("{recipe}.tar")),
    };
    let digest = oci::write_layered(&image, &path)?;
    Ok(Made { path, digest, unpacked })
}

/// Writes the recipe's locks again.
pub(crate) fn lock(home: &Home, recipe: &Recipe) -> Result<(), Error> {
    python::lock(recipe)?;
    debian::lock(&cache(home)?, recipe)
}

/// The layer of a folder, as it lies under `inside` in the image: small enough to be made each time.
fn folder_layer(cache: &Cache, folder: &Path, inside: &Path, owner: tree::Owner<'_>) -> Result<Layer, Error> {
    let mut archive = Vec::new();
    let failed = |source| files::Error::new("pack", folder, source);
    tree::write(folder, inside, owner, &mut archive).map_err(failed)?;
    cache.layer(&key("root", &[&hex::encode(Sha256::digest(&archive))]), |layer| {
        layer.write_all(&archive).map_err(failed)?;
        Ok(())
    })
}
