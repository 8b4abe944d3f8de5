//! The stages of a test run, and which test program belongs to which.

use std::path::Path;

use clap::ValueEnum;

use crate::cargo::Program;

/// A part of the test run. The order is that of the run: what answers quickly comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Stage {
    /// Formatting
    Formatting,
    /// Clippy
    Clippy,
    /// The crates without I/O
    Pure,
    /// The command line, and every crate that no other stage has
    Product,
    /// Examples in the documentation
    Docs,
    /// The connection and the initializer against a real API server
    ApiServer,
    /// This command itself, its clusters included
    Xtask,
    /// The demo, as a test, and what else needs the real controllers on a real node
    Node,
    /// trainerd against a real control plane, with faults
    Integration,
}

impl Stage {
    /// All stages, in the order of the run.
    pub(super) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// What the run calls it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Formatting => "formatting",
            Self::Clippy => "clippy",
            Self::Pure => "pure crates",
            Self::Product => "the product",
            Self::Docs => "examples in the documentation",
            Self::ApiServer => "a real API server",
            Self::Xtask => "xtask and its clusters",
            Self::Node => "a real node",
            Self::Integration => "integration",
        }
    }

    /// Whether it runs programs that the build of the tests makes.
    pub(super) fn needs_programs(self) -> bool {
        !matches!(self, Self::Formatting | Self::Clippy | Self::Docs)
    }

    /// Whether it starts a cluster, where none is given.
    pub(super) fn needs_cluster(self) -> bool {
        matches!(self, Self::ApiServer | Self::Xtask | Self::Node | Self::Integration)
    }

    /// Whether it may run at the same time as the stage after it, each with clusters of its own: those of the longest,
    /// which wait most of their time.
    pub(super) fn runs_beside(self, next: Self) -> bool {
        (self, next) == (Self::Node, Self::Integration)
    }

    /// The stage of a test program. A new crate belongs to the product until somebody says otherwise: no
    /// program is left out.
    pub(super) fn of(program: &Program) -> Self {
        const PURE: [&str; 4] = ["crates/schema", "crates/api", "crates/plan", "crates/catalog"];
        let is_in = |folder: &str| program.folder == Path::new(folder);
        match program.target.as_str() {
            _ if PURE.into_iter().any(is_in) => Self::Pure,
            _ if is_in("xtask") => Self::Xtask,
            "native_node" | "admission" | "charm_pods" if is_in("integration") => Self::Node,
            _ if is_in("integration") => Self::Integration,
            "api_server" if ["crates/cluster", "crates/initializer"].into_iter().any(is_in) => {
                Self::ApiServer
            }
            _ => Self::Product,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_program_has_a_stage() {
        for (folder, target, stage) in [
            ("crates/plan", "planner", Stage::Pure),
            ("crates/catalog", "trainerd_catalog", Stage::Pure),
            ("", "trainerd", Stage::Product),
            ("", "scenarios", Stage::Product),
            ("crates/cluster", "trainerd_cluster", Stage::Product),
            ("crates/cluster", "api_server", Stage::ApiServer),
            ("crates/initializer", "api_server", Stage::ApiServer),
            ("crates/brand-new", "api_server", Stage::Product),
            ("xtask", "cluster", Stage::Xtask),
            ("integration", "torture", Stage::Integration),
            ("integration", "native_node", Stage::Node),
            ("integration", "admission", Stage::Node),
            ("integration", "charm_pods", Stage::Node),
            ("crates/brand-new", "admission", Stage::Product),
        ] {
            let program =
                Program { folder: folder.into(), target: target.into(), is_test: true, path: "/t".into() };
            assert_eq!(Stage::of(&program), stage, "{folder} {target}");
        }
    }

    #[test]
    fn stages_without_a_cluster_run_first() {
        let needs: Vec<bool> = Stage::all().iter().map(|stage| stage.needs_cluster()).collect();
        assert!(needs.is_sorted() && Stage::all().is_sorted());
    }
}
