//! A panic of any task, of ours or of a library, ends the process with its cause: what continues without one of its parts
//! says that all is well while it is not.

use std::panic::PanicHookInfo;

use super::output::Printer;
use crate::problem::Exit;
use crate::problem::Problem;

/// Ends the process at the next panic, wherever it is. A runtime would catch it and continue.
pub(crate) fn end_at_panics(printer: Printer) {
    std::panic::set_hook(Box::new(move |panic| {
        let problem = problem(panic);
        printer.problem(&problem);
        // The journal makes this safe: whatever was in flight is found again.
        std::process::exit(i32::from(problem.exit.code()));
    }));
}

fn problem(panic: &PanicHookInfo<'_>) -> Problem {
    let cause = panic.payload_as_str().unwrap_or("without a word");
    let place = panic.location().map(|place| format!(", at {}:{}", place.file(), place.line()));
    Problem::new(Exit::Failed, "panic", "trainerd crashed")
        .because(format!("{cause}{}", place.unwrap_or_default()))
        .hint("the plan is journalled: run the same command again to continue it, and please report this defect")
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::cli::args::OutputArgs;

    /// Tells the test to be the process that panics.
    const CHILD: &str = "TRAINERD_TEST_PANICS";

    #[test]
    fn a_task_that_panics_ends_the_process_with_its_cause() {
        if std::env::var_os(CHILD).is_some() {
            let output = OutputArgs { output: None, no_color: true, quiet: false, verbose: 0 };
            end_at_panics(Printer::new(&output));
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::spawn(async { panic!("the cause") });
                tokio::time::sleep(Duration::from_secs(20)).await;
            });
            return;
        }
        let mut child = Command::new(std::env::current_exe().unwrap());
        let name = concat!(module_path!(), "::a_task_that_panics_ends_the_process_with_its_cause");
        let name = name.split_once("::").unwrap().1;
        let output = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains("trainerd crashed") && stderr.contains("the cause, at src/cli/panic.rs:"),
            "{stderr}"
        );
    }
}
