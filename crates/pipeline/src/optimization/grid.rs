//! Grid search: every combination of choices once, the last parameter changing first.

use super::space::{Domain, Parameter};

/// How many combinations there are.
pub(super) fn size(parameters: &[Parameter]) -> u64 {
    parameters.iter().fold(1, |size: u64, parameter| size.saturating_mul(choices(parameter).len() as u64))
}

/// The values of one combination.
pub(super) fn values(parameters: &[Parameter], number: u32) -> Vec<String> {
    let mut rest = u64::from(number);
    let mut values: Vec<String> = parameters
        .iter()
        .rev()
        .map(|parameter| {
            let choices = choices(parameter);
            let count = (choices.len() as u64).max(1);
            let index = usize::try_from(rest % count).unwrap_or_default();
            rest /= count;
            choices.get(index).cloned().unwrap_or_default()
        })
        .collect();
    values.reverse();
    values
}

fn choices(parameter: &Parameter) -> &[String] {
    match &parameter.domain {
        Domain::Choice(choices) => choices,
        // The CRD's rule, and `Search`, admit none.
        Domain::Float { .. } | Domain::Int { .. } => &[],
    }
}
