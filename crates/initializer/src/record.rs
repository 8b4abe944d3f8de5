//! What is whole: a record of each file that was brought, so that it is not brought again.

use std::os::unix::fs::MetadataExt as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Error;
use crate::source::Remote;
use crate::target::{Target, write_whole};

/// A file as it was when it was whole. It is written before the file gets its name: a file without record is never
/// taken for ours, and a record without that very file is of no effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    path: String,
    version: String,
    size: u64,
    /// Time of the last change, nanoseconds.
    modified: String,
}

fn modified(metadata: &std::fs::Metadata) -> String {
    format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec())
}

/// Records a file that is about to get its name.
pub fn record(target: &Target, remote: &Remote, metadata: &std::fs::Metadata) -> Result<(), Error> {
    let Some(version) = remote.version.clone() else { return Ok(()) };
    let record = Record {
        path: remote.name.as_str().to_owned(),
        version,
        size: metadata.len(),
        modified: modified(metadata),
    };
    let text = serde_json::to_string(&record).unwrap_or_default();
    write_whole(&target.about(&remote.name, "done"), text.as_bytes())
}

/// Whether the file is there as it was recorded, and the source has the same.
pub fn is_whole(target: &Target, remote: &Remote) -> bool {
    let read = || {
        let text = std::fs::read_to_string(target.about(&remote.name, "done")).ok()?;
        let record: Record = serde_json::from_str(&text).ok()?;
        let metadata = std::fs::symlink_metadata(target.file(&remote.name)).ok()?;
        let is_same = metadata.is_file()
            && remote.version.as_ref() == Some(&record.version)
            && remote.size.is_none_or(|size| size == record.size)
            && record.path == remote.name.as_str()
            && metadata.len() == record.size
            && modified(&metadata) == record.modified;
        Some(is_same)
    };
    read().unwrap_or(false)
}

/// Leaves the record by which the hub's own client knows that it need not fetch the file: its commit, its ETag, and
/// the time.
pub fn for_hub(target: &Target, remote: &Remote, commit: &str, now: Timestamp) -> Result<(), Error> {
    let Some(Digest::Sha256(etag) | Digest::GitBlob(etag)) = &remote.digest else { return Ok(()) };
    let path = target.hub_record(&remote.name);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::disk("create the folder", folder))?;
    }
    let seconds = now.as_duration().as_secs_f64();
    write_whole(&path, format!("{commit}\n{etag}\n{seconds}\n").as_bytes())
}
