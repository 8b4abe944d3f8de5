//! What every verb is given: the command line's common part, the printer, and the way to the cluster.

use trainerd_catalog::edited_by_people;
use trainerd_cluster::{Cluster, ConnectOptions, Observer, Waits};
use trainerd_engine::{Engine, EngineError, RunOptions, Sink, State};
use trainerd_plan::desired::Installation;

use super::args::{ClusterArgs, RunArgs};
use super::output::Printer;
use crate::interrupt::Interrupt;
use crate::options::declared::Source;
use crate::problem::{Problem, damage_text, remedy};

/// What every verb is given.
pub(crate) struct Context {
    /// Which verb it is, for the user agent.
    pub(crate) verb: &'static str,
    /// The command line, as revisions record it.
    pub(crate) by: String,
    pub(crate) cluster: ClusterArgs,
    /// The namespace where the command line itself names one: TrainJobs are elsewhere than the installation.
    pub(crate) namespace_given: Option<String>,
    pub(crate) run: RunArgs,
    pub(crate) printer: Printer,
    pub(crate) interrupt: Interrupt,
}

impl Context {
    /// Connects.
    pub(crate) async fn connect(&self) -> Result<Cluster, Problem> {
        let printer = self.printer.clone();
        let told = Waits::new(move |wait| {
            let (error, seconds) = (wait.error, wait.wait.as_secs_f32());
            printer.note(&format!("the API server is busy ({error}); retrying in {seconds:.1} s"));
        });
        let options = ConnectOptions { waits: Some(told), ..self.connect_options(None) };
        self.interrupt.or(Cluster::connect(options)).await
    }

    /// How to connect; `observer` receives every request.
    pub(crate) fn connect_options(&self, observer: Option<Observer>) -> ConnectOptions {
        ConnectOptions {
            kubeconfig: self.cluster.kubeconfig.clone(),
            context: self.cluster.context.clone(),
            user_agent: format!("trainerd/{} ({})", env!("CARGO_PKG_VERSION"), self.verb),
            field_manager: self.cluster.field_manager.clone(),
            observer,
            patience: None,
            waits: None,
        }
    }

    /// Connects, and takes up the installation that the command line names.
    pub(crate) async fn engine(&self) -> Result<Engine, Problem> {
        let cluster = self.connect().await?;
        let engine = self.engine_of(cluster, self.cluster.installation());
        Ok(engine.with_naming(self.cluster.naming.into()))
    }

    /// An engine for an installation, which leaves to people what they edit.
    pub(crate) fn engine_of(&self, cluster: Cluster, installation: Installation) -> Engine {
        let edited = edited_by_people(&installation);
        Engine::new(cluster, installation, self.by.clone()).leaving_to_people(edited)
    }

    /// Where the installation is.
    pub(crate) async fn open(&self, engine: &Engine) -> Result<State, Problem> {
        self.interrupt.or(engine.open()).await
    }

    /// Where the installation is, whatever is damaged of it; says what is.
    pub(crate) async fn open_damaged(&self, engine: &Engine) -> Result<State, Problem> {
        let state = self.interrupt.or(engine.open_damaged()).await?;
        if let Some(damage) = state.damage() {
            self.printer.note(&format!("{}; {}", damage_text(damage), remedy(damage)));
        }
        Ok(state)
    }

    /// How a plan runs: with the command line's patience, until a signal comes.
    pub(crate) fn run_options<'a>(&self, sink: Sink<'a>) -> RunOptions<'a> {
        let timeout = self.run.timeout.map(|timeout| timeout.0);
        RunOptions::new(timeout, sink, self.interrupt.cancel()).ending_at(self.interrupt.deadline())
    }
}

/// Lets a change by the command line through unless a daemon brings the installation to the options of a declared
/// source: it would undo the change, or the change would undo what was declared.
pub(crate) fn check_owner(context: &Context, state: &State) -> Result<(), Problem> {
    match (&state.control().owner, &state.control().paused) {
        (Some(owner), None) if context.cluster.for_daemon && owner.what == Source::Api.to_string() => Ok(()),
        (Some(owner), None) => Err(Problem::other_source(owner)
            .hint("change the options there, or suspend reconciliation first with `trainerd pause`")),
        _ => Ok(()),
    }
}

/// The state as it will be when the plan in progress has come to its end, as far as is known now: what a look at an
/// installation that is being changed goes by.
pub(crate) async fn ahead(engine: &Engine, state: State) -> Result<State, EngineError> {
    let heading = state.record().heading();
    match heading.filter(|heading| state.record().current != Some(*heading)) {
        // What cannot be read is looked at without it.
        Some(number) => Ok(match engine.revision_if_sound(number).await? {
            Some(revision) => state.at(revision),
            None => state,
        }),
        None => Ok(state),
    }
}
