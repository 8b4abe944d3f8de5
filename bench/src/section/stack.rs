//! The real stack: the size of its revisions (figure 7), and how long planning it takes.

use std::collections::BTreeMap;

use serde_json::json;
use trainerd_catalog::{Catalog, Raw};
use trainerd_cluster::{ApplyParams, RequestError};
use trainerd_engine::EngineError;
use trainerd_plan::allowed::Allowed;
use trainerd_plan::desired::{Desired, Installation};
use trainerd_plan::order::{ObjectClass, object_class};
use trainerd_plan::plan::{Purpose, Step};

use crate::contender::run;
use crate::error::Error;
use crate::figure::{Figure, Goal, Unit, number};
use crate::section::plan;
use crate::section::revision::stored;
use crate::world::World;
use crate::{Report, print_progress};

/// Seconds without progress after which the installs here fail. Nothing runs pods here, so that no Deployment
/// becomes ready; options go down to 30 s, and nobody needs to wait for that.
const DEADLINE: u64 = 8;

/// Seconds in which CRDs are served once they are stored.
const SERVED: u64 = 30;

/// The stack's installation; `trainerd plan` and `render` are measured at it.
pub(crate) fn installation() -> Installation {
    Installation { name: "stack".to_owned(), namespace: "bench-stack".to_owned() }
}

/// Options that change one value of the default stack.
const CHANGED: [(&str, &str); 1] = [("jobset-image", "registry.k8s.io/jobset/jobset:v0.12.0-bench")];

/// Installs the stack as far as it goes without a node, changes a value, and measures what both left; then
/// brings in the rest, and measures planning.
pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<(), Error> {
    print_progress("the stack: its revisions, and planning it");
    let first = render(&[])?;
    let changed = render(&CHANGED)?;
    install(world, &first, Purpose::Install).await?;
    let before = stored(world, &first.installation).await?;
    install(world, &changed, Purpose::Change).await?;
    let after = stored(world, &first.installation).await?;

    let objects = first.objects.len();
    let bytes = |what: &str, value| Figure::new("7", what, Unit::Bytes, &[value]);
    report.figures.extend([
        bytes(&format!("first revision of the stack ({objects} objects)"), before.revisions())
            .goal(Goal::Value(160_000.0)),
        bytes("revision of a value change (jobset-image)", after.revisions() - before.revisions())
            .goal(Goal::Value(4_000.0)),
        bytes("the record beside them", number(after.record)),
    ]);

    complete(world, &changed).await?;
    plan::report_figures(
        &format!("the stack ({objects} objects)"),
        &plan::rounds(world, &changed).await?,
        report,
    );
    Ok(())
}

fn render(given: &[(&str, &str)]) -> Result<Desired, Error> {
    let catalog = Catalog::builtin().map_err(Box::new)?;
    let given: BTreeMap<String, Raw> =
        given.iter().map(|(option, value)| ((*option).to_owned(), Raw::from(*value))).collect();
    let options = catalog.parse_options(&given)?;
    let resolution = catalog.resolve(&options, None).map_err(Box::new)?;
    let mut desired = catalog.render(&options, &resolution, &installation()).map_err(Box::new)?;
    desired.options.insert("progress-deadline".to_owned(), json!(DEADLINE));
    Ok(desired)
}

/// Runs a plan that fails for want of a node, and is kept as any other.
async fn install(world: &World, desired: &Desired, purpose: Purpose) -> Result<(), Error> {
    let engine = world.engine(desired.installation.clone()).await?;
    let state = engine.open().await.map_err(Error::engine("open the installation"))?;
    let prepared = engine.prepare(&state, desired.clone(), purpose, Allowed::default()).await;
    let prepared = prepared.map_err(Error::engine("plan"))?;
    match run(&engine, state, prepared, &|_| {}).await {
        Err(EngineError::Failed { .. }) => Ok(()),
        Err(source) => Err(Error::engine("run the plan")(source)),
        Ok(_) => Err(Error::Unexpected("the stack became ready without a node".to_owned())),
    }
}

/// Writes what the plan could not come to, webhook configurations last: nobody answers them.
async fn complete(world: &World, desired: &Desired) -> Result<(), Error> {
    let engine = world.engine(desired.installation.clone()).await?;
    let state = engine.open().await.map_err(Error::engine("open the installation"))?;
    let prepared = engine.prepare(&state, desired.clone(), Purpose::Change, Allowed::default()).await;
    let mut steps = prepared.map_err(Error::engine("plan"))?.plan.steps;
    steps.retain(|step| step.verb.writes());
    steps.sort_by_key(|step| object_class(&step.object) == ObjectClass::Webhook);
    for step in &steps {
        write(world, step).await?;
    }
    Ok(())
}

async fn write(world: &World, step: &Step) -> Result<(), Error> {
    let Some(manifest) = &step.manifest else { return Ok(()) };
    let params = ApplyParams { force: true, ..ApplyParams::default() };
    for _ in 0..SERVED {
        match world.own.apply(&step.resource, manifest, &params).await {
            Err(RequestError::NotServed { .. }) => {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            answer => return answer.map(drop).map_err(Error::request("apply", step.object.to_string())),
        }
    }
    Err(Error::Unexpected(format!("{} was not served within {SERVED} s", step.object)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_change_affects_one_object() {
        let (first, changed) = (render(&[]).unwrap(), render(&CHANGED).unwrap());
        let pairs = first.objects.iter().zip(&changed.objects);
        let differing: Vec<_> =
            pairs.filter(|(before, after)| before != after).map(|(before, _)| before.key()).collect();
        assert_eq!(first.objects.len(), changed.objects.len());
        assert_eq!(differing.len(), 1, "{differing:?}");
        assert_eq!(object_class(&differing[0]), ObjectClass::Workload);
    }
}
