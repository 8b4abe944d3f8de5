//! What a job asks for, read from its spec and from the annotations that add to it.

use serde_json::Value;

use super::random::Seed;
use super::space::{Domain, Parameter};
use super::trial::{State, Trial};
use super::{MAX_TRIALS, grid, tpe};
use crate::field_error::FieldError;
use crate::names::EXTENDED;
use crate::value::{at, items, text};

/// Trials that are random before TPE has something to go by: a quarter of all, and no more than Bergstra's own
/// implementation and its successors take half of.
const STARTUP: u32 = 10;
/// Failed trials that a job puts up with in any case.
const FAILED: u32 = 3;

/// A search.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Search {
    pub(super) parameters: Vec<Parameter>,
    pub(super) algorithm: Algorithm,
    seed: Seed,
    pub(super) metric: String,
    maximize: bool,
    trials: u32,
    pub(super) parallel: u32,
    /// More failed trials than these end it.
    pub(super) max_failed: u32,
}

/// How values are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Random,
    Grid,
    Tpe,
}

impl Search {
    /// Reads a job.
    ///
    /// # Errors
    /// Everything that cannot be searched.
    pub(super) fn of(job: &Value) -> Result<Self, Vec<FieldError>> {
        let spec = at(job, &["spec"]);
        let mut errors = Vec::new();
        let mut parameters = Vec::new();
        for (index, parameter) in items(spec, &["parameters"]).iter().enumerate() {
            match Parameter::read(parameter, index) {
                Ok(parameter) => parameters.push(parameter),
                Err(error) => errors.push(error),
            }
        }
        let algorithm = algorithm(job).unwrap_or_else(|error| {
            errors.push(error);
            Algorithm::Random
        });
        let is_choice = |it: &Parameter| matches!(it.domain, Domain::Choice(_));
        if algorithm == Algorithm::Grid && errors.is_empty() && !parameters.iter().all(is_choice) {
            errors.push(FieldError::forbidden(
                "spec.searchAlgorithm.grid",
                "all parameters must be categorical",
            ));
        }
        let count = |key: &str| {
            let count = at(spec, &[key]).as_i64().and_then(|count| u32::try_from(count).ok());
            count.unwrap_or(1).clamp(1, MAX_TRIALS)
        };
        let trials = count("numTrials");
        let max_failed = max_failed(job, trials).unwrap_or_else(|error| {
            errors.push(error);
            0
        });
        let objective = items(spec, &["objectives"]).first().unwrap_or(&Value::Null);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            parameters,
            algorithm,
            seed: Seed::of(job),
            metric: text(objective, &["metric"]).unwrap_or_default().to_owned(),
            maximize: text(objective, &["direction"]) == Some("Maximize"),
            trials,
            parallel: count("parallelTrials"),
            max_failed,
        })
    }

    /// How many trials there will be: a grid has no more than its combinations.
    pub(super) fn total(&self) -> u32 {
        match self.algorithm {
            Algorithm::Grid => {
                u32::try_from(grid::size(&self.parameters)).unwrap_or(u32::MAX).min(self.trials)
            }
            Algorithm::Random | Algorithm::Tpe => self.trials,
        }
    }

    /// Whether every combination comes before as many trials as are asked for.
    pub(super) fn is_exhaustive(&self) -> bool {
        self.total() < self.trials
    }

    /// Of two objectives, whether the first is strictly better.
    pub(super) fn is_better(&self, one: f64, other: f64) -> bool {
        if self.maximize { one > other } else { one < other }
    }

    /// The values of a trial, in the order of the parameters. Trials beside it matter to TPE alone.
    pub(super) fn values(&self, number: u32, trials: &[Trial]) -> Vec<String> {
        match self.algorithm {
            Algorithm::Grid => grid::values(&self.parameters, number),
            Algorithm::Random => self.random(number),
            Algorithm::Tpe => self.tpe(number, trials),
        }
    }

    fn random(&self, number: u32) -> Vec<String> {
        let one = |parameter: &Parameter| parameter.domain.value(self.seed.draws(number, parameter).unit());
        self.parameters.iter().map(one).collect()
    }

    fn tpe(&self, number: u32, trials: &[Trial]) -> Vec<String> {
        let mut ended: Vec<(f64, &Trial)> = Vec::new();
        // What failed is no place to look at again, and neither is what runs already.
        let mut others: Vec<&Trial> = Vec::new();
        for trial in trials {
            match trial.state {
                State::Succeeded(objective) => ended.push((objective, trial)),
                State::Failed(_) | State::Running => others.push(trial),
            }
        }
        if ended.len() < (self.trials / 4).clamp(1, STARTUP) as usize {
            return self.random(number);
        }
        ended.sort_by(|(one, a), (other, b)| {
            let order = one.total_cmp(other);
            (if self.maximize { order.reverse() } else { order }).then(a.number.cmp(&b.number))
        });
        let (good, rest) = ended.split_at(tpe::good(ended.len()).min(ended.len()));
        others.extend(rest.iter().map(|(_, trial)| *trial));
        let good: Vec<&Trial> = good.iter().map(|(_, trial)| *trial).collect();
        let values = self.parameters.iter().enumerate().map(|(index, parameter)| {
            let places = |trials: &[&Trial]| -> Vec<f64> {
                trials.iter().filter_map(|it| parameter.domain.place(it.values.get(index)?)).collect()
            };
            let mut draws = self.seed.draws(number, parameter);
            tpe::value(&parameter.domain, &places(&good), &places(&others), &mut draws)
        });
        values.collect()
    }
}

fn annotation<'a>(job: &'a Value, name: &str) -> (String, Option<&'a str>) {
    let key = format!("{EXTENDED}/{name}");
    let value = text(job, &["metadata", "annotations", &key]);
    (format!("metadata.annotations[{key}]"), value)
}

/// The CRD has no word for TPE, so that an annotation asks for it.
fn algorithm(job: &Value) -> Result<Algorithm, FieldError> {
    let is_grid = at(job, &["spec", "searchAlgorithm"]).get("grid").is_some();
    let (path, asked) = annotation(job, "search-algorithm");
    match asked {
        None if is_grid => Ok(Algorithm::Grid),
        None => Ok(Algorithm::Random),
        Some("tpe") if is_grid => Err(FieldError::invalid_text(
            path,
            "tpe",
            "may take the place of random only, and this is a grid search",
        )),
        Some("tpe") => Ok(Algorithm::Tpe),
        Some(other) => Err(FieldError::invalid_text(path, other, "must be tpe, or absent")),
    }
}

fn max_failed(job: &Value, trials: u32) -> Result<u32, FieldError> {
    let (path, asked) = annotation(job, "max-failed-trials");
    let Some(asked) = asked else { return Ok((trials / 4).max(FAILED)) };
    asked.parse().map_err(|_| FieldError::invalid_text(path, asked, "must be a number of trials, 0 or more"))
}
