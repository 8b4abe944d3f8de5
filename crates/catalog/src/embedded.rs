//! The files under `templates/`, in the binary.

/// Pairs of a path below `templates/` and the file's text.
macro_rules! embed {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../templates/", $path)))),*]
    };
}

/// Every file of the catalog: its path below `templates/`, and its text. A test holds the list against the folder.
pub(crate) const FILES: &[(&str, &str)] = embed![
    "data-cache/2.2.1/component.yaml",
    "data-cache/2.3.0/component.yaml",
    "data-cache/base/rbac.yaml",
    "jobset/0.11.1/component.yaml",
    "jobset/0.12.0/component.yaml",
    "jobset/base/manager.yaml",
    "jobset/base/probes.yaml",
    "jobset/base/rbac.yaml",
    "jobset/base/webhooks.yaml",
    "lws/0.8.0/component.yaml",
    "lws/base/manager.yaml",
    "lws/base/probes.yaml",
    "lws/base/rbac.yaml",
    "lws/base/webhooks.yaml",
    "runtimes/2.2.1/component.yaml",
    "runtimes/2.3.0/component.yaml",
    "runtimes/base/labels.yaml",
    "runtimes/base/mpi-launcher.yaml",
    "runtimes/base/mpi-node.yaml",
    "runtimes/base/mpi.yaml",
    "runtimes/base/runtimes.yaml",
    "runtimes/base/single.yaml",
    "runtimes/base/torch-with-cache.yaml",
    "runtimes/base/torchtune.yaml",
    "trainer/2.2.1/component.yaml",
    "trainer/2.3.0/component.yaml",
    "trainer/base/config.yaml",
    "trainer/base/manager.yaml",
    "trainer/base/probes.yaml",
    "trainer/base/rbac.yaml",
    "trainer/base/webhooks.yaml",
    "trainerd/0.1.0/component.yaml",
    "trainerd/base/daemon.yaml",
    "trainerd/base/rbac.yaml",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn collect(folder: &Path, below: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{below}{}", entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                collect(&entry.path(), &format!("{path}/"), found);
            } else {
                found.insert(path);
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_embedded() {
        let mut found = BTreeSet::new();
        collect(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../templates")), "", &mut found);
        assert_eq!(found, FILES.iter().map(|(path, _)| (*path).to_owned()).collect());
    }
}
