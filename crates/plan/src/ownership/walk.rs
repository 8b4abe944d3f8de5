//! The walk over intent, last intent, live object and owners, side by side.

use serde_json::Value;

use super::equality::{holds_quantities, same_scalar, void, zero};
use super::lists::{Merge, find, keys_of, merge};
use super::owners::{Keys, Managers, Node, Owners};
use super::{Comparison, Conflict, FieldChange, FieldPath, Segment};

/// Fields of an object that say which object it is, or that only the API server writes.
pub(super) const IDENTITY: [&str; 3] = ["apiVersion", "kind", "status"];

/// The same under `metadata`.
pub(super) const METADATA_IDENTITY: [&str; 8] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "selfLink",
];

/// What the API server fills in inside lists and maps that are owned as a whole (`parent`, `field`):
/// absent from the intent, present in the live object, and nobody's stray.
const DEFAULTS: [(&str, &str); 13] = [
    ("fieldRef", "apiVersion"),
    ("resourceFieldRef", "divisor"),
    ("rules", "scope"),
    ("subjects", "apiGroup"),
    ("roleRef", "apiGroup"),
    ("serviceAccountToken", "expirationSeconds"),
    ("paths", "pathType"),
    ("ports", "protocol"),
    ("limits", "defaultRequest"),
    ("volumeClaimTemplates", "apiVersion"),
    ("volumeClaimTemplates", "kind"),
    ("volumeClaimTemplates", "status"),
    ("spec", "volumeMode"),
];

/// Where the walk is: a list towards the root, so that no path is built before there is a change.
#[derive(Clone, Copy)]
struct Trail<'t> {
    parent: Option<&'t Trail<'t>>,
    step: Step<'t>,
    quantities: bool,
}

#[derive(Clone, Copy)]
enum Step<'t> {
    Root,
    Field(&'t str),
    Item(&'t Keys),
    Element(&'t Value),
    Index(usize),
}

impl<'t> Trail<'t> {
    const ROOT: Trail<'static> = Trail { parent: None, step: Step::Root, quantities: false };

    fn down(&'t self, step: Step<'t>) -> Trail<'t> {
        let quantities = self.quantities || matches!(step, Step::Field(name) if holds_quantities(name));
        Trail { parent: Some(self), step, quantities }
    }

    /// The name of the nearest field at or above: of the list, for an item.
    fn field(&self) -> &str {
        match (self.step, self.parent) {
            (Step::Field(name), _) => name,
            (_, Some(parent)) => parent.field(),
            (_, None) => "",
        }
    }

    /// Whether the field `name` of this object is not ours to judge.
    fn skips(&self, name: &str) -> bool {
        match (self.step, self.parent) {
            (Step::Root, _) => IDENTITY.contains(&name),
            (Step::Field("metadata"), Some(Trail { step: Step::Root, .. })) => {
                METADATA_IDENTITY.contains(&name)
            }
            _ => false,
        }
    }

    /// `env[name=…].value`: an empty one and none are the same to a container.
    fn is_env_value(&self) -> bool {
        matches!(self.step, Step::Field("value")) && self.parent.is_some_and(|parent| parent.field() == "env")
    }

    fn path(&self) -> FieldPath {
        let mut segments = Vec::new();
        let mut here = Some(self);
        while let Some(trail) = here {
            segments.extend(match trail.step {
                Step::Root => None,
                Step::Field(name) => Some(Segment::Field(name.to_owned())),
                Step::Item(keys) => Some(Segment::Item(keys.clone())),
                Step::Element(value) => Some(Segment::Element(value.clone())),
                Step::Index(index) => Some(Segment::Index(index)),
            });
            here = trail.parent;
        }
        segments.into_iter().rev().collect()
    }
}

/// Three views of one place.
#[derive(Clone, Copy)]
struct Views<'v> {
    intent: &'v Value,
    last: Option<&'v Value>,
    live: Option<&'v Value>,
}

impl<'v> Views<'v> {
    /// The field `name` of all three, where the intent has the value `intent`.
    fn field(self, name: &str, intent: &'v Value) -> Self {
        Self { intent, last: field(self.last, name), live: field(self.live, name) }
    }
}

fn field<'v>(object: Option<&'v Value>, name: &str) -> Option<&'v Value> {
    object?.get(name).filter(|value| !value.is_null())
}

/// Whether the manifest has anything beyond its identity. One that has not leaves no trace in
/// `managedFields`: a bare ServiceAccount.
pub(super) fn has_own_fields(intent: &Value) -> bool {
    fields_of(intent).any(|(name, value)| match name.as_str() {
        "metadata" => {
            fields_of(value).any(|(name, value)| !METADATA_IDENTITY.contains(&name.as_str()) && !void(value))
        }
        name => !IDENTITY.contains(&name) && !void(value),
    })
}

fn fields_of(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

/// Judges all but what `Owners` alone says. Changes come in the order of the walk.
pub(super) fn walk(intent: &Value, last: Option<&Value>, live: &Value, owners: &Owners<'_>) -> Comparison {
    let mut walk = Walk { owners, found: Comparison::default() };
    let views = Views { intent, last, live: Some(live) };
    walk.value(&Trail::ROOT, views, Some(&owners.root));
    walk.found
}

struct Walk<'o, 'a> {
    owners: &'o Owners<'a>,
    found: Comparison,
}

/// How fields are judged inside a list or map that is owned as a whole.
#[derive(Clone, Copy)]
struct Whole {
    /// The whole is ours: a zero that the API server left out is as sent.
    ours: bool,
    /// A field that the intent lacks is a stray, unless the API server is known to fill it in.
    strict: bool,
}

impl Walk<'_, '_> {
    fn value(&mut self, trail: &Trail<'_>, views: Views<'_>, node: Option<&Node<'_>>) {
        let Some(live) = views.live else {
            if !dropped(trail, views.intent, node) {
                self.change(trail, views, node);
            }
            return;
        };
        let whole = node.is_some_and(Node::is_whole) && !void(live);
        match (views.intent, live) {
            (Value::Null, _) => {}
            (Value::Object(_), Value::Object(_)) | (Value::Array(_), Value::Array(_)) if whole => {
                self.whole(trail, views, node);
            }
            (Value::Object(_), Value::Object(_)) => self.object(trail, views, node),
            (Value::Array(intent), Value::Array(live)) => self.list(trail, (intent, live), views, node),
            (intent, live) if same_scalar(intent, live, trail.quantities) => {
                // The API server compares spellings: an apply of ours would meet them.
                self.found.contested |=
                    intent != live && node.is_some_and(|node| !node.below.others().is_empty());
            }
            _ => self.change(trail, views, node),
        }
    }

    fn object(&mut self, trail: &Trail<'_>, views: Views<'_>, node: Option<&Node<'_>>) {
        for (name, intent) in fields_of(views.intent).filter(|(name, _)| !trail.skips(name)) {
            let below = node.and_then(|node| node.fields.get(name.as_str()));
            self.value(&trail.down(Step::Field(name)), views.field(name, intent), below);
        }
        for (name, below) in node.iter().flat_map(|node| &node.fields) {
            if !trail.skips(name) && field(Some(views.intent), name).is_none() {
                self.removal(&trail.down(Step::Field(name)), field(views.live, name), below);
            }
        }
    }

    fn list(
        &mut self,
        trail: &Trail<'_>,
        (intent, live): (&[Value], &[Value]),
        views: Views<'_>,
        node: Option<&Node<'_>>,
    ) {
        match merge(trail.field(), node, intent) {
            Merge::Atomic => return self.whole(trail, views, node),
            Merge::Set => {
                for element in intent.iter().filter(|element| !live.contains(element)) {
                    let added = FieldChange {
                        path: trail.down(Step::Element(element)).path(),
                        from: None,
                        to: Some(element.clone()),
                    };
                    self.found.changes.push(added);
                }
            }
            Merge::Keys(names) => {
                for item in intent {
                    let Some(keys) = keys_of(item, &names) else { continue };
                    let (last, live) = (find(views.last, &keys), find(views.live, &keys));
                    let below = node.and_then(|node| node.item(&keys));
                    self.value(&trail.down(Step::Item(&keys)), Views { intent: item, last, live }, below);
                }
            }
        }
        let Some(node) = node else { return };
        for (keys, below) in &node.items {
            if find(Some(views.intent), keys).is_none() {
                self.removal(&trail.down(Step::Item(keys)), find(views.live, keys), below);
            }
        }
        for (element, below) in &node.elements {
            if !intent.contains(element) {
                let live = live.iter().find(|live| *live == element);
                self.removal(&trail.down(Step::Element(element)), live, below);
            }
        }
    }

    /// What is ours alone and no longer in the intent. An apply takes it away at the highest place that
    /// nobody else has a part in; what is shared stays, and giving up our share changes nothing to see.
    fn removal(&mut self, trail: &Trail<'_>, live: Option<&Value>, node: &Node<'_>) {
        let Some(live) = live.filter(|live| !void(live)) else { return };
        if !node.below.ours() {
            return;
        }
        if node.below.others().is_empty() {
            let removed = FieldChange { path: trail.path(), from: Some(live.clone()), to: None };
            self.found.changes.push(removed);
            return;
        }
        for (name, below) in &node.fields {
            // The keys of an item stay as long as somebody has a part in it.
            let is_key = matches!(trail.step, Step::Item(keys) if keys.iter().any(|(key, _)| key == name));
            if !is_key {
                self.removal(&trail.down(Step::Field(name)), field(Some(live), name), below);
            }
        }
        for (keys, below) in &node.items {
            self.removal(&trail.down(Step::Item(keys)), find(Some(live), keys), below);
        }
        for (element, below) in &node.elements {
            let live = live.as_array().and_then(|live| live.iter().find(|live| *live == element));
            self.removal(&trail.down(Step::Element(element)), live, below);
        }
    }

    /// A list or map that changes owners as a whole: fields are compared one by one, so that the change
    /// names them, and a conflict names the whole.
    fn whole(&mut self, trail: &Trail<'_>, views: Views<'_>, node: Option<&Node<'_>>) {
        let owners = node.map(|node| node.this).unwrap_or_default();
        let ours = owners.ours();
        // Ours still: nobody has changed it since we sent it, and `last` is what we sent.
        let known = ours && views.last.is_some();
        let strict = !known && !owners.is_empty() && !void(views.intent);
        self.found.contested |= !owners.others().is_empty() && views.live != Some(views.intent);
        let before = self.found.changes.len();
        self.inside(trail, views, Whole { ours, strict });
        if self.found.changes.len() > before {
            self.conflict(trail, views, owners);
        }
    }

    fn inside(&mut self, trail: &Trail<'_>, views: Views<'_>, whole: Whole) {
        let Some(live) = views.live else {
            if !(void(views.intent) || whole.ours && zero(views.intent)) {
                self.differs(trail, views);
            }
            return;
        };
        match (views.intent, live) {
            (Value::Null, _) => {}
            (Value::Object(intent), Value::Object(fields)) => {
                for (name, intent) in intent {
                    self.inside(&trail.down(Step::Field(name)), views.field(name, intent), whole);
                }
                let strays = fields.iter().filter(|(name, stray)| {
                    intent.get(*name).is_none_or(Value::is_null)
                        && !void(stray)
                        && (field(views.last, name).is_some()
                            || whole.strict && !filled_in(trail.field(), name))
                });
                for (name, stray) in strays {
                    let path = trail.down(Step::Field(name)).path();
                    self.found.changes.push(FieldChange { path, from: Some(stray.clone()), to: None });
                }
            }
            (Value::Array(intent), Value::Array(live)) => {
                let objects = intent.iter().chain(live).all(Value::is_object);
                if intent.len() == live.len() && objects {
                    let last = views.last.and_then(Value::as_array).filter(|last| last.len() == live.len());
                    for (place, (intent, live)) in intent.iter().zip(live).enumerate() {
                        let last = last.and_then(|last| last.get(place));
                        let views = Views { intent, last, live: Some(live) };
                        self.inside(&trail.down(Step::Index(place)), views, whole);
                    }
                } else if !same_list(intent, live, trail.quantities) {
                    self.differs(trail, views);
                }
            }
            (intent, live) if same_scalar(intent, live, trail.quantities) => {}
            _ => self.differs(trail, views),
        }
    }

    fn differs(&mut self, trail: &Trail<'_>, views: Views<'_>) {
        self.found.changes.push(FieldChange {
            path: trail.path(),
            from: views.live.cloned(),
            to: Some(views.intent.clone()),
        });
    }

    fn change(&mut self, trail: &Trail<'_>, views: Views<'_>, node: Option<&Node<'_>>) {
        let owners = node.map(|node| node.below).unwrap_or_default();
        self.found.contested |= !owners.others().is_empty();
        self.differs(trail, views);
        self.conflict(trail, views, owners);
    }

    /// Another manager stands against a change only where the field was never ours.
    fn conflict(&mut self, trail: &Trail<'_>, views: Views<'_>, owners: Managers) {
        if views.last.is_some() || owners.ours() {
            return;
        }
        for manager in self.owners.names(owners.others()) {
            self.found.conflicts.push(Conflict {
                path: trail.path(),
                manager: manager.to_owned(),
                theirs: views.live.cloned().unwrap_or_default(),
                ours: views.intent.clone(),
            });
        }
    }
}

/// Whether the API server stores nothing for this: emptiness, or a zero that we sent before.
fn dropped(trail: &Trail<'_>, intent: &Value, node: Option<&Node<'_>>) -> bool {
    match intent {
        Value::Object(fields) => fields.iter().all(|(name, intent)| {
            let below = node.and_then(|node| node.fields.get(name.as_str()));
            dropped(&trail.down(Step::Field(name)), intent, below)
        }),
        _ => {
            void(intent)
                || zero(intent) && (node.is_some_and(|node| node.this.ours()) || trail.is_env_value())
        }
    }
}

fn filled_in(parent: &str, name: &str) -> bool {
    DEFAULTS.contains(&(parent, name))
}

fn same_list(intent: &[Value], live: &[Value], quantities: bool) -> bool {
    intent.len() == live.len()
        && intent.iter().zip(live).all(|(intent, live)| same_scalar(intent, live, quantities))
}
