//! Feature gates.

use crate::go;

/// The gate of the status server.
const TRAIN_JOB_STATUS: &str = "TrainJobStatus";
/// The gate that sets all alpha ones which are not set themselves.
const ALL_ALPHA: &str = "AllAlpha";
/// The gate that sets all beta ones, of which there are none.
const ALL_BETA: &str = "AllBeta";

/// Gates, as far as they are set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    train_job_status: Option<bool>,
    all_alpha: Option<bool>,
}

/// What is wrong with a gate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// There is no such gate.
    #[error("unrecognized feature gate: {0}")]
    Unknown(String),
    /// A gate of the command line without a value.
    #[error("missing bool value for {0}")]
    NoValue(String),
    /// A gate of the command line with another value.
    #[error("invalid value of {gate}={value}, err: strconv.ParseBool: parsing {}: invalid syntax", go::quoted(.value))]
    Value {
        /// The gate.
        gate: String,
        /// Its value.
        value: String,
    },
}

impl FeatureGates {
    /// Sets gates; later ones win.
    ///
    /// # Errors
    /// When one does not exist; nothing is set then.
    pub fn set<'a>(&mut self, gates: impl IntoIterator<Item = (&'a str, bool)>) -> Result<(), GateError> {
        let mut new = *self;
        for (gate, on) in gates {
            match gate {
                TRAIN_JOB_STATUS => new.train_job_status = Some(on),
                ALL_ALPHA => new.all_alpha = Some(on),
                ALL_BETA => {}
                _ => return Err(GateError::Unknown(gate.to_owned())),
            }
        }
        *self = new;
        Ok(())
    }

    /// Sets gates of the command line: `A=true,B=false`.
    ///
    /// # Errors
    /// What is wrong with them; nothing is set then.
    pub fn set_text(&mut self, text: &str) -> Result<(), GateError> {
        let mut gates = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (gate, value) = part.split_once('=').ok_or_else(|| GateError::NoValue(part.to_owned()))?;
            let (gate, value) = (gate.trim(), value.trim());
            let on = match value {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
                "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
                _ => return Err(GateError::Value { gate: gate.to_owned(), value: value.to_owned() }),
            };
            gates.push((gate, on));
        }
        self.set(gates)
    }

    /// Whether training code may report its progress.
    pub fn train_job_status(&self) -> bool {
        self.train_job_status.or(self.all_alpha).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_set_by_name_or_by_stage() {
        for (text, expected) in [
            ("", Ok(false)),
            ("TrainJobStatus=true", Ok(true)),
            ("AllAlpha=1", Ok(true)),
            ("AllAlpha=true,TrainJobStatus=false", Ok(false)),
            ("TrainJobStatus=true, AllAlpha=false", Ok(true)),
            ("AllBeta=true", Ok(false)),
            ("X=true", Err("unrecognized feature gate: X")),
            ("TrainJobStatus", Err("missing bool value for TrainJobStatus")),
            (
                "TrainJobStatus=yes",
                Err(
                    "invalid value of TrainJobStatus=yes, err: strconv.ParseBool: parsing \"yes\": invalid syntax",
                ),
            ),
        ] {
            let mut gates = FeatureGates::default();
            let result =
                gates.set_text(text).map(|()| gates.train_job_status()).map_err(|error| error.to_string());
            assert_eq!(result, expected.map_err(str::to_owned), "{text}");
        }
    }
}
