//! `images`: every image that the options lead to.

use clap::{Args, Subcommand};
use trainerd_catalog::Catalog;

use crate::cli::args::OptionArgs;
use crate::cli::context::Context;
use crate::cli::output::columns;
use crate::problem::Exit;
use crate::problem::Problem;

/// List the container images of the stack
#[derive(Clone, Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = false)]
pub(crate) struct ImagesArgs {
    #[command(subcommand)]
    verb: ImagesVerb,
}

#[derive(Clone, Debug, Subcommand)]
enum ImagesVerb {
    List(ListArgs),
}

/// List every image, and the option that overrides it
///
/// Needs no cluster. The list is complete, and every image has a tag or a digest.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd images list
  trainerd images list --set image-registry=registry.local:5000/mirror
  trainerd images list -o json | jq -r '.[].reference' | sort -u")]
struct ListArgs {
    #[command(flatten)]
    options: OptionArgs,
}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &ImagesArgs) -> Result<Exit, Problem> {
    let ImagesVerb::List(args) = &args.verb;
    let catalog = Catalog::builtin()?;
    let options = args.options.given(&catalog)?.parse(&catalog)?;
    let mut images = catalog.images(&options, &catalog.resolve(&options, None)?)?;
    images.extend(catalog.images(&options, &catalog.resolve_daemon()?)?);
    context.printer.show(&images, || {
        columns(
            &["COMPONENT", "NAME", "IMAGE", "OVERRIDDEN BY"],
            images.iter().map(|image| {
                let by = match &image.key {
                    Some(key) => format!("{}={key}=IMAGE", image.option),
                    None => format!("{}=IMAGE", image.option),
                };
                vec![image.component.clone(), image.name.clone(), image.reference.clone(), by]
            }),
        )
    })?;
    Ok(Exit::Done)
}
