//! The variables that stand for flags: an empty one is none, and an error says which one it was.

use std::ffi::OsString;

use clap::builder::Resettable;
use clap::{Arg, Command};

/// How variables are looked up; the process's own environment, except in tests.
type Lookup<'a> = &'a dyn Fn(&std::ffi::OsStr) -> Option<OsString>;

/// The process's own environment.
pub(super) fn lookup(name: &std::ffi::OsStr) -> Option<OsString> {
    std::env::var_os(name)
}

/// The command without the variables that are empty: what CI leaves unset comes as an empty text.
pub(super) fn without_empty(command: Command, lookup: Lookup<'_>) -> Command {
    let is_empty = |arg: &Arg| arg.get_env().and_then(lookup).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(|verb| without_empty(verb, lookup))
}

/// The variable that gave an argument its value, where no word of the command line did. `shown` is how clap names
/// the argument.
pub(super) fn giver(command: &Command, words: &[String], shown: &str, lookup: Lookup<'_>) -> Option<String> {
    // An argument knows how it is shown once its command is built.
    let mut command = command.clone();
    command.build();
    let arg = find(&command, shown)?;
    let name = arg.get_env().filter(|name| lookup(name).is_some_and(|value| !value.is_empty()))?;
    let long = arg.get_long().map(|long| format!("--{long}"));
    let short = arg.get_short().map(|short| format!("-{short}"));
    let gives = |word: &String| {
        long.as_ref().is_some_and(|long| word == long || word.starts_with(&format!("{long}=")))
            || short.as_ref().is_some_and(|short| word.starts_with(short) && !word.starts_with("--"))
    };
    (!words.iter().any(gives)).then(|| name.to_string_lossy().into_owned())
}

fn find<'c>(command: &'c Command, shown: &str) -> Option<&'c Arg> {
    let own = command.get_arguments().find(|arg| arg.to_string() == shown);
    own.or_else(|| command.get_subcommands().find_map(|verb| find(verb, shown)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    /// Every variable is empty, or says what no flag takes.
    fn all(value: &'static str) -> impl Fn(&std::ffi::OsStr) -> Option<OsString> {
        move |name| name.to_string_lossy().starts_with("TRAINERD_").then(|| OsString::from(value))
    }

    #[test]
    fn an_empty_variable_is_none() {
        fn variables(command: &Command) -> usize {
            let own = command.get_arguments().filter(|arg| arg.get_env().is_some()).count();
            own + command.get_subcommands().map(variables).sum::<usize>()
        }
        let command = Cli::command();
        assert!(variables(&command) > 10);
        assert_eq!(variables(&without_empty(command.clone(), &all(""))), 0);
        assert_eq!(variables(&without_empty(command.clone(), &all("x"))), variables(&command));
    }

    #[test]
    fn errors_name_the_variable_unless_a_flag_was_given() {
        let command = Cli::command();
        let named = |line: &str, shown: &str| giver(&command, &words(line), shown, &all("soon"));
        let timeout = "--timeout <DURATION>";
        assert_eq!(named("trainerd up", timeout).as_deref(), Some("TRAINERD_TIMEOUT"));
        assert_eq!(named("trainerd up --timeout later", timeout), None);
        assert_eq!(named("trainerd up --timeout=later", timeout), None);
        assert_eq!(named("trainerd up -n X", "--namespace <NAMESPACE>"), None);
        assert_eq!(named("trainerd up", "--set <NAME=VALUE>"), None);
    }
}
