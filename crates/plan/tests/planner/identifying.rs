//! Which state the cluster is at, where nobody has it written down.

use serde_json::json;
use trainerd_plan::identify::{Identified, identify};
use trainerd_plan::observed::Observed;

use crate::stack::*;

#[test]
fn the_newest_matching_revision_is_identified() {
    let first = stack();
    let mut second = stack();
    set(&mut second, "ConfigMap", "/data/a", json!("2"));
    let third = without(&["ConfigMap"]);
    let states = [&first, &second, &third, &first];
    let seen = |observed: &Observed| identify(&states, observed, MANAGER);
    let exactly = |index| Some(Identified { index, exact: true });
    let nearly = |index| Some(Identified { index, exact: false });

    assert_eq!(seen(&Observed::default()), None);
    // The first again, which is the last.
    assert_eq!(seen(&all_applied(&first)), exactly(3));
    assert_eq!(seen(&all_applied(&second)), exactly(1));
    assert_eq!(seen(&all_applied(&third)), exactly(2));

    // On the way from the first to the second, which has got somewhere.
    let mut between = all_applied(&first);
    let (key, live) = {
        let map = find(&second, "ConfigMap");
        (map.key(), applied(&second, map))
    };
    between.objects.insert(key, live);
    let deployment = find(&first, "Deployment").key();
    edit(&mut between, &deployment, "kubectl", ["spec", "replicas"], json!(3));
    assert_eq!(seen(&between), nearly(1));

    // Changed by somebody: what it was is known all the same.
    let mut changed = all_applied(&first);
    edit(&mut changed, &deployment, "kubectl", ["spec", "replicas"], json!(3));
    assert_eq!(seen(&changed), nearly(3));

    // What is there is somebody else's.
    let mut theirs = all_applied(&first);
    for live in theirs.objects.values_mut() {
        live.value["metadata"]["labels"] = json!({});
    }
    assert_eq!(seen(&theirs), None);
}
