//! The type language: what a field of a Kubernetes type is, written as text, and the OpenAPI schemas and
//! CustomResourceDefinitions that follow from it.
//!
//! A table is lines. `#` starts a comment. A line that is not indented defines something; the indented
//! lines below a `type` are its fields, one a line:
//!
//! ```text
//! rule immutable "self == oldSelf" message("field is immutable")
//! alias Time string format(date-time)
//! type ContainerPort
//!   containerPort int32  required
//!   protocol      string default(TCP)
//! type Container
//!   ports []ContainerPort map(containerPort,protocol)
//!   image string length(..500) rule(immutable)
//!   restartPolicyRules []ContainerRestartRule atomic k8s>=1.34
//! ```
//!
//! * **Shapes**: `string bool int int32 int64 int-or-string object` (an object without known fields), the
//!   name of a `type` or an `alias`, `[]Shape` (a list) and `{}Shape` (a map from string).
//! * **Facts** of a field, of an alias or of a type as a whole: `default(JSON)`, `enum(a,b)`, `range(a..b)`
//!   for numbers, `length(a..b)` for strings, `items(a..b)` for lists, `properties(a..b)` for objects (both
//!   ends count, either may be missing), `pattern("…")`, `format(…)`, `rule(name)`, `nullable`,
//!   `preserve-unknown-fields`, `embedded-resource`; `required` only for fields. `atomic`, `set` and
//!   `map(key,…)` say how server-side apply merges a list; `atomic` and `granular` say it of maps and objects.
//!   `merge(key)` says that a strategic merge patch merges a list by that key, `merge` that it unites scalars; a list
//!   without either is replaced as a whole.
//! * **Rules** are CEL: `rule NAME "expression"` with `message("…")`, `reason(…)`, `field-path(…)` and
//!   `optional-old-self`.
//! * **Gates** end a line: `k8s>=1.34`, `trainer<2.2`. All of them must hold, else the line is not there. A
//!   thing that changed has a line an age, each with its gate; a reader sees its history in one place.
//!
//! Words that JSON would read as something else, empty strings and whatever holds a blank, a comma or a
//! parenthesis are written as JSON strings.
//!
//! Everything here is pure: same table and levels, same schema.

mod check;
mod crd;
mod gate;
mod lexer;
mod merge;
mod openapi;
mod parse;
pub mod quantity;
mod resolve;
mod table;

pub use check::{Cause, Fault};
pub use crd::{Column, Conversion, Crd, CrdVersion, Scale, Scope};
pub use gate::{Levels, UnknownAxis};
pub use merge::{BadDirective, MergeError};
pub use openapi::SchemaError;
pub use parse::{ParseError, Problem};
pub use quantity::Quantity;
pub use table::Table;
