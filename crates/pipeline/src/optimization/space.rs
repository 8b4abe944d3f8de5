//! Parameters, and the values that they may have.

use serde_json::Value;

use super::VARIABLE;
use crate::field_error::FieldError;
use crate::value::{at, items, text, texts};

/// Integers beyond it are not all floats.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_992.0;

/// A parameter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) domain: Domain,
}

/// The values of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Domain {
    /// One of these texts.
    Choice(Vec<String>),
    /// A number between two, both included.
    Float { scale: Scale, min: f64, max: f64 },
    /// An integer between two, both included.
    Int { scale: Scale, min: i64, max: i64 },
}

/// What is uniform: the number, or its logarithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Log,
}

impl Scale {
    fn of(self, number: f64) -> f64 {
        match self {
            Self::Linear => number,
            Self::Log => number.ln(),
        }
    }

    fn back(self, number: f64) -> f64 {
        match self {
            Self::Linear => number,
            Self::Log => number.exp(),
        }
    }
}

impl Parameter {
    /// Reads `spec.parameters[index]`.
    pub(super) fn read(parameter: &Value, index: usize) -> Result<Self, FieldError> {
        let name = text(parameter, &["name"]).unwrap_or_default().to_owned();
        let space = at(parameter, &["searchSpace"]);
        let path = format!("spec.parameters[{index}].searchSpace");
        let domain = if space.get("categorical").is_some() {
            choices(space, &path)?
        } else if let Some(space) = space.get("logUniform") {
            range(space, Scale::Log, &format!("{path}.logUniform"))?
        } else {
            range(at(space, &["uniform"]), Scale::Linear, &format!("{path}.uniform"))?
        };
        Ok(Self { name, domain })
    }

    /// The variable that holds its value. What no name of a variable holds is an underscore.
    pub(super) fn variable(&self) -> String {
        let letter = |letter: char| match letter {
            'a'..='z' => letter.to_ascii_uppercase(),
            'A'..='Z' | '0'..='9' => letter,
            _ => '_',
        };
        format!("{VARIABLE}{}", self.name.chars().map(letter).collect::<String>())
    }
}

fn choices(space: &Value, path: &str) -> Result<Domain, FieldError> {
    let choices = texts(space, &["categorical", "choices"]);
    let path = format!("{path}.categorical.choices");
    if choices.is_empty() {
        return Err(FieldError::invalid(path, "[]", "must have at least 1 item"));
    }
    // `status.result` takes no empty value.
    if let Some(empty) = items(space, &["categorical", "choices"]).iter().position(|choice| choice == "") {
        return Err(FieldError::invalid_text(format!("{path}[{empty}]"), "", "must not be empty"));
    }
    Ok(Domain::Choice(choices))
}

fn range(space: &Value, scale: Scale, path: &str) -> Result<Domain, FieldError> {
    let number = |key: &str| {
        let given = text(space, &[key]).unwrap_or_default();
        let number = given.parse::<f64>().ok().filter(|number| number.is_finite());
        number.ok_or_else(|| {
            FieldError::invalid_text(
                format!("{path}.{key}"),
                given,
                "must be a number that a 64-bit float holds",
            )
        })
    };
    let (min, max) = (number("min")?, number("max")?);
    let given = text(space, &["min"]).unwrap_or_default();
    if min >= max {
        return Err(FieldError::invalid_text(format!("{path}.min"), given, "must be strictly less than max"));
    }
    if scale == Scale::Log && min <= 0.0 {
        return Err(FieldError::invalid_text(
            format!("{path}.min"),
            given,
            "must be strictly greater than 0",
        ));
    }
    if text(space, &["type"]) != Some("Int") {
        return Ok(Domain::Float { scale, min, max });
    }
    let (min, max) = (min.ceil(), max.floor());
    if min > max {
        return Err(FieldError::invalid_text(
            format!("{path}.min"),
            given,
            "there is no integer from min to max",
        ));
    }
    if min < -MAX_SAFE_INTEGER || max > MAX_SAFE_INTEGER {
        let detail = "integers must be from -2^53 to 2^53";
        return Err(FieldError::invalid_text(format!("{path}.min"), given, detail));
    }
    #[allow(clippy::cast_possible_truncation, reason = "integers, and bounded above")]
    Ok(Domain::Int { scale, min: min as i64, max: max as i64 })
}

impl Domain {
    /// The value at a place in the space, from 0 to 1: equal parts of it are as likely.
    pub(super) fn value(&self, place: f64) -> String {
        match self {
            Self::Choice(choices) => {
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "from 0 to the number of choices, of which there are at most 100"
                )]
                let index = ((place * choices.len() as f64) as usize).min(choices.len() - 1);
                choices[index].clone()
            }
            Self::Float { scale, min, max } => {
                let (low, high) = (scale.of(*min), scale.of(*max));
                // Not `low + place * (high - low)`: the difference may be more than a float holds.
                let number = scale.back(low * (1.0 - place) + high * place).clamp(*min, *max);
                // Python, C and Go read both `0.25` and `1e-7`.
                format!("{number:?}")
            }
            Self::Int { scale, min, max } => {
                let (low, high) = edges(*scale, *min, *max);
                let number = scale.back(low * (1.0 - place) + high * place).round();
                #[allow(clippy::cast_possible_truncation, reason = "within bounds that are integers")]
                let number = (number as i64).clamp(*min, *max);
                number.to_string()
            }
        }
    }

    /// The place of a value; `None` for what is no value of it. Of a choice it is the middle of its part.
    pub(super) fn place(&self, value: &str) -> Option<f64> {
        match self {
            #[allow(clippy::cast_precision_loss, reason = "at most 100")]
            Self::Choice(choices) => {
                let index = choices.iter().position(|choice| choice == value)?;
                Some((index as f64 + 0.5) / choices.len() as f64)
            }
            Self::Float { scale, min, max } => {
                let number = value.parse::<f64>().ok().filter(|number| (*min..=*max).contains(number))?;
                Some(between(scale.of(*min), scale.of(*max), scale.of(number)))
            }
            #[allow(clippy::cast_precision_loss, reason = "at most 2^53")]
            Self::Int { scale, min, max } => {
                let number = value.parse::<i64>().ok().filter(|number| (*min..=*max).contains(number))?;
                let (low, high) = edges(*scale, *min, *max);
                Some(between(low, high, scale.of(number as f64)))
            }
        }
    }
}

/// Half a step beyond both ends, so that rounding makes all integers as likely.
#[allow(clippy::cast_precision_loss, reason = "at most 2^53")]
fn edges(scale: Scale, min: i64, max: i64) -> (f64, f64) {
    (scale.of(min as f64 - 0.5), scale.of(max as f64 + 0.5))
}

fn between(low: f64, high: f64, number: f64) -> f64 {
    // Halved first, for the difference may be more than a float holds.
    ((number / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(space: &Value) -> Result<Domain, String> {
        let parameter = json!({"name": "p", "searchSpace": space});
        Parameter::read(&parameter, 3).map(|it| it.domain).map_err(|error| error.to_string())
    }

    #[test]
    fn search_spaces_are_parsed_or_rejected() {
        let float = |scale, min, max| Ok(Domain::Float { scale, min, max });
        for (space, expected) in [
            (json!({"uniform": {"min": "-1", "max": "2.5e1"}}), float(Scale::Linear, -1.0, 25.0)),
            (
                json!({"logUniform": {"min": "1e-5", "max": "1", "type": "Float"}}),
                float(Scale::Log, 1e-5, 1.0),
            ),
            (
                json!({"uniform": {"min": "0.5", "max": "4.9", "type": "Int"}}),
                Ok(Domain::Int { scale: Scale::Linear, min: 1, max: 4 }),
            ),
            (
                json!({"categorical": {"choices": ["a", "b"]}}),
                Ok(Domain::Choice(vec!["a".into(), "b".into()])),
            ),
        ] {
            assert_eq!(read(&space), expected);
        }
        for (space, error) in [
            (
                json!({"categorical": {"choices": ["a", ""]}}),
                "spec.parameters[3].searchSpace.categorical.choices[1]: Invalid value: \"\": must not be empty",
            ),
            (
                json!({"uniform": {"min": "0.1", "max": "0.9", "type": "Int"}}),
                "spec.parameters[3].searchSpace.uniform.min: Invalid value: \"0.1\": there is no integer from min to max",
            ),
            (
                json!({"uniform": {"min": "0", "max": "1e999"}}),
                "spec.parameters[3].searchSpace.uniform.max: Invalid value: \"1e999\": must be a number that a 64-bit \
                 float holds",
            ),
            (
                json!({"uniform": {"min": "0", "max": "1e300", "type": "Int"}}),
                "spec.parameters[3].searchSpace.uniform.min: Invalid value: \"0\": integers must be from -2^53 to 2^53",
            ),
            (
                json!({"logUniform": {"min": "0", "max": "1"}}),
                "spec.parameters[3].searchSpace.logUniform.min: Invalid value: \"0\": must be strictly greater than 0",
            ),
        ] {
            assert_eq!(read(&space), Err(error.to_owned()));
        }
    }

    #[test]
    fn a_name_becomes_the_name_of_a_variable() {
        let parameter =
            |name: &str| Parameter { name: name.into(), domain: Domain::Choice(vec!["a".into()]) };
        for (name, variable) in [
            ("learning_rate", "KUBEFLOW_TRAINER_OPT_LEARNING_RATE"),
            ("lr-2.x", "KUBEFLOW_TRAINER_OPT_LR_2_X"),
            ("größe", "KUBEFLOW_TRAINER_OPT_GR__E"),
        ] {
            assert_eq!(parameter(name).variable(), variable);
        }
    }

    #[test]
    fn integers_are_uniform() {
        let domain = Domain::Int { scale: Scale::Linear, min: -1, max: 2 };
        let mut counts = std::collections::BTreeMap::<String, u32>::new();
        for step in 0..1000 {
            *counts.entry(domain.value((f64::from(step) + 0.5) / 1000.0)).or_default() += 1;
        }
        assert!(counts.values().all(|count| (240..=260).contains(count)), "{counts:?}");
        assert_eq!(counts.len(), 4);
    }

    fn domain() -> impl Strategy<Value = Domain> {
        let scale = prop_oneof![Just(Scale::Linear), Just(Scale::Log)];
        prop_oneof![
            prop::collection::btree_set("[a-c]{1,3}", 1..5)
                .prop_map(|choices| Domain::Choice(choices.into_iter().collect())),
            (scale.clone(), 1e-300..1e300_f64, 1e-300..1e300_f64)
                .prop_filter("a range", |(_, a, b)| a < b)
                .prop_map(|(scale, min, max)| Domain::Float { scale, min, max }),
            (-1e308..1e308_f64, -1e308..1e308_f64)
                .prop_filter("a range", |(a, b)| a < b)
                .prop_map(|(min, max)| Domain::Float { scale: Scale::Linear, min, max }),
            (scale, 1..1_000_i64, 0..(1_i64 << 50)).prop_map(|(scale, min, more)| Domain::Int {
                scale,
                min,
                max: min + more
            }),
        ]
    }

    proptest! {
        #[test]
        fn every_point_has_a_valid_value(domain in domain(), place in 0.0..=1.0_f64) {
            let value = domain.value(place);
            prop_assert!((1..=64).contains(&value.len()), "{value}");
            let back = domain.place(&value);
            prop_assert!(back.is_some_and(|back| (0.0..=1.0).contains(&back)), "{value} is not of {domain:?}");
            prop_assert!(!domain.value(back.unwrap_or_default()).is_empty());
        }
    }
}
