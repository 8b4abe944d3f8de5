//! Strategic merge patches, as Kubernetes' `strategicpatch` applies them: maps by key, lists by the merge key that the
//! table names, every other list as a whole.
//!
//! `null` deletes a member. Directives are obeyed: `$patch: delete|replace|merge` in a map or as an item of a list,
//! `$retainKeys`, `$setElementOrder/<list>` and `$deleteFromPrimitiveList/<list>`. What the table does not know is
//! merged the same way, its lists replaced: whether a field exists is for [`Table::check`] to say.

mod list;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::gate::Levels;
use crate::openapi::SchemaError;
use crate::resolve::{Node, Resolver};
use crate::table::Table;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_VALUES: &str = "$deleteFromPrimitiveList/";

/// Why a patch cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The table cannot say what the object is.
    #[error("failed to find what to merge")]
    Schema(#[from] SchemaError),
    /// A directive that is none, or does not fit.
    #[error("{path}: {cause}")]
    Directive {
        /// Where, for example `spec.template.spec.containers[manager]`.
        path: String,
        /// What is wrong with it.
        cause: BadDirective,
    },
    /// An item of a list lacks the key that the list is merged by, so what it changes cannot be told.
    #[error("{path}: an item lacks `{key}`, by which this list is merged")]
    NoKey {
        /// The list.
        path: String,
        /// The merge key.
        key: String,
    },
}

/// What is wrong with a directive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDirective {
    /// `$patch` with another word.
    #[error("`$patch` must be delete, replace or merge")]
    Patch,
    /// A directive whose value is no list.
    #[error("`{0}` must be a list")]
    NotAList(String),
    /// `$retainKeys` leaves out a key that the patch sets.
    #[error("`$retainKeys` leaves out `{0}`, which the patch sets")]
    NotRetained(String),
    /// A directive about a list that is replaced as a whole.
    #[error("`{0}` is for lists that are merged; this one is replaced as a whole")]
    Atomic(String),
}

impl Table {
    /// An object of the type with a strategic merge patch applied.
    ///
    /// Items of a merged list keep their order; those that the patch names come in the patch's order. So `[X]` on
    /// `[A, B]` gives `[X, A, B]`, and `[B, X]` gives `[A, B, X]`, as in Kubernetes.
    ///
    /// # Errors
    /// For a type that the table does not have at these levels, for a directive that is none, and for an item without
    /// the key that its list is merged by.
    pub fn merge(
        &self,
        of: &str,
        levels: &Levels,
        original: &Value,
        patch: &Value,
    ) -> Result<Value, MergeError> {
        let merger = Merger { resolver: Resolver { table: self, levels } };
        let root = merger.resolver.root(of)?;
        merger.value(Some(&root), original.clone(), patch, "")
    }
}

type Object = Map<String, Value>;

struct Merger<'a> {
    resolver: Resolver<'a>,
}

impl<'a> Merger<'a> {
    fn value(
        &self,
        node: Option<&Node<'a>>,
        original: Value,
        patch: &Value,
        at: &str,
    ) -> Result<Value, MergeError> {
        match (original, patch) {
            (Value::Object(original), Value::Object(patch)) => {
                self.object(node, original, patch, at).map(Value::Object)
            }
            (_, other) => bare(other, at),
        }
    }

    fn object(
        &self,
        node: Option<&Node<'a>>,
        mut original: Object,
        patch: &Object,
        at: &str,
    ) -> Result<Object, MergeError> {
        match directive(patch, at)? {
            Directive::Delete => return Ok(Object::new()),
            Directive::Replace => return bare_object(patch, at),
            Directive::Merge => {}
        }
        if let Some(keys) = patch.get(RETAIN_KEYS) {
            let keys: Vec<&str> = items(keys, RETAIN_KEYS, at)?.iter().filter_map(Value::as_str).collect();
            let kept = |key: &str| keys.contains(&key);
            let is_value = |(key, value): &(&String, &Value)| !key.starts_with('$') && !value.is_null();
            if let Some((key, _)) = patch.iter().filter(is_value).find(|(key, _)| !kept(key)) {
                return Err(bad(at, BadDirective::NotRetained(key.clone())));
            }
            original.retain(|key, _| kept(key));
        }
        for (key, value) in patch {
            let inside = join(at, key);
            if let Some(list) = key.strip_prefix(DELETE_VALUES) {
                let values = items(value, key, at)?;
                if let Some(Value::Array(all)) = original.get_mut(list) {
                    all.retain(|item| !values.contains(item));
                }
            } else if let Some(list) = key.strip_prefix(ELEMENT_ORDER) {
                let order = items(value, key, at)?;
                // Beside a patch of the same list, the order is taken there.
                if !patch.contains_key(list)
                    && let Some(Value::Array(all)) = original.remove(list)
                {
                    let node = self.member(node, list)?;
                    let all = self.list(node.as_ref(), all, &[], Some(order), &join(at, list))?;
                    original.insert(list.to_owned(), Value::Array(all));
                }
            } else if key.starts_with('$') {
                // Obeyed above.
            } else if value.is_null() {
                original.remove(key);
            } else {
                let merged = match (original.remove(key), value) {
                    (Some(Value::Array(all)), Value::Array(patch_items)) => {
                        let order = patch.get(&format!("{ELEMENT_ORDER}{key}"));
                        let order = order.map(|order| items(order, key, at)).transpose()?;
                        let node = self.member(node, key)?;
                        self.list(node.as_ref(), all, patch_items, order, &inside).map(Value::Array)?
                    }
                    (Some(inner), _) => {
                        let node = self.member(node, key)?;
                        self.value(node.as_ref(), inner, value, &inside)?
                    }
                    (None, _) => bare(value, &inside)?,
                };
                original.insert(key.clone(), merged);
            }
        }
        Ok(original)
    }

    fn member(&self, node: Option<&Node<'a>>, key: &str) -> Result<Option<Node<'a>>, MergeError> {
        match node {
            Some(node) => Ok(self.resolver.member(node, key)?),
            None => Ok(None),
        }
    }
}

/// What `$patch` says of a map or of an item of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Directive {
    Delete,
    Replace,
    Merge,
}

fn directive(patch: &Object, at: &str) -> Result<Directive, MergeError> {
    match patch.get(PATCH).map(Value::as_str) {
        None | Some(Some("merge")) => Ok(Directive::Merge),
        Some(Some("delete")) => Ok(Directive::Delete),
        Some(Some("replace")) => Ok(Directive::Replace),
        Some(_) => Err(bad(at, BadDirective::Patch)),
    }
}

/// What a patch adds where there is nothing to merge it into: without nulls, directives and what it deletes.
fn bare(value: &Value, at: &str) -> Result<Value, MergeError> {
    Ok(match value {
        Value::Object(fields) => Value::Object(bare_object(fields, at)?),
        Value::Array(all) => {
            let mut kept = Vec::with_capacity(all.len());
            for item in all {
                let directive = item.as_object().map(|item| directive(item, at)).transpose()?;
                // An item that deletes says nothing here, nor does a bare `$patch: replace`.
                if !matches!(directive, Some(Directive::Delete | Directive::Replace)) {
                    kept.push(bare(item, at)?);
                }
            }
            Value::Array(kept)
        }
        other => other.clone(),
    })
}

fn bare_object(fields: &Object, at: &str) -> Result<Object, MergeError> {
    if directive(fields, at)? == Directive::Delete {
        return Ok(Object::new());
    }
    let kept = fields.iter().filter(|(key, value)| !key.starts_with('$') && !value.is_null());
    kept.map(|(key, value)| Ok((key.clone(), bare(value, &join(at, key))?))).collect()
}

fn items<'v>(value: &'v Value, directive: &str, at: &str) -> Result<&'v [Value], MergeError> {
    let list = value.as_array().map(Vec::as_slice);
    list.ok_or_else(|| bad(at, BadDirective::NotAList(directive.to_owned())))
}

fn bad(at: &str, cause: BadDirective) -> MergeError {
    MergeError::Directive { path: at.to_owned(), cause }
}

/// `spec.replicas` for `replicas` at `spec`.
pub(crate) fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}
