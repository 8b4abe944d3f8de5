//! `config`: the options of the stack.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use trainerd_catalog::Catalog;
use trainerd_engine::EngineError;

use super::history::in_line;
use crate::cli::args::{Format, OptionArgs};
use crate::cli::context::Context;
use crate::cli::output::columns;
use crate::options::{Given, Source, plain};
use crate::problem::Exit;
use crate::problem::{InputError, Problem};

/// Show the options of the stack
#[derive(Clone, Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = false)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Clone, Debug, Subcommand)]
enum ConfigVerb {
    Show(ShowArgs),
    Get(GetArgs),
    Schema(SchemaArgs),
}

/// Show every option, its value and where the value comes from
///
/// From a flag, the environment, the file of --config, the installed revision, or the default.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd config show                              what `up` would use here and now
  trainerd config show --installed                  the options of the installed revision
  TRAINERD_SETTLE=0 trainerd config show -o yaml")]
struct ShowArgs {
    /// Start from the options of the installed revision, as `upgrade` does
    #[arg(long, conflicts_with = "config")]
    installed: bool,

    #[command(flatten)]
    options: OptionArgs,
}

/// Print the value of one option
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd config get jobset-image
  trainerd config get settle --installed")]
struct GetArgs {
    /// Name of the option
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    show: ShowArgs,
}

/// List every option with type, default and meaning
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd config schema
  trainerd config schema -o yaml                    in the format of config.yaml")]
struct SchemaArgs {}

/// An option in the output of `config show`.
#[derive(Serialize)]
struct Row<'a> {
    value: &'a Value,
    source: Source,
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &ConfigArgs) -> Result<Exit, Problem> {
    let catalog = Catalog::builtin()?;
    match &args.verb {
        ConfigVerb::Show(args) => {
            let given = given(context, &catalog, args).await?;
            let options = given.parse(&catalog)?;
            let rows: BTreeMap<&str, Row<'_>> = options
                .values()
                .iter()
                .map(|(name, value)| (name.as_str(), Row { value, source: given.source(name) }))
                .collect();
            context.printer.show(&rows, || {
                let row = |(name, row): (&&str, &Row<'_>)| {
                    vec![(*name).to_owned(), in_line(row.value), row.source.to_string()]
                };
                columns(&["OPTION", "VALUE", "FROM"], rows.iter().map(row))
            })?;
        }
        ConfigVerb::Get(args) => {
            let Some(_) = catalog.schema().options.get(&args.name) else {
                let nearest = nearest(&catalog, &args.name);
                return Err(InputError::UnknownOption { name: args.name.clone(), nearest }.into());
            };
            let options = given(context, &catalog, &args.show).await?.parse(&catalog)?;
            let value = options.values().get(&args.name).cloned().unwrap_or_default();
            context.printer.show(&value, || plain(&value) + "\n")?;
        }
        ConfigVerb::Schema(SchemaArgs {}) => schema(context, &catalog)?,
    }
    Ok(Exit::Done)
}

async fn given(context: &Context, catalog: &Catalog, args: &ShowArgs) -> Result<Given, Problem> {
    if !args.installed {
        return args.options.given(catalog);
    }
    let engine = context.engine().await?;
    let state = context.open(&engine).await?;
    let Some(current) = &state.current else {
        let installation = engine.installation().clone();
        let (name, namespace) = (installation.name, installation.namespace);
        return Err(EngineError::NotInstalled { name, namespace }.into());
    };
    let mut given = Given::of_revision(&current.header.given, &current.header.options);
    given.set(&args.options.set.set);
    Ok(given)
}

fn schema(context: &Context, catalog: &Catalog) -> Result<(), Problem> {
    let schema = catalog.schema();
    match context.printer.format() {
        Format::Table => context.printer.data(&columns(
            &["OPTION", "TYPE", "DEFAULT", "MEANING"],
            schema.options.iter().map(|(name, option)| {
                // The first sentence; the others are in the documents.
                let meaning = option.description.split_inclusive(". ").next().unwrap_or_default().trim_end();
                let kind = serde_json::to_value(option.kind).unwrap_or_default();
                vec![name.clone(), plain(&kind), plain(&option.default), meaning.to_owned()]
            }),
        )),
        format => context.printer.document(format, schema),
    }
}

/// An option that is spelled alike: what an attempt to set the name would be told.
fn nearest(catalog: &Catalog, name: &str) -> Option<String> {
    let mut given = Given::default();
    given.set_one(name, "");
    let raw = std::iter::once((name.to_owned(), trainerd_catalog::Raw::from(""))).collect();
    let invalid = catalog.parse_options(&raw).err()?;
    invalid.errors().iter().find(|error| error.option == name)?.nearest.clone()
}
