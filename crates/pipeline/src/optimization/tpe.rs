//! The tree-structured Parzen estimator (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NIPS 2011), one
//! parameter at a time.
//!
//! What has ended is split into the best tenth and the rest. Two densities are estimated, of the places of the good ones
//! and of the others; of some candidates drawn from the first, the one is taken that it favours most over the second.

use super::random::RandomSequence;
use super::space::Domain;

/// Candidates of a parameter, as in the paper's experiments.
const CANDIDATES: u32 = 24;
/// Part of the trials that counts as good. With more of them, what they have in common by chance is taken for a reason.
const GOOD_FRACTION: f64 = 0.1;

/// How many of that many trials count as good: at least one.
pub(super) fn good(ended: usize) -> usize {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "at most 100"
    )]
    let count = (ended as f64 * GOOD_FRACTION).ceil() as usize;
    count.max(1)
}

/// A value, given where those of good and of other trials are.
pub(super) fn value(domain: &Domain, good: &[f64], others: &[f64], draws: &mut RandomSequence) -> String {
    match domain {
        Domain::Choice(choices) => {
            let (good, others) =
                (Frequencies::of(choices.len(), good), Frequencies::of(choices.len(), others));
            let candidates = (0..CANDIDATES).map(|_| good.draw(draws));
            let best = best(candidates, |index| good.0[*index] / others.0[*index]);
            best.map_or_else(|| domain.value(0.0), |index| choices[index].clone())
        }
        Domain::Float { .. } | Domain::Int { .. } => {
            let (good, others) = (Density::of(good), Density::of(others));
            let candidates = (0..CANDIDATES).map(|_| good.draw(draws));
            let best = best(candidates, |place| good.at(*place) / others.at(*place));
            domain.value(best.unwrap_or(0.5))
        }
    }
}

/// The first candidate of the highest score.
fn best<T>(candidates: impl Iterator<Item = T>, score: impl Fn(&T) -> f64) -> Option<T> {
    let mut best: Option<(f64, T)> = None;
    for candidate in candidates {
        let score = score(&candidate);
        if best.as_ref().is_none_or(|(highest, _)| score > *highest) {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// How often each choice was taken, as parts of 1, and once more than it was: one that fared badly once or twice, maybe for
/// another parameter's sake, is looked at again.
struct Frequencies(Vec<f64>);

impl Frequencies {
    #[allow(clippy::cast_precision_loss, reason = "at most 100 of both")]
    fn of(choices: usize, places: &[f64]) -> Self {
        let mut shares = vec![1.0; choices];
        for place in places {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1")]
            let index = ((place * choices as f64) as usize).min(choices - 1);
            shares[index] += 1.0;
        }
        let all = (places.len() + choices) as f64;
        Self(shares.into_iter().map(|share| share / all).collect())
    }

    fn draw(&self, draws: &mut RandomSequence) -> usize {
        let mut rest = draws.unit();
        for (index, share) in self.0.iter().enumerate() {
            rest -= share;
            if rest < 0.0 {
                return index;
            }
        }
        self.0.len() - 1
    }
}

/// A mixture of bells, one around each place and one over all of the space, each cut at the space's ends.
///
/// The bells are logistic, not Gaussian: the same shape for this purpose, and its integral and that one's inverse are
/// elementary functions.
struct Density(Vec<Kernel>);

struct Kernel {
    centre: f64,
    scale: f64,
    /// Integral up to the ends of the space.
    from: f64,
    to: f64,
}

impl Kernel {
    fn new(centre: f64, deviation: f64) -> Self {
        let scale = deviation * 3.0_f64.sqrt() / std::f64::consts::PI;
        let integral = |place: f64| 1.0 / (1.0 + (-(place - centre) / scale).exp());
        Self { centre, scale, from: integral(0.0), to: integral(1.0) }
    }

    fn at(&self, place: f64) -> f64 {
        let power = (-((place - self.centre) / self.scale).abs()).exp();
        power / (self.scale * (1.0 + power).powi(2)) / (self.to - self.from)
    }

    fn draw(&self, unit: f64) -> f64 {
        let integral = self.from + unit * (self.to - self.from);
        (self.centre + self.scale * (integral / (1.0 - integral)).ln()).clamp(0.0, 1.0)
    }
}

impl Density {
    /// Each bell is as wide as the larger gap to its neighbours, within bounds that narrow as trials come in.
    fn of(places: &[f64]) -> Self {
        let mut places = places.to_vec();
        places.sort_by(f64::total_cmp);
        #[allow(clippy::cast_precision_loss, reason = "at most 100")]
        let least = 1.0 / (places.len() as f64 + 1.0).min(100.0);
        let mut bells = vec![Kernel::new(0.5, 1.0)];
        for (index, place) in places.iter().enumerate() {
            let before = index.checked_sub(1).map_or(0.0, |index| places[index]);
            let after = places.get(index + 1).copied().unwrap_or(1.0);
            bells.push(Kernel::new(*place, (place - before).max(after - place).clamp(least, 1.0)));
        }
        Self(bells)
    }

    fn at(&self, place: f64) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "at most 101")]
        let all = self.0.len() as f64;
        self.0.iter().map(|bell| bell.at(place)).sum::<f64>() / all
    }

    fn draw(&self, draws: &mut RandomSequence) -> f64 {
        let bell = &self.0[draws.below(self.0.len())];
        bell.draw(draws.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_density_is_one_over_the_space() {
        for places in [&[][..], &[0.0], &[0.2, 0.2, 0.9], &[1.0, 0.999]] {
            let density = Density::of(places);
            let steps = 20_000_u32;
            let sum: f64 =
                (0..steps).map(|step| density.at((f64::from(step) + 0.5) / f64::from(steps))).sum();
            let integral = sum / f64::from(steps);
            assert!((integral - 1.0).abs() < 1e-3, "{places:?}: {integral}");
        }
    }

    #[test]
    fn at_least_one_trial_is_good() {
        assert_eq!([0, 1, 10, 11, 100].map(good), [1, 1, 1, 2, 10]);
    }
}
