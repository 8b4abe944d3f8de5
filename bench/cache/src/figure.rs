//! Figures, and the table that they are printed as.

use serde::Serialize;

/// A row of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// What was measured.
    what: String,
    /// The median of the rounds, with its unit.
    value: String,
    /// Beside what was measured in the same rounds, or a limit: the median of the ratios round by round.
    ratio: f64,
    /// To what.
    to: &'static str,
    /// What is promised of the ratio.
    goal: Goal,
}

/// What is promised of a ratio.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
        }
    }
}

impl Figure {
    /// Of several rounds.
    pub(crate) fn of_rounds(
        what: String,
        unit: &str,
        ours: &[f64],
        others: &[f64],
        to: &'static str,
        goal: Goal,
    ) -> Self {
        let ratios: Vec<f64> = ours.iter().zip(others).map(|(one, other)| one / other).collect();
        let value = format!("{:.2} {unit}", median(ours));
        Self { what, value, ratio: median(&ratios), to, goal }
    }

    /// As a row of a Markdown table.
    fn row(&self) -> String {
        let goal = match self.goal {
            Goal::AtLeast(least) => format!("≥ {least}"),
            Goal::AtMost(most) => format!("≤ {most}"),
        };
        let met = if self.goal.is_met(self.ratio) { "" } else { " **missed**" };
        format!("| {} | {} | {:.2} × {} | {goal}{met} |", self.what, self.value, self.ratio, self.to)
    }
}

/// All rows.
pub(crate) fn table(figures: &[Figure]) -> String {
    let head = "| figure | value | ratio | goal |\n|---|---|---|---|";
    figures.iter().fold(head.to_owned(), |table, figure| format!("{table}\n{}", figure.row()))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_the_rounds_and_a_goal_that_is_missed_is_told() {
        let goal = Goal::AtLeast(0.9);
        let figure =
            Figure::of_rounds("rows".to_owned(), "GB/s", &[1.0, 4.0, 2.0], &[2.0, 5.0, 2.0], "bare", goal);
        assert_eq!(figure.row(), "| rows | 2.00 GB/s | 0.80 × bare | ≥ 0.9 **missed** |");
        assert!(Goal::AtMost(1.1).is_met(1.1) && !Goal::AtMost(1.1).is_met(1.2));
    }
}
