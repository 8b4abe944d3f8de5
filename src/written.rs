//! Counts of the objects that an operation wrote.

use std::collections::BTreeMap;

/// The objects that were written.
#[derive(Debug)]
pub(crate) struct Written<Object>(BTreeMap<Object, Verbs>);

#[derive(Debug, Default)]
struct Verbs {
    delete: bool,
    create: bool,
}

impl<Object> Default for Written<Object> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<Object: Ord> Written<Object> {
    /// Adds a step that is done; `keep` writes nothing.
    pub(crate) fn add(&mut self, object: Object, verb: &str) {
        if verb != "keep" {
            let verbs = self.0.entry(object).or_default();
            verbs.delete |= verb == "delete";
            verbs.create |= verb == "create";
        }
    }

    /// Number of objects that were written.
    pub(crate) fn changed(&self) -> usize {
        self.0.len()
    }

    /// Number of objects that were deleted and created.
    pub(crate) fn recreated(&self) -> usize {
        self.0.values().filter(|verbs| verbs.delete && verbs.create).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_counts_once_and_as_recreated_if_it_was_deleted_and_created() {
        let mut written = Written::default();
        for (object, verb) in
            [("a", "delete"), ("a", "create"), ("b", "apply"), ("b", "apply"), ("c", "keep"), ("d", "create")]
        {
            written.add(object, verb);
        }
        assert_eq!((written.changed(), written.recreated()), (3, 1));
    }
}
