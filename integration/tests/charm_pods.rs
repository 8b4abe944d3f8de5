//! The charm in pods as Juju shapes them: a whole life, told in text files as the other scenarios of the charm are.
//! Needs a node of this machine that has the image of trainerd.

use std::error::Error;

use trainerd_integration::TestCluster;
use trainerd_integration::charm::{Programs, play_in_pods, pod_images, workspace};

#[test]
fn a_unit_lives_in_its_pod() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    for image in pod_images() {
        if !cluster.comes_to_have_image(image)? {
            println!("skipped: it needs a node of this machine that has the image {image}");
            return Ok(());
        }
    }
    let path = workspace().join("integration/scenarios/charm/pods/life.txt");
    let outcome = play_in_pods(&cluster, &Programs::find()?, &path)?;
    println!("{} in {:.1?}", outcome.name, outcome.took);
    for line in &outcome.transcript {
        println!("{line}");
    }
    match outcome.failure {
        None => Ok(()),
        Some(failure) => Err(failure.into()),
    }
}
