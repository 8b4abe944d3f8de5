//! Options and patches that a change is about, as people read them before the plan.

use std::fmt::Write as _;

use serde_json::Value;

use super::output::Verbosity;
use crate::target::Target;
use crate::target::changes::{OptionChange, Patched};

/// Longest value that a difference shows whole.
const WIDTH: usize = 100;

/// The options that change and the patches; empty where there is none.
pub(crate) fn about(target: &Target, verbosity: Verbosity) -> String {
    text(&target.options, verbosity) + &patched_text(&target.patched)
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
    use trainerd_engine::revision::Header;
    use trainerd_plan::desired::{Desired, Installation};

    use super::*;
    use crate::options::Given;
    use crate::target::changes::{explained, patched};

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

    /// The description of a change of options.
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
    fn each_option_is_shown_with_both_values_and_source() {
        for (from, to, expected) in [
            (
                Some(&[("small-footprint", "true")][..]),
                &[][..],
                "options:\n    small-footprint: true → false (default; it is no longer set)\n",
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
                "options:\n    image-registry: r.io → \"\" (default; it is no longer set)\n",
            ),
        ] {
            assert_eq!(told(from, to), expected);
        }
    }

    #[test]
    fn new_options_with_default_values_are_no_change() {
        let desired = desired(&Given::default());
        let mut older = header(&desired);
        older.options.remove("patches");
        older.options.insert("gone".to_owned(), json!("x"));
        let changes = explained(Some(&older), &desired, &Given::default());
        assert_eq!(
            text(&changes, Verbosity::Normal),
            "options:\n    gone: x → (none) (this option no longer exists)\n"
        );
    }

    #[test]
    fn patches_are_shown_with_their_objects() {
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
