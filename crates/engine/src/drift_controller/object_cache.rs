//! Cache of a revision's objects: one watch per kind, metadata only where that suffices.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde_json::Value;
use trainerd_causes::one_line;
use trainerd_cluster::watch::Event;
use trainerd_cluster::{Cluster, ObjectList, RequestError, builtin, endpoints};
use trainerd_plan::applyset;
use trainerd_plan::desired::{Desired, Installation};
use trainerd_plan::drift::{self, Policy, Rules, Verdict};
use trainerd_plan::intent_digest;
use trainerd_plan::object::{ObjectKey, Resource};
use trainerd_plan::observed::LiveObject;
use trainerd_plan::order::{ObjectClass, object_class};
use trainerd_plan::plan::Step;
use trainerd_plan::readiness::by_existence;
use trainerd_plan::readiness::waits::{services, waits};
use trainerd_plan::reason::WaitingOn;

use super::packed::Packed;
use crate::live::version;
use crate::store::MarkerKind;
use crate::watches::{Scope, WatchMessage, Watches};

/// The last observation of an object.
#[derive(Clone, Debug)]
enum Cached {
    /// It exists.
    There(CachedObject),
    /// Not among those that carry our label; `surely`: it was asked for by name, too.
    Absent { surely: bool },
}

/// The observation of an existing object.
#[derive(Clone, Debug)]
struct CachedObject {
    version: u64,
    fidelity: Fidelity,
    /// As JSON text: a value would take twenty times the memory, and it is rarely read.
    text: Box<[u8]>,
    /// What it waits for, regardless of other objects.
    waits: Option<Box<WaitingOn>>,
}

/// How much of an object was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fidelity {
    /// Not what it holds.
    Metadata,
    /// All.
    Whole,
    /// A CRD without its schemas, which take much room; `holds`: with them it was found to be as it should be, under
    /// the rules and the intent that are in force.
    Trimmed { holds: bool },
}

impl CachedObject {
    fn of(key: &ObjectKey, value: &Value, fidelity: Fidelity) -> Self {
        // What is around it is asked about when the answer is wanted.
        let waits = waits(key, value, |_| true, std::iter::empty(), Timestamp::now());
        Self {
            version: version(value),
            fidelity,
            text: value.to_string().into_bytes().into_boxed_slice(),
            // Few objects wait for anything.
            waits: waits.map(Box::new),
        }
    }

    /// What was put away comes back as it was.
    fn value(&self) -> Value {
        serde_json::from_slice(&self.text).unwrap_or_default()
    }
}

/// The assessment of an object.
pub(super) enum Assessment {
    /// Its watch has not reported anything yet.
    Unknown,
    /// The whole object has to be read first.
    Unclear,
    /// This.
    Clear(Verdict),
}

/// The record, as a watch reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordSeen {
    /// It has this resourceVersion.
    At(String),
    /// It is gone.
    Gone,
}

/// The marker of the owner of the options, as a watch reported it, by its uid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerSeen {
    /// This one is there.
    Is(String),
    /// This one is gone; another may be there.
    Gone(String),
    /// There is none.
    Nobody,
}

/// What a watch reported, as far as it matters.
#[derive(Default)]
pub(super) struct Change {
    /// Objects of the revision that may have changed.
    pub(super) objects: Vec<ObjectKey>,
    /// The record, if it changed.
    pub(super) record: Option<RecordSeen>,
    /// Whether the installation is paused now, if that changed.
    pub(super) paused: Option<bool>,
    /// The owner of the options, if that changed.
    pub(super) owner: Option<OwnerSeen>,
    /// Whether what others wait for may have changed.
    pub(super) surroundings: bool,
}

/// Watches the objects of one revision, and what explains why they are not ready.
pub(super) struct ObjectCache {
    installation: Installation,
    /// The objects of the revision.
    packed: Option<Packed>,
    /// Every object with our label, and members that were read by name.
    seen: HashMap<ObjectKey, Cached>,
    /// Versions of deletions: older news does not bring an object back.
    gone: HashMap<ObjectKey, u64>,
    watches: Watches,
    /// Why a watch is interrupted.
    troubles: BTreeMap<(Resource, Scope), RequestError>,
    slices: HashMap<ObjectKey, Value>,
    pods: HashMap<ObjectKey, Value>,
}

impl ObjectCache {
    pub(super) fn new(cluster: &Cluster, installation: &Installation) -> Self {
        Self {
            installation: installation.clone(),
            packed: None,
            seen: HashMap::new(),
            gone: HashMap::new(),
            watches: Watches::new(cluster, installation),
            troubles: BTreeMap::new(),
            slices: HashMap::new(),
            pods: HashMap::new(),
        }
    }

    /// Follows the record and the notes beside it, from a list of that version on.
    pub(super) fn follow_record(&mut self, listed: &str) {
        let scope = record_scope(&self.installation);
        self.watches.open_from(&builtin::secret(), scope, true, Some(listed.to_owned()));
    }

    /// Follows the objects of this state from now on. What is followed already is not asked for again; `anew`: the
    /// rules by which objects are judged are others.
    pub(super) fn set(&mut self, desired: &Desired, anew: bool) -> std::io::Result<()> {
        let mut wanted = BTreeSet::from([(builtin::secret(), record_scope(&self.installation))]);
        for object in &desired.objects {
            let key = object.key();
            let scope = if object_class(&key) == ObjectClass::Namespace {
                Scope::One(None, key.name.clone())
            } else {
                Scope::Ours
            };
            self.watches.open(&object.resource, scope.clone(), by_existence(&key));
            wanted.insert((object.resource.clone(), scope));
        }
        let called: BTreeSet<String> =
            desired.objects.iter().flat_map(|object| services(&object.manifest)).collect();
        for scope in Scope::services(called.iter().map(String::as_str)) {
            self.watches.open(&builtin::endpoint_slice(), scope.clone(), false);
            wanted.insert((builtin::endpoint_slice(), scope));
        }
        let pods = pod_place(&self.installation);
        let surplus: Vec<_> =
            self.watches.places().filter(|place| !wanted.contains(place)).cloned().collect();
        for place in surplus.into_iter().filter(|place| *place != pods) {
            self.watches.close(&place.0, &place.1);
            self.troubles.remove(&place);
        }
        let packed = Packed::of(desired)?;
        for (key, seen) in &mut self.seen {
            if let Cached::There(CachedObject { fidelity: Fidelity::Trimmed { holds }, .. }) = seen {
                *holds &= !anew && self.packed.as_ref().is_some_and(|before| before.is_same(&packed, key));
            }
        }
        let followed: BTreeSet<(String, String)> =
            wanted.into_iter().map(|(resource, _)| (resource.group, resource.kind)).collect();
        self.seen.retain(|key, _| followed.contains(&(key.group.clone(), key.kind.clone())));
        self.gone.clear();
        self.packed = Some(packed);
        Ok(())
    }

    /// Nothing is installed: only the record is followed.
    pub(super) fn clear(&mut self) {
        let record = (builtin::secret(), record_scope(&self.installation));
        let surplus: Vec<_> = self.watches.places().filter(|place| **place != record).cloned().collect();
        for place in surplus {
            self.watches.close(&place.0, &place.1);
        }
        self.troubles.retain(|place, _| *place == record);
        self.seen.clear();
        self.packed = None;
    }

    /// The objects of the revision, and everything else of it.
    pub(super) fn packed(&self) -> Option<&Packed> {
        self.packed.as_ref()
    }

    /// The objects of the revision.
    pub(super) fn members(&self) -> Vec<ObjectKey> {
        let objects = self.packed.iter().flat_map(Packed::objects);
        objects.map(|(key, ..)| key.clone()).collect()
    }

    fn has(&self, key: &ObjectKey) -> bool {
        self.packed.as_ref().is_some_and(|packed| packed.has(key))
    }

    /// Whether every watch has reported what there is, or why it cannot.
    pub(super) fn is_current(&self) -> bool {
        // Pods are followed only for the reasons that they give.
        self.watches.is_current_beside(&pod_place(&self.installation))
    }

    /// Why watches are interrupted, in sentences, by kind.
    pub(super) fn troubles(&self) -> impl Iterator<Item = (&str, String)> {
        let pods = pod_place(&self.installation);
        let troubles = self.troubles.iter().filter(move |(place, _)| **place != pods);
        troubles.map(|((resource, _), error)| (resource.plural.as_str(), one_line(error)))
    }

    /// Waits for the next event of a watch. Cancel-safe.
    pub(super) async fn next(&mut self) -> WatchMessage {
        self.watches.next().await
    }

    /// The next thing that a watch reported, if there is one already.
    pub(super) fn try_next(&mut self) -> Option<WatchMessage> {
        self.watches.try_next()
    }

    /// Takes in what a watch reported.
    pub(super) fn take(&mut self, WatchMessage { resource, scope, event }: WatchMessage) -> Change {
        let place = (resource, scope);
        let mut change = Change::default();
        let event = match event {
            Ok(event) => {
                change.surroundings = self.troubles.remove(&place).is_some();
                event
            }
            Err(error) => {
                change.surroundings = true;
                if matches!(error, RequestError::NotServed { .. }) {
                    change.objects = self.unserved(&place.0);
                }
                self.troubles.insert(place, error);
                return change;
            }
        };
        if place.0 == builtin::secret() && place.1 == record_scope(&self.installation) {
            change = Change { surroundings: change.surroundings, ..record_change(event) };
        } else if place.0 == builtin::endpoint_slice() || place.0 == builtin::pod() {
            let is_pod = place.0 == builtin::pod();
            let kept = if is_pod { &mut self.pods } else { &mut self.slices };
            surround(kept, &place.1, event);
            change.surroundings = true;
        } else {
            let changed = self.accept(&place.0, event);
            change.objects.extend(changed.into_iter().filter(|key| self.has(key)));
        }
        change
    }

    fn unserved(&mut self, resource: &Resource) -> Vec<ObjectKey> {
        let of_kind = |key: &&ObjectKey| key.group == resource.group && key.kind == resource.kind;
        let keys: Vec<ObjectKey> = self.members().into_iter().filter(|key| of_kind(&key)).collect();
        for key in &keys {
            self.seen.insert(key.clone(), Cached::Absent { surely: true });
        }
        keys
    }

    fn accept(&mut self, resource: &Resource, event: Event) -> Vec<ObjectKey> {
        match event {
            Event::Applied(value) => {
                let Some(key) = ObjectKey::of(&value) else { return Vec::new() };
                let fidelity = if by_existence(&key) { Fidelity::Metadata } else { Fidelity::Whole };
                self.keep(&key, &value, fidelity).then_some(key).into_iter().collect()
            }
            Event::Deleted(value) => {
                let Some(key) = ObjectKey::of(&value) else { return Vec::new() };
                self.gone.insert(key.clone(), version(&value));
                self.seen.insert(key.clone(), Cached::Absent { surely: false });
                vec![key]
            }
            Event::Restarted(ObjectList { items: values, .. }) => {
                let listed: BTreeSet<ObjectKey> = values.iter().filter_map(ObjectKey::of).collect();
                let of_kind = |key: &&ObjectKey| key.group == resource.group && key.kind == resource.kind;
                let known = self.members().into_iter().chain(self.seen.keys().cloned());
                let missing: BTreeSet<ObjectKey> =
                    known.filter(|key| of_kind(&key) && !listed.contains(key)).collect();
                for key in &missing {
                    self.seen.insert(key.clone(), Cached::Absent { surely: false });
                }
                let listed =
                    values.into_iter().flat_map(|value| self.accept(resource, Event::Applied(value)));
                listed.collect::<Vec<_>>().into_iter().chain(missing).collect()
            }
            Event::Resumed => Vec::new(),
        }
    }

    /// Keeps the newer of the known and the reported state; returns whether anything was new.
    fn keep(&mut self, key: &ObjectKey, value: &Value, fidelity: Fidelity) -> bool {
        let told = version(value);
        if let Some(Cached::There(known)) = self.seen.get(key) {
            let deeper = known.fidelity != Fidelity::Whole && fidelity == Fidelity::Whole;
            if told < known.version || told == known.version && !deeper {
                return false;
            }
        }
        // The removal of our label arrives as a deletion of that version, but the object still exists.
        if self.gone.get(key).is_some_and(|deletion| told < *deletion) {
            return false;
        }
        self.gone.remove(key);
        self.seen.insert(key.clone(), Cached::There(CachedObject::of(key, value, fidelity)));
        true
    }

    /// Takes the answer to a read by name, or to a write.
    pub(super) fn put(&mut self, key: &ObjectKey, value: Option<Value>, whole: bool) {
        match value {
            Some(value) => {
                self.keep(key, &value, if whole { Fidelity::Whole } else { Fidelity::Metadata });
            }
            None => {
                self.seen.insert(key.clone(), Cached::Absent { surely: true });
            }
        }
    }

    /// What is known of an object is not enough: it is read by name next.
    pub(super) fn doubt(&mut self, key: &ObjectKey) {
        self.seen.insert(key.clone(), Cached::Absent { surely: false });
    }

    /// Assesses an object from its observation.
    pub(super) fn look(&self, rules: &Rules<'_>, key: &ObjectKey) -> Assessment {
        let Some(packed) = self.packed.as_ref().filter(|packed| packed.has(key)) else {
            return Assessment::Unknown;
        };
        let clear = |live: Option<&Value>| {
            let Some(object) = packed.get(key) else { return Assessment::Unknown };
            let live =
                live.map(|value| LiveObject { resource: object.resource.clone(), value: value.clone() });
            Assessment::Clear(drift::detect(rules, packed.frame(), &object, live.as_ref()))
        };
        let sight = match self.seen.get(key) {
            None => return Assessment::Unknown,
            Some(Cached::Absent { surely: false }) => return Assessment::Unclear,
            Some(Cached::Absent { surely: true }) => return clear(None),
            Some(Cached::There(sight)) => sight,
        };
        match sight.fidelity {
            Fidelity::Whole => clear(Some(&sight.value())),
            Fidelity::Trimmed { holds: true } => Assessment::Clear(Verdict::Holds),
            Fidelity::Trimmed { holds: false } => Assessment::Unclear,
            Fidelity::Metadata => {
                let metadata = sight.value();
                if drift::policy(rules, Some(&metadata)) == Policy::Ignore {
                    return Assessment::Clear(Verdict::Holds);
                }
                if !metadata["metadata"]["deletionTimestamp"].is_null() {
                    return Assessment::Clear(Verdict::Leaving);
                }
                let Some(object) = packed.get(key) else { return Assessment::Unknown };
                let intent = applyset::owned(packed.frame(), &object);
                if intent_digest::is_intact(&intent, &metadata, rules.field_manager) {
                    Assessment::Clear(Verdict::Holds)
                } else {
                    Assessment::Unclear
                }
            }
        }
    }

    /// Frees the memory of an object that has no drift.
    pub(super) fn trim(&mut self, key: &ObjectKey) {
        if object_class(key) != ObjectClass::Crd {
            return;
        }
        if let Some(Cached::There(sight)) = self.seen.get_mut(key)
            && sight.fidelity == Fidelity::Whole
        {
            let mut value = sight.value();
            if let Some(spec) = value["spec"].as_object_mut() {
                spec.remove("versions");
            }
            *sight = CachedObject::of(key, &value, Fidelity::Trimmed { holds: true });
        }
    }

    /// What an object waits for; `None` when it is ready.
    pub(super) fn waiting(&self, key: &ObjectKey, now: Timestamp) -> Option<WaitingOn> {
        let sight = match self.seen.get(key) {
            None => return Some(WaitingOn::ready(key.clone(), "not seen yet")),
            Some(Cached::Absent { .. }) => return Some(WaitingOn::ready(key.clone(), "does not exist")),
            Some(Cached::There(sight)) => sight,
        };
        let is_told_by_others = match object_class(key) {
            ObjectClass::Webhook => true,
            ObjectClass::Workload => sight.waits.is_some(),
            _ => false,
        };
        if !is_told_by_others {
            return sight.waits.as_deref().cloned();
        }
        waits(key, &sight.value(), |service| self.answers(service), self.pods.iter(), now)
    }

    /// The members of the same component that play a part.
    pub(super) fn partners(&self, key: &ObjectKey, part: ObjectClass) -> Vec<ObjectKey> {
        let Some(packed) = &self.packed else { return Vec::new() };
        let Some((component, _)) = packed.place(key) else { return Vec::new() };
        let partners =
            packed.objects().filter(|(other, of, _)| *of == component && object_class(other) == part);
        partners.map(|(other, ..)| other.clone()).collect()
    }

    /// The pods that answer for a webhook configuration, by uid.
    pub(super) fn pods_behind(&self, key: &ObjectKey) -> BTreeSet<String> {
        let Some(Cached::There(seen)) = self.seen.get(key) else { return BTreeSet::new() };
        let ready = |service: &String| endpoints::ready(service, self.slices.values());
        services(&seen.value()).iter().flat_map(ready).map(str::to_owned).collect()
    }

    /// The write that leads the API server to new pods behind a webhook configuration, if one does.
    pub(super) fn reconnection(&self, rules: &Rules<'_>, key: &ObjectKey) -> Option<Step> {
        let packed = self.packed.as_ref()?;
        let (object, (component, resource)) = (packed.get(key)?, packed.place(key)?);
        let Some(Cached::There(seen)) = self.seen.get(key) else { return None };
        let live = LiveObject { resource: resource.clone(), value: seen.value() };
        drift::reconnect(rules, &packed.of_kind(component, "Service"), &object, &live)
    }

    fn answers(&self, service: &str) -> bool {
        endpoints::answers(service, self.slices.values())
    }

    /// Keeps the pods of the installation's namespace in sight for as long as their reasons are asked for.
    pub(super) fn follow_pods(&mut self, wanted: bool) {
        let (resource, scope) = pod_place(&self.installation);
        if wanted {
            self.watches.open(&resource, scope, false);
        } else {
            self.watches.close(&resource, &scope);
            self.troubles.remove(&(resource, scope));
            self.pods.clear();
        }
    }
}

fn record_scope(installation: &Installation) -> Scope {
    let Installation { name, namespace } = installation.clone();
    Scope::Record { namespace, installation: name }
}

fn pod_place(installation: &Installation) -> (Resource, Scope) {
    (builtin::pod(), Scope::Namespace(installation.namespace.clone()))
}

/// The change in an event of the record or of a marker.
fn record_change(event: Event) -> Change {
    let mut change = Change::default();
    let mut note = |value: &Value, is_there: bool| match MarkerKind::of(value) {
        Some(MarkerKind::Paused) => change.paused = Some(is_there),
        Some(MarkerKind::Owner) => {
            let uid = value["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            change.owner = Some(if is_there { OwnerSeen::Is(uid) } else { OwnerSeen::Gone(uid) });
        }
        None if is_there => {
            let version = value["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            change.record = Some(RecordSeen::At(version.to_owned()));
        }
        None => change.record = Some(RecordSeen::Gone),
    };
    match event {
        Event::Applied(value) => note(&value, true),
        Event::Deleted(value) => note(&value, false),
        Event::Restarted(ObjectList { items: values, .. }) => {
            for value in &values {
                note(value, true);
            }
            change.record.get_or_insert(RecordSeen::Gone);
            change.paused.get_or_insert(false);
            change.owner.get_or_insert(OwnerSeen::Nobody);
        }
        Event::Resumed => {}
    }
    change
}

/// Keeps what is around the members current.
fn surround(kept: &mut HashMap<ObjectKey, Value>, scope: &Scope, event: Event) {
    match event {
        Event::Applied(value) => {
            kept.extend(ObjectKey::of(&value).map(|key| (key, value)));
        }
        Event::Deleted(value) => {
            if let Some(key) = ObjectKey::of(&value) {
                kept.remove(&key);
            }
        }
        Event::Restarted(ObjectList { items: values, .. }) => {
            kept.retain(|key, value| !scope.covers(key, value, ""));
            kept.extend(values.into_iter().filter_map(|value| Some((ObjectKey::of(&value)?, value))));
        }
        Event::Resumed => {}
    }
}
