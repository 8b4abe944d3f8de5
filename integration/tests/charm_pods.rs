//! The charm in pods like those of Juju: scenarios as text, like those in `charm.rs`, but with real pods.
//! Needs a node of this machine that has the image of trainerd.

use std::error::Error;

use trainerd_integration::TestCluster;
use trainerd_integration::charm::{Programs, pod_images, run_in_pods, workspace};

#[test]
fn a_unit_runs_in_its_pod() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    for image in pod_images() {
        if !cluster.wait_for_image(image)? {
            println!("skipped: it needs a node of this machine that has the image {image}");
            return Ok(());
        }
    }
    let path = workspace().join("integration/scenarios/charm/pods/life.txt");
    let outcome = run_in_pods(&cluster, &Programs::find()?, &path)?;
    println!("{} in {:.1?}", outcome.name, outcome.took);
    for line in &outcome.transcript {
        println!("{line}");
    }
    match outcome.failure {
        None => Ok(()),
        Some(failure) => Err(failure.into()),
    }
}
