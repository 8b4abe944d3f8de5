//! The table of what ran.

use super::Error;
use super::run::Ran;
use super::table::Example;

/// A line of the table.
#[derive(Debug)]
pub(super) struct Row {
    cells: [String; 7],
}

const HEAD: [&str; 7] = ["runtime", "example", "image", "controller", "nodes", "complete after", "seen"];

impl Row {
    pub(super) fn of(example: &Example, controller: &str, image: String, ran: Result<Ran, Error>) -> Self {
        let (took, saw) = match ran {
            Ok(ran) => (format!("{:.1} s", ran.took.as_secs_f32()), ran.saw),
            Err(error) => ("–".to_owned(), format!("FAILED: {error}")),
        };
        Self::new(example, controller, image, took, saw)
    }

    pub(super) fn skipped(example: &Example, controller: &str, why: &str) -> Self {
        Self::new(example, controller, "–".to_owned(), "–".to_owned(), format!("skipped: {why}"))
    }

    fn new(example: &Example, controller: &str, image: String, took: String, saw: String) -> Self {
        let runtime = example.runtime.unwrap_or("its own").to_owned();
        let (name, nodes) = (example.name.to_owned(), example.nodes.to_string());
        Self { cells: [runtime, name, image, controller.to_owned(), nodes, took, saw] }
    }
}

/// All lines, in columns.
pub(super) fn table(rows: &[Row]) -> String {
    let head = Row { cells: HEAD.map(str::to_owned) };
    let all: Vec<&Row> = std::iter::once(&head).chain(rows).collect();
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| all.iter().map(|row| row.cells[column].chars().count()).max().unwrap_or_default())
        .collect();
    let line = |row: &&Row| {
        let cells = row.cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::examples::table::ALL;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let ran = Ran { took: Duration::from_millis(9_640), saw: "2 ranks".to_owned() };
        let rows = [
            Row::of(&ALL[0], "upstream", "python, 118 MB".to_owned(), Ok(ran)),
            Row::skipped(&ALL[1], "native", "its runtime is not installed"),
        ];
        let expected = "\
runtime          example  image           controller  nodes  complete after  seen
its own          plain    python, 118 MB  upstream    3      9.6 s           2 ranks
mpi-distributed  mpi      –               native      2      –               skipped: its runtime is not installed";
        assert_eq!(table(&rows), expected);
    }
}
