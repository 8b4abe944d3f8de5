//! The data cache as processes: a head and its workers on this machine.

use std::ffi::OsString;
use std::sync::Arc;

use trainerd_catalog::{Catalog, Process};
use trainerd_supervise::{After, Launch, LaunchError, Policy, Service};

use super::{HostingError, check, free_port, program};

/// Its component.
const DATA_CACHE: &str = "data-cache";

/// The services, as the catalog's newest version describes them.
pub(super) fn services() -> Result<Vec<Service>, HostingError> {
    let catalog = Catalog::builtin()?;
    let newest = catalog.newest(DATA_CACHE).cloned();
    let processes = newest.map(|version| catalog.processes(DATA_CACHE, &version)).unwrap_or_default();
    if processes.is_empty() {
        return Err(HostingError::NoProcess(DATA_CACHE));
    }
    Ok(processes.into_iter().map(|(name, process)| service(name, process)).collect())
}

fn service(name: String, process: Process) -> Service {
    let after = process.after.iter();
    let after = after.map(|(service, check)| After {
        service: service.clone(),
        check: Some(check.clone()),
        required: true,
    });
    Service {
        name,
        policy: Policy::default(),
        after: after.collect(),
        prepare: Arc::new(move || prepare(&process)),
    }
}

fn prepare(process: &Process) -> Result<Launch, LaunchError> {
    let port = free_port()?;
    let described = process.variables.iter().map(|(name, value)| (name.clone(), value.into()));
    let address = format!("127.0.0.1:{port}");
    Ok(Launch {
        program: program(&process.program),
        name: process.program.clone(),
        arguments: process.arguments.iter().map(OsString::from).collect(),
        // Its lines are kept and logged: colours are for a terminal.
        variables: described
            .chain([("HEALTH_PORT".to_owned(), port.to_string().into()), ("NO_COLOR".to_owned(), "1".into())])
            .collect(),
        checks: process.checks.iter().map(|described| check(described, &address)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_starts_after_its_workers() {
        let services = services().unwrap();
        let names: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["cache-head", "cache-worker-1", "cache-worker-2"]);
        let waits: Vec<&str> = services[0].after.iter().map(|after| after.service.as_str()).collect();
        assert_eq!(waits, ["cache-worker-1", "cache-worker-2"]);
        let launch = (services[1].prepare)().unwrap();
        assert_eq!(launch.name, "trainerd-cache");
        assert_eq!(launch.arguments, ["worker", "127.0.0.1", "50052"]);
        assert!(launch.variables.iter().any(|(name, value)| name == "RUNTIME_ENV" && value == "local"));
    }
}
