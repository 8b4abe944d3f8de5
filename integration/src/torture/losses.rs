//! One of trainerd's own Secrets is deleted at a random instant of a command, or of idleness: nothing of the stack is
//! changed that nobody asked for, every verb says what is so, and the command that is named heals it.

use std::fmt;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;
use trainerd_plan::object::Resource;

use super::State;
use crate::Error;
use crate::cluster::{Snapshot, TestCluster};
use crate::product::{Run, wait};
use crate::stack::{self, NAMESPACE, QUICK, RECORD};

/// What runs while the Secret is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Situation {
    Install,
    Upgrade,
    Rollback,
    Idle,
}

/// The scenes, by turns.
const SCENES: [Situation; 4] = [Situation::Upgrade, Situation::Idle, Situation::Install, Situation::Rollback];

impl Situation {
    fn arguments(self) -> Vec<&'static str> {
        let always = ["--yes", "--timeout", "3m"];
        match self {
            Self::Install => [&["up", "--set", "trainer-version=2.2.1"][..], &QUICK, &always].concat(),
            Self::Upgrade => [&["upgrade", "--to", "trainer=2.3.0"][..], &always].concat(),
            Self::Rollback => [&["rollback", "1", "--allow", "lossy"][..], &always].concat(),
            Self::Idle => vec!["status"],
        }
    }
}

/// Puts an installation through losses.
pub struct Losses {
    cluster: TestCluster,
    empty: Snapshot,
    installed: Snapshot,
    upgraded: Snapshot,
    /// The kinds that objects of the installation are of.
    kinds: Vec<Resource>,
    /// What there is at 2.2.1 and at 2.3.0, and how long an install takes undisturbed.
    at_old: State,
    at_new: State,
    took: Duration,
}

/// The outcome of one run.
#[derive(Clone, Debug)]
pub struct Loss {
    seed: u64,
    scene: &'static str,
    lost: String,
    killed: bool,
    healed_by: Vec<String>,
    /// What was wrong; nothing where all was well.
    pub troubles: Vec<String>,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, scene, lost, killed, healed_by, troubles } = self;
        let killed = if *killed { ", killed at the same moment" } else { "" };
        let healed = if healed_by.is_empty() { "nothing to heal".to_owned() } else { healed_by.join(", ") };
        write!(f, "seed {seed}: {scene}{killed}, {lost} deleted; {healed}")?;
        for trouble in troubles {
            write!(f, "\n  {trouble}")?;
        }
        Ok(())
    }
}

impl Loss {
    /// Whether a run says that what it was to go back to is gone: nothing is changed then.
    fn is_refusal(&self, run: &Run) -> bool {
        let named = self.lost.strip_prefix(RECORD).unwrap_or_default().trim_start_matches("-c-");
        let said = run.stderr.contains("no revision 1") || (named.len() > 8 && run.stderr.contains(named));
        self.scene == "rollback" && matches!(run.code, Some(1 | 4)) && said
    }
}

impl Losses {
    /// Takes the cluster, and installs what the runs begin with.
    pub fn new() -> Result<Self, Error> {
        let mut cluster = TestCluster::take()?;
        let empty = cluster.snapshot()?;
        let began = Instant::now();
        cluster.run(&Situation::Install.arguments())?.expect_code(0)?;
        let took = began.elapsed();
        let kinds = cluster.owned_kinds()?;
        let at_old = State::of(&cluster, &kinds)?;
        let installed = cluster.snapshot()?;
        cluster.run(&Situation::Upgrade.arguments())?.expect_code(0)?;
        let at_new = State::of(&cluster, &kinds)?;
        let upgraded = cluster.snapshot()?;
        Ok(Self { cluster, empty, installed, upgraded, kinds, at_old, at_new, took })
    }

    /// One run.
    ///
    /// # Errors
    /// What has nothing to do with trainerd: the cluster does not answer.
    pub fn run(&mut self, seed: u64) -> Result<Loss, Error> {
        let mut rng = Rng::with_seed(seed);
        let scene = usize::try_from(seed).unwrap_or_default() % SCENES.len();
        let scene = SCENES[scene];
        let (from, before, after) = match scene {
            Situation::Install => (&self.empty, None, &self.at_old),
            Situation::Upgrade => (&self.installed, Some(&self.at_old), &self.at_new),
            Situation::Rollback => (&self.upgraded, Some(&self.at_new), &self.at_old),
            Situation::Idle => (&self.upgraded, Some(&self.at_new), &self.at_new),
        };
        let (before, after) = (before.cloned(), after.clone());
        self.cluster.restore(from)?;
        let arguments = scene.arguments();
        let killed = scene != Situation::Idle && rng.bool();
        let started = Instant::now();
        let (command, mut child) = self.cluster.spawn(self.cluster.kubeconfig(), &arguments)?;
        std::thread::sleep(self.took.mul_f64(rng.f64()));
        let secret = self.delete_secret(&mut rng)?;
        if killed {
            // It may have ended.
            let _ = child.kill();
        }
        let first = wait(command, child, started)?;
        let mut loss = Loss {
            seed,
            scene: match scene {
                Situation::Install => "install",
                Situation::Upgrade => "upgrade",
                Situation::Rollback => "rollback",
                Situation::Idle => "idleness",
            },
            lost: secret,
            killed,
            healed_by: Vec::new(),
            troubles: Vec::new(),
        };
        self.judge(&mut loss, &first, &arguments, before.as_ref(), &after)?;
        Ok(loss)
    }

    /// Deletes one of trainerd's own Secrets, whichever is there by now.
    fn delete_secret(&self, rng: &mut Rng) -> Result<String, Error> {
        let secrets = self.cluster.list(&stack::secret(), Some(stack::INSTALLATION))?;
        let names = secrets.iter().filter_map(|secret| secret["metadata"]["name"].as_str());
        let own: Vec<&str> = names.filter(|name| name.starts_with(RECORD)).collect();
        let Some(name) = rng.choice(&own) else { return Ok("nothing that is there".to_owned()) };
        self.cluster.delete(&stack::secret(), NAMESPACE, name)?;
        Ok((*name).to_owned())
    }

    fn judge(
        &self,
        loss: &mut Loss,
        first: &Run,
        arguments: &[&str],
        before: Option<&State>,
        after: &State,
    ) -> Result<(), Error> {
        let kinds = &self.kinds;
        let seen = State::of(&self.cluster, kinds)?;
        // Looking changes nothing, and always says something.
        let looks = [&["status"][..], &["history"], &["doctor"], &["list"], &["status", "-o", "json"]];
        let mut status = Value::Null;
        for look in looks {
            let run = self.cluster.run(look)?;
            let absent = run.stderr.contains("no installation") || run.stderr.contains("has no record");
            let fine = run.code == Some(0) || (run.code == Some(1) && absent);
            if !fine {
                loss.troubles.push(format!("{look:?} ended {:?}: {}", run.code, run.stderr.trim_end()));
            }
            if look.len() > 1 {
                status = run.json().unwrap_or_default();
            }
        }
        let now = State::of(&self.cluster, kinds)?;
        if now.objects != seen.objects || now.keys != seen.keys {
            loss.troubles.push("looking at it changed something".to_owned());
        }
        let refused = loss.is_refusal(first);
        if !loss.killed && !refused && first.code != Some(0) {
            loss.troubles.push(format!("the command ended {:?}: {}", first.code, first.stderr.trim_end()));
        }
        if status["damage"].is_object() {
            self.repair(loss)?;
        }
        let healed = State::of(&self.cluster, kinds)?;
        let is_done = !loss.killed && !refused && loss.scene != "idleness";
        let same = |state: &State| healed.objects == state.objects;
        if loss.scene == "idleness" && !before.is_some_and(same) {
            loss.troubles.push(format!("the stack was changed: {:?}", healed.differences(after)));
        }
        if is_done && !same(after) {
            loss.troubles.push(format!("it is not where the command led: {:?}", healed.differences(after)));
        }
        let mut after = after;
        if loss.scene != "idleness" {
            let again = self.cluster.run(arguments)?;
            if loss.is_refusal(&again) {
                // It stays where it was, or where the command had led by then.
                after = before.filter(|state| same(state)).unwrap_or(after);
            } else if again.code != Some(0) {
                let said = again.stderr.trim_end();
                loss.troubles.push(format!("the same command ended {:?} afterwards: {said}", again.code));
            }
        }
        let end = State::of(&self.cluster, kinds)?;
        let differing = end.objects.iter().filter(|(key, object)| after.objects.get(*key) != Some(object));
        let differing: Vec<&String> = differing.map(|(key, _)| key).collect();
        if !differing.is_empty() || end.objects.len() != after.objects.len() || end.open.is_some() {
            loss.troubles.push(format!("in the end it differs: {differing:?}, open: {:?}", end.open));
        }
        let status: Value = self.cluster.run(&["status", "-o", "json"])?.json().unwrap_or_default();
        if status["ready"] != true || status["damage"].is_object() {
            loss.troubles.push(format!("in the end it is not whole: {status}"));
        }
        Ok(())
    }

    /// Runs the command that `status` names.
    fn repair(&self, loss: &mut Loss) -> Result<(), Error> {
        let said = self.cluster.run(&["status"])?.stdout;
        let named = said.split('`').find_map(|part| part.strip_prefix("trainerd "));
        let Some(named) = named else {
            loss.troubles.push(format!("status names no command: {said}"));
            return Ok(());
        };
        let mut arguments: Vec<&str> = named.split(' ').collect();
        arguments.extend(["--yes", "--timeout", "3m"]);
        if arguments[0] == "rollback" {
            arguments.extend(["--allow", "lossy"]);
        }
        let run = self.cluster.run(&arguments)?;
        // A plan that is open is gone on with by the command itself.
        if run.code != Some(0) && !run.stderr.contains("a plan is still open") {
            loss.troubles.push(format!("{named} ended {:?}: {}", run.code, run.stderr.trim_end()));
        }
        loss.healed_by.push(named.to_owned());
        Ok(())
    }

    /// Leaves the cluster as it was found.
    pub fn end(mut self) -> Result<(), Error> {
        self.cluster.restore_empty()
    }
}
