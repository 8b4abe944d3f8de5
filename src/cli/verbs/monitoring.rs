//! `monitoring`: alert rules and a dashboard for the metrics of the daemon.

use clap::{Args, Subcommand};

use crate::cli::args::Format;
use crate::cli::context::Context;
use crate::monitoring::{self, DASHBOARD, MonitoringError, RULES};
use crate::problem::{DEFECT, Exit, Problem};

/// Print alert rules and a dashboard for the metrics of the daemon
#[derive(Clone, Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = false)]
pub(crate) struct MonitoringArgs {
    #[command(subcommand)]
    verb: MonitoringVerb,
}

#[derive(Clone, Debug, Subcommand)]
enum MonitoringVerb {
    Rules(RulesArgs),
    Dashboard(DashboardArgs),
}

/// Print the alert rules, as a rule file of Prometheus
///
/// Needs no cluster. Every alert says what it means and which command helps. The name of the scrape job must contain
/// `trainerd`, because the alert TrainerdDown uses it to detect that the daemon is gone.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd monitoring rules > /etc/prometheus/rules/trainerd.yaml
  trainerd monitoring rules -o json | jq '{spec: .}'    the body of a PrometheusRule")]
struct RulesArgs {}

/// Print the dashboard, as Grafana imports it
///
/// Needs no cluster. Data source, scrape job and daemon are variables of the dashboard.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd monitoring dashboard > /var/lib/grafana/dashboards/trainerd.json
  kubectl create configmap trainerd-dashboard --from-file=trainerd.json=<(trainerd monitoring dashboard)")]
struct DashboardArgs {}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &MonitoringArgs) -> Result<Exit, Problem> {
    let printer = &context.printer;
    match (&args.verb, printer.format()) {
        (MonitoringVerb::Rules(_), Format::Json) => printer.document(Format::Json, &monitoring::rules()?)?,
        (MonitoringVerb::Rules(_), Format::Table | Format::Yaml) => printer.data(RULES)?,
        (MonitoringVerb::Dashboard(_), Format::Yaml) => {
            printer.document(Format::Yaml, &monitoring::dashboard()?)?;
        }
        (MonitoringVerb::Dashboard(_), Format::Table | Format::Json) => printer.data(DASHBOARD)?,
    }
    Ok(Exit::Done)
}

impl From<MonitoringError> for Problem {
    fn from(error: MonitoringError) -> Self {
        Self::of(Exit::Failed, "broken-build", &error).hint(DEFECT)
    }
}
