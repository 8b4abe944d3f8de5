//! Layers in the cache: compressed archives, each with its digests beside it.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Error;
use crate::files::{self, Lock};
use crate::image::oci::{Layer, digest_text};
use crate::terminal::say;

/// Fast, and about a third of the size: a layer is read once a cluster.
const LEVEL: i32 = 3;

/// The layers of a folder.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// A file beside the layers.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The layer of that name, which `make` writes as a tar archive where it is not there yet.
    ///
    /// Whoever else makes the same one is waited for.
    pub(super) fn layer(
        &self,
        key: &str,
        make: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
    ) -> Result<Layer, Error> {
        let waiting = || say(format_args!("waiting for another process that is building the layer {key}"));
        let _lock = Lock::take(&self.path(&format!("{key}.lock")), waiting)?;
        if let Some(layer) = self.find(key)? {
            return Ok(layer);
        }
        let path = self.path(&format!("{key}.tar.zst"));
        let unfinished = path.with_extension("unfinished");
        let failed = |action| move |source| files::Error::new(action, &self.folder, source);
        let file = fs::File::create(&unfinished).map_err(failed("write to"))?;
        let compressed = Counted::new(io::BufWriter::new(file));
        let encoder = zstd::Encoder::new(compressed, LEVEL).map_err(failed("compress in"))?;
        let mut archive = Counted::new(encoder);
        if let Err(error) = make(&mut archive) {
            files::remove(&unfinished)?;
            return Err(error);
        }
        let (encoder, unpacked, diff_id) = archive.end();
        let (mut file, size, digest) = encoder.finish().map_err(failed("compress in"))?.end();
        file.flush().map_err(failed("write to"))?;
        let layer = Layer { path, digest, diff_id, size, unpacked };
        fs::rename(&unfinished, &layer.path).map_err(failed("write to"))?;
        files::write(&self.path(&format!("{key}.json")), serde_json::to_vec(&layer)?)?;
        Ok(layer)
    }

    /// The layer of that name, where it is there and whole: its description is written last.
    fn find(&self, key: &str) -> Result<Option<Layer>, Error> {
        let description = self.path(&format!("{key}.json"));
        let path = self.path(&format!("{key}.tar.zst"));
        if !description.is_file() || !path.is_file() {
            return Ok(None);
        }
        let layer: Layer = serde_json::from_str(&files::read(&description)?)?;
        Ok(Some(Layer { path, ..layer }))
    }
}

/// Counts and digests what is written through it.
struct Counted<W> {
    inner: W,
    bytes: u64,
    hash: Sha256,
}

impl<W> Counted<W> {
    fn new(inner: W) -> Self {
        Self { inner, bytes: 0, hash: Sha256::new() }
    }

    fn end(self) -> (W, u64, String) {
        (self.inner, self.bytes, digest_text(&self.hash.finalize()))
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Copies a whole stream.
pub(super) fn copy(mut from: impl Read, to: &mut dyn Write, path: &Path) -> Result<(), Error> {
    io::copy(&mut from, to).map_err(|source| files::Error::new("read", path, source))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(_: &mut dyn Write) -> Result<(), Error> {
        Err(Error::NoDigest("x".to_owned()))
    }

    #[test]
    fn a_layer_is_built_once_with_matching_digests() {
        let temporary = tempfile::tempdir().unwrap();
        let cache = Cache::new(temporary.path().to_owned());
        let content = vec![7; 100_000];
        let write = |archive: &mut dyn Write| {
            archive.write_all(&content).unwrap();
            Ok(())
        };
        let made = cache.layer("a", write).unwrap();
        let again = cache.layer("a", failing).unwrap();
        assert_eq!(made, again);
        let bytes = fs::read(&made.path).unwrap();
        assert_eq!((made.size, made.unpacked), (bytes.len() as u64, 100_000));
        assert_eq!(made.digest, digest_text(&Sha256::digest(&bytes)));
        assert_eq!(made.diff_id, digest_text(&Sha256::digest(&content)));
        assert_eq!(zstd::decode_all(bytes.as_slice()).unwrap(), content);
    }

    #[test]
    fn a_failed_layer_leaves_no_file() {
        let temporary = tempfile::tempdir().unwrap();
        let cache = Cache::new(temporary.path().to_owned());
        cache.layer("a", failing).unwrap_err();
        let left: Vec<_> =
            fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["a.lock"]);
    }
}
