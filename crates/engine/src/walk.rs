//! The walk through a plan's graph: which steps may start now, and whether all is done. No I/O.

use trainerd_plan::plan::Plan;

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Waits for other steps.
    Blocked,
    /// Its request is under way.
    Writing,
    /// Written, and waits until it is done.
    Waiting,
    /// Done.
    Done,
}

/// The state of every step of a plan.
#[derive(Clone, Debug)]
pub struct Walk {
    places: Vec<Place>,
    /// How many steps each step still waits for.
    missing: Vec<usize>,
    followers: Vec<Vec<usize>>,
    /// Whether a step's followers were told that it is done.
    released: Vec<bool>,
    /// Steps that may start, last first.
    ready: Vec<usize>,
}

impl Walk {
    /// A walk at its beginning.
    pub fn new(plan: &Plan) -> Self {
        let missing: Vec<usize> = plan.steps.iter().map(|step| step.after.len()).collect();
        let mut followers = vec![Vec::new(); plan.steps.len()];
        for (index, step) in plan.steps.iter().enumerate() {
            for &before in &step.after {
                followers[before].push(index);
            }
        }
        let ready = (0..plan.steps.len()).rev().filter(|&index| missing[index] == 0).collect();
        Self {
            places: vec![Place::Blocked; plan.steps.len()],
            missing,
            followers,
            released: vec![false; plan.steps.len()],
            ready,
        }
    }

    /// The next step that may start; it counts as started.
    pub fn start(&mut self) -> Option<usize> {
        let index = self.ready.pop()?;
        self.places[index] = Place::Writing;
        Some(index)
    }

    /// The request of a step was answered.
    pub fn written(&mut self, index: usize) {
        self.places[index] = Place::Waiting;
    }

    /// A step is done; what waited only for it may start.
    pub fn done(&mut self, index: usize) {
        self.places[index] = Place::Done;
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
    pub fn reopen(&mut self, index: usize) {
        self.places[index] = Place::Waiting;
    }

    /// Where a step is.
    pub fn place(&self, index: usize) -> Place {
        self.places[index]
    }

    /// The steps that were written and wait to be done.
    pub fn waiting(&self) -> impl Iterator<Item = usize> + '_ {
        self.places.iter().enumerate().filter(|(_, place)| **place == Place::Waiting).map(|(index, _)| index)
    }

    /// Whether every step is done.
    pub fn finished(&self) -> bool {
        self.places.iter().all(|place| *place == Place::Done)
    }

    /// How many steps are done.
    pub fn done_count(&self) -> usize {
        self.places.iter().filter(|place| **place == Place::Done).count()
    }
}
