//! The graph through a plan's graph: which steps may start now, and whether all is done. No I/O.

use trainerd_plan::plan::Plan;

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepState {
    /// Waits for other steps.
    Blocked,
    /// Its request is in progress.
    Writing,
    /// Written, and waits until it is done.
    Waiting,
    /// Done.
    Done,
}

/// The state of every step of a plan.
#[derive(Clone, Debug)]
pub(crate) struct StepGraph {
    states: Vec<StepState>,
    /// How many steps each step still waits for.
    missing: Vec<usize>,
    followers: Vec<Vec<usize>>,
    /// Whether a step's followers were told that it is done.
    released: Vec<bool>,
    /// Steps that may start, last first.
    ready: Vec<usize>,
}

impl StepGraph {
    /// A graph at its beginning.
    pub(crate) fn new(plan: &Plan) -> Self {
        let missing: Vec<usize> = plan.steps.iter().map(|step| step.after.len()).collect();
        let mut followers = vec![Vec::new(); plan.steps.len()];
        for (index, step) in plan.steps.iter().enumerate() {
            for &before in &step.after {
                followers[before].push(index);
            }
        }
        let ready = (0..plan.steps.len()).rev().filter(|&index| missing[index] == 0).collect();
        Self {
            states: vec![StepState::Blocked; plan.steps.len()],
            missing,
            followers,
            released: vec![false; plan.steps.len()],
            ready,
        }
    }

    /// The next step that may start; it counts as started.
    pub(crate) fn start(&mut self) -> Option<usize> {
        let index = self.ready.pop()?;
        self.states[index] = StepState::Writing;
        Some(index)
    }

    /// The request of a step was answered.
    pub(crate) fn written(&mut self, index: usize) {
        self.states[index] = StepState::Waiting;
    }

    /// A step is done; what waited only for it may start.
    pub(crate) fn done(&mut self, index: usize) {
        self.states[index] = StepState::Done;
        // A step that was reopened has released its followers already.
        if std::mem::replace(&mut self.released[index], true) {
            return;
        }
        for position in 0..self.followers[index].len() {
            let follower = self.followers[index][position];
            self.missing[follower] -= 1;
            if self.missing[follower] == 0 {
                self.ready.push(follower);
            }
        }
    }

    /// A step that was done is so no longer. What followed it stays done.
    pub(crate) fn reopen(&mut self, index: usize) {
        self.states[index] = StepState::Waiting;
    }

    /// Where a step is.
    pub(crate) fn state(&self, index: usize) -> StepState {
        self.states[index]
    }

    /// The steps that were written and wait to be done.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = usize> + '_ {
        self.states
            .iter()
            .enumerate()
            .filter(|(_, place)| **place == StepState::Waiting)
            .map(|(index, _)| index)
    }

    /// Whether every step is done.
    pub(crate) fn finished(&self) -> bool {
        self.states.iter().all(|place| *place == StepState::Done)
    }

    /// How many steps are done.
    pub(crate) fn done_count(&self) -> usize {
        self.states.iter().filter(|place| **place == StepState::Done).count()
    }
}

#[cfg(test)]
mod tests {
    use trainerd_plan::desired::Installation;
    use trainerd_plan::object::{ObjectKey, Resource};
    use trainerd_plan::plan::{Purpose, Step, Until, Verb};

    use super::*;

    /// A plan whose steps wait for the steps that each row names.
    fn plan(after: &[&[usize]]) -> Plan {
        let step = |(index, after): (usize, &&[usize])| Step {
            component: String::new(),
            object: ObjectKey {
                group: String::new(),
                kind: "ConfigMap".into(),
                namespace: None,
                name: index.to_string(),
            },
            resource: Resource {
                group: String::new(),
                version: "v1".into(),
                kind: "ConfigMap".into(),
                plural: "configmaps".into(),
                namespaced: true,
            },
            verb: Verb::Create,
            manifest: None,
            after: after.to_vec(),
            until: Until::Ready,
            why: String::new(),
            changes: Vec::new(),
            yielded: Vec::new(),
            taken: Vec::new(),
        };
        Plan {
            purpose: Purpose::Install,
            installation: Installation { name: "a".into(), namespace: "b".into() },
            steps: after.iter().enumerate().map(step).collect(),
            probes: Vec::new(),
            point_of_no_return: None,
            pending_deletions: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn started(graph: &mut StepGraph) -> Vec<usize> {
        std::iter::from_fn(|| graph.start()).collect()
    }

    #[test]
    fn a_step_starts_when_its_dependencies_are_ready() {
        let mut graph = StepGraph::new(&plan(&[&[], &[0], &[0], &[1, 2]]));
        assert_eq!(started(&mut graph), [0]);
        graph.written(0);
        assert!(started(&mut graph).is_empty());
        graph.done(0);
        let mut both = started(&mut graph);
        both.sort_unstable();
        assert_eq!(both, [1, 2]);
        graph.done(1);
        assert!(started(&mut graph).is_empty());
        graph.done(2);
        assert_eq!(started(&mut graph), [3]);
        assert!(!graph.finished());
        graph.done(3);
        assert!(graph.finished());
    }

    #[test]
    fn a_reopened_step_releases_its_dependents_once() {
        let mut graph = StepGraph::new(&plan(&[&[], &[0]]));
        graph.start();
        graph.done(0);
        assert_eq!(started(&mut graph), [1]);
        graph.done(1);
        graph.reopen(0);
        assert!(!graph.finished());
        assert_eq!(graph.waiting().collect::<Vec<_>>(), [0]);
        graph.done(0);
        assert!(started(&mut graph).is_empty());
        assert!(graph.finished());
    }
}
