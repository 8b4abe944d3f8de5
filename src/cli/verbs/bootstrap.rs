//! `bootstrap`: the daemon, into the cluster.

mod options_map;

use clap::Args;
use trainerd_catalog::{Catalog, DAEMON, daemon_that_keeps};
use trainerd_cluster::Cluster;
use trainerd_engine::record::Removal;
use trainerd_engine::{Engine, State};
use trainerd_plan::allowed::Allowed;
use trainerd_plan::desired::Installation;

use self::options_map::OptionsMap;
use super::plan;
use super::remove::{show_removal, take_away};
use crate::cli::args::OptionArgs;
use crate::cli::change::{Change, change_after};
use crate::cli::context::{Context, check_owner};
use crate::cli::daemon_client::source_in_cluster;
use crate::options::Given;
use crate::problem::Exit;
use crate::problem::{InputError, Problem};
use crate::target::changes::{explained, patched};
use crate::target::{Target, installed, purpose, resolve};

/// The option that names the daemon's image.
const IMAGE: &str = "trainerd-image";

/// Install the daemon in the cluster
///
/// Installs a Deployment with its permissions and creates the ConfigMap trainerd-options unless it exists. From then
/// on, the keys of that ConfigMap are the options of the installation. The initial options are those of the ConfigMap,
/// or else of the installed revision, combined with the options that are given here. Run it again to change the image
/// or version of the daemon; if that fails, the ConfigMap stays as it was. The daemon has the permissions that it uses
/// and those that it grants to the stack, and no others.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd bootstrap                                with the image that is on the nodes
  trainerd bootstrap --image registry.local/trainerd:v0.1.0
  kubectl -n kubeflow-system edit configmap trainerd-options
                                                    change the options; the daemon applies them
  trainerd status --web                             its page
  trainerd bootstrap --remove                       remove it; the stack stays as it is
  trainerd render trainerd                          its manifests, for GitOps")]
pub(crate) struct BootstrapArgs {
    /// Image of the daemon; the same as --set trainerd-image
    #[arg(long, value_name = "REF")]
    image: Option<String>,

    /// Remove the daemon from the cluster; the stack stays, and the command line manages it again
    #[arg(long, conflicts_with = "image")]
    remove: bool,

    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,

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
        return remove(context, cluster, keeps, own, args.dry_run).await;
    }
    let catalog = Catalog::builtin()?;
    let mut asked = args.options.given(&catalog)?;
    if let Some(image) = &args.image {
        asked.set_one(IMAGE, image);
    }
    // Invalid options are reported before connecting to the cluster.
    asked.parse(&catalog)?;

    let cluster = context.connect().await?;
    let stack = context.engine_of(cluster.clone(), keeps.clone());
    let state = context.open(&stack).await?;
    let source = source_in_cluster(&keeps.namespace);
    // Two daemons with different sources would undo each other's work.
    if state.control().other_owner(&source).is_some() {
        check_owner(context, &state)?;
    }
    let map = context.interrupt.or(OptionsMap::read(&cluster, &keeps.namespace)).await?;
    let mut given = map.declared().unwrap_or_else(|| start(&state));
    // Until the daemon runs with it, an image is only tried.
    let mut before = asked.clone();
    before.unset(IMAGE);
    before = given.clone().overridden_with(before);
    given.override_with(asked.clone());
    // What the daemon would refuse is refused here, where somebody reads it.
    context.interrupt.or(resolve(&catalog, &stack, &state, &given)).await?;
    if !map.exists() {
        context
            .printer
            .note(&format!("{source} will be created; from then on the options are declared there"));
    }

    let engine = context.engine_of(cluster.clone(), own);
    let wanted = async |state: &State| wanted(&catalog, &engine, state, &given, &keeps).await;
    let asks = Change { allow: Allowed::default(), show_way: false, unasked: false };
    if args.dry_run {
        return plan::show(context, &engine, asks, wanted).await.map(|_| Exit::Done);
    }
    let exit = Box::pin(change_after(context, &engine, asks, wanted, async |prepared| {
        if map.exists() {
            return Ok(());
        }
        engine.check_permissions(prepared).await?;
        engine.prepare_namespace().await?;
        map.create(&catalog.render_bootstrap(&before.parse(&catalog)?, &keeps)?.options).await
    }))
    .await?;
    let set = context.interrupt.or(map.set(&asked.parse(&catalog)?)).await?;
    if !set.is_empty() {
        context.printer.note(&format!("set in {source}: {}", set.join(", ")));
    }
    if let Some(other) = state.control().other_owner(&source) {
        // Allowed while paused: after `resume`, the new daemon owns the options.
        context.interrupt.or(stack.claim(state.control(), &source)).await?;
        context.printer.note(&format!("{} no longer owns the options", other.what));
    }
    let name = &keeps.name;
    context.printer.note(&format!(
        "the daemon is running: it reconciles installation {name} with the options in {source}; `trainerd status --watch` follows it"
    ));
    Ok(exit)
}

/// The installed options: installing a daemon does not change them.
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
) -> Result<Target, Problem> {
    let options = given.parse(catalog)?;
    let resolution = catalog.resolve_daemon()?;
    let from = installed(state);
    if let Some(from) = &from {
        catalog.upgrade_path(from, &resolution.versions())?;
    }
    let kubernetes = engine.cluster().version().await?;
    catalog.check_kubernetes(&resolution, kubernetes.git_version())?;
    let purpose = purpose(from.as_ref(), &resolution.versions());
    let desired = catalog.render_bootstrap(&options, keeps)?.desired;
    let before = state.current.as_ref().map(|current| &current.header);
    let changes = explained(before, &desired, given);
    let patched = patched(&options, &desired);
    Ok(Target { desired, resolution, purpose, is_stop: false, options: changes, patched })
}

async fn remove(
    context: &Context,
    cluster: Cluster,
    keeps: Installation,
    own: Installation,
    dry_run: bool,
) -> Result<Exit, Problem> {
    let engine = context.engine_of(cluster.clone(), own);
    let map = context.interrupt.or(OptionsMap::read(&cluster, &keeps.namespace)).await?;
    if map.exists() {
        let made = map.is_made_by(&engine);
        let goes =
            if made { "is deleted too: bootstrap created it" } else { "stays: bootstrap did not create it" };
        context.printer.note(&format!("{} {goes}", source_in_cluster(&keeps.namespace)));
    }
    if dry_run {
        return show_removal(context, &engine, Removal::KeepStored).await;
    }
    let exit =
        take_away(context, &engine, Removal::KeepStored, "Remove the daemon from the cluster?").await?;
    let source = source_in_cluster(&keeps.namespace);
    let stack = context.engine_of(cluster, keeps);
    context.interrupt.or(stack.release(&source)).await?;
    context
        .printer
        .note("the stack stays as it is; `trainerd up` and `trainerd upgrade` change it from now on");
    Ok(exit)
}
