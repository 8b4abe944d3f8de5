//! The images that the local node has, each from one part.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::cluster::parts::{self, Part};

/// An image of one program.
#[derive(Debug)]
pub struct Entry {
    /// The program's part.
    pub part: &'static Part,
    /// Full references that it is known under on the node.
    pub references: &'static [&'static str],
    /// Where the program is in the image; also the image's entrypoint.
    pub program: &'static str,
}

impl Entry {
    /// Name of the image's archive: says what it is, and changes with the program and the references.
    ///
    /// `program` is the built program's path, which holds the hash of all it was built from.
    pub fn key(&self, program: &Path) -> String {
        let mut hash = Sha256::new();
        hash.update(program.as_os_str().as_encoded_bytes());
        for text in self.references.iter().chain([&self.program]) {
            hash.update([0]);
            hash.update(text);
        }
        format!("{}-{}-{}", self.part.folder, self.part.program, hex::encode(&hash.finalize()[..8]))
    }
}

/// What holds a pod's namespaces.
pub static PAUSE: Entry =
    Entry { part: &parts::PAUSE, references: &["trainerd.test/pause:1"], program: "/pause" };

/// The cluster's name service.
pub static COREDNS: Entry =
    Entry { part: &parts::COREDNS, references: &["docker.io/coredns/coredns:1.14.7"], program: "/coredns" };

/// The S3 server of the examples: only on nodes that it is loaded into.
pub static VERSITYGW: Entry = Entry {
    part: &parts::VERSITYGW,
    references: &["docker.io/versity/versitygw:v1.8.0"],
    program: "/versitygw",
};

/// Every image of every node. The controllers are the real ones, built from source, under the references that
/// upstream's manifests name, so that those run unchanged with `imagePullPolicy: IfNotPresent`.
///
/// The training image is **not** the real one: under PyTorch's references (those of the torch runtimes of
/// Trainer 2.2.1 and 2.3.0) is only a small program that sleeps, `/sleep-train SECONDS EXIT-CODE`.
pub static ALL: [&Entry; 8] = [
    &PAUSE,
    &COREDNS,
    &Entry {
        part: &parts::JOBSET_0_11_1,
        // The other is that of a mirror, for those who bump an image.
        references: &["registry.k8s.io/jobset/jobset:v0.11.1", "registry.example/mirror/jobset:v0.11.1"],
        program: "/manager",
    },
    &Entry {
        part: &parts::JOBSET_0_12_0,
        references: &["registry.k8s.io/jobset/jobset:v0.12.0"],
        program: "/manager",
    },
    &Entry { part: &parts::LWS_0_8_0, references: &["registry.k8s.io/lws/lws:v0.8.0"], program: "/manager" },
    &Entry {
        part: &parts::TRAINER_2_2_1,
        references: &["ghcr.io/kubeflow/trainer/trainer-controller-manager:v2.2.1"],
        program: "/manager",
    },
    &Entry {
        part: &parts::TRAINER_2_3_0,
        references: &["ghcr.io/kubeflow/trainer/trainer-controller-manager:v2.3.0"],
        program: "/manager",
    },
    &Entry {
        part: &parts::SLEEP_TRAIN,
        references: &[
            "docker.io/pytorch/pytorch:2.10.0-cuda12.8-cudnn9-runtime",
            "docker.io/pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime",
        ],
        program: "/sleep-train",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controllers_reference_names_the_version_it_was_built_from() {
        let mut seen = 0;
        for entry in ALL {
            if let Some((_, version)) =
                entry.part.folder.split_once('-').filter(|_| !entry.part.module.is_empty())
            {
                let suffix = format!(":v{version}");
                assert!(entry.references.iter().all(|reference| reference.ends_with(&suffix)), "{entry:?}");
                seen += 1;
            }
        }
        assert_eq!(seen, 5);
    }

    #[test]
    fn cache_keys_distinguish_images_and_programs() {
        let (one, other) = (Path::new("/a-1/manager"), Path::new("/a-2/manager"));
        assert_eq!(PAUSE.key(one), PAUSE.key(one));
        assert_ne!(PAUSE.key(one), PAUSE.key(other));
        assert_ne!(PAUSE.key(one), COREDNS.key(one));
    }
}
