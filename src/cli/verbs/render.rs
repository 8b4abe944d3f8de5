//! `render`: the manifests, without a cluster.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use trainerd_catalog::{Catalog, DAEMON, yaml};
use trainerd_plan::desired::{Desired, DesiredObject};

use crate::cli::args::{Format, OptionArgs};
use crate::cli::context::Context;
use crate::cli::output::{Printer, columns};
use crate::problem::Exit;
use crate::problem::{InputError, Problem};

/// Print the manifests that the options produce
///
/// Needs no cluster. The same options give the same bytes. Objects are sorted by kind, namespace and name.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd render                                   everything
  trainerd render jobset lws                        only these components
  trainerd render trainerd                          the daemon that `bootstrap` installs
  trainerd render --set trainer-version=2.2.1       another version
  trainerd render --output-dir manifests            one file per object
  trainerd render -o table                          list the objects")]
pub(crate) struct RenderArgs {
    /// Components to print; by default all that the options install
    #[arg(value_name = "COMPONENT")]
    components: Vec<String>,

    /// Write one file per object into this folder instead: COMPONENT/KIND-NAMESPACE-NAME.yaml
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,

    #[command(flatten)]
    options: OptionArgs,
}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &RenderArgs) -> Result<Exit, Problem> {
    let catalog = Catalog::builtin()?;
    let options = args.options.given(&catalog)?.parse(&catalog)?;
    let installation = context.cluster.installation();
    // The daemon is an installation of its own and cannot be combined with others.
    let desired = if args.components == [DAEMON] {
        catalog.render_daemon(&options, &installation)?
    } else {
        catalog.render_as(
            &options,
            &catalog.resolve(&options, None)?,
            &installation,
            context.cluster.naming.into(),
        )?
    };
    let known: Vec<String> = catalog.components().map(str::to_owned).collect();
    let objects = selected(&desired, &args.components, &known)?;
    match &args.output_dir {
        Some(folder) => {
            write(folder, &objects)?;
            context.printer.note(&format!("wrote {} files below {}", objects.len(), folder.display()));
        }
        None => print(&context.printer, &objects)?,
    }
    Ok(Exit::Done)
}

/// The objects of the components that are named; of all where none is.
fn selected<'a>(
    desired: &'a Desired,
    names: &[String],
    known: &[String],
) -> Result<Vec<&'a DesiredObject>, InputError> {
    for name in names {
        if !known.contains(name) {
            return Err(InputError::UnknownComponent { name: name.clone(), known: known.to_vec() });
        }
        if !desired.components.contains_key(name) {
            let installed = desired.components.keys().cloned().collect();
            return Err(InputError::NotInstalledHere { name: name.clone(), installed });
        }
    }
    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let wanted = |object: &&DesiredObject| names.is_empty() || names.contains(object.component.as_str());
    Ok(desired.objects.iter().filter(wanted).collect())
}

/// Manifests to stdout: YAML documents, a JSON list, or a table of what there is.
pub(crate) fn print(printer: &Printer, objects: &[&DesiredObject]) -> Result<(), Problem> {
    let manifests = || objects.iter().map(|object| &object.manifest);
    match printer.asked {
        None | Some(Format::Yaml) => printer.data(&yaml::documents(manifests())),
        Some(Format::Json) => {
            let items: Vec<&Value> = manifests().collect();
            printer.document(Format::Json, &json!({"apiVersion": "v1", "kind": "List", "items": items}))
        }
        Some(Format::Table) => {
            let rows = objects.iter().map(|object| {
                let key = object.key();
                vec![
                    object.component.clone(),
                    object.resource.api_version(),
                    key.kind,
                    key.namespace.unwrap_or_default(),
                    key.name,
                ]
            });
            printer.data(&columns(&["COMPONENT", "API VERSION", "KIND", "NAMESPACE", "NAME"], rows))
        }
    }
}

fn write(folder: &Path, objects: &[&DesiredObject]) -> Result<(), InputError> {
    for object in objects {
        let key = object.key();
        let name: Vec<String> =
            [Some(key.kind.to_lowercase()), key.namespace, Some(key.name)].into_iter().flatten().collect();
        // RBAC allows names with `:`, which not every file system does.
        let name = name.join("-").replace([':', '/'], "_");
        let path = folder.join(&object.component).join(format!("{name}.yaml"));
        let failed = |source| InputError::WriteFile { path: path.clone(), source };
        fs::create_dir_all(folder.join(&object.component)).map_err(failed)?;
        fs::write(&path, yaml::document(&object.manifest)).map_err(failed)?;
    }
    Ok(())
}
