//! Figures, and the table that they are printed as.

use std::fmt;

use serde::Serialize;

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Unit {
    Seconds,
    Bytes,
    Requests,
}

/// A ratio to something measured in the same run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub(crate) value: f64,
    /// To what.
    pub(crate) to: String,
}

/// The most that is promised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "of", content = "atMost")]
pub(crate) enum Goal {
    /// Of the value.
    Value(f64),
    /// Of the ratio.
    Ratio(f64),
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// The figure of lifecycle §10 that it belongs to, or what it is about.
    pub(crate) group: &'static str,
    /// What was measured.
    pub(crate) what: String,
    /// The median of the rounds.
    pub(crate) value: f64,
    pub(crate) unit: Unit,
    /// The least and the greatest of the rounds, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) range: Option<(f64, f64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<Ratio>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) goal: Option<Goal>,
}

impl Figure {
    /// A figure of the values of several rounds, in the order of the rounds.
    pub(crate) fn new(group: &'static str, what: impl Into<String>, unit: Unit, values: &[f64]) -> Self {
        let sorted = sorted(values);
        let range = match sorted.as_slice() {
            [least, .., greatest] if least < greatest => Some((*least, *greatest)),
            _ => None,
        };
        Self { group, what: what.into(), value: middle(&sorted), unit, range, ratio: None, goal: None }
    }

    /// With the median of the ratios round by round: what disturbs a round disturbs both sides of it.
    pub(crate) fn with_ratio_to(mut self, to: &str, values: &[f64], others: &[f64]) -> Self {
        let ratios: Vec<f64> = values.iter().zip(others).map(|(value, other)| value / other).collect();
        self.ratio = Some(Ratio { value: middle(&sorted(&ratios)), to: to.to_owned() });
        self
    }

    /// With what is promised.
    pub(crate) fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Whether the promise is kept; `None` where none was given.
    pub(crate) fn met(&self) -> Option<bool> {
        match self.goal? {
            Goal::Value(most) => Some(self.value <= most),
            Goal::Ratio(most) => Some(self.ratio.as_ref()?.value <= most),
        }
    }

    fn row(&self) -> String {
        let value = Value(self.value, self.unit);
        let range = match self.range {
            Some((least, greatest)) => {
                format!(" ({} to {})", Value(least, self.unit), Value(greatest, self.unit))
            }
            None => String::new(),
        };
        let ratio = match &self.ratio {
            Some(Ratio { value, to }) => format!("{value:.2} × {to}"),
            None => String::new(),
        };
        let goal = match self.goal {
            Some(Goal::Value(most)) => format!("≤ {}", Value(most, self.unit)),
            Some(Goal::Ratio(most)) => format!("≤ {most} ×"),
            None => String::new(),
        };
        let met = match self.met() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        };
        format!("| {} | {} | {value}{range} | {ratio} | {goal} | {met} |\n", self.group, self.what)
    }
}

/// The figures as a Markdown table.
pub(crate) fn markdown(figures: &[Figure]) -> String {
    let head = "| figure | what | median (least to greatest) | ratio | goal | |\n|---|---|---|---|---|---|\n";
    figures.iter().fold(head.to_owned(), |table, figure| table + &figure.row())
}

struct Value(f64, Unit);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, unit) = *self;
        match unit {
            Unit::Seconds if value < 1.0 => write!(f, "{:.1} ms", value * 1e3),
            Unit::Seconds => write!(f, "{value:.2} s"),
            Unit::Bytes if value < 1e6 => write!(f, "{:.1} kB", value / 1e3),
            Unit::Bytes => write!(f, "{:.1} MB", value / 1e6),
            Unit::Requests => write!(f, "{value} requests"),
        }
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The median; of an even number of values the lower of the two in the middle. 0 of none.
fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// A count as a value. Exact up to 2^53, which no count here comes near.
#[expect(clippy::cast_precision_loss, reason = "counts and sizes here are far below 2^53")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_median_range_ratio_and_whether_the_goal_is_met() {
        let cases = [
            (
                Figure::new("4", "a", Unit::Seconds, &[3.0, 1.0, 2.0])
                    .with_ratio_to("bare", &[3.0, 1.0, 2.0], &[2.0, 1.0, 1.0])
                    .goal(Goal::Ratio(1.5)),
                "| 4 | a | 2.00 s (1.00 s to 3.00 s) | 1.50 × bare | ≤ 1.5 × | met |\n",
            ),
            (
                Figure::new("4", "b", Unit::Requests, &[511.0]).goal(Goal::Value(510.0)),
                "| 4 | b | 511 requests |  | ≤ 510 requests | **missed** |\n",
            ),
            (Figure::new("7", "c", Unit::Bytes, &[51_200_000.0]), "| 7 | c | 51.2 MB |  |  |  |\n"),
            (Figure::new("7", "d", Unit::Bytes, &[3_920.0]), "| 7 | d | 3.9 kB |  |  |  |\n"),
            (Figure::new("x", "e", Unit::Seconds, &[0.0042, 0.0042]), "| x | e | 4.2 ms |  |  |  |\n"),
        ];
        for (figure, expected) in cases {
            assert_eq!(figure.row(), expected);
        }
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_not_the_ratio_of_the_medians() {
        // A round in which the machine was busy: both sides took ten times as long.
        let (ours, theirs) = ([1.0, 11.0, 1.2], [1.0, 10.0, 1.0]);
        let figure = Figure::new("4", "a", Unit::Seconds, &ours).with_ratio_to("bare", &ours, &theirs);
        assert!((figure.ratio.unwrap().value - 1.1).abs() < 1e-9);
    }
}
