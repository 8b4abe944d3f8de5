//! A command line that does not parse.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use trainerd_causes::in_one_line;

use crate::problem::{Exit, Problem};

/// The problem with a command line, in our words; clap's text stands in for kinds that have none. `verb` is the
/// one that was given, if there is such a verb; `giver` names the variable that gave an argument.
pub(crate) fn usage(
    error: &clap::Error,
    verb: Option<&str>,
    giver: &dyn Fn(&str) -> Option<String>,
) -> Problem {
    let text = |kind| error.get(kind).and_then(shown);
    // clap marks what may be repeated with dots.
    let name = |kind| text(kind).map(|text| text.trim_end_matches("...").to_owned()).unwrap_or_default();
    let origin = |kind| text(kind).and_then(|shown| giver(&shown)).map(|name| format!(" (given by {name})"));
    let argument = || name(ContextKind::InvalidArg) + &origin(ContextKind::InvalidArg).unwrap_or_default();
    let value = || text(ContextKind::InvalidValue).unwrap_or_default();
    let (message, why) = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let name = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            (format!("unknown verb {name:?}"), "trainerd has no such verb".to_owned())
        }
        ErrorKind::UnknownArgument => {
            (format!("unknown argument {:?}", argument()), "this verb does not have it".to_owned())
        }
        ErrorKind::MissingRequiredArgument => {
            (format!("missing {}", argument()), "the verb requires it".to_owned())
        }
        ErrorKind::InvalidValue if value().is_empty() => {
            (format!("missing value for {}", argument()), allowed(error))
        }
        ErrorKind::InvalidValue => {
            (format!("invalid value {:?} for {}", value(), argument()), allowed(error))
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(|source| in_one_line(&source.to_string()));
            (format!("invalid value {:?} for {}", value(), argument()), why.unwrap_or_default())
        }
        ErrorKind::ArgumentConflict => {
            let prior = name(ContextKind::PriorArg) + &origin(ContextKind::PriorArg).unwrap_or_default();
            (
                format!("{} cannot be used with {prior}", argument()),
                "only one of them can be given".to_owned(),
            )
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            ("no verb is given".to_owned(), "a verb is required".to_owned())
        }
        _ => {
            let rendered = error.render().to_string();
            let first = rendered.lines().next().unwrap_or_default();
            (first.trim_start_matches("error: ").to_owned(), "the command line cannot be parsed".to_owned())
        }
    };
    Problem::new(Exit::Input, "usage", message).because(why).hint(hint(error, verb))
}

fn allowed(error: &clap::Error) -> String {
    match error.get(ContextKind::ValidValue).and_then(shown) {
        Some(values) => format!("must be one of {values}"),
        None => "a value is required".to_owned(),
    }
}

fn hint(error: &clap::Error, verb: Option<&str>) -> String {
    let suggested =
        [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue]
            .into_iter()
            .find_map(|kind| match error.get(kind) {
                // The nearest comes last.
                Some(ContextValue::Strings(texts)) => texts.last().cloned(),
                other => other.and_then(shown),
            });
    match suggested {
        Some(suggested) => format!("did you mean {suggested}?"),
        None => match verb {
            Some(verb) => format!("see `trainerd {verb} --help`"),
            None => "see `trainerd --help`".to_owned(),
        },
    }
}

fn shown(value: &ContextValue) -> Option<String> {
    match value {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")).filter(|text| !text.is_empty()),
        ContextValue::StyledStr(text) => Some(text.to_string()),
        ContextValue::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
