//! An image as an OCI image layout in a tar archive: its layers, one configuration, one manifest.
//!
//! The same inputs give the same bytes. Formats: OCI image specification 1.1 (image-layout.md, manifest.md,
//! config.md); the annotation `io.containerd.image.name` is where containerd looks for the full reference
//! when it imports.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// An image archive that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write the image archive {}", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

/// An image of programs in an otherwise empty root.
#[derive(Debug)]
pub struct Image<'a> {
    /// Full references that it is imported under, registry included.
    pub references: &'a [&'a str],
    /// Programs: where each is in the image (absolute), and on this machine.
    pub programs: Vec<(&'a str, PathBuf)>,
    /// The command that runs where the pod names none.
    pub entrypoint: &'a [&'a str],
}

/// An image of several layers, which lie compressed in files.
#[derive(Debug)]
pub struct LayeredImage<'a> {
    /// Full references that it is imported under, registry included.
    pub references: &'a [&'a str],
    /// The layers, the lowest first.
    pub layers: &'a [Layer],
    /// User and group that its processes run as, in numbers.
    pub user: &'a str,
    /// Variables of its processes.
    pub env: &'a BTreeMap<String, String>,
    /// The command that runs where the pod names none.
    pub command: &'a [String],
    /// Folder that its processes start in.
    pub folder: &'a str,
}

/// A layer in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The file: a tar archive, compressed by Zstandard.
    #[serde(skip)]
    pub path: PathBuf,
    /// Digest of the file.
    pub digest: String,
    /// Digest of the archive in it.
    pub diff_id: String,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of the archive in it.
    pub unpacked: u64,
}

/// User and group of an image of programs, in numbers: pods that say `runAsNonRoot` are refused a name, or none.
const USER: &str = "65532:65532";

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const COMPRESSED_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Writes the image's archive to `path`, whole or not at all, and returns the digest of its manifest.
pub fn write(image: &Image<'_>, path: &Path) -> Result<String, Error> {
    write_whole(path, |file| archive(image, file))
}

/// As [`write()`], of an image whose layers lie in files.
pub fn write_layered(image: &LayeredImage<'_>, path: &Path) -> Result<String, Error> {
    write_whole(path, |file| layered_archive(image, file))
}

type Output = io::BufWriter<fs::File>;

fn write_whole(
    path: &Path,
    archive: impl FnOnce(Output) -> io::Result<(Output, String)>,
) -> Result<String, Error> {
    let failed = |source| Error { path: path.to_owned(), source };
    let unfinished = path.with_extension("unfinished");
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let file = fs::File::create(&unfinished).map_err(failed)?;
    let (mut file, digest) = archive(io::BufWriter::new(file)).map_err(failed)?;
    file.flush().and_then(|()| fs::rename(&unfinished, path)).map_err(failed)?;
    Ok(digest)
}

fn archive<W: Write>(image: &Image<'_>, output: W) -> io::Result<(W, String)> {
    let layer = layer(image)?;
    // The digest of the uncompressed layer: the same, for it is not compressed.
    let entry = json!({ "mediaType": LAYER, "digest": digest(&layer), "size": layer.len() });
    let config = config(
        &json!({ "User": USER, "Entrypoint": image.entrypoint, "WorkingDir": "/" }),
        &[&digest(&layer)],
    );
    let (mut archive, manifest) = begin(output, image.references, &config, &json!([entry]))?;
    add_blob(&mut archive, &layer)?;
    Ok((archive.into_inner()?, manifest))
}

fn layered_archive<W: Write>(image: &LayeredImage<'_>, output: W) -> io::Result<(W, String)> {
    let env: Vec<String> = image.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let settings =
        json!({ "User": image.user, "Env": env, "Cmd": image.command, "WorkingDir": image.folder });
    let diff_ids: Vec<&str> = image.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let entry =
        |layer: &Layer| json!({ "mediaType": COMPRESSED_LAYER, "digest": layer.digest, "size": layer.size });
    let entries: Vec<Value> = image.layers.iter().map(entry).collect();
    let (mut archive, manifest) =
        begin(output, image.references, &config(&settings, &diff_ids), &json!(entries))?;
    for layer in image.layers {
        let mut header = header(0o644);
        header.set_size(layer.size);
        archive.append_data(&mut header, blob_path(&layer.digest), fs::File::open(&layer.path)?)?;
    }
    Ok((archive.into_inner()?, manifest))
}

fn config(settings: &Value, diff_ids: &[&str]) -> Value {
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": settings,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
}

/// Everything that comes before the layers' own blobs, and the digest of the manifest.
fn begin<W: Write>(
    output: W,
    references: &[&str],
    config: &Value,
    layers: &Value,
) -> io::Result<(tar::Builder<W>, String)> {
    let config = serde_json::to_vec(config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": layers,
    });
    let manifest = serde_json::to_vec(&manifest)?;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": references.iter().map(|reference| named(&manifest, reference)).collect::<Vec<_>>(),
    });

    let mut archive = tar::Builder::new(output);
    add_file(&mut archive, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add_file(&mut archive, "index.json", 0o644, &serde_json::to_vec(&index)?)?;
    add_blob(&mut archive, &manifest)?;
    add_blob(&mut archive, &config)?;
    Ok((archive, digest(&manifest)))
}

fn add_blob<W: Write>(archive: &mut tar::Builder<W>, blob: &[u8]) -> io::Result<()> {
    add_file(archive, &blob_path(&digest(blob)), 0o644, blob)
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// The file system: the programs, the folders above them, and a place for temporary files.
fn layer(image: &Image<'_>) -> io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    add_folder(&mut layer, "tmp", 0o1777)?;
    let mut folders = std::collections::BTreeSet::new();
    let mut first: Vec<(&Path, &str)> = Vec::new();
    for (inside, outside) in &image.programs {
        let inside = inside.trim_start_matches('/');
        let parents: Vec<&Path> = Path::new(inside).ancestors().skip(1).collect();
        for parent in parents.into_iter().rev().filter(|parent| !parent.as_os_str().is_empty()) {
            if folders.insert(parent.to_owned()) {
                add_folder(&mut layer, &parent.to_string_lossy(), 0o755)?;
            }
        }
        // A program with two names is there once.
        if let Some((_, name)) = first.iter().find(|(program, _)| program == outside) {
            let mut header = header(0o755);
            header.set_entry_type(tar::EntryType::Link);
            layer.append_link(&mut header, inside, name)?;
            continue;
        }
        first.push((outside, inside));
        let mut content = Vec::new();
        fs::File::open(outside)?.read_to_end(&mut content)?;
        add_file(&mut layer, inside, 0o755, &content)?;
    }
    layer.into_inner()
}

pub(super) fn add_folder<W: Write>(archive: &mut tar::Builder<W>, path: &str, mode: u32) -> io::Result<()> {
    let mut header = header(mode);
    header.set_entry_type(tar::EntryType::Directory);
    archive.append_data(&mut header, format!("{path}/"), io::empty())
}

fn add_file<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    let mut header = header(mode);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path, content)
}

/// Root's, of the epoch: nothing of this machine or moment.
pub(super) fn header(mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(blob), "size": blob.len() })
}

fn named(manifest: &[u8], reference: &str) -> Value {
    let mut descriptor = descriptor(MANIFEST, manifest);
    descriptor["annotations"] = json!({ "io.containerd.image.name": reference });
    descriptor["platform"] = json!({ "architecture": architecture(), "os": "linux" });
    descriptor
}

fn digest(blob: &[u8]) -> String {
    digest_text(&Sha256::digest(blob))
}

/// A digest as the specification writes it.
pub(super) fn digest_text(sha256: &[u8]) -> String {
    format!("sha256:{}", hex::encode(sha256))
}

/// This machine's architecture by the name that Go, and so OCI, has for it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        tar::Archive::new(archive)
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                (entry.path().unwrap().to_string_lossy().into_owned(), content)
            })
            .collect()
    }

    fn blob<'a>(entries: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
        let name = descriptor["digest"].as_str().unwrap().replace(':', "/");
        let blob = &entries[&format!("blobs/{name}")];
        assert_eq!(digest(blob), descriptor["digest"].as_str().unwrap());
        assert_eq!(blob.len() as u64, descriptor["size"].as_u64().unwrap());
        blob
    }

    #[test]
    fn every_digest_names_the_bytes_it_stands_for() {
        let temporary = tempfile::tempdir().unwrap();
        let program = temporary.path().join("program");
        fs::write(&program, "#!").unwrap();
        let image = Image {
            references: &["registry.test/a:1", "registry.test/b:2"],
            programs: vec![("/opt/bin/manager", program.clone()), ("/opt/bin/other", program)],
            entrypoint: &["/opt/bin/manager"],
        };
        let path = temporary.path().join("image.tar");
        let digest_text = write(&image, &path).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(
            (bytes.clone(), digest_text.clone()),
            archive(&image, Vec::new()).unwrap(),
            "same input, same bytes"
        );

        let entries = entries(&bytes);
        assert_eq!(entries["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
        let index: Value = serde_json::from_slice(&entries["index.json"]).unwrap();
        let manifests = index["manifests"].as_array().unwrap();
        let names: Vec<_> = manifests
            .iter()
            .map(|entry| entry["annotations"]["io.containerd.image.name"].as_str().unwrap())
            .collect();
        assert_eq!(names, image.references);
        assert_eq!(manifests[0]["digest"], digest_text);

        let manifest: Value = serde_json::from_slice(blob(&entries, &manifests[0])).unwrap();
        let config: Value = serde_json::from_slice(blob(&entries, &manifest["config"])).unwrap();
        let layer = blob(&entries, &manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"], json!([digest(layer)]));
        assert_eq!(config["config"]["User"], "65532:65532");

        let files: Vec<_> = self::entries(layer).into_keys().collect();
        assert_eq!(files, ["opt/", "opt/bin/", "opt/bin/manager", "opt/bin/other", "tmp/"]);
        assert_eq!(entries.len(), 2 + 3, "nothing else is in the archive");
    }
}
