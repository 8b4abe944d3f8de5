//! What a longer verb does, step by step: said before, timed, and told in a table at the end.

use std::error::Error;
use std::fmt::Write as _;
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use trainerd_causes::texts;

use crate::terminal::say;

/// The steps taken so far.
#[derive(Debug, Default)]
pub struct Steps {
    taken: Vec<Step>,
    /// What the steps took less, all in all, because some were taken at the same time.
    saved: Duration,
}

#[derive(Debug)]
struct Step {
    name: String,
    took: Duration,
    outcome: Outcome,
}

/// The outcome of a step, in one line.
#[derive(Debug)]
enum Outcome {
    Done(String),
    Failed(String),
    Skipped(String),
}

impl Steps {
    /// Takes a step: says so, runs `act`, says in one line its outcome and how long it took.
    ///
    /// `act` returns its result and that line. An error's line is its first one, causes included; the error
    /// itself is handed on.
    pub fn take<T, E: Error>(
        &mut self,
        name: &str,
        act: impl FnOnce() -> Result<(T, String), E>,
    ) -> Result<T, E> {
        let (step, result) = attempt(name, act);
        self.taken.push(step);
        result
    }

    /// As [`Self::take`], several at the same time, each with its own time; the table has them in this order.
    pub fn run_parallel<T: Send, E: Error + Send>(
        &mut self,
        acts: Vec<(&str, impl FnOnce() -> Result<(T, String), E> + Send)>,
    ) -> Vec<Result<T, E>> {
        let start = Instant::now();
        let (steps, results): (Vec<Step>, Vec<_>) = thread::scope(|scope| {
            let running = acts.into_iter().map(|(name, act)| scope.spawn(move || attempt(name, act)));
            let running: Vec<_> = running.collect();
            running.into_iter().map(|act| act.join().unwrap_or_else(|panic| resume_unwind(panic))).unzip()
        });
        let sum: Duration = steps.iter().map(|step| step.took).sum();
        self.saved += sum.saturating_sub(start.elapsed());
        self.taken.extend(steps);
        results
    }

    /// Notes a step that is not taken, and why.
    pub fn skip(&mut self, name: &str, why: impl Into<String>) {
        let step =
            Step { name: name.to_owned(), took: Duration::ZERO, outcome: Outcome::Skipped(why.into()) };
        say(format_args!("\n==> {name}\n    {}", step.told()));
        self.taken.push(step);
    }

    /// Names of the steps that failed.
    pub fn failed(&self) -> Vec<&str> {
        let failed = self.taken.iter().filter(|step| matches!(step.outcome, Outcome::Failed(_)));
        failed.map(|step| step.name.as_str()).collect()
    }

    /// Number of the steps that were taken, skipped ones aside.
    pub fn count(&self) -> usize {
        self.taken.iter().filter(|step| !matches!(step.outcome, Outcome::Skipped(_))).count()
    }

    /// All steps with their times and their outcomes, and the sum: one line each.
    pub fn table(&self) -> String {
        const SUM: &str = "in all";
        let widest = self.taken.iter().map(|step| step.name.chars().count()).max().unwrap_or_default();
        let width = widest.max(SUM.len());
        let mut table = String::new();
        // Writing to a String cannot fail.
        for step in &self.taken {
            let _ = writeln!(table, "{:<width$}  {:>9}  {}", step.name, seconds(step.took), step.told());
        }
        let all: Duration = self.taken.iter().map(|step| step.took).sum();
        let _ = writeln!(table, "{SUM:<width$}  {:>9}", seconds(all.saturating_sub(self.saved)));
        table
    }
}

/// Does what a step is about, and says so.
fn attempt<T, E: Error>(name: &str, act: impl FnOnce() -> Result<(T, String), E>) -> (Step, Result<T, E>) {
    say(format_args!("\n==> {name}"));
    let start = Instant::now();
    let result = act();
    let took = start.elapsed();
    let (outcome, result) = match result {
        Ok((value, note)) => (Outcome::Done(note), Ok(value)),
        Err(error) => (Outcome::Failed(one_line(&error)), Err(error)),
    };
    let step = Step { name: name.to_owned(), took, outcome };
    say(format_args!("    {name}: {} ({})", step.told(), seconds(took)));
    (step, result)
}

impl Step {
    fn told(&self) -> String {
        match &self.outcome {
            Outcome::Done(note) => note.clone(),
            Outcome::Failed(why) => format!("FAILED: {why}"),
            Outcome::Skipped(why) => format!("skipped: {why}"),
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f32())
}

/// An error and its causes, up to the first line break.
fn one_line(error: &dyn Error) -> String {
    let text = texts(error).join(": ");
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to see")]
    struct Blind(#[source] io::Error);

    #[test]
    fn a_step_returns_its_result_or_error() {
        let mut steps = Steps::default();
        let value = steps.take("look", || Ok::<_, Blind>((7, "seen".to_owned()))).unwrap();
        assert_eq!(value, 7);
        let dark = || Err::<((), String), _>(Blind(io::Error::other("dark\nvery dark")));
        assert_eq!(steps.take("look again", dark).unwrap_err().to_string(), "failed to see");
        steps.skip("touch", "not asked for");
        assert_eq!(steps.failed(), ["look again"]);
        assert_eq!(steps.count(), 2);
    }

    #[test]
    fn parallel_steps_keep_their_order() {
        let mut steps = Steps::default();
        let both = std::sync::Barrier::new(2);
        let act = |value: u8| {
            let both = &both;
            move || {
                both.wait();
                if value == 1 { Ok((value, String::new())) } else { Err(Blind(io::Error::other("dark"))) }
            }
        };
        let results = steps.run_parallel(vec![("one", act(1)), ("two", act(2))]);
        assert!(matches!(results.as_slice(), [Ok(1), Err(_)]));
        assert_eq!((steps.count(), steps.failed()), (2, vec!["two"]));
    }

    #[test]
    fn the_table_has_one_line_per_step_and_a_total() {
        let step = |name: &str, millis, outcome| Step {
            name: name.to_owned(),
            took: Duration::from_millis(millis),
            outcome,
        };
        let steps = Steps {
            taken: vec![
                step("build", 61_250, Outcome::Done("trainerd".into())),
                step("install all", 3_000, Outcome::Failed("no cluster".into())),
                step("docs", 0, Outcome::Skipped("not asked for".into())),
            ],
            saved: Duration::from_secs(2),
        };
        assert_eq!(
            steps.table(),
            "build           61.2 s  trainerd\n\
             install all      3.0 s  FAILED: no cluster\n\
             docs             0.0 s  skipped: not asked for\n\
             in all          62.2 s\n"
        );
    }

    #[test]
    fn an_error_is_one_line_with_its_causes() {
        assert_eq!(one_line(&Blind(io::Error::other("dark\nvery dark"))), "failed to see: dark");
    }
}
