//! Scenarios in which dispatch and the daemon are killed at random times, generated from a seed.

use std::fmt::Write as _;

use fastrand::Rng;

/// Latest time of a kill, in milliseconds: hooks and plans have ended by then.
const LATEST_KILL: f64 = 6000.0;

/// A change, the hook that Juju runs for it, and the check that it is done.
const CHANGES: [(&str, &str, &str); 5] = [
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
pub fn random_kills(seed: u64) -> String {
    let mut rng = Rng::with_seed(seed);
    let mut text = format!("# Seed {seed}.\n");
    for (change, hook, done) in CHANGES {
        let _ = writeln!(text, "{change}");
        for _ in 0..rng.u8(1..=3) {
            write_kill(&mut text, &mut rng, hook);
        }
        // The next hook continues.
        let _ = writeln!(
            text,
            "hook {}\nuntil active\n{done}",
            rng.choice([hook, "update-status"]).unwrap_or(hook)
        );
        // A repair keeps the lease for a while after its last write.
        text.push_str("action diff\nresult count 0\nmark\nhook update-status\nwrites 0 !/leases/\n");
    }
    text.push_str("units kubeflow-trainer/0=dying\n");
    for _ in 0..rng.u8(1..=3) {
        write_kill(&mut text, &mut rng, "remove");
    }
    text.push_str(
        "hook remove\nleft-over /customresourcedefinitions/ /clustertrainingruntimes/ /apiservices/\n",
    );
    text
}

/// One hook that is killed, or whose daemon is, or both.
fn write_kill(text: &mut String, rng: &mut Rng, hook: &str) {
    // Uniform in the order of magnitude, so that early kills are as frequent as late ones.
    let mut time = || LATEST_KILL.powf(rng.f64()).round();
    let (hook_at, daemon_at) = (time(), time());
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
    fn a_seed_always_gives_the_same_scenario() {
        assert_eq!(random_kills(7), random_kills(7));
        assert_ne!(random_kills(7), random_kills(8));
        let all: String = (0..20).map(random_kills).collect();
        assert!(
            all.contains(" killed ")
                && all.contains("KILL_DAEMON_AFTER_MS=")
                && all.contains("kill-daemon after")
        );
    }
}
