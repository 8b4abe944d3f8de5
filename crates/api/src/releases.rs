//! Versions of components, and the levels of the types that each embeds.

use semver::Version;
use trainerd_schema::Levels;

/// The level at which the table has what Trainer's main branch tightens after the newest release.
const MAIN: Version = v(2, 4, 0);

/// A release channel of CRDs, as the Gateway API has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CrdChannel {
    /// Those that upstream released.
    Release,
    /// Those of the native reconciler: with what it adds, and with what upstream's main branch has since.
    Native,
}

/// A version of a component.
pub(crate) struct Release {
    pub(crate) component: &'static str,
    pub(crate) version: Version,
    /// Version of `k8s.io/api` in its `go.mod`.
    kubernetes: Version,
    /// Version of `sigs.k8s.io/jobset` in its `go.mod`, where it embeds JobSet's types.
    jobset: Option<Version>,
    /// Version of controller-gen that made its CRDs, as their annotation says it.
    pub(crate) controller_gen: &'static str,
}

impl Release {
    /// The Kubernetes level that it was built with.
    pub(crate) fn kubernetes(&self) -> &Version {
        &self.kubernetes
    }

    /// Where gates of the table stand for this release.
    pub(crate) fn levels(&self, channel: CrdChannel) -> Levels {
        let jobset = self.jobset.iter().map(|version| ("jobset", version.clone()));
        let (native, version) = match channel {
            CrdChannel::Native if self.component == "trainer" => (1, MAIN),
            CrdChannel::Native => (1, self.version.clone()),
            CrdChannel::Release => (0, self.version.clone()),
        };
        let own = [("k8s", self.kubernetes.clone()), (self.component, version), ("native", v(native, 0, 0))];
        Levels::new(jobset.chain(own))
    }
}

const fn trainer(version: Version, k8s: Version, jobset: Version, generator: &'static str) -> Release {
    Release {
        component: "trainer",
        version,
        kubernetes: k8s,
        jobset: Some(jobset),
        controller_gen: generator,
    }
}

const fn jobset(version: Version, kubernetes: Version, controller_gen: &'static str) -> Release {
    Release { component: "jobset", version, kubernetes, jobset: None, controller_gen }
}

const fn lws(version: Version, kubernetes: Version, controller_gen: &'static str) -> Release {
    Release { component: "lws", version, kubernetes, jobset: None, controller_gen }
}

const fn v(major: u64, minor: u64, patch: u64) -> Version {
    Version::new(major, minor, patch)
}

/// Every version whose CRDs the table can say.
pub(crate) const RELEASES: &[Release] = &[
    trainer(v(2, 0, 1), v(1, 32, 2), v(0, 8, 2), "v0.17.2"),
    trainer(v(2, 1, 0), v(1, 34, 1), v(0, 10, 1), "v0.18.0"),
    trainer(v(2, 2, 1), v(1, 36, 0), v(0, 11, 1), "v0.18.0"),
    trainer(v(2, 3, 0), v(1, 36, 2), v(0, 12, 0), "v0.18.0"),
    jobset(v(0, 8, 2), v(1, 32, 2), "v0.16.2"),
    jobset(v(0, 10, 1), v(1, 34, 1), "v0.17.2"),
    jobset(v(0, 11, 0), v(1, 35, 0), "v0.17.2"),
    jobset(v(0, 11, 1), v(1, 35, 0), "v0.17.2"),
    jobset(v(0, 12, 0), v(1, 36, 0), "v0.17.2"),
    lws(v(0, 7, 0), v(1, 33, 3), "v0.16.2"),
    lws(v(0, 8, 0), v(1, 34, 3), "v0.17.2"),
];
