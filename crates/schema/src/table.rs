//! What a table says, once read.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::gate::Gate;

/// Every type, alias and rule by its name. Made by [`Table::parse`], which guarantees that every name it
/// uses is defined in it and that no type contains itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub(crate) types: BTreeMap<String, Type>,
    pub(crate) aliases: BTreeMap<String, Vec<Row>>,
    pub(crate) rules: BTreeMap<String, Vec<Rule>>,
}

/// An object with known fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Type {
    /// Facts of the object as a whole.
    pub(crate) facts: Facts,
    /// Its fields, in the order of the table. A name may come more than once, under gates that exclude each
    /// other.
    pub(crate) fields: Vec<Field>,
}

/// A field of a type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    /// Name in JSON.
    pub(crate) name: String,
    /// Whether an object without the field is invalid.
    pub(crate) required: bool,
    /// What it holds.
    pub(crate) row: Row,
}

/// What a line says of a value, and when.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Shape of the value.
    pub(crate) shape: Shape,
    /// What else is known of it.
    pub(crate) facts: Facts,
    /// All of these must hold.
    pub(crate) gates: Vec<Gate>,
}

/// The shape of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A value without parts.
    Scalar(Scalar),
    /// The type or alias of that name.
    Named(String),
    /// A list of these.
    List(Box<Shape>),
    /// A map from string to these.
    Map(Box<Shape>),
}

/// Shapes that the language knows by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    /// `string`
    String,
    /// `bool`
    Bool,
    /// `int`: an integer without a format, Go's `int`.
    Int,
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// `int-or-string`
    IntOrString,
    /// `object`: one without known fields. The API server drops what is in it, except `metadata` at the root
    /// and where unknown fields are preserved.
    Object,
}

/// What is known of a value beside its shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    /// Value that the API server fills in.
    pub(crate) default: Option<Value>,
    /// The only values there are; empty when any is.
    pub(crate) allowed: Vec<Value>,
    /// Of a number.
    pub(crate) range: Bounds,
    /// Of a string, in characters.
    pub(crate) length: Bounds,
    /// Of a list.
    pub(crate) items: Bounds,
    /// Of an object or map.
    pub(crate) properties: Bounds,
    /// Regular expression that the API server matches.
    pub(crate) pattern: Option<String>,
    /// OpenAPI's format, for example `date-time`.
    pub(crate) format: Option<String>,
    /// How server-side apply merges.
    pub(crate) merge: Option<Merge>,
    /// How a strategic merge patch merges a list; without it the patch's list replaces the other.
    pub(crate) patch: Option<PatchMerge>,
    /// Names of CEL rules. A name whose definitions all lie outside their gates adds nothing.
    pub(crate) rules: Vec<String>,
    /// Whether `null` is a value.
    pub(crate) nullable: bool,
    /// Whether fields that the schema does not know are kept.
    pub(crate) preserve_unknown_fields: bool,
    /// Whether the object has `apiVersion`, `kind` and `metadata` that the API server checks.
    pub(crate) embedded_resource: bool,
}

/// The least and the most, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The least.
    pub(crate) min: Option<i64>,
    /// The most.
    pub(crate) max: Option<i64>,
}

/// How server-side apply merges a list, a map or an object. Which it is decides what may be said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Merge {
    /// As a whole: one manager owns all of it. Of lists, maps and objects.
    Atomic,
    /// Key by key, which is what happens anyway. Of maps and objects.
    Granular,
    /// By value. Of lists.
    Set,
    /// By the values of these keys. Of lists.
    Map(Vec<String>),
}

/// How a strategic merge patch merges a list (`patchStrategy` and `patchMergeKey` of Kubernetes' types). It is not
/// what server-side apply does: a list of ports is keyed by port and protocol there, by the port alone here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PatchMerge {
    /// As the union of scalars.
    Values,
    /// By the value of this key.
    Key(String),
}

/// A CEL rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The expression, true of valid values.
    pub(crate) expression: String,
    /// What the API server says when it is not.
    pub(crate) message: Option<String>,
    /// The machine-readable reason, for example `FieldValueForbidden`.
    pub(crate) reason: Option<String>,
    /// JSON path, relative to the value, of the field to blame.
    pub(crate) field_path: Option<String>,
    /// Whether the rule is evaluated on create too, with `oldSelf` optional.
    pub(crate) optional_old_self: bool,
    /// All of these must hold.
    pub(crate) gates: Vec<Gate>,
}
