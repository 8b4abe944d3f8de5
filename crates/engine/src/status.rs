//! Where an installation is: versions, readiness, what each object is waiting for, what the cluster changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use semver::Version;
use serde::Serialize;
use trainerd_cluster::lease::{Identity, LeaseRecord};
use trainerd_cluster::{ListParams, builtin, endpoints};
use trainerd_plan::admission_changes::{self, Compared};
use trainerd_plan::applyset;
use trainerd_plan::desired::{Component, Desired, DesiredObject};
use trainerd_plan::in_use::{self, PendingDeletion};
use trainerd_plan::object::ObjectKey;
use trainerd_plan::observed::Observed;
use trainerd_plan::order::{ObjectClass, object_class};
use trainerd_plan::ownership::FieldChange;
use trainerd_plan::readiness;
use trainerd_plan::readiness::waits::{services, waits};
use trainerd_plan::reason::WaitingOn;

use crate::damage::Damage;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::record::{Journal, Outcome};
use crate::retry::patiently;
use crate::revision::Revision;
use crate::state::State;
use crate::store::Control;

/// Where an installation is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The revision that the cluster is at.
    pub revision: u64,
    /// The outcome of that revision.
    pub outcome: Option<Outcome>,
    /// Whether every object is ready, as observed just now.
    pub ready: bool,
    /// Components by name.
    pub components: BTreeMap<String, ComponentStatus>,
    /// Objects that are not ready, or differ from the revision.
    pub objects: Vec<ObjectStatus>,
    /// Required external components that are missing in the cluster, as far as the caller has checked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Objects of the installation that are being deleted, wanted or not, and what holds them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deleting: Vec<PendingDeletion>,
    /// The plan in progress, if any.
    pub journal: Option<Journal>,
    /// The holder of the lease, if a plan is in progress; without one, the plan was interrupted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
    /// Losses of trainerd's own Secrets that block changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
    /// Who has the say.
    #[serde(flatten)]
    pub control: Control,
}

/// Where a component is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// Its version.
    pub version: Version,
    /// How many of its objects are ready.
    pub ready: usize,
    /// How many objects it has.
    pub total: usize,
}

/// An object that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// Its component.
    pub component: String,
    /// The object.
    pub object: ObjectKey,
    /// What it waits for; `None` when it is ready.
    pub waiting: Option<String>,
    /// The same, as a value.
    #[serde(skip)]
    pub waiting_on: Option<WaitingOn>,
    /// The fields that the cluster changed.
    pub drift: Vec<String>,
    /// The fields that the API server's admission changes in every write, which is no drift.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub admission: Vec<String>,
}

impl Status {
    /// Puts together what is known of the objects of a revision; what the record says of it is the caller's to add.
    pub(crate) fn of(number: u64, desired: &Desired, objects: impl Iterator<Item = ObjectStatus>) -> Self {
        let component = |(name, component): (&String, &Component)| {
            (name.clone(), ComponentStatus { version: component.version.clone(), ready: 0, total: 0 })
        };
        let mut components: BTreeMap<String, ComponentStatus> =
            desired.components.iter().map(component).collect();
        let mut troubled = Vec::new();
        for status in objects {
            if let Some(component) = components.get_mut(&status.component) {
                component.total += 1;
                component.ready += usize::from(status.waiting.is_none());
            }
            if status.waiting.is_some() || !status.drift.is_empty() || !status.admission.is_empty() {
                troubled.push(status);
            }
        }
        Self {
            name: desired.installation.name.clone(),
            namespace: desired.installation.namespace.clone(),
            revision: number,
            outcome: None,
            ready: troubled.iter().all(|object| object.waiting.is_none()),
            components,
            objects: troubled,
            missing: Vec::new(),
            deleting: Vec::new(),
            journal: None,
            writer: None,
            damage: None,
            control: Control::default(),
        }
    }
}

impl Engine {
    /// Observes the installation; nothing is written.
    pub async fn status(&self, state: &State) -> Result<Status, EngineError> {
        let Some(current) = &state.current else { return self.status_in_part(state).await };
        let desired = &current.desired;
        let mut observed = self.observe(&[desired]).await?;
        self.add_pods(&mut observed).await?;
        let answering = self.answering(desired, &observed).await?;
        let now = Timestamp::now();
        let objects = desired.objects.iter();
        let objects = objects.map(|object| self.object(object, current, &observed, &answering, now));
        let number = current.header.number;
        let deleting = self.deleting(&observed);
        self.with_record(state, Status { deleting, ..Status::of(number, desired, objects) }).await
    }

    /// Adds what the record and the lease say.
    async fn with_record(&self, state: &State, status: Status) -> Result<Status, EngineError> {
        Ok(Status {
            outcome: state.record().results.get(&status.revision).cloned(),
            journal: state.journal().cloned(),
            writer: self.writer(state).await?,
            damage: state.damage().cloned(),
            control: state.control().clone(),
            ..status
        })
    }

    fn deleting(&self, observed: &Observed) -> Vec<PendingDeletion> {
        let own = observed.objects.iter().filter(|(_, live)| live.belongs_to(self.installation()));
        own.filter_map(|(key, live)| in_use::pending_deletion(observed, key, live)).collect()
    }

    /// The status of an installation whose current revision cannot be read, from the objects with its label.
    async fn status_in_part(&self, state: &State) -> Result<Status, EngineError> {
        let Some(number) = state.record().current else {
            return Err(self.not_installed());
        };
        let now = Timestamp::now();
        let found = self.labelled(&state.stored.group_kinds).await?;
        let objects = found
            .iter()
            .map(|(key, live)| (key, live, waits(key, &live.value, |_| true, std::iter::empty(), now)));
        let objects = objects.map(|(key, live, waiting_on)| ObjectStatus {
            component: applyset::label(&live.value, applyset::COMPONENT).unwrap_or_default().to_owned(),
            object: key.clone(),
            waiting: waiting_on.as_ref().map(WaitingOn::text),
            waiting_on,
            drift: Vec::new(),
            admission: Vec::new(),
        });
        let header = state.header();
        let known = Desired {
            installation: self.installation().clone(),
            naming: self.naming(state),
            components: header.map(|header| header.components.clone()).unwrap_or_default(),
            options: BTreeMap::new(),
            given: Vec::new(),
            objects: Vec::new(),
        };
        // The desired state is unknown.
        self.with_record(state, Status { ready: false, ..Status::of(number, &known, objects) }).await
    }

    /// Who runs the plan in progress: the holder of the lease, as far as he is not known to be gone. `None` where none is
    /// in progress, or it was interrupted.
    ///
    /// # Errors
    /// [`EngineError::Request`].
    pub async fn writer(&self, state: &State) -> Result<Option<String>, EngineError> {
        if state.journal().is_none() {
            return Ok(None);
        }
        let name = applyset::parent_name(self.installation());
        let namespace = Some(self.installation().namespace.as_str());
        let lease = patiently(async || self.cluster.get_opt(&builtin::lease(), namespace, &name).await).await;
        let lease = lease.map_err(EngineError::request("read", "the installation's lease"))?;
        Ok(lease.and_then(|lease| holder(&LeaseRecord::of(&lease), Timestamp::now())))
    }

    fn object(
        &self,
        object: &DesiredObject,
        current: &Revision,
        observed: &Observed,
        answering: &BTreeSet<String>,
        now: Timestamp,
    ) -> ObjectStatus {
        let key = object.key();
        let Some(live) = observed.objects.get(&key) else {
            let waiting = WaitingOn::ready(key.clone(), "does not exist");
            return ObjectStatus {
                component: object.component.clone(),
                object: key,
                waiting: Some(waiting.text()),
                waiting_on: Some(waiting),
                drift: Vec::new(),
                admission: Vec::new(),
            };
        };
        let pods = observed.objects.iter().filter(|(key, _)| key.kind == "Pod");
        let pods = pods.map(|(key, live)| (key, &live.value));
        let waiting_on = waits(&key, &live.value, |service| answering.contains(service), pods, now);
        let compared = if object_class(&key) == ObjectClass::Namespace {
            Compared::default()
        } else {
            let intent = applyset::owned(&current.desired, object);
            admission_changes::compare(&intent, Some(&intent), &live.value, self.cluster.field_manager(), &[])
        };
        let paths = |changes: &[FieldChange]| {
            changes.iter().map(|change| change.path.to_string()).collect::<Vec<_>>()
        };
        let (drift, admission) = (paths(&compared.comparison.changes), paths(&compared.by_admission));
        ObjectStatus {
            component: object.component.clone(),
            object: key,
            waiting: waiting_on.as_ref().map(WaitingOn::text),
            waiting_on,
            drift,
            admission,
        }
    }

    /// The Services (`namespace/name`) behind the webhook configurations that have a ready endpoint.
    async fn answering(
        &self,
        desired: &trainerd_plan::desired::Desired,
        observed: &Observed,
    ) -> Result<BTreeSet<String>, EngineError> {
        let live = desired.objects.iter().filter_map(|object| observed.objects.get(&object.key()));
        let services: BTreeSet<String> = live.flat_map(|live| services(&live.value)).collect();
        let namespaces: BTreeSet<&str> =
            services.iter().filter_map(|service| Some(service.split_once('/')?.0)).collect();
        let mut slices = Vec::new();
        for namespace in namespaces {
            let params = ListParams { namespace: Some(namespace.to_owned()), ..ListParams::default() };
            let kind = builtin::endpoint_slice();
            let list = patiently(async || self.cluster.list(&kind, &params).await).await;
            slices.extend(list.map_err(EngineError::request("list", "EndpointSlices"))?.items);
        }
        Ok(services.into_iter().filter(|service| endpoints::answers(service, &slices)).collect())
    }

    /// Adds the pods of the installation's namespace where some workload is not ready.
    async fn add_pods(&self, observed: &mut Observed) -> Result<(), EngineError> {
        let now = Timestamp::now();
        let troubled = observed.objects.iter().any(|(key, live)| {
            object_class(key) == ObjectClass::Workload
                && readiness::compute(&live.value, now).status != readiness::Status::Current
        });
        if !troubled {
            return Ok(());
        }
        let namespace = Some(self.installation().namespace.clone());
        let params = ListParams { namespace, ..ListParams::default() };
        let pods = patiently(async || self.cluster.list(&builtin::pod(), &params).await).await;
        for pod in pods.map_err(EngineError::request("list", "pods"))?.items {
            if let Some(key) = ObjectKey::of(&pod) {
                let live = trainerd_plan::observed::LiveObject { resource: builtin::pod(), value: pod };
                observed.objects.insert(key, live);
            }
        }
        Ok(())
    }
}

/// How much later than its time a renewal may come, clocks that differ included.
const LATE: Duration = Duration::from_secs(10);

/// The holder of a lease, unless he has ended or has not renewed it for longer than it lasts.
fn holder(lease: &LeaseRecord, now: Timestamp) -> Option<String> {
    let holder = lease.holder.as_ref()?;
    if holder.parse::<Identity>().is_ok_and(|holder| holder.is_dead()) {
        return None;
    }
    let renewed: Timestamp = lease.renew_time.as_ref()?.parse().ok()?;
    let lasts = lease.duration.unwrap_or_default() + LATE;
    let since = Duration::try_from(now.duration_since(renewed)).unwrap_or_default();
    (since <= lasts).then(|| holder.clone())
}
