//! `bootstrap`: the daemon, into the cluster.

use clap::Args;
use trainerd_catalog::{Catalog, DAEMON, DAEMON_OPTIONS, daemon_that_keeps};
use trainerd_cluster::{Cluster, builtin};
use trainerd_engine::record::Removal;
use trainerd_engine::{Engine, EngineError, State};
use trainerd_plan::allowed::Allowed;
use trainerd_plan::desired::Installation;

use super::remove::take_away;
use crate::cli::args::OptionArgs;
use crate::cli::change::{Change, change};
use crate::cli::context::{Context, check_ruler, installed};
use crate::cli::errors::{InputError, Problem};
use crate::cli::exit::Exit;
use crate::cli::option_changes::{explained, patched};
use crate::cli::options::{Given, Source, environment};
use crate::cli::want::{Wanted, purpose, want};
use crate::cli::way::source_in_cluster;
use crate::daemon::declared::values_of;

/// Put the daemon into the cluster, to keep the installation from there
///
/// Installs a Deployment with what it needs, and the ConfigMap trainerd-options in which the options of the
/// installation are declared from then on: each key is an option. It starts from the options of that ConfigMap, or
/// else of what is installed, and changes what is named here. The same command again brings another image or
/// version of the daemon. The daemon may do what it does itself and what the stack is granted, and nothing else.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd bootstrap                                with the image that the nodes have
  trainerd bootstrap --image registry.local/trainerd:v0.1.0
  kubectl -n kubeflow-system edit configmap trainerd-options
                                                    change the options; the daemon sees to the rest
  trainerd status --web                             its page
  trainerd bootstrap --remove                       take it out; the stack stays as it is
  trainerd render trainerd                          its manifests, for GitOps")]
pub(crate) struct BootstrapArgs {
    /// Image of the daemon; --set trainerd-image says the same
    #[arg(long, value_name = "REF")]
    image: Option<String>,

    /// Take the daemon out of the cluster; what it keeps stays as it is, and the command line has its hand on it again
    #[arg(long, conflicts_with = "image")]
    remove: bool,

    #[command(flatten)]
    options: OptionArgs,
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &BootstrapArgs) -> Result<Exit, Problem> {
    let keeps = context.cluster.installation();
    if keeps.name == DAEMON {
        return Err(InputError::NameOfDaemon.into());
    }
    let own = daemon_that_keeps(&keeps);
    if args.remove {
        let cluster = context.connect().await?;
        return remove(context, cluster, keeps, own).await;
    }
    let catalog = Catalog::builtin()?;
    let mut asked = Given::read(&catalog, &args.options, &environment)?;
    if let Some(image) = &args.image {
        asked.set_one("trainerd-image", image);
    }
    // Bad options are told before a cluster is looked for.
    asked.parse(&catalog)?;

    let cluster = context.connect().await?;
    let stack = Engine::new(cluster.clone(), keeps.clone(), context.by.clone());
    let state = context.open(&stack).await?;
    let source = source_in_cluster(&keeps.namespace);
    // Two daemons with different sources would undo each other's work.
    if state.standing().other_ruler(&source).is_some() {
        check_ruler(context, &state)?;
    }
    let declared = context.interrupt.or(declared(&cluster, &keeps.namespace)).await?;
    let mut given = declared.unwrap_or_else(|| start(&state));
    given.override_with(asked);
    // What the daemon would refuse is refused here, where somebody reads it.
    context.interrupt.or(want(&catalog, &stack, &state, &given)).await?;

    let engine = Engine::new(cluster, own, context.by.clone());
    let wanted = async |state: &State| wanted(&catalog, &engine, state, &given, &keeps).await;
    let exit =
        change(context, &engine, Change { allow: Allowed::default(), show_way: false }, wanted).await?;
    if let Some(other) = state.standing().other_ruler(&source) {
        // Let through because it is paused: whoever resumes it wants the new daemon to rule.
        context.interrupt.or(stack.rule(state.standing(), &source)).await?;
        context.printer.note(&format!("{} rules no more", other.what));
    }
    let name = &keeps.name;
    context.printer.note(&format!(
        "the daemon runs, and keeps installation {name} as {source} says; `trainerd status --watch` shows how it goes"
    ));
    Ok(exit)
}

/// The options that the ConfigMap declares already, whoever wrote them; `None` where there is none.
async fn declared(cluster: &Cluster, namespace: &str) -> Result<Option<Given>, Problem> {
    let what = || format!("ConfigMap {namespace}/{DAEMON_OPTIONS}");
    let found = cluster.get_opt(&builtin::config_map(), Some(namespace), DAEMON_OPTIONS).await;
    let found = found.map_err(|source| EngineError::Request { action: "read", what: what(), source })?;
    Ok(found.map(|object| Given::of(values_of(&object), &Source::ConfigMap)))
}

/// The options of what is installed: whoever puts a daemon there does not ask for other ones.
fn start(state: &State) -> Given {
    let Some(current) = &state.current else { return Given::default() };
    Given::of_revision(&current.header.given, &current.header.options)
}

async fn wanted(
    catalog: &Catalog,
    engine: &Engine,
    state: &State,
    given: &Given,
    keeps: &Installation,
) -> Result<Wanted, Problem> {
    let options = given.parse(catalog)?;
    let resolution = catalog.resolve_daemon()?;
    let from = installed(state);
    if let Some(from) = &from {
        catalog.upgrade_path(from, &resolution.versions())?;
    }
    let kubernetes = engine.cluster().version().await?;
    catalog.check_kubernetes(&resolution, kubernetes.git_version())?;
    let purpose = purpose(from.as_ref(), &resolution.versions());
    let desired = catalog.render_daemon(&options, keeps)?;
    let before = state.current.as_ref().map(|current| &current.header);
    let changes = explained(before, &desired, given);
    let patched = patched(&options, &desired);
    Ok(Wanted { desired, resolution, purpose, is_stop: false, options: changes, patched })
}

async fn remove(
    context: &Context,
    cluster: Cluster,
    keeps: Installation,
    own: Installation,
) -> Result<Exit, Problem> {
    let engine = Engine::new(cluster.clone(), own, context.by.clone());
    let exit =
        take_away(context, &engine, Removal::KeepStored, "Take the daemon out of the cluster?").await?;
    let source = source_in_cluster(&keeps.namespace);
    let stack = Engine::new(cluster, keeps, context.by.clone());
    context.interrupt.or(stack.rule_no_more(&source)).await?;
    context.printer.note("what it kept stays as it is; `trainerd up` and `trainerd upgrade` change it again");
    Ok(exit)
}
