//! Kills at every request boundary, and their outcomes.
//!
//! A scenario is a command in a known state. It is run once undisturbed, through the proxy, which counts its
//! requests. Then, for each of them, the state is put back, the command is run and killed right before that
//! request is forwarded, or right after its answer came; then the same command is run once more, undisturbed.
//! That must bring the cluster to where the undisturbed run brought it, alone.
//!
//! A daemon is put through random scripts instead: [`Runner`]. And trainerd's own Secrets are lost: [`Losses`].

mod actors;
mod losses;
mod runner;
mod script;
mod seeds;
mod state;
mod verdict;

pub use losses::{Loss, Losses};
pub use runner::{Ended, RunReport, Runner};
pub use script::Script;
pub use seeds::part_of_seeds;
pub use state::State;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use trainerd_cluster::lease::Identity;
use trainerd_plan::object::Resource;

use crate::Error;
use crate::cluster::{Snapshot, TestCluster};
use crate::proxy::{Entry, Fault, Rule};
use crate::stack;

/// A command in a known state.
pub struct Scenario<'a> {
    /// Its name in the table.
    pub name: &'a str,
    /// The state it starts from.
    pub from: &'a Snapshot,
    /// The command.
    pub arguments: &'a [&'a str],
    /// How it ends when nothing disturbs it.
    pub code: i32,
}

/// Where a run is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// At which request, counted from 1.
    pub number: usize,
    /// After its answer, rather than before it is forwarded.
    pub after: bool,
}

/// The outcome of a scenario.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The scenario.
    pub name: String,
    /// Requests of the undisturbed run.
    pub requests: usize,
    /// Kills that were asked for.
    pub points: usize,
    /// Those that happened: a run may need fewer requests than the one that was counted.
    pub killed: usize,
    /// Runs after which everything was as it should be.
    pub converged: usize,
    /// Objects that were left over, in all runs together.
    pub orphans: usize,
    /// The most writes of one object beyond those of the undisturbed run.
    pub repeated: usize,
    /// The same for trainerd's own records and revisions. The lease, which is renewed as time passes, is not
    /// counted.
    pub repeated_own: usize,
    /// What was wrong, point by point.
    pub troubles: Vec<String>,
}

/// Every point of so many requests.
pub fn every_point(requests: usize) -> Vec<Point> {
    (1..=requests).flat_map(|number| [false, true].map(|after| Point { number, after })).collect()
}

/// So many points, spread evenly, the first and the last among them.
pub fn select_evenly(points: &[Point], count: usize) -> Vec<Point> {
    if points.len() <= count {
        return points.to_vec();
    }
    let last = points.len() - 1;
    (0..count).map(|index| points[index * last / (count - 1).max(1)]).collect()
}

/// Runs a scenario with kills at the points that `choose` picks, given how many requests there are.
pub fn run(
    cluster: &mut TestCluster,
    scenario: &Scenario<'_>,
    choose: impl FnOnce(usize) -> Vec<Point>,
) -> Result<Outcome, Error> {
    cluster.restore(scenario.from)?;
    let (undisturbed, log) = cluster.run_proxied(scenario.arguments, Vec::new())?;
    undisturbed.expect_code(scenario.code)?;
    cluster.wait_for_namespace()?;
    let kinds = cluster.owned_kinds()?;
    let expected = State::of(cluster, &kinds)?;
    let writes = writes(&log);

    let points = choose(log.len());
    let mut outcome = Outcome {
        name: scenario.name.to_owned(),
        requests: log.len(),
        points: points.len(),
        killed: 0,
        converged: 0,
        orphans: 0,
        repeated: 0,
        repeated_own: 0,
        troubles: Vec::new(),
    };
    for point in points {
        let began = Instant::now();
        cluster.restore(scenario.from)?;
        let restored = began.elapsed();
        let fault = if point.after { Fault::KillAfter } else { Fault::KillBefore };
        let (first_run, first) =
            cluster.run_proxied(scenario.arguments, vec![Rule::at(point.number, fault)])?;
        outcome.killed += usize::from(cluster.proxy().killed());
        // A plan that was closed already is not repeated but done again, and counts for itself.
        let closed = cluster.record()?.is_some_and(|record| {
            let last = expected.results.last();
            record["journal"].is_null()
                && last.is_some_and(|(number, result)| {
                    record["results"][number.to_string()]["result"] == **result
                })
        });
        let (second, again) = cluster.run_proxied(scenario.arguments, Vec::new())?;
        cluster.wait_for_namespace()?;
        let found = State::of(cluster, &kinds)?;

        let mut troubles = found.differences(&expected);
        if second.code != Some(scenario.code) {
            let ended = format!("the second run ended {:?}: {}", second.code, second.stderr.trim_end());
            troubles.push(ended);
        }
        troubles.extend(found.holder.as_deref().and_then(|holder| lease_trouble(holder, &again)));
        let orphans = found.orphans(&expected);
        outcome.orphans += orphans.len();
        outcome.converged += usize::from(troubles.is_empty() && orphans.is_empty());
        troubles.extend(orphans.into_iter().map(|key| format!("{key} is left over")));
        let runs: Vec<Vec<Entry>> = if closed { vec![first, again] } else { vec![[first, again].concat()] };
        for log in runs {
            for (object, count) in self::writes(&log) {
                let repeated = count.saturating_sub(writes.get(&object).copied().unwrap_or(1));
                if is_lease(&object) {
                    continue;
                }
                if is_own(&object) {
                    outcome.repeated_own = outcome.repeated_own.max(repeated);
                } else {
                    outcome.repeated = outcome.repeated.max(repeated);
                    if repeated > 1 {
                        troubles.push(format!("{object} is written {repeated} times too often"));
                    }
                }
            }
        }
        if std::env::var_os("TRAINERD_TORTURE_VERBOSE").is_some() {
            let took =
                [restored, first_run.took, second.took, began.elapsed()].map(|took| took.as_secs_f32());
            println!(
                "{} {point}: {} troubles; put back {:.1} s, first run {:.1} s, second {:.1} s, in all {:.1} s",
                scenario.name,
                troubles.len(),
                took[0],
                took[1],
                took[2],
                took[3]
            );
        }
        if !troubles.is_empty() {
            outcome.troubles.push(format!("{} {point}: {}", scenario.name, troubles.join("; ")));
        }
    }
    Ok(outcome)
}

/// What is wrong with a lease that is still held after the second run. One that had something to write took it
/// and has to give it back; one that had nothing left to do leaves it to the killed run, and then whoever
/// comes next has to see at once that its holder is dead.
fn lease_trouble(holder: &str, second: &[Entry]) -> Option<String> {
    if second.iter().any(|entry| entry.wrote() && is_lease(&entry.object)) {
        return Some(format!("the second run left the lease to {holder}"));
    }
    let is_dead = holder.parse::<Identity>().is_ok_and(|holder| holder.is_dead());
    (!is_dead).then(|| format!("the lease is held by {holder}, who is not known to be dead"))
}

/// How often each object was written.
fn writes(log: &[Entry]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for entry in log.iter().filter(|entry| entry.wrote()) {
        *counts.entry(entry.object.clone()).or_insert(0) += 1;
    }
    counts
}

fn is_lease(path: &str) -> bool {
    path.contains("/leases/")
}

/// Whether an object is one of trainerd's own records.
fn is_own(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.starts_with(stack::RECORD) && path.contains("/secrets/")
}

impl TestCluster {
    /// Waits until the namespace is gone, if it is going.
    fn wait_for_namespace(&self) -> Result<(), Error> {
        self.wait_until("the namespace to go", Duration::from_mins(2), || {
            let namespace = self.get(&stack::namespace(), "", stack::NAMESPACE)?;
            Ok(namespace.is_none_or(|namespace| namespace["metadata"]["deletionTimestamp"].is_null()))
        })
    }

    /// The kinds that objects of the installation are of.
    fn owned_kinds(&self) -> Result<Vec<Resource>, Error> {
        let mut owned = Vec::new();
        for kind in self.kinds()? {
            // Made by controllers, which hand on the labels of the Service.
            let passing = matches!(kind.kind.as_str(), "EndpointSlice" | "Endpoints");
            if !passing && !self.list(&kind, Some(stack::INSTALLATION))?.is_empty() {
                owned.push(kind);
            }
        }
        Ok(owned)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = if self.after { "after the answer to" } else { "before" };
        write!(f, "killed {when} request {}", self.number)
    }
}

/// The outcomes as a table for people.
pub struct Table<'a>(pub &'a [Outcome]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<18} {:>8} {:>6} {:>6} {:>9} {:>7} {:>8} {:>12}",
            "scenario", "requests", "points", "killed", "converged", "orphans", "repeated", "own repeated"
        )?;
        for outcome in self.0 {
            let Outcome {
                name, requests, points, killed, converged, orphans, repeated, repeated_own, ..
            } = outcome;
            writeln!(
                f,
                "{name:<18} {requests:>8} {points:>6} {killed:>6} {converged:>9} {orphans:>7} {repeated:>8} {repeated_own:>12}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_has_both_ends_and_the_requested_size() {
        let all = every_point(50);
        assert_eq!(all.len(), 100);
        let some = select_evenly(&all, 8);
        assert_eq!((some.len(), some[0], some[7]), (8, all[0], all[99]));
        assert!(some.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(select_evenly(&all[..3], 8), all[..3]);
    }

    #[test]
    fn a_dead_holder_may_keep_the_lease_if_nothing_was_left_to_write() {
        let running_daemons = Identity::of_this_process();
        let mut dead = running_daemons.clone();
        // The process id was given to another process since.
        dead.process.as_mut().unwrap().start_ticks += 1;
        let path = "/apis/coordination.k8s.io/v1/namespaces/n/leases/a";
        let mut taking = Entry::new(1, &http::Method::PUT, &path.parse().unwrap(), b"{}");
        taking.status = Some(200);
        for (what, holder, second, fine) in [
            ("nothing left to write, and dead", dead.to_string(), vec![], true),
            ("it may live", running_daemons.to_string(), vec![], false),
            ("somebody else's", "manager-1".to_owned(), vec![], false),
            ("taken and not given back", dead.to_string(), vec![taking], false),
        ] {
            assert_eq!(lease_trouble(&holder, &second).is_none(), fine, "{what}");
        }
    }

    #[test]
    fn records_are_distinguished_from_objects_of_the_stack() {
        let path = |rest: &str| format!("/api/v1/namespaces/kubeflow-system/{rest}");
        for (path, own) in [
            (path("secrets/trainerd-kubeflow-trainer"), true),
            (path("secrets/trainerd-kubeflow-trainer-r1"), true),
            (path("secrets/jobset-webhook-server-cert"), false),
            (path("configmaps/trainerd-kubeflow-trainer"), false),
        ] {
            assert_eq!(is_own(&path), own, "{path}");
        }
    }
}
