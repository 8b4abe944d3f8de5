//! An image as an OCI image layout in a tar archive: one layer, one configuration, one manifest.
//!
//! The same inputs give the same bytes. Formats: OCI image specification 1.1 (image-layout.md, manifest.md,
//! config.md); the annotation `io.containerd.image.name` is where containerd looks for the full reference
//! when it imports.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// An image archive that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write the image archive {}", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

/// What goes into an image.
#[derive(Debug)]
pub struct Image<'a> {
    /// Full references that it is imported under, registry included.
    pub references: &'a [&'a str],
    /// Programs: where each is in the image (absolute), and on this machine.
    pub programs: Vec<(&'a str, PathBuf)>,
    /// The command that runs where the pod names none.
    pub entrypoint: &'a [&'a str],
}

/// User and group of every image, in numbers: pods that say `runAsNonRoot` are refused a name, or none.
const USER: &str = "65532:65532";

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Writes the image's archive to `path`, whole or not at all, and returns the digest of its manifest.
pub fn write(image: &Image<'_>, path: &Path) -> Result<String, Error> {
    let failed = |source| Error { path: path.to_owned(), source };
    let unfinished = path.with_extension("unfinished");
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let file = fs::File::create(&unfinished).map_err(failed)?;
    let (mut file, digest) = archive(image, io::BufWriter::new(file)).map_err(failed)?;
    file.flush().and_then(|()| fs::rename(&unfinished, path)).map_err(failed)?;
    Ok(digest)
}

fn archive<W: Write>(image: &Image<'_>, output: W) -> io::Result<(W, String)> {
    let layer = layer(image)?;
    let layer_digest = digest(&layer);
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "User": USER, "Entrypoint": image.entrypoint, "WorkingDir": "/" },
        // The digest of the uncompressed layer: the same, for it is not compressed.
        "rootfs": { "type": "layers", "diff_ids": [layer_digest] },
    });
    let config = serde_json::to_vec(&config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [{ "mediaType": LAYER, "digest": layer_digest, "size": layer.len() }],
    });
    let manifest = serde_json::to_vec(&manifest)?;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": image.references.iter().map(|reference| named(&manifest, reference)).collect::<Vec<_>>(),
    });

    let mut archive = tar::Builder::new(output);
    add_file(&mut archive, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add_file(&mut archive, "index.json", 0o644, &serde_json::to_vec(&index)?)?;
    for blob in [&manifest, &config, &layer] {
        let name = digest(blob).replace(':', "/");
        add_file(&mut archive, &format!("blobs/{name}"), 0o644, blob)?;
    }
    Ok((archive.into_inner()?, digest(&manifest)))
}

/// The file system: the programs, the folders above them, and a place for temporary files.
fn layer(image: &Image<'_>) -> io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    add_folder(&mut layer, "tmp", 0o1777)?;
    let mut folders = std::collections::BTreeSet::new();
    for (inside, outside) in &image.programs {
        let inside = inside.trim_start_matches('/');
        let parents: Vec<&Path> = Path::new(inside).ancestors().skip(1).collect();
        for parent in parents.into_iter().rev().filter(|parent| !parent.as_os_str().is_empty()) {
            if folders.insert(parent.to_owned()) {
                add_folder(&mut layer, &parent.to_string_lossy(), 0o755)?;
            }
        }
        let mut content = Vec::new();
        fs::File::open(outside)?.read_to_end(&mut content)?;
        add_file(&mut layer, inside, 0o755, &content)?;
    }
    layer.into_inner()
}

fn add_folder<W: Write>(archive: &mut tar::Builder<W>, path: &str, mode: u32) -> io::Result<()> {
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
fn header(mode: u32) -> tar::Header {
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
    format!("sha256:{}", hex(&Sha256::digest(blob)))
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// This machine's architecture by the name that Go, and so OCI, has for it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
        let told = write(&image, &path).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(
            (bytes.clone(), told.clone()),
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
        assert_eq!(manifests[0]["digest"], told);

        let manifest: Value = serde_json::from_slice(blob(&entries, &manifests[0])).unwrap();
        let config: Value = serde_json::from_slice(blob(&entries, &manifest["config"])).unwrap();
        let layer = blob(&entries, &manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"], json!([digest(layer)]));
        assert_eq!(config["config"]["User"], "65532:65532");

        let files: Vec<_> = self::entries(layer).into_keys().collect();
        assert_eq!(files, ["opt/", "opt/bin/", "opt/bin/manager", "opt/bin/other", "tmp/"]);
        assert_eq!(entries.len(), 2 + 3, "nothing else is in the archive");
    }

    #[test]
    fn hex_keeps_leading_zeros() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
