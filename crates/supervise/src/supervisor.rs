//! All services together.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::graph::{After, GraphError, order};
use crate::guard::Guard;
use crate::report::{Report, ServiceState};
use crate::service::{Dependency, Service, Task, Wanted, any_changed};

/// How a service was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Its name.
    pub name: String,
    /// Whether it was; otherwise it is still there after SIGKILL.
    pub is_gone: bool,
}

/// Runs services. Dropped, it kills what runs.
#[derive(Debug)]
pub struct Supervisor {
    /// In the order of their start.
    handles: Vec<Handle>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Handle {
    name: String,
    after: Vec<String>,
    /// Time that a stop takes at most.
    bound: Duration,
    wanted: watch::Sender<Wanted>,
    report: watch::Receiver<Report>,
}

/// Beyond the bound of a stop: time for the tasks themselves on a busy machine.
const SLACK: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Takes services, none of which shall run yet. It needs a tokio runtime; processes belong to the thread that polls it,
    /// so that a [`Guard`] asks for a runtime of one thread, or one whose threads live as long as it does.
    pub fn new(services: &[Service], guard: Option<&Guard>) -> Result<Self, GraphError> {
        let named: Vec<(&str, &[After])> =
            services.iter().map(|service| (service.name.as_str(), &*service.after)).collect();
        let order = order(&named)?;
        let mut handles: Vec<Handle> = Vec::new();
        let mut tasks = JoinSet::new();
        for place in order {
            let service = services[place].clone();
            let depends = |after: &After| {
                let other = handles.iter().find(|handle| handle.name == after.service)?;
                Some(Dependency { after: after.clone(), report: other.report.clone() })
            };
            let dependencies: Vec<Dependency> = service.after.iter().filter_map(depends).collect();
            let (wanted, wants) = watch::channel(Wanted::default());
            let (reports, report) = watch::channel(Report::new(service.name.clone()));
            handles.push(Handle {
                name: service.name.clone(),
                after: service.after.iter().map(|after| after.service.clone()).collect(),
                bound: service.policy.kill_delay + service.policy.kill_bound,
                wanted,
                report,
            });
            tasks.spawn(Task::new(service, guard.cloned(), wants, dependencies, reports).run());
        }
        Ok(Self { handles, tasks })
    }

    /// Says whether a service shall run. `generation`: another number than before restarts it if it runs.
    pub fn want(&self, name: &str, run: bool, generation: u64) {
        if let Some(handle) = self.handles.iter().find(|handle| handle.name == name) {
            let wanted = Wanted { run, generation };
            handle.wanted.send_if_modified(|known| {
                let changed = *known != wanted;
                *known = wanted;
                changed
            });
        }
    }

    /// How every service is, in the order of their start.
    pub fn reports(&mut self) -> Vec<Report> {
        self.handles.iter_mut().map(|handle| handle.report.borrow_and_update().clone()).collect()
    }

    /// Waits until any service is another way than [`Supervisor::reports`] told last.
    pub async fn changed(&mut self) {
        any_changed(self.handles.iter_mut().map(|handle| &mut handle.report)).await;
    }

    /// Stops all services, those that others wait for after these, each within its bound.
    pub async fn stop(mut self) -> Vec<Stopped> {
        let mut stopped = Vec::new();
        while !self.handles.is_empty() {
            let is_needed =
                |handle: &Handle, all: &[Handle]| all.iter().any(|other| other.after.contains(&handle.name));
            // The order of their start has no circles: there is always one that nobody waits for.
            let (rest, wave): (Vec<usize>, Vec<usize>) =
                (0..self.handles.len()).partition(|place| is_needed(&self.handles[*place], &self.handles));
            let mut ends = JoinSet::new();
            for place in wave.into_iter().rev() {
                let handle = self.handles.remove(place);
                handle.wanted.send_modify(|wanted| wanted.run = false);
                ends.spawn(handle.end());
            }
            debug_assert_eq!(rest.len(), self.handles.len());
            while let Some(end) = ends.join_next().await {
                stopped.extend(end);
            }
        }
        self.tasks.abort_all();
        stopped
    }
}

impl Handle {
    async fn end(mut self) -> Stopped {
        let is_over = |report: &Report| {
            !report.wanted
                && matches!(
                    report.state,
                    ServiceState::Initial | ServiceState::Stopped | ServiceState::Exited
                )
        };
        let ended = tokio::time::timeout(self.bound + SLACK, self.report.wait_for(is_over)).await;
        Stopped { name: self.name, is_gone: matches!(ended, Ok(Ok(_))) }
    }
}
