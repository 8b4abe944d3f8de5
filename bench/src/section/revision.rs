//! Figure 7: 50 MB of manifests that do not compress, stored and loaded again.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use trainerd_cluster::ListParams;
use trainerd_plan::allowed::Allowed;
use trainerd_plan::applyset;
use trainerd_plan::desired::Installation;
use trainerd_plan::object::Resource;
use trainerd_plan::plan::Purpose;

use crate::clock::Clock;
use crate::contender::run;
use crate::error::Error;
use crate::figure::{Figure, Unit, number};
use crate::load::{Load, Size};
use crate::world::World;
use crate::{Report, print_progress};

/// Objects of 1 MB each.
const LARGE: u32 = 50;

/// Bytes of data that the Secrets of an installation hold, base64 undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Headers of revisions.
    pub(crate) headers: u64,
    /// Chunks of manifests.
    pub(crate) chunks: u64,
    /// The record with its journal.
    pub(crate) record: u64,
}

impl Stored {
    /// What revisions take: headers and chunks. The record is there once, whatever their number.
    pub(crate) fn revisions(&self) -> f64 {
        number(self.headers + self.chunks)
    }
}

/// Reads what is stored of an installation.
pub(crate) async fn stored(world: &World, installation: &Installation) -> Result<Stored, Error> {
    let secrets = Resource {
        group: String::new(),
        version: "v1".to_owned(),
        kind: "Secret".to_owned(),
        plural: "secrets".to_owned(),
        namespaced: true,
    };
    let params = ListParams {
        namespace: Some(installation.namespace.clone()),
        label_selector: Some(format!("{}={}", applyset::INSTALLATION, installation.name)),
        ..ListParams::default()
    };
    let list = world.own.list(&secrets, &params).await.map_err(Error::request("list", "Secrets"))?;
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for secret in &list.items {
        *sizes.entry(secret["type"].as_str().unwrap_or_default()).or_default() += bytes(secret)?;
    }
    let of = |what: &str| sizes.get(what).copied().unwrap_or_default();
    Ok(Stored {
        headers: of("trainerd.dev/revision"),
        chunks: of("trainerd.dev/chunk"),
        record: of("trainerd.dev/record"),
    })
}

fn bytes(secret: &Value) -> Result<u64, Error> {
    let mut bytes = 0;
    for text in secret["data"].as_object().into_iter().flat_map(|data| data.values()) {
        let decoded = STANDARD
            .decode(text.as_str().unwrap_or_default())
            .map_err(|source| Error::Secret { name: secret["metadata"]["name"].to_string(), source })?;
        bytes += u64::try_from(decoded.len()).unwrap_or(u64::MAX);
    }
    Ok(bytes)
}

/// Installs 50 MB of manifests for good, and loads their revision again in a new process's way: from a new
/// connection, every chunk read and held to its digest.
pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<(), Error> {
    print_progress(format_args!("{LARGE} MB of manifests"));
    let load = Load { namespace: "bench-large".to_owned(), count: LARGE, generation: 0, size: Size::Large };
    world.namespace(&load.namespace).await?;
    let desired = load.desired();
    let engine = world.engine(load.installation()).await?;
    let state = engine.open().await.map_err(Error::engine("open the installation"))?;
    let clock = Clock::start();
    let prepared = engine.prepare(&state, desired.clone(), Purpose::Install, Allowed::default()).await;
    let prepared = prepared.map_err(Error::engine("plan"))?;
    run(&engine, state, prepared, &|_| {}).await.map_err(Error::engine("run the plan"))?;
    let install = clock.took();

    let engine = world.engine(load.installation()).await?;
    let clock = Clock::start();
    let revision = engine.revision(1).await.map_err(Error::engine("load the revision"))?;
    let loaded = clock.took();
    if *revision.desired != desired {
        return Err(Error::Unexpected("what was loaded is not what was stored".to_owned()));
    }
    let stored = stored(world, &load.installation()).await?;
    let what = format!("{LARGE} MB of manifests (base64 of noise)");
    let figure = |detail: &str, unit, value| Figure::new("7", format!("{what}: {detail}"), unit, &[value]);
    report.figures.extend([
        figure("stored", Unit::Bytes, stored.revisions()),
        figure("stored and applied", Unit::Seconds, install.wall.as_secs_f64()),
        figure("loaded again, equal", Unit::Seconds, loaded.wall.as_secs_f64()),
    ]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_are_those_of_the_decoded_data() {
        let secret = json!({"data": {"a": STANDARD.encode([0; 100]), "b": STANDARD.encode([1; 7])}});
        assert_eq!(bytes(&secret).unwrap(), 107);
        assert_eq!(bytes(&json!({})).unwrap(), 0);
        assert!(bytes(&json!({"data": {"a": "?"}})).is_err());
    }
}
