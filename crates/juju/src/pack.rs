//! The charm file: a zip whose bytes follow from its content alone.

use std::io::{self, Cursor, Write as _};

use jiff::Timestamp;
use jiff::civil::DateTime as Civil;
use jiff::tz::TimeZone;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// The lists of `metadata.yaml` that a charm without a workload container does not have.
const CONTAINER_KEYS: [&str; 2] = ["containers", "resources"];

/// Why no charm was made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// An architecture that Juju has no name for here.
    #[error("architecture {0} is none of x86_64, aarch64")]
    Architecture(String),
    /// The zip could not be written.
    #[error("failed to write the charm")]
    Zip(#[from] ZipError),
    /// An entry could not be written.
    #[error("failed to write the charm")]
    Write(#[from] io::Error),
}

/// What goes into a charm.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The licence.
    pub license: &'a str,
    /// `actions.yaml`.
    pub actions: &'a str,
    /// `config.yaml`.
    pub config: &'a str,
    /// `metadata.yaml`, with the workload container.
    pub metadata: &'a str,
    /// The program that Juju runs for every hook: a static ELF.
    pub dispatch: &'a [u8],
    /// Version of trainerd.
    pub version: &'a str,
    /// What the program runs on, as Rust calls it.
    pub architecture: &'a str,
    /// Whether the charm has the workload container.
    pub container: bool,
    /// When it was made, as far as anybody is to know: `SOURCE_DATE_EPOCH`.
    pub epoch: Option<Timestamp>,
}

/// Juju's name of an architecture.
pub fn architecture(name: &str) -> Result<&'static str, PackError> {
    match name {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => Err(PackError::Architecture(other.to_owned())),
    }
}

/// Name of the charm file.
pub fn file_name(architecture_name: &str) -> Result<String, PackError> {
    Ok(format!("kubeflow-trainer_ubuntu@24.04-{}.charm", architecture(architecture_name)?))
}

/// Packs a charm: the same parts give the same bytes.
pub fn pack(parts: &Parts<'_>) -> Result<Vec<u8>, PackError> {
    let manifest = manifest(parts)?;
    let metadata =
        if parts.container { parts.metadata.to_owned() } else { without(parts.metadata, &CONTAINER_KEYS) };
    // Sorted by name. Juju makes nothing executable outside `hooks/`: the mode must be in the entry.
    let entries: [(&str, u32, &[u8]); 6] = [
        ("LICENSE", 0o644, parts.license.as_bytes()),
        ("actions.yaml", 0o644, parts.actions.as_bytes()),
        ("config.yaml", 0o644, parts.config.as_bytes()),
        ("dispatch", 0o755, parts.dispatch),
        ("manifest.yaml", 0o644, manifest.as_bytes()),
        ("metadata.yaml", 0o644, metadata.as_bytes()),
    ];
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(9))
        .last_modified_time(time(parts.epoch));
    for (name, mode, content) in entries {
        zip.start_file(name, options.unix_permissions(mode))?;
        zip.write_all(content)?;
    }
    Ok(zip.finish()?.into_inner())
}

/// The earliest that zip can say, where nobody names a time; nobody names one outside of what it can.
fn time(epoch: Option<Timestamp>) -> DateTime {
    let civil = epoch.map(|epoch| TimeZone::UTC.to_datetime(epoch));
    let said = |civil: Civil| {
        let part = |number: i8| u8::try_from(number).ok();
        let year = u16::try_from(civil.year()).ok()?;
        let (month, day) = (part(civil.month())?, part(civil.day())?);
        let (hour, minute, second) = (part(civil.hour())?, part(civil.minute())?, part(civil.second())?);
        DateTime::from_date_and_time(year, month, day, hour, minute, second).ok()
    };
    civil.and_then(said).unwrap_or(DateTime::DEFAULT)
}

/// Without it Juju takes the charm for one of the old format.
fn manifest(parts: &Parts<'_>) -> Result<String, PackError> {
    let epoch = parts.epoch.map_or_else(|| "1980-01-01T00:00:00Z".to_owned(), |epoch| epoch.to_string());
    Ok(format!(
        "analysis: {{attributes: [{{name: language, result: unknown}}, {{name: framework, result: unknown}}]}}\n\
         bases: [{{name: ubuntu, channel: \"24.04\", architectures: [{}]}}]\n\
         charmcraft-started-at: \"{epoch}\"\n\
         charmcraft-version: \"{}\"\n",
        architecture(parts.architecture)?,
        parts.version,
    ))
}

/// YAML without some of its top-level keys, everything else as it was written.
fn without(yaml: &str, keys: &[&str]) -> String {
    let mut leaving = false;
    let mut text = String::new();
    for line in yaml.split_inclusive('\n') {
        let is_top = line.starts_with(|c: char| !c.is_whitespace() && c != '#');
        if is_top {
            leaving = line.split(':').next().is_some_and(|key| keys.contains(&key.trim()));
        }
        if !leaving {
            text.push_str(line);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const METADATA: &str =
        "name: x\ncontainers:\n  # why\n  trainerd: {}\nresources: {a: 1}\nprovides:\n  b: {}\n";

    fn parts(dispatch: &[u8]) -> Parts<'_> {
        Parts {
            license: "L",
            actions: "a: {}\n",
            config: "options: {}\n",
            metadata: METADATA,
            dispatch,
            version: "1.2.3",
            architecture: "x86_64",
            container: true,
            epoch: None,
        }
    }

    fn read(bytes: Vec<u8>, name: &str) -> String {
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let mut text = String::new();
        archive.by_name(name).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn packing_is_reproducible() {
        let packed = pack(&parts(b"elf")).unwrap();
        assert_eq!(packed, pack(&parts(b"elf")).unwrap());
        let mut archive = zip::ZipArchive::new(Cursor::new(packed)).unwrap();
        let mut told = Vec::new();
        for at in 0..archive.len() {
            let entry = archive.by_index(at).unwrap();
            let mode = entry.unix_mode().unwrap_or_default() & 0o7777;
            let time = entry.last_modified().unwrap();
            told.push(format!("{} {mode:o} {:?} {time}", entry.name().unwrap(), entry.compression()));
        }
        insta::assert_snapshot!(told.join("\n"), @r"
        LICENSE 644 Deflated 1980-01-01 00:00:00
        actions.yaml 644 Deflated 1980-01-01 00:00:00
        config.yaml 644 Deflated 1980-01-01 00:00:00
        dispatch 755 Deflated 1980-01-01 00:00:00
        manifest.yaml 644 Deflated 1980-01-01 00:00:00
        metadata.yaml 644 Deflated 1980-01-01 00:00:00
        ");
    }

    #[test]
    fn a_charm_without_the_container_lacks_only_the_container() {
        let bare = pack(&Parts { container: false, ..parts(b"") }).unwrap();
        assert_eq!(read(bare, "metadata.yaml"), "name: x\nprovides:\n  b: {}\n");
        assert_eq!(read(pack(&parts(b"")).unwrap(), "metadata.yaml"), METADATA);
    }

    #[test]
    fn source_date_epoch_sets_all_times() {
        let epoch = Some("2026-01-02T03:04:06Z".parse().unwrap());
        let packed = pack(&Parts { epoch, architecture: "aarch64", ..parts(b"") }).unwrap();
        let manifest = read(packed.clone(), "manifest.yaml");
        assert!(manifest.contains("charmcraft-started-at: \"2026-01-02T03:04:06Z\""), "{manifest}");
        assert!(manifest.contains("architectures: [arm64]"), "{manifest}");
        let mut archive = zip::ZipArchive::new(Cursor::new(packed)).unwrap();
        let time = archive.by_index(0).unwrap().last_modified().unwrap();
        assert_eq!(time.to_string(), "2026-01-02 03:04:06");
        assert!(matches!(file_name("riscv64"), Err(PackError::Architecture(_))));
    }
}
