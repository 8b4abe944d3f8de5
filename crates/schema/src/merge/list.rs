//! Lists of a strategic merge patch.

use serde_json::Value;

use super::{BadDirective, Directive, ELEMENT_ORDER, MergeError, Merger, PATCH, bad, bare, directive};
use crate::resolve::{Kind, Node};
use crate::table::PatchMerge;

/// An item of a merged list, and where it stood before the patch.
struct Item {
    value: Value,
    before: Option<usize>,
}

impl<'a> Merger<'a> {
    /// A list with the items of a patch merged in. `order` is that of `$setElementOrder`.
    pub(super) fn list(
        &self,
        node: Option<&Node<'a>>,
        original: Vec<Value>,
        patch: &[Value],
        order: Option<&[Value]>,
        at: &str,
    ) -> Result<Vec<Value>, MergeError> {
        let Some(node) = node else { return whole(patch, order, at) };
        match node.patch() {
            None => whole(patch, order, at),
            Some(PatchMerge::Values) => {
                let mut items = numbered(original);
                for value in patch {
                    if !items.iter().any(|item| item.value == *value) {
                        items.push(Item { value: value.clone(), before: None });
                    }
                }
                let rank = |value: &Value| position(order.unwrap_or(patch), |other| other == value);
                Ok(ordered(items, rank))
            }
            Some(PatchMerge::Key(key)) => self.keyed(node, key, original, patch, order, at),
        }
    }

    fn keyed(
        &self,
        node: &Node<'a>,
        key: &str,
        original: Vec<Value>,
        patch: &[Value],
        order: Option<&[Value]>,
        at: &str,
    ) -> Result<Vec<Value>, MergeError> {
        let no_key = || MergeError::NoKey { path: at.to_owned(), key: key.to_owned() };
        let inner = match node.kind {
            Kind::List(shape) => Some(self.resolver.shape(shape)?),
            _ => None,
        };
        let mut deleted = Vec::new();
        let mut changes = Vec::new();
        let mut replaces = false;
        for item in patch {
            let fields = item.as_object().ok_or_else(no_key)?;
            match directive(fields, at)? {
                Directive::Replace if !fields.contains_key(key) => replaces = true,
                Directive::Delete => deleted.push(fields.get(key).ok_or_else(no_key)?),
                Directive::Replace | Directive::Merge => {
                    fields.get(key).ok_or_else(no_key)?;
                    changes.push(item);
                }
            }
        }
        let original = if replaces { Vec::new() } else { original };
        if original.iter().any(|item| item.get(key).is_none()) {
            return Err(no_key());
        }
        let mut items = numbered(original);
        items.retain(|item| !deleted.iter().any(|gone| item.value.get(key) == Some(gone)));
        for change in &changes {
            let named = change.get(key);
            let at = format!("{at}[{}]", named.map(shown).unwrap_or_default());
            if let Some(item) = items.iter_mut().find(|item| item.value.get(key) == named) {
                let before = item.value.take();
                item.value = self.value(inner.as_ref(), before, change, &at)?;
                // `$patch: replace` in an item replaces the item, not its name.
                if let (Some(fields), Some(named)) = (item.value.as_object_mut(), named) {
                    fields.entry(key).or_insert_with(|| named.clone());
                }
            } else {
                let mut value = (*change).clone();
                if let Some(fields) = value.as_object_mut() {
                    fields.remove(PATCH);
                }
                items.push(Item { value: bare(&value, &at)?, before: None });
            }
        }
        let rank = |value: &Value| match order {
            Some(order) => position(order, |other| other.get(key) == value.get(key)),
            None => changes.iter().position(|other| other.get(key) == value.get(key)),
        };
        Ok(ordered(items, rank))
    }
}

/// A list that the patch's replaces.
fn whole(patch: &[Value], order: Option<&[Value]>, at: &str) -> Result<Vec<Value>, MergeError> {
    if order.is_some() {
        return Err(bad(at, BadDirective::Atomic(ELEMENT_ORDER.to_owned())));
    }
    let has_directive = |item: &&Value| {
        item.as_object().is_some_and(|item| item.get(PATCH).is_some_and(|word| word == "delete"))
    };
    if patch.iter().any(|item| has_directive(&item)) {
        return Err(bad(at, BadDirective::Atomic(PATCH.to_owned())));
    }
    match bare(&Value::Array(patch.to_vec()), at)? {
        Value::Array(items) => Ok(items),
        _ => Ok(Vec::new()),
    }
}

fn numbered(original: Vec<Value>) -> Vec<Item> {
    original.into_iter().enumerate().map(|(at, value)| Item { value, before: Some(at) }).collect()
}

fn position(all: &[Value], is: impl Fn(&Value) -> bool) -> Option<usize> {
    all.iter().position(is)
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Two queues, merged: the items that the patch places, in its order, and the others in theirs. One of the others goes
/// first only where both heads stood in the list before and it stood there first.
fn ordered(items: Vec<Item>, rank: impl Fn(&Value) -> Option<usize>) -> Vec<Value> {
    let mut placed = Vec::new();
    let mut others = Vec::new();
    for item in items {
        match rank(&item.value) {
            Some(at) => placed.push((at, item)),
            None => others.push(item),
        }
    }
    placed.sort_by_key(|(at, _)| *at);
    let mut placed = placed.into_iter().map(|(_, item)| item).peekable();
    let mut others = others.into_iter().peekable();
    let mut merged = Vec::new();
    loop {
        let other_first = match (placed.peek(), others.peek()) {
            (None, None) => return merged,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some(one), Some(other)) => {
                matches!((one.before, other.before), (Some(one), Some(other)) if other < one)
            }
        };
        let next = if other_first { others.next() } else { placed.next() };
        merged.extend(next.map(|item| item.value));
    }
}
