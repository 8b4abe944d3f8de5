//! What of trainerd's own Secrets is lost, in words, and the command that heals it.

use std::collections::BTreeMap;

use trainerd_engine::Damage;
use trainerd_plan::object::ObjectKey;

use super::Problem;
use crate::problem::Exit;

/// What to do about objects of an installation of which no record is left.
pub(crate) const LEFT_REMEDY: &str = "`trainerd up` takes over what is left, and keeps the running versions unless you set others; `trainerd remove --purge` deletes it";

/// What is left of an installation without a record.
pub(crate) fn left_text(left: &[ObjectKey]) -> String {
    format!("{} of an earlier installation are left", counted(left))
}

/// Something that cannot be done without what is lost.
pub(crate) fn lost(damage: &Damage) -> Problem {
    let code = match damage {
        Damage::Record { .. } => "record-lost",
        Damage::Revision { .. } | Damage::Objects { .. } => "revision-unreadable",
    };
    Problem::new(Exit::Failed, code, damage_text(damage))
        .because("it was deleted or damaged in the cluster; nothing was changed")
        .hint(remedy(damage))
}

/// `3 CustomResourceDefinitions, 1 ClusterRole`.
pub(crate) fn counted(objects: &[ObjectKey]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for object in objects {
        *counts.entry(object.kind.as_str()).or_default() += 1;
    }
    let text = |(kind, count): (&str, usize)| format!("{count} {kind}{}", if count == 1 { "" } else { "s" });
    counts.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

/// What is lost, in a sentence.
pub(crate) fn damage_text(damage: &Damage) -> String {
    match damage {
        Damage::Record { revision, exact: true } => format!(
            "the Secret with the record is lost; judging by its objects, the installation is at revision {revision}"
        ),
        Damage::Record { revision, exact: false } => format!(
            "the Secret with the record is lost; judging by its objects, the installation is close to revision {revision}, but some objects differ"
        ),
        Damage::Revision { revision } => {
            format!("the Secret of revision {revision} is lost; the record holds a copy of it")
        }
        Damage::Objects { revision, why, .. } => {
            format!("the objects of revision {revision} cannot be read: {why}")
        }
    }
}

/// The one command that heals it.
pub(crate) fn remedy(damage: &Damage) -> String {
    match damage {
        Damage::Record { exact: false, revision } => {
            format!("`trainerd repair` restores it, and every object of revision {revision}")
        }
        Damage::Record { exact: true, .. } | Damage::Revision { .. } => {
            "`trainerd repair` restores it".to_owned()
        }
        Damage::Objects { renderable, readable, .. } => remedy_of_objects(*renderable, *readable),
    }
}

/// What heals a revision whose objects cannot be read.
pub(super) fn remedy_of_objects(renderable: bool, readable: Option<u64>) -> String {
    match (renderable, readable) {
        (true, _) => "`trainerd repair` restores it from its options".to_owned(),
        (false, Some(number)) => {
            format!("`trainerd rollback {number}` goes to the newest revision that can be read")
        }
        (false, None) => "`trainerd up` with the options that you want creates a new one".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_damage_suggests_its_repair_command() {
        let objects = |renderable, readable| Damage::Objects {
            revision: 2,
            why: "chunk c is missing".to_owned(),
            renderable,
            readable,
        };
        for (damage, command) in [
            (Damage::Record { revision: 2, exact: true }, "`trainerd repair`"),
            (Damage::Record { revision: 2, exact: false }, "`trainerd repair`"),
            (Damage::Revision { revision: 2 }, "`trainerd repair`"),
            (objects(true, Some(1)), "`trainerd repair`"),
            (objects(false, Some(1)), "`trainerd rollback 1`"),
            (objects(false, None), "`trainerd up`"),
        ] {
            assert!(remedy(&damage).starts_with(command), "{damage:?}");
            assert!(damage_text(&damage).contains("revision 2"), "{damage:?}");
        }
    }
}
