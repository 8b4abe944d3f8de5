//! Which options a change gives other values, from what to what, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;
use trainerd_catalog::Options;
use trainerd_engine::revision::Header;
use trainerd_plan::desired::Desired;
use trainerd_plan::object::ObjectKey;

use super::options::{Given, Source, variable};
use super::output::Verbosity;

/// Longest value that a difference shows whole.
const WIDTH: usize = 100;

/// An option that has, or is given, another value than before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct OptionChange {
    pub(crate) option: String,
    /// Its value in what is installed; none where nothing is, or it had no such option.
    pub(crate) from: Option<Value>,
    /// The value that it gets; none where there is no such option any more.
    pub(crate) to: Option<Value>,
    /// Why it has this value now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// The options of a revision, or of what shall become one.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    options: &'a BTreeMap<String, Value>,
    given: &'a [String],
}

impl<'a> From<&'a Header> for Values<'a> {
    fn from(header: &'a Header) -> Self {
        Self { options: &header.options, given: &header.given }
    }
}

impl<'a> From<&'a Desired> for Values<'a> {
    fn from(desired: &'a Desired) -> Self {
        Self { options: &desired.options, given: &desired.given }
    }
}

impl Values<'_> {
    fn gives(&self, option: &str) -> bool {
        self.given.iter().any(|given| given == option)
    }
}

/// The options that differ, by name: in their value, or in whether somebody gives them. What a newer build adds with
/// its default is no change.
pub(crate) fn between<'a>(from: Option<Values<'a>>, to: Values<'a>) -> Vec<OptionChange> {
    let old = |option: &str| from.and_then(|from| from.options.get(option));
    let was_given = |option: &str| from.is_some_and(|from| from.gives(option));
    let names: BTreeSet<&String> =
        to.options.keys().chain(from.into_iter().flat_map(|from| from.options.keys())).collect();
    let differs = |option: &&String| match (old(option), to.options.get(*option)) {
        (None, Some(_)) => to.gives(option),
        (old, new) => old != new || to.gives(option) != was_given(option),
    };
    let change = |option: &String| OptionChange {
        option: option.clone(),
        from: old(option).cloned(),
        to: to.options.get(option).cloned(),
        why: None,
    };
    names.into_iter().filter(differs).map(change).collect()
}

/// The same, with why each option has its value now.
pub(crate) fn explained(from: Option<&Header>, to: &Desired, given: &Given) -> Vec<OptionChange> {
    let mut changes = between(from.map(Values::from), to.into());
    for change in &mut changes {
        let was_given = from.is_some_and(|from| Values::from(from).gives(&change.option));
        change.why = Some(match given.source(&change.option) {
            _ if change.to.is_none() => "there is no such option any more".to_owned(),
            Source::Default if was_given => "default; nothing gives it now".to_owned(),
            Source::Default => "default of this version".to_owned(),
            Source::Flag => "given on the command line".to_owned(),
            Source::Environment => format!("given by {}", variable(&change.option)),
            Source::File => "given in the file of --config".to_owned(),
            Source::ConfigMap => "given in the ConfigMap".to_owned(),
            Source::Api => "given over the API".to_owned(),
            Source::Revision => "given in the installed revision".to_owned(),
        });
    }
    changes
}

/// A line an option, below a heading; nothing where none differs.
pub(crate) fn text(changes: &[OptionChange], verbosity: Verbosity) -> String {
    let value = |value: &Option<Value>| match value {
        None => "(none)".to_owned(),
        Some(value) if verbosity == Verbosity::Verbose => value.to_string(),
        Some(value) => cut(&shown(value)),
    };
    let mut text = String::new();
    for OptionChange { option, from, to, why } in changes {
        if text.is_empty() {
            text.push_str("options:\n");
        }
        let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        let values = if from.is_none() { value(to) } else { format!("{} → {}", value(from), value(to)) };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    {option}: {values}{why}");
    }
    text
}

/// As `--set` takes it where that reads well.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains(['\n', '"']) => text.clone(),
        other => other.to_string(),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// An entry of the option `patches`, and the objects that it changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Patched {
    pub(crate) entry: usize,
    pub(crate) objects: Vec<ObjectKey>,
}

/// Which patches change which of the objects.
pub(crate) fn patched(options: &Options, desired: &Desired) -> Vec<Patched> {
    let all = options
        .patches
        .iter()
        .map(|patch| Patched { entry: patch.entry, objects: patch.targets(&desired.objects).collect() });
    all.filter(|one| !one.objects.is_empty()).collect()
}

/// A line an entry, below a heading; nothing where there is none.
pub(crate) fn patched_text(patched: &[Patched]) -> String {
    let mut text = String::new();
    for Patched { entry, objects } in patched {
        if text.is_empty() {
            text.push_str("patches:\n");
        }
        let objects: Vec<String> = objects.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "    entry {entry}: {}", objects.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trainerd_catalog::Catalog;
    use trainerd_plan::desired::Installation;

    use super::*;

    fn desired(given: &Given) -> Desired {
        let catalog = Catalog::builtin().unwrap();
        let options = given.parse(&catalog).unwrap();
        let installation = Installation { name: "a".to_owned(), namespace: "a".to_owned() };
        let resolution = catalog.resolve(&options, None).unwrap();
        catalog.render(&options, &resolution, &installation).unwrap()
    }

    fn given(pairs: &[(&str, &str)]) -> Given {
        let mut given = Given::default();
        for (name, value) in pairs {
            given.set_one(name, value);
        }
        given
    }

    /// What is told of a change from these options to those.
    fn told(from: Option<&[(&str, &str)]>, to: &[(&str, &str)]) -> String {
        let from = from.map(|from| desired(&given(from)));
        let header = from.map(|from| header(&from));
        let given = given(to);
        text(&explained(header.as_ref(), &desired(&given), &given), Verbosity::Normal)
    }

    fn header(desired: &Desired) -> Header {
        let header = json!({
            "number": 1, "parent": null, "created": "2026-01-01T00:00:00Z", "by": "up", "purpose": "install",
            "installation": desired.installation, "components": {}, "options": desired.options,
            "given": desired.given, "digest": "", "chunks": [],
        });
        serde_json::from_value(header).unwrap()
    }

    #[test]
    fn each_option_is_told_with_both_values_and_why() {
        for (from, to, expected) in [
            (
                Some(&[("small-footprint", "true")][..]),
                &[][..],
                "options:\n    small-footprint: true → false (default; nothing gives it now)\n",
            ),
            (
                Some(&[]),
                &[("settle", "0"), ("runtimes", "none")],
                "options:\n    runtimes: torch-distributed,deepspeed-distributed,mlx-distributed,mpi-distributed → none \
                 (given on the command line)\n    settle: 5 → 0 (given on the command line)\n",
            ),
            // A first installation has no values before.
            (None, &[("settle", "0")], "options:\n    settle: 0 (given on the command line)\n"),
            // The value is that of the default, and yet there will be another revision: somebody gives it now.
            (Some(&[]), &[("settle", "5")], "options:\n    settle: 5 → 5 (given on the command line)\n"),
            (Some(&[("settle", "0")]), &[("settle", "0")], ""),
            (
                Some(&[("image-registry", "r.io")]),
                &[],
                "options:\n    image-registry: r.io → \"\" (default; nothing gives it now)\n",
            ),
        ] {
            assert_eq!(told(from, to), expected);
        }
    }

    #[test]
    fn what_another_build_adds_with_its_default_is_no_change() {
        let desired = desired(&Given::default());
        let mut older = header(&desired);
        older.options.remove("patches");
        older.options.insert("gone".to_owned(), json!("x"));
        let changes = explained(Some(&older), &desired, &Given::default());
        assert_eq!(
            text(&changes, Verbosity::Normal),
            "options:\n    gone: x → (none) (there is no such option any more)\n"
        );
    }

    #[test]
    fn patches_are_told_with_their_objects() {
        let patches = "- {target: {kind: Deployment, component: lws}, patch: {spec: {replicas: 3}}}\n\
                       - {target: {kind: Deployment, component: trainerd}, patch: {spec: {replicas: 2}}}\n";
        let given = given(&[("patches", patches)]);
        let options = given.parse(&Catalog::builtin().unwrap()).unwrap();
        assert_eq!(
            patched_text(&patched(&options, &desired(&given))),
            "patches:\n    entry 1: Deployment a/lws-controller-manager\n"
        );
    }
}
