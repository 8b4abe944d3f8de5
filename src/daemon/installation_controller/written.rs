//! What plans wrote since somebody asked for something, object by object.

use std::collections::{BTreeMap, BTreeSet};

use trainerd_engine::Event;
use trainerd_plan::object::ObjectKey;

/// What was done to each object.
#[derive(Debug, Default)]
pub(super) struct Written(BTreeMap<ObjectKey, BTreeSet<&'static str>>);

impl Written {
    /// Takes an event in: steps that are done and wrote something count.
    pub(super) fn see(&mut self, event: &Event) {
        if let Event::Done { object, verb, .. } = event
            && *verb != "keep"
        {
            self.0.entry(object.clone()).or_default().insert(*verb);
        }
    }

    /// How many objects were written at all.
    pub(super) fn changed(&self) -> usize {
        self.0.len()
    }

    /// How many of them were deleted and made again.
    pub(super) fn recreated(&self) -> usize {
        self.0.values().filter(|verbs| verbs.contains("delete") && verbs.contains("create")).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_counts_once_and_as_made_again_only_where_it_was_deleted_and_created() {
        let mut written = Written::default();
        for (name, verb) in
            [("a", "delete"), ("a", "create"), ("b", "apply"), ("b", "apply"), ("c", "keep"), ("d", "create")]
        {
            let object = ObjectKey {
                group: String::new(),
                kind: "Service".into(),
                namespace: None,
                name: name.into(),
            };
            written.see(&Event::Done { object, verb, millis: 0, done: 1, total: 4 });
        }
        written.see(&Event::Failed { object: None, error: "no".into() });
        assert_eq!((written.changed(), written.recreated()), (3, 1));
    }
}
