//! The type table: files of lines, a family each.

use std::sync::LazyLock;

use trainerd_schema::{ParseError, Table};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$((concat!("types/", $name, ".types"), include_str!(concat!("../types/", $name, ".types")))),*]
    };
}

static TABLE: LazyLock<Result<Table, ParseError>> = LazyLock::new(|| {
    Table::parse(files![
        "admission",
        "affinity",
        "apps",
        "autoscaling",
        "batch",
        "container",
        "core",
        "jobset",
        "lws",
        "meta",
        "optimizationjob",
        "overrides",
        "pod",
        "probe",
        "rbac",
        "runtime",
        "trainjob",
        "volume",
    ])
});

/// The type table, read once. Its gates speak of the axes `k8s` (the Kubernetes API types that a component
/// was built with), `jobset` (JobSet's, likewise), `lws` and `trainer`.
///
/// # Errors
/// The line that does not read. The tables are part of the program, and tests read them.
pub fn table() -> Result<&'static Table, &'static ParseError> {
    TABLE.as_ref()
}
