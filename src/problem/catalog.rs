//! Options, versions and templates that do not work out.

use std::error::Error;

use trainerd_catalog::{
    ImagesError, InvalidOptions, KubernetesError, LoadError, LookupError, OptionError, OptionsFileError,
    RenderError, ResolveError, Rule, TemplateError, UnmetNeed, UpgradeError,
};
use trainerd_juju::status::Reason;

use super::Problem;
use crate::problem::Exit;

const SCHEMA: &str = "`trainerd config schema` lists every option";
pub(crate) const DEFECT: &str = "this build of trainerd is broken: please report it";

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Templates(template) => template.into(),
            LoadError::Schema(_)
            | LoadError::Read { .. }
            | LoadError::MissingFile { .. }
            | LoadError::Dangling(_) => defect(&error),
        }
    }
}

impl From<LookupError> for Problem {
    fn from(error: LookupError) -> Self {
        let (code, known) = match &error {
            LookupError::Component { known, .. } => {
                ("unknown-component", format!("the components are {}", known.join(", ")))
            }
            LookupError::Version { known, .. } => {
                let known = known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                ("unknown-version", format!("the catalog has {known}"))
            }
        };
        Self::of(Exit::Input, code, &error).because(known).hint("use one of these")
    }
}

impl From<OptionsFileError> for Problem {
    fn from(error: OptionsFileError) -> Self {
        match &error {
            OptionsFileError::Read { .. } => Self::of(Exit::Input, "bad-options-file", &error)
                .hint("an options file has one `name: value` per line, each name once"),
            OptionsFileError::Documents { file } => {
                Self::new(Exit::Input, "bad-options-file", format!("failed to read options from {file}"))
                    .because("it has more than one YAML document")
                    .hint("put all options into one document, without a line ---")
            }
        }
    }
}

impl From<ResolveError> for Problem {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Options(invalid) => given_somewhere(&invalid, &|_| None),
            ResolveError::Unknown(unknown) => unknown.into(),
        }
    }
}

impl From<UnmetNeed> for Problem {
    fn from(error: UnmetNeed) -> Self {
        let UnmetNeed { component, needed, .. } = &error;
        Self::of(Exit::Refused, "unmet-need", &error)
            .with_reason(Reason::MissingComponent {
                component: component.clone(),
                range: needed.range.to_string(),
            })
            .because(format!("{component} is not in the option components"))
            .hint(format!("install a compatible version, or add {component} to option components"))
    }
}

impl From<KubernetesError> for Problem {
    fn from(error: KubernetesError) -> Self {
        match error {
            KubernetesError::Unknown(unknown) => unknown.into(),
            KubernetesError::OutOfRange { component, version, range, found } => Self::new(
                Exit::Refused,
                "kubernetes-out-of-range",
                format!("Kubernetes {found} is out of range for {component} {version}"),
            )
            .because(format!("it needs {range}"))
            .hint("choose another version of the component, or another cluster; nothing was changed"),
            KubernetesError::NotAVersion { .. } => Self::of(Exit::Cluster, "kubernetes-version", &error)
                .because("it is not of the form vX.Y.Z")
                .hint("check the server address in the kubeconfig"),
        }
    }
}

impl From<UpgradeError> for Problem {
    fn from(error: UpgradeError) -> Self {
        let (message, refused) = (error.to_string(), |code, message| Self::new(Exit::Refused, code, message));
        match error {
            UpgradeError::Unknown(unknown) => unknown.into(),
            UpgradeError::Downgrade { from, to, .. } => refused("downgrade", message)
                .with_reason(Reason::DowngradeRefused { from: from.to_string(), to: to.to_string() })
                .because("an older version cannot read what the newer one stored")
                .hint("to go back to an earlier revision: trainerd rollback (see `trainerd history`)"),
            UpgradeError::NoPath { component, from, to, upgrades_from } => {
                refused("no-upgrade-path", message)
                    .with_reason(Reason::VersionSkew {
                        component: component.clone(),
                        from: from.to_string(),
                        to: to.to_string(),
                        through: upgrades_from.to_string(),
                    })
                    .because(format!("{component} {to} can be reached from {upgrades_from}"))
                    .hint("upgrade to a version in between first")
            }
        }
    }
}

impl From<TemplateError> for Problem {
    fn from(error: TemplateError) -> Self {
        let input = |code| Self::of(Exit::Input, code, &error);
        match &error {
            TemplateError::UnknownVariable { .. } => input("unknown-variable")
                .because("there is no such variable")
                .hint("correct the name in the template, or list the option in component.yaml"),
            TemplateError::Render { .. } | TemplateError::Parse { .. } => bad_template(&error),
        }
    }
}

impl From<RenderError> for Problem {
    fn from(error: RenderError) -> Self {
        match error {
            RenderError::Patches(invalid) => given_somewhere(&invalid, &|_| None),
            RenderError::Unknown(unknown) => unknown.into(),
            RenderError::Template(template) => template.into(),
            RenderError::Namespace { .. } => Self::of(Exit::Input, "bad-namespace", &error)
                .because("it must be a DNS label")
                .hint("name another with --namespace"),
            RenderError::Manifest { .. } => bad_template(&error),
            RenderError::Object { .. } | RenderError::Twice { .. } => {
                Self::of(Exit::Input, "bad-object", &error)
                    .because("a template renders an object that cannot be applied")
                    .hint("correct the template")
            }
            RenderError::Crd { .. } | RenderError::Table(_) | RenderError::Dangling(_) => defect(&error),
        }
    }
}

impl From<ImagesError> for Problem {
    fn from(error: ImagesError) -> Self {
        match error {
            ImagesError::Unknown(unknown) => unknown.into(),
            ImagesError::Dangling(_) => defect(&error),
        }
    }
}

fn bad_template(error: &dyn Error) -> Problem {
    Problem::of(Exit::Input, "bad-template", error).hint("correct the template")
}

fn defect(error: &dyn Error) -> Problem {
    Problem::of(Exit::Failed, "broken-build", error).hint(DEFECT)
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
