//! The disk tier.

use std::path::PathBuf;

use super::{Error, Lookup, number};

/// Least bytes of a disk tier: a few blocks of its engine.
const LEAST: u64 = 128 << 20;

/// Where rows are kept that memory has no room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// A folder.
    pub folder: PathBuf,
    /// Bytes that may be used; 80 % of the volume where absent.
    pub bytes: Option<u64>,
}

impl Disk {
    pub(super) fn read(lookup: Lookup<'_>) -> Result<Option<Self>, Error> {
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let allowed = "at least 128Mi, in bytes or as a quantity";
        let bytes = number(lookup, "CACHE_DISK_BYTES", 0, LEAST, 1 << 50, allowed)?;
        match set("CACHE_DISK_DIR") {
            Some(folder) => Ok(Some(Self { folder: folder.into(), bytes: (bytes > 0).then_some(bytes) })),
            None if bytes > 0 => Err(Error::Alone { name: "CACHE_DISK_BYTES", needed: "CACHE_DISK_DIR" }),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_disk_need_a_folder_and_are_enough() {
        let read = |variables: &[(&str, &str)]| {
            let lookup = |name: &str| {
                variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
            };
            Disk::read(&lookup).map_err(|error| error.to_string())
        };
        let folder = ("CACHE_DISK_DIR", "/d");
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[folder]), Ok(Some(Disk { folder: "/d".into(), bytes: None })));
        let some = Disk { folder: "/d".into(), bytes: Some(1 << 30) };
        assert_eq!(read(&[folder, ("CACHE_DISK_BYTES", "1Gi")]), Ok(Some(some)));
        assert!(read(&[("CACHE_DISK_BYTES", "1Gi")]).unwrap_err().contains("CACHE_DISK_DIR is not"));
        assert!(read(&[folder, ("CACHE_DISK_BYTES", "1Mi")]).unwrap_err().contains("at least 128Mi"));
    }
}
