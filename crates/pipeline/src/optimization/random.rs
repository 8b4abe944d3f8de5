//! Numbers that are drawn: the same for the same seed, trial and parameter, on every machine and in every version.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::space::Parameter;
use crate::names::uid;
use crate::value::at;

/// What a job draws from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seed(String);

impl Seed {
    /// The seed that a job names; without one each job has its own.
    pub(super) fn of(job: &Value) -> Self {
        match at(job, &["spec", "searchAlgorithm", "random", "seed"]).as_i64() {
            Some(seed) => Self(format!("seed {seed}")),
            None => Self(format!("uid {}", uid(job))),
        }
    }

    /// The numbers of one parameter in one trial: by its name, so that a further parameter changes no other.
    pub(super) fn draws(&self, trial: u32, parameter: &Parameter) -> RandomSequence {
        let text = format!("optimization/{}/{trial}/{}", self.0, parameter.name);
        RandomSequence(ChaCha8Rng::from_seed(Sha256::digest(text).into()))
    }
}

/// A sequence of numbers.
pub(super) struct RandomSequence(ChaCha8Rng);

impl RandomSequence {
    /// A number from 0 up to, and without, 1.
    pub(super) fn unit(&mut self) -> f64 {
        // As many bits as the fraction of a float has.
        #[allow(clippy::cast_precision_loss, reason = "53 bits, which a float holds")]
        let number = (self.0.next_u64() >> 11) as f64;
        number / 9_007_199_254_740_992.0
    }

    /// A number from 0 up to, and without, `count`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a few hundred at most"
        )]
        let index = (self.unit() * count as f64) as usize;
        index.min(count.saturating_sub(1))
    }
}
