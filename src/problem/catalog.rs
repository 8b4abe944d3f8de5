//! Options, versions and templates that do not work out.

use trainerd_catalog::{CatalogError, InvalidOptions, OptionError, Rule};
use trainerd_juju::status::Reason;

use super::Problem;
use crate::problem::Exit;

const SCHEMA: &str = "`trainerd config schema` lists every option";
pub(crate) const DEFECT: &str = "this build of trainerd is broken: please report it";

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        let input = |code| Problem::of(Exit::Input, code, &error);
        let refused = |code| Problem::of(Exit::Refused, code, &error);
        let defect = || Problem::of(Exit::Failed, "broken-build", &error).hint(DEFECT);
        match &error {
            CatalogError::Options(invalid) => given_somewhere(invalid, &|_| None),
            CatalogError::OptionsFile { .. } => input("bad-options-file")
                .hint("a file of options has one `name: value` a line, each name once"),
            CatalogError::OptionsDocuments { file } => {
                Problem::new(Exit::Input, "bad-options-file", format!("failed to read options from {file}"))
                    .because("it has more than one YAML document")
                    .hint("put all options into one document, without a line ---")
            }
            CatalogError::UnknownComponent { known, .. } => input("unknown-component")
                .because(format!("the components are {}", known.join(", ")))
                .hint("name one of these"),
            CatalogError::UnknownVersion { known, .. } => {
                let known = known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                input("unknown-version").because(format!("the catalog has {known}")).hint("name one of these")
            }
            CatalogError::UnmetNeed { component, needed, .. } => refused("unmet-need")
                .with_reason(Reason::MissingComponent {
                    component: component.clone(),
                    range: needed.range.to_string(),
                })
                .because(format!("option components leaves {component} to others"))
                .hint(format!("install a version that fits, or add {component} to option components")),
            CatalogError::Kubernetes { component, version, range, found } => Problem::new(
                Exit::Refused,
                "kubernetes-out-of-range",
                format!("Kubernetes {found} is out of range for {component} {version}"),
            )
            .because(format!("it needs {range}"))
            .hint("choose another version of the component, or another cluster; nothing was changed"),
            CatalogError::KubernetesVersion { .. } => {
                Problem::of(Exit::Cluster, "kubernetes-version", &error)
                    .because("it is not of the form vX.Y.Z")
                    .hint("check the server address in the kubeconfig")
            }
            CatalogError::Downgrade { from, to, .. } => refused("downgrade")
                .with_reason(Reason::DowngradeRefused { from: from.to_string(), to: to.to_string() })
                .because("an older version does not understand what the newer one stored")
                .hint("to go back to an earlier revision: trainerd rollback (see `trainerd history`)"),
            CatalogError::NoPath { component, from, to, upgrades_from } => refused("no-upgrade-path")
                .with_reason(Reason::VersionSkew {
                    component: component.clone(),
                    from: from.to_string(),
                    to: to.to_string(),
                    through: upgrades_from.to_string(),
                })
                .because(format!("{component} {to} can be reached from {upgrades_from}"))
                .hint("go through versions in between, one upgrade each"),
            CatalogError::Namespace { .. } => {
                input("bad-namespace").because("it must be a DNS label").hint("name another with --namespace")
            }
            CatalogError::UnknownVariable { .. } => input("unknown-variable")
                .because("the template is given no such variable")
                .hint("correct the name in the template, or list the option in component.yaml"),
            CatalogError::Template { .. }
            | CatalogError::Templates { .. }
            | CatalogError::Manifest { .. } => input("bad-template").hint("correct the template"),
            CatalogError::Object { .. } | CatalogError::Twice { .. } => input("bad-object")
                .because("a template renders what cannot be applied")
                .hint("correct the template"),
            CatalogError::Crd { .. }
            | CatalogError::Broken { .. }
            | CatalogError::MissingFile { .. }
            | CatalogError::Dangling { .. }
            | CatalogError::Default { .. }
            // The enum is open to new variants; one that nobody gave a code is a defect of the build.
            | _ => defect(),
        }
    }
}

/// Options with values that they cannot have. `origin` says where an option was given, if that is not obvious.
pub(crate) fn given_somewhere(invalid: &InvalidOptions, origin: &dyn Fn(&str) -> Option<String>) -> Problem {
    let place =
        |error: &OptionError| origin(&error.option).map(|place| format!(" ({place})")).unwrap_or_default();
    let alone = invalid.errors().len() == 1;
    let mut hints: Vec<String> = invalid.errors().iter().filter_map(|error| near(error, alone)).collect();
    hints.push(SCHEMA.to_owned());
    let problem = match invalid.errors() {
        [only @ OptionError { option, rule: Rule::UnknownOption, .. }] => {
            Problem::new(Exit::Input, "unknown-option", format!("unknown option {option}"))
                .because(format!("no option has this name{}", place(only)))
        }
        [only] => {
            let text = only.to_string();
            // The public text is `what: rule`; here the rule has a line of its own.
            let rule = only.rule.to_string();
            let what = text.strip_suffix(&format!(": {rule}")).unwrap_or(&text).to_owned();
            Problem::new(Exit::Input, "invalid-option", what).because(format!("{rule}{}", place(only)))
        }
        several => {
            Problem::new(Exit::Input, "invalid-option", format!("{} options are invalid", several.len()))
                .because_all(several.iter().map(|error| format!("{error}{}", place(error))).collect())
        }
    };
    problem.hint(hints.join(" "))
}

/// The nearest valid spelling; where several options are bad, with the option it is for.
fn near(error: &OptionError, alone: bool) -> Option<String> {
    let nearest = error.nearest.as_ref()?;
    Some(if alone {
        format!("did you mean {nearest}?")
    } else {
        format!("{}: did you mean {nearest}?", error.option)
    })
}
