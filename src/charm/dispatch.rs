//! One hook from beginning to end.

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
use super::course::{Course, Relations, course};
use super::daemon::Daemon;
use super::options::{Valid, validate};

/// Longest that Pebble may take to run the daemon.
const LAYER: Duration = Duration::from_secs(5);

/// Longest that the daemon may take to answer at all.
const DAEMON: Duration = Duration::from_secs(3);

/// How long the daemon may be silent before a unit that goes does the daemon's work itself.
const GONE: Duration = Duration::from_secs(2);

/// How long `is-leader` holds, less a margin (Juju guarantees 30 seconds).
const LEADERSHIP: Duration = Duration::from_secs(25);

/// Key of the state: the version that was shown last.
const VERSION: &str = "version";

/// Key of the state: what the provider of the service mesh said last.
const MESH: &str = "mesh";

/// Keys of the state that this charm knows.
const KEYS: [&str; 2] = [VERSION, MESH];

/// What Juju says at the beginning of a hook.
pub(super) struct Facts {
    pub(super) config: Map<String, Value>,
    /// What this unit keeps with the controller.
    state: BTreeMap<String, String>,
    pub(super) leader: bool,
    asked: Instant,
}

impl Facts {
    /// Whether the daemon is to host the reconciler: in a cluster there is no Service of it then.
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

    /// Does what the hook is for. Nothing of it fails the hook: Juju would stop the unit and ask a person.
    pub(super) async fn run(mut self) {
        if let Hook::Action(name) = self.environment.hook.clone() {
            actions::run(&self, &name).await;
            return;
        }
        match course(&self.environment.hook, self.environment.notice_key.as_deref()) {
            Course::Nothing => {}
            Course::Install => self.show(false, &Reason::Starting).await,
            Course::Stop => self.stop().await,
            Course::Remove => self.remove().await,
            Course::Converge { layer, relations, budget } => self.converge(layer, relations, budget).await,
            Course::Relate(endpoint) => {
                if let Some(facts) = self.facts().await {
                    self.relate(&facts, Relations::One(endpoint)).await;
                }
            }
        }
        debug_of!("{} tools, {:?}", self.tools.spawned(), self.started.elapsed());
    }

    /// Options and leadership. Without them nothing is known: the status stays as it is.
    pub(super) async fn facts(&self) -> Option<Facts> {
        let asked = Instant::now();
        let (config, leader, state) =
            tokio::join!(self.tools.config(), self.tools.is_leader(), self.tools.state());
        let config = warned(config)?;
        // Without it the mesh would be taken for one that was left.
        let state = warned(state)?;
        // A unit that cannot tell does not act as the leader.
        let leader = warned(leader).unwrap_or(false);
        Some(Facts { config, state, leader, asked })
    }

    async fn converge(&mut self, layer: bool, relations: Relations, budget: Duration) {
        let Some(mut facts) = self.facts().await else { return };
        self.take_in(&mut facts).await;
        let (reason, version) = match validate(&facts.config) {
            // Nothing is told to the daemon: the last good options stay in force.
            Err(reason) => (reason, None),
            Ok(valid) => self.bring(&facts, &valid, layer, budget).await,
        };
        self.relate(&facts, relations).await;
        // What went before may have taken longer than leadership is promised for.
        let leads = self.still_leads(&facts).await;
        self.show(leads, &reason).await;
        // A version is shown once it was seen ready, on every unit, and only when it is another one.
        if let Some(version) = version
            && facts.state.get(VERSION) != Some(&version)
            && warned(self.tools.set_version(&version).await).is_some()
        {
            warned(self.tools.set_state(&BTreeMap::from([(VERSION.to_owned(), version)])).await);
        }
    }

    /// Keeps what a hook tells that later hooks have to know, and drops what an older charm kept.
    async fn take_in(&self, facts: &mut Facts) {
        let mut changes = BTreeMap::new();
        if self.environment.hook == Hook::UpgradeCharm {
            let unknown = facts.state.keys().filter(|key| !KEYS.contains(&key.as_str()));
            changes.extend(unknown.map(|key| (key.clone(), String::new())));
        }
        if let Hook::Relation(Endpoint::Mesh, event) = self.environment.hook {
            let told = match event {
                RelationEvent::Broken => String::new(),
                _ => self.mesh_told().await.map(|mesh| canonical(&mesh)).unwrap_or_default(),
            };
            if facts.state.get(MESH).map_or("", String::as_str) != told {
                changes.insert(MESH.to_owned(), told);
            }
        }
        if changes.is_empty() || warned(self.tools.set_state(&changes).await).is_none() {
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

    /// What the provider of the mesh says in the relation that this hook is about.
    async fn mesh_told(&self) -> Option<mesh::Provider> {
        let relation = self.environment.relation.as_ref()?;
        let bag = self.tools.bag(&relation.id, tools::Bag::App(&relation.remote_app)).await;
        mesh::Provider::read(&warned(bag)?)
    }

    /// Tells the daemon what shall be; why it is not so yet, or that it is, and the trainer's version then.
    async fn bring(
        &self,
        facts: &Facts,
        valid: &Valid,
        layer: bool,
        budget: Duration,
    ) -> (Reason, Option<String>) {
        if !self.shared.exists() {
            return self.by_itself(facts, valid, budget).await;
        }
        if layer && let Err(error) = self.pebble.ensure(&Layer::daemon(), LAYER).await {
            warn(&error);
            return (if error.is_absent() { Reason::NoSocket } else { Reason::NoDaemon }, None);
        }
        if let Err(error) = self.daemon.wait_for(DAEMON).await {
            warn(&error);
            return (error.reason(), None);
        }
        // A daemon that was started again since knows nothing of what shall be, whichever hook comes first.
        let knows = async || {
            let told = self.daemon.status(None, Duration::ZERO).await;
            told.is_ok_and(|told| told.generation.is_some())
        };
        let generation = if layer || !knows().await {
            let desired = self.desired(facts, valid, Intent::Run).await;
            match self.daemon.desire(&desired).await {
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
        // What is left, less what showing it takes.
        let left = budget.saturating_sub(self.started.elapsed() + Duration::from_secs(1));
        match self.daemon.status(generation.as_deref(), hook_wait.min(left)).await {
            Ok(told) => {
                let version = told.versions.get("trainer").filter(|_| told.settled).cloned();
                (told.reason, version)
            }
            Err(error) => {
                warn(&error);
                (error.reason(), None)
            }
        }
    }

    /// Without the workload container the hook does the work itself, for as long as it may.
    async fn by_itself(&self, facts: &Facts, valid: &Valid, budget: Duration) -> (Reason, Option<String>) {
        if !facts.leader {
            return (Reason::Standby, None);
        }
        let left = budget.saturating_sub(self.started.elapsed() + Duration::from_secs(2));
        super::standalone::bring(&self.environment, &valid.values, left).await
    }

    /// What shall be.
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
            mesh: facts.state.get(MESH).and_then(|told| serde_json::from_str(told).ok()).map(joined),
        }
    }

    /// The image of the native reconciler: that of the charm's own resource.
    async fn image(&self, valid: &Valid) -> Option<Image> {
        if valid.options.reconciler != Reconciler::Native {
            return None;
        }
        let path = warned(self.tools.resource("trainerd-image").await)?;
        let text = std::fs::read_to_string(&path).inspect_err(|error| warn(error)).ok()?;
        // Its text is not shown: there may be a password in it.
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
            if let Err(error) = self.daemon.desire(&desired).await {
                warn(&error);
            }
            self.show(facts.leader, &Reason::Draining).await;
        }
    }

    /// Takes all away where this is the last unit. Juju fires the hook for a unit that only moves, too.
    async fn remove(&self) {
        const BUDGET: Duration = Duration::from_secs(25);
        let Some(facts) = self.facts().await else { return };
        self.show(facts.leader, &Reason::Removing).await;
        if !facts.leader {
            return;
        }
        match warned(self.tools.planned_units().await) {
            Some(planned) if planned.is_empty() => {}
            // Somebody stays, or nobody knows.
            _ => return,
        }
        let Ok(valid) = validate(&facts.config) else {
            warn_of!("left in place: the options are invalid");
            return;
        };
        let left = || BUDGET.saturating_sub(self.started.elapsed() + Duration::from_secs(1));
        let by_itself = async || super::standalone::remove(&self.environment, &valid.values, left()).await;
        // The container ends with the pod, perhaps before this hook: then the work is this hook's.
        if let Err(error) = self.daemon.wait_for(GONE).await {
            warn(&error);
            return by_itself().await;
        }
        let generation = match self.daemon.desire(&self.desired(&facts, &valid, Intent::Remove).await).await {
            Ok(generation) => generation,
            Err(error) => {
                warn(&error);
                return by_itself().await;
            }
        };
        while !left().is_zero() {
            match self.daemon.status(None, Duration::ZERO).await {
                Ok(told) if told.phase == "absent" => return,
                Ok(told) if told.phase == "refused" && told.generation.as_ref() == Some(&generation) => {
                    return match told.reason {
                        Reason::Refused { cause } => warn_of!("{cause}"),
                        other => warn_of!("{}", other.message(self.application())),
                    };
                }
                Ok(_) => tokio::time::sleep(Duration::from_millis(250)).await,
                Err(error) => {
                    warn(&error);
                    return by_itself().await;
                }
            }
        }
        warn_of!("not everything was removed within {BUDGET:?}; the daemon continues for as long as it runs");
    }

    /// Whether what only leaders write may be written now.
    pub(super) async fn still_leads(&self, facts: &Facts) -> bool {
        if !facts.leader || facts.asked.elapsed() < LEADERSHIP {
            return facts.leader;
        }
        warned(self.tools.is_leader().await).unwrap_or(false)
    }

    /// Shows a reason where another status is shown now.
    async fn show(&self, leader: bool, reason: &Reason) {
        let wanted = reason.shown(self.application());
        let unit = self.environment.unit.to_string();
        let known = warned(self.tools.statuses(leader, &unit).await).unwrap_or_default();
        if known.unit != wanted {
            warned(self.tools.set_status(false, &wanted).await);
        }
        if leader && known.application.as_ref() != Some(&wanted) {
            warned(self.tools.set_status(true, &wanted).await);
        }
    }
}

/// The mesh that the provider told of, as the daemon is told of it.
fn joined(told: mesh::Provider) -> Mesh {
    Mesh { kind: told.mesh_type, labels: told.labels, policies: Vec::new() }
}

/// What was asked for; a failure is warned of, and the hook goes on without.
pub(super) fn warned<T, E: Error>(result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| warn(error)).ok()
}

/// Juju makes warnings of what is written to stderr.
pub(super) fn warn(error: &dyn Error) {
    warn_of!("{}", one_line(error));
}
