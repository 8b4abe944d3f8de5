//! What upstream's own suites look at, as scenarios of ours on a real API server: what is admitted, what is made by each
//! framework, and what becomes of it.

#[path = "reconciler/admission.rs"]
mod admission;
#[path = "reconciler/frameworks.rs"]
mod frameworks;
#[path = "reconciler/objects.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod objects;
#[path = "reconciler/world.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod world;

use world::NS;
