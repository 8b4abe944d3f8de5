//! Runs one hook.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;
use trainerd_catalog::Reconciler;
use trainerd_causes::one_line;
use trainerd_juju::databag::{Topology, canonical, mesh};
use trainerd_juju::desired::{Desired, Image, Intent, Mesh, Role, SCHEMA};
use trainerd_juju::environment::Environment;
use trainerd_juju::hook::{Endpoint, Hook, RelationEvent};
use trainerd_juju::http::Client;
use trainerd_juju::paths::{self, Shared};
use trainerd_juju::pebble::Pebble;
use trainerd_juju::pebble::layer::Layer;
use trainerd_juju::status::Reason;
use trainerd_juju::tools::{self, Tools};

use super::actions;
use super::daemon::Daemon;
use super::handlers::{Handler, Relations, handler};
use super::options::{Valid, validate};

/// Longest that Pebble may take to run the daemon.
const LAYER_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest that the daemon may take to answer at all.
const DAEMON_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a unit that is removed waits for the daemon before it does the work itself.
const REMOVE_DAEMON_TIMEOUT: Duration = Duration::from_secs(2);

/// How long `is-leader` holds, less a margin (Juju guarantees 30 seconds).
const LEADERSHIP_VALIDITY: Duration = Duration::from_secs(25);

/// Key of the unit's state: the version that was set last.
const VERSION_KEY: &str = "version";

/// Key of the unit's state: what the provider of the service mesh wrote last.
const MESH_KEY: &str = "mesh";

/// All keys of the unit's state.
const STATE_KEYS: [&str; 2] = [VERSION_KEY, MESH_KEY];

/// What is read from Juju at the beginning of a hook.
pub(super) struct Facts {
    pub(super) config: Map<String, Value>,
    /// The unit's state, which Juju stores.
    state: BTreeMap<String, String>,
    pub(super) leader: bool,
    asked: Instant,
}

impl Facts {
    /// Whether the daemon hosts the reconciler, which then has no Service in the cluster.
    pub(super) fn hosts_reconciler(&self) -> bool {
        self.config.get("reconciler").is_some_and(|chosen| chosen == "hosted")
    }
}

/// A hook in progress.
pub(super) struct Dispatch {
    pub(super) environment: Environment,
    pub(super) tools: Tools,
    pub(super) shared: Shared,
    pub(super) pebble: Pebble,
    pub(super) daemon: Daemon,
    started: Instant,
}

impl Dispatch {
    pub(super) fn new(environment: Environment) -> Self {
        let shared = paths::in_charm();
        Self {
            environment,
            tools: Tools::default(),
            pebble: Pebble::new(shared.pebble()),
            daemon: Daemon::new(Client::new(shared.daemon())),
            shared,
            started: Instant::now(),
        }
    }

    pub(super) fn topology(&self) -> Topology {
        Topology {
            unit: self.environment.unit.clone(),
            model: self.environment.model.clone(),
            model_uuid: self.environment.model_uuid.clone(),
        }
    }

    fn application(&self) -> &str {
        &self.environment.unit.application
    }

    /// Runs the hook. Errors are logged and never fail it: Juju would put the unit into an error state.
    pub(super) async fn run(mut self) {
        if let Hook::Action(name) = self.environment.hook.clone() {
            actions::run(&self, &name).await;
            return;
        }
        match handler(&self.environment.hook, self.environment.notice_key.as_deref()) {
            Handler::Ignore => {}
            Handler::Install => self.set_status(false, &Reason::Starting).await,
            Handler::Stop => self.stop().await,
            Handler::Remove => self.remove().await,
            Handler::Reconcile { layer, relations, budget } => self.reconcile(layer, relations, budget).await,
            Handler::UpdateRelation(endpoint) => {
                if let Some(facts) = self.facts().await {
                    self.update_relations(&facts, Relations::One(endpoint)).await;
                }
            }
        }
        debug_of!("{} tools, {:?}", self.tools.spawned(), self.started.elapsed());
    }

    /// Reads options, state and leadership; `None` if that fails: the status then stays as it is.
    pub(super) async fn facts(&self) -> Option<Facts> {
        let asked = Instant::now();
        let (config, leader, state) =
            tokio::join!(self.tools.config(), self.tools.is_leader(), self.tools.state());
        let config = ok_or_warn(config)?;
        // Without the state, the unit would seem to have left the mesh.
        let state = ok_or_warn(state)?;
        // If leadership is unknown, the unit does not act as the leader.
        let leader = ok_or_warn(leader).unwrap_or(false);
        Some(Facts { config, state, leader, asked })
    }

    async fn reconcile(&mut self, layer: bool, relations: Relations, budget: Duration) {
        let Some(mut facts) = self.facts().await else { return };
        self.save_state(&mut facts).await;
        let (reason, version) = match validate(&facts.config) {
            // The daemon keeps the last valid options.
            Err(reason) => (reason, None),
            Ok(valid) => self.reconcile_daemon(&facts, &valid, layer, budget).await,
        };
        self.update_relations(&facts, relations).await;
        // Leadership may have expired meanwhile.
        let is_leader = self.is_still_leader(&facts).await;
        self.set_status(is_leader, &reason).await;
        // Every unit sets the version, once it is ready and only if it changed.
        if let Some(version) = version
            && facts.state.get(VERSION_KEY) != Some(&version)
            && ok_or_warn(self.tools.set_version(&version).await).is_some()
        {
            ok_or_warn(self.tools.set_state(&BTreeMap::from([(VERSION_KEY.to_owned(), version)])).await);
        }
    }

    /// Saves what later hooks need of this one, and deletes what an older charm saved.
    async fn save_state(&self, facts: &mut Facts) {
        let mut changes = BTreeMap::new();
        if self.environment.hook == Hook::UpgradeCharm {
            let unknown = facts.state.keys().filter(|key| !STATE_KEYS.contains(&key.as_str()));
            changes.extend(unknown.map(|key| (key.clone(), String::new())));
        }
        if let Hook::Relation(Endpoint::Mesh, event) = self.environment.hook {
            let status = match event {
                RelationEvent::Broken => String::new(),
                _ => self.mesh_provider().await.map(|mesh| canonical(&mesh)).unwrap_or_default(),
            };
            if facts.state.get(MESH_KEY).map_or("", String::as_str) != status {
                changes.insert(MESH_KEY.to_owned(), status);
            }
        }
        if changes.is_empty() || ok_or_warn(self.tools.set_state(&changes).await).is_none() {
            return;
        }
        for (key, value) in changes {
            if value.is_empty() {
                facts.state.remove(&key)
            } else {
                facts.state.insert(key, value)
            };
        }
    }

    /// What the provider of the mesh wrote to the relation that this hook is about.
    async fn mesh_provider(&self) -> Option<mesh::Provider> {
        let relation = self.environment.relation.as_ref()?;
        let bag = self.tools.bag(&relation.id, tools::Bag::App(&relation.remote_app)).await;
        mesh::Provider::read(&ok_or_warn(bag)?)
    }

    /// Sends the desired state to the daemon; returns the reason to show and, once settled, the trainer's version.
    async fn reconcile_daemon(
        &self,
        facts: &Facts,
        valid: &Valid,
        layer: bool,
        budget: Duration,
    ) -> (Reason, Option<String>) {
        if !self.shared.exists() {
            return self.reconcile_standalone(facts, valid, budget).await;
        }
        if layer && let Err(error) = self.pebble.ensure(&Layer::daemon(), LAYER_TIMEOUT).await {
            warn(&error);
            return (if error.is_absent() { Reason::NoSocket } else { Reason::NoDaemon }, None);
        }
        if let Err(error) = self.daemon.wait_for(DAEMON_TIMEOUT).await {
            warn(&error);
            return (error.reason(), None);
        }
        // A restarted daemon has no desired state, whichever hook comes first.
        let has_desired = async || {
            let status = self.daemon.status(None, Duration::ZERO).await;
            status.is_ok_and(|status| status.generation.is_some())
        };
        let generation = if layer || !has_desired().await {
            let desired = self.desired(facts, valid, Intent::Run).await;
            match self.daemon.put_desired(&desired).await {
                Ok(generation) => Some(generation),
                Err(error) => {
                    warn(&error);
                    return (error.reason(), None);
                }
            }
        } else {
            None
        };
        let hook_wait = Duration::from_secs(valid.options.hook_wait.into());
        // One second is left for setting the status.
        let left = budget.saturating_sub(self.started.elapsed() + Duration::from_secs(1));
        match self.daemon.status(generation.as_deref(), hook_wait.min(left)).await {
            Ok(status) => {
                let version = status.versions.get("trainer").filter(|_| status.settled).cloned();
                (status.reason, version)
            }
            Err(error) => {
                warn(&error);
                (error.reason(), None)
            }
        }
    }

    /// Without the workload container, the hook does the work itself within its time limit.
    async fn reconcile_standalone(
        &self,
        facts: &Facts,
        valid: &Valid,
        budget: Duration,
    ) -> (Reason, Option<String>) {
        if !facts.leader {
            return (Reason::Standby, None);
        }
        let left = budget.saturating_sub(self.started.elapsed() + Duration::from_secs(2));
        super::standalone::apply(&self.environment, &valid.values, left).await
    }

    /// The desired state.
    pub(super) async fn desired(&self, facts: &Facts, valid: &Valid, intent: Intent) -> Desired {
        let environment = &self.environment;
        Desired {
            schema: SCHEMA,
            generation: String::new(),
            app: Some(environment.unit.application.clone()),
            model: Some(environment.model.clone()),
            model_uuid: Some(environment.model_uuid.clone()),
            unit: Some(environment.unit.to_string()),
            juju_version: Some(environment.juju_version.clone()),
            charm_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            role: if facts.leader { Role::Leader } else { Role::Standby },
            intent,
            options: valid.values.clone(),
            image: self.image(valid).await,
            mesh: facts.state.get(MESH_KEY).and_then(|status| serde_json::from_str(status).ok()).map(mesh_of),
        }
    }

    /// The image of the native reconciler, from the charm's resource.
    async fn image(&self, valid: &Valid) -> Option<Image> {
        if valid.options.reconciler != Reconciler::Native {
            return None;
        }
        let path = ok_or_warn(self.tools.resource("trainerd-image").await)?;
        let text = std::fs::read_to_string(&path).inspect_err(|error| warn(error)).ok()?;
        // The error is not logged: it may quote a password.
        serde_yaml::from_str(&text)
            .inspect_err(|_| warn_of!("failed to read the resource trainerd-image"))
            .ok()
    }

    async fn stop(&self) {
        if let Some(facts) = self.facts().await
            && let Ok(valid) = validate(&facts.config)
            && self.shared.exists()
        {
            let desired = self.desired(&facts, &valid, Intent::Drain).await;
            if let Err(error) = self.daemon.put_desired(&desired).await {
                warn(&error);
            }
            self.set_status(facts.leader, &Reason::Draining).await;
        }
    }

    /// Removes the installation if this is the last unit. Juju runs the hook for a unit that is rescheduled, too.
    async fn remove(&self) {
        const BUDGET: Duration = Duration::from_secs(25);
        let Some(facts) = self.facts().await else { return };
        self.set_status(facts.leader, &Reason::Removing).await;
        if !facts.leader {
            return;
        }
        match ok_or_warn(self.tools.planned_units().await) {
            Some(planned) if planned.is_empty() => {}
            // Other units stay, or that is unknown.
            _ => return,
        }
        let Ok(valid) = validate(&facts.config) else {
            warn_of!("left in place: the options are invalid");
            return;
        };
        let left = || BUDGET.saturating_sub(self.started.elapsed() + Duration::from_secs(1));
        let reconcile_standalone =
            async || super::standalone::remove(&self.environment, &valid.values, left()).await;
        // The daemon's container may end before this hook does: then the hook does the work.
        if let Err(error) = self.daemon.wait_for(REMOVE_DAEMON_TIMEOUT).await {
            warn(&error);
            return reconcile_standalone().await;
        }
        let generation =
            match self.daemon.put_desired(&self.desired(&facts, &valid, Intent::Remove).await).await {
                Ok(generation) => generation,
                Err(error) => {
                    warn(&error);
                    return reconcile_standalone().await;
                }
            };
        while !left().is_zero() {
            match self.daemon.status(None, Duration::ZERO).await {
                Ok(status) if status.phase == "absent" => return,
                Ok(status)
                    if status.phase == "refused" && status.generation.as_ref() == Some(&generation) =>
                {
                    return match status.reason {
                        Reason::Refused { cause } => warn_of!("{cause}"),
                        other => warn_of!("{}", other.message(self.application())),
                    };
                }
                Ok(_) => tokio::time::sleep(Duration::from_millis(250)).await,
                Err(error) => {
                    warn(&error);
                    return reconcile_standalone().await;
                }
            }
        }
        warn_of!("not everything was removed within {BUDGET:?}; the daemon continues for as long as it runs");
    }

    /// Whether the unit may still write what only the leader may.
    pub(super) async fn is_still_leader(&self, facts: &Facts) -> bool {
        if !facts.leader || facts.asked.elapsed() < LEADERSHIP_VALIDITY {
            return facts.leader;
        }
        ok_or_warn(self.tools.is_leader().await).unwrap_or(false)
    }

    /// Sets the status if it differs from the current one.
    async fn set_status(&self, leader: bool, reason: &Reason) {
        let wanted = reason.status(self.application());
        let unit = self.environment.unit.to_string();
        let known = ok_or_warn(self.tools.statuses(leader, &unit).await).unwrap_or_default();
        if known.unit != wanted {
            ok_or_warn(self.tools.set_status(false, &wanted).await);
        }
        if leader && known.application.as_ref() != Some(&wanted) {
            ok_or_warn(self.tools.set_status(true, &wanted).await);
        }
    }
}

/// The mesh of a provider, as the daemon receives it.
fn mesh_of(status: mesh::Provider) -> Mesh {
    Mesh { kind: status.mesh_type, labels: status.labels, policies: Vec::new() }
}

/// The value; an error is logged as a warning.
pub(super) fn ok_or_warn<T, E: Error>(result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| warn(error)).ok()
}

/// Logs an error as a warning.
pub(super) fn warn(error: &dyn Error) {
    warn_of!("{}", one_line(error));
}
