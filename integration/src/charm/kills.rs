//! A life in which dispatch and the daemon are killed at random instants, as a scenario: the seed says which.

use std::fmt::Write as _;

use fastrand::Rng;

/// Longest that a hook goes on undisturbed, or a plan, in milliseconds: what is killed later is done already.
const LONGEST: f64 = 6000.0;

/// What happens to the application, the hook that Juju fires then, and how one sees that it is done.
const CHAPTERS: [(&str, &str, &str); 5] = [
    (
        "container\nconfig trainer-version=2.2.1\nremember",
        "trainerd-pebble-ready",
        "image kubeflow-trainer ghcr.io/kubeflow/trainer/trainer-controller-manager:v2.2.1",
    ),
    (
        "config lws-image=registry.example/mirror/lws:v0.8.0-fixed",
        "config-changed",
        "image kubeflow-trainer-lws-controller-manager registry.example/mirror/lws:v0.8.0-fixed",
    ),
    (
        "config trainer-version=2.3.0",
        "config-changed",
        "image kubeflow-trainer ghcr.io/kubeflow/trainer/trainer-controller-manager:v2.3.0",
    ),
    ("config runtimes=torch-distributed", "config-changed", "absent ClusterTrainingRuntime mlx-distributed"),
    ("delete ConfigMap kubeflow-trainer-config", "update-status", "exists ConfigMap kubeflow-trainer-config"),
];

/// The scenario of a seed.
pub fn killed_life(seed: u64) -> String {
    let mut rng = Rng::with_seed(seed);
    let mut text = format!("# Seed {seed}.\n");
    for (change, hook, done) in CHAPTERS {
        let _ = writeln!(text, "{change}");
        for _ in 0..rng.u8(1..=3) {
            disturb(&mut text, &mut rng, hook);
        }
        // The next hook goes on.
        let _ = writeln!(
            text,
            "hook {}\nuntil active\n{done}",
            rng.choice([hook, "update-status"]).unwrap_or(hook)
        );
        // A repair keeps the lease for a while after its last write, and gives it back then.
        text.push_str("action diff\nresult count 0\nmark\nhook update-status\nwrites 0 !/leases/\n");
    }
    text.push_str("units kubeflow-trainer/0=dying\n");
    for _ in 0..rng.u8(1..=3) {
        disturb(&mut text, &mut rng, "remove");
    }
    text.push_str(
        "hook remove\nleft-over /customresourcedefinitions/ /clustertrainingruntimes/ /apiservices/\n",
    );
    text
}

/// One hook that is killed, or whose daemon is, or both.
fn disturb(text: &mut String, rng: &mut Rng, hook: &str) {
    // As many early ones as late ones, by their order of magnitude.
    let mut instant = || LONGEST.powf(rng.f64()).round();
    let (hook_at, daemon_at) = (instant(), instant());
    let _ = match rng.u8(0..3) {
        0 => writeln!(text, "hook {hook} killed {hook_at}"),
        1 => writeln!(text, "hook {hook} KILL_DAEMON_AFTER_MS={daemon_at}"),
        _ => writeln!(text, "hook {hook} killed {hook_at}\nkill-daemon after {daemon_at}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_always_the_same_life_and_another_is_another() {
        assert_eq!(killed_life(7), killed_life(7));
        assert_ne!(killed_life(7), killed_life(8));
        let all: String = (0..20).map(killed_life).collect();
        assert!(
            all.contains(" killed ")
                && all.contains("KILL_DAEMON_AFTER_MS=")
                && all.contains("kill-daemon after")
        );
    }
}
