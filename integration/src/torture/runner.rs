//! A daemon goes through a [`Script`]; then all faults end, and it has to bring the installation to what is
//! declared, alone, and to say so when it is true and not before.

mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;
use serde_json::json;
use trainerd_causes::one_line;
use trainerd_cluster::CreateParams;
use trainerd_plan::object::{ObjectKey, Resource};

use super::script::{Event, Look, Options, Script, Shape, Start};
use super::verdict::without_history;
use super::{Point, State, actors};
use crate::Error;
use crate::cluster::{Snapshot, TestCluster};
use crate::daemon::Daemon;
use crate::proxy::{Fault, Proxy, Rule, When};
use crate::stack::{self, NAMESPACE, RECORD};

/// For the daemon to come to rest once all faults have ended. Its longest wait between two tries is of a minute,
/// and a stolen lease takes up to 20 s.
const BOUND: Duration = Duration::from_secs(90);
/// For the daemon to end when it is asked to.
const ENDING: Duration = Duration::from_secs(20);
/// Pause between two looks at a process.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Who steals leases.
const THIEF: &str = "somebody-else";

/// The outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything is as it should be, so long after the last fault had ended.
    Converged(Duration),
    /// Not so, but the daemon says why.
    SaidWhy(String),
    /// Neither: what is wrong.
    Broken(Vec<String>),
}

/// A run.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// What happened.
    pub script: Script,
    /// How it ended.
    pub ended: Ended,
    /// How often a daemon said that it is ready when news to the contrary was still in progress.
    pub early: usize,
    /// From putting the cluster back to the end.
    pub took: Duration,
}

/// A cluster where daemons are put through scripts.
pub struct Runner {
    // Before the cluster, whose daemons they have.
    seats: [Seat; 2],
    /// The declared options.
    file: PathBuf,
    installed: Snapshot,
    /// Kinds that objects of an installation may be of.
    kinds: Vec<Resource>,
    /// What clean installations are like.
    clean: BTreeMap<Look, State>,
    cluster: TestCluster,
}

/// A place for a daemon, with a way to the API server of its own.
struct Seat {
    name: &'static str,
    proxy: Proxy,
    kubeconfig: PathBuf,
    daemon: Option<Daemon>,
}

/// What is known while a script continues.
struct Course {
    rng: Rng,
    /// What is declared now.
    declared: Options,
    paused: bool,
    /// Daemons that were killed or asked to end, by process id.
    gone: BTreeSet<u32>,
    /// What is there in the end.
    wanted: BTreeSet<ObjectKey>,
    early: usize,
    troubles: Vec<String>,
}

impl Runner {
    /// Takes the cluster, and looks what clean installations are like.
    pub fn new() -> Result<Self, Error> {
        let cluster = TestCluster::take()?;
        let seat = |name: &'static str| {
            let proxy = cluster.block_on(Proxy::start(cluster.kubeconfig(), cluster.host_address()))?;
            let kubeconfig = cluster.folder().join(format!("{name}.kubeconfig"));
            proxy.write_kubeconfig(&kubeconfig)?;
            Ok::<_, Error>(Seat { name, proxy, kubeconfig, daemon: None })
        };
        let seats = [seat("first")?, seat("second")?];
        let file = cluster.folder().join("options.yaml");
        let (installed, kinds, clean) = (Snapshot::default(), Vec::new(), BTreeMap::new());
        let mut runner = Self { seats, file, installed, kinds, clean, cluster };
        for newer in [true, false] {
            runner.expected(Look { newer, shape: Shape::Whole })?;
        }
        // The older one was made last.
        runner.installed = runner.cluster.snapshot()?;
        Ok(runner)
    }

    /// What a clean installation is like, which is made the first time that somebody asks.
    fn expected(&mut self, look: Look) -> Result<State, Error> {
        if let Some(known) = self.clean.get(&look) {
            return Ok(known.clone());
        }
        self.cluster.restore_empty()?;
        self.declare(Options { look, settle: 0 })?;
        let arguments = ["--config", self.file.to_str().unwrap_or_default()];
        let mut daemon = self.cluster.daemon("clean", &arguments)?;
        daemon.wait_until_settled(BOUND)?;
        daemon.signal(Signal::TERM)?;
        daemon.end()?;
        for kind in self.cluster.owned_kinds()? {
            if !self.kinds.contains(&kind) {
                self.kinds.push(kind);
            }
        }
        let state = without_history(State::of(&self.cluster, &self.kinds)?);
        self.clean.insert(look, state.clone());
        Ok(state)
    }

    /// Runs the script of a seed.
    pub fn run(&mut self, seed: u64) -> RunReport {
        let script = Script::of(seed);
        let expected = self.expected(script.last().look);
        let began = Instant::now();
        let ended = expected.and_then(|expected| self.play(&script, &expected));
        let (ended, early) = ended.unwrap_or_else(|error| (Ended::Broken(vec![one_line(&error)]), 0));
        for seat in &mut self.seats {
            if let Some(daemon) = seat.daemon.take()
                && !matches!(ended, Ended::Converged(_))
            {
                note(|| format!("{}:\n{}", seat.name, daemon.log()));
            }
        }
        RunReport { script, ended, early, took: began.elapsed() }
    }

    /// How it ended, and how often ready was said early.
    fn play(&mut self, script: &Script, expected: &State) -> Result<(Ended, usize), Error> {
        match script.start {
            Start::Empty => self.cluster.restore_empty()?,
            Start::Installed => self.cluster.restore(&self.installed)?,
        }
        self.declare(script.options)?;
        for seat in &mut self.seats {
            self.cluster.block_on(seat.proxy.begin(Vec::new()));
            // What an earlier run said is no news.
            let _ = std::fs::remove_file(self.cluster.folder().join(format!("{}.log", seat.name)));
        }
        let mut course = Course {
            rng: Rng::with_seed(!script.seed),
            declared: script.options,
            paused: false,
            gone: BTreeSet::new(),
            wanted: expected.objects.values().filter_map(ObjectKey::of).collect(),
            early: 0,
            troubles: Vec::new(),
        };
        let ended = self.run_events(script, expected, &mut course)?;
        Ok((ended, course.early))
    }

    fn run_events(&mut self, script: &Script, expected: &State, course: &mut Course) -> Result<Ended, Error> {
        self.start(0)?;
        if script.rested {
            self.wait_until_settled(course)?;
        }
        for (event, idle) in &script.steps {
            self.apply_event(event, course)?;
            self.idle(*idle, course)?;
        }
        self.clear_all_faults(course)?;
        let peace = Instant::now();
        let settled = self.wait_until_as_expected(expected, course)?;
        let took = peace.elapsed();
        let mut troubles = self.judge(expected, settled, script, course)?;
        troubles.append(&mut course.troubles);
        if settled && troubles.is_empty() {
            return Ok(Ended::Converged(took));
        }
        let (words, reasons): (Vec<String>, Vec<bool>) = self.summaries().into_iter().unzip();
        if troubles.is_empty() && reasons.iter().all(|says_why| *says_why) {
            return Ok(Ended::SaidWhy(words.join("; ")));
        }
        troubles.extend(words);
        Ok(Ended::Broken(troubles))
    }

    /// Writes the file of options at once, as an editor does.
    fn declare(&self, options: Options) -> Result<(), Error> {
        let new = self.file.with_extension("new");
        std::fs::write(&new, options.text()).map_err(Error::io("write", &new))?;
        std::fs::rename(&new, &self.file).map_err(Error::io("write", &self.file))
    }

    fn start(&mut self, seat: usize) -> Result<(), Error> {
        let Seat { name, proxy, kubeconfig, daemon } = &mut self.seats[seat];
        let arguments = ["--config", self.file.to_str().unwrap_or_default()];
        let started = self.cluster.daemon_as(kubeconfig, name, &arguments)?;
        proxy.replace_client(started.pid());
        *daemon = Some(started);
        Ok(())
    }

    /// The seats where a daemon lives.
    fn running_daemons(&self) -> Vec<usize> {
        (0..self.seats.len()).filter(|seat| self.seats[*seat].daemon.is_some()).collect()
    }

    /// One of the daemons that live; after a fault there is always one.
    fn one(&self, course: &mut Course) -> usize {
        course.rng.choice(self.running_daemons()).unwrap_or_default()
    }

    fn apply_event(&mut self, event: &Event, course: &mut Course) -> Result<(), Error> {
        match event {
            Event::Declare(options) => {
                course.declared = *options;
                self.declare(*options)?;
            }
            Event::Edit(seed) => self.edit(*seed, course),
            Event::Delete(seed) => self.delete(*seed)?,
            Event::KillAt(Point { number, after }) => {
                let fault = if *after { Fault::KillAfter } else { Fault::KillBefore };
                let seat = self.one(course);
                self.seats[seat].proxy.add(Rule::at(*number, fault));
            }
            Event::Kill => {
                let seat = self.one(course);
                self.kill(seat, course)?;
                self.start(seat)?;
            }
            Event::Stop => {
                let seat = self.one(course);
                self.stop(seat, course)?;
                self.start(seat)?;
            }
            Event::Trouble(rule) => self.seats.iter().for_each(|seat| seat.proxy.add(rule.clone())),
            Event::Cut => self.seats.iter().for_each(|seat| seat.proxy.cut_watches()),
            Event::Away(time) => {
                let gone = Rule { when: When::Each { of: 1, times: None }, fault: Fault::Reset };
                for seat in &self.seats {
                    seat.proxy.add(gone.clone());
                    seat.proxy.cut_watches();
                }
                self.idle(*time, course)?;
                self.seats.iter().for_each(|seat| seat.proxy.remove(&gone));
            }
            Event::Second => {
                if let [one] = self.running_daemons().as_slice() {
                    self.start(1 - one)?;
                } else {
                    let seat = self.one(course);
                    self.kill(seat, course)?;
                }
            }
            Event::Steal(seconds) => self.take_lease(*seconds)?,
            Event::Pause => {
                let verb = if course.paused { "resume" } else { "pause" };
                let run = self.cluster.run(&[verb])?;
                // Where nothing is installed yet, there is nothing to pause.
                if run.code == Some(0) {
                    course.paused = !course.paused;
                } else if course.paused {
                    run.expect_code(0)?;
                }
            }
        }
        Ok(())
    }

    fn edit(&self, seed: u64, course: &Course) {
        let mut rng = Rng::with_seed(seed);
        let Some(picked) = actors::pick(self.base(), &self.kinds, &mut rng) else { return };
        let namespace = picked.key.namespace.as_deref();
        let Some(patch) = actors::edit(picked.object, &mut rng) else { return };
        // What is not wanted in the end stays where somebody took it out, and would be left over.
        if actors::removes_from_installation(&patch) && !course.wanted.contains(&picked.key) {
            return;
        }
        note(|| format!("{}: {patch}", picked.key));
        let api = self.cluster.api();
        let name = &picked.key.name;
        let patched = api.patch_merge(picked.kind, namespace, name, &patch, CreateParams::default());
        // It need not be there, nor let itself be changed, in the middle of whatever is in progress.
        if let Err(error) = self.cluster.block_on(patched) {
            note(|| one_line(&error));
        }
    }

    fn delete(&self, seed: u64) -> Result<(), Error> {
        let mut rng = Rng::with_seed(seed);
        let Some(picked) = actors::pick(self.base(), &self.kinds, &mut rng) else { return Ok(()) };
        // With the namespace goes the account of the installation: that is a removal, not drift.
        if picked.key.kind == "Namespace" {
            return Ok(());
        }
        note(|| format!("{} deleted", picked.key));
        let namespace = picked.key.namespace.unwrap_or_default();
        self.cluster.delete(picked.kind, &namespace, &picked.key.name)
    }

    /// What somebody has in mind who reaches for an object.
    fn base(&self) -> &State {
        &self.clean[&Look { newer: false, shape: Shape::Whole }]
    }

    fn take_lease(&self, seconds: u64) -> Result<(), Error> {
        // Their clock may be five minutes behind or ahead.
        let skew = jiff::SignedDuration::from_mins([-5, 0, 5][usize::try_from(seconds % 3).unwrap_or(1)]);
        let now = (jiff::Timestamp::now() + skew).strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let patch = json!({"spec": {"holderIdentity": THIEF, "leaseDurationSeconds": seconds,
                                    "acquireTime": now, "renewTime": now}});
        let api = self.cluster.api();
        let lease = stack::lease();
        let stolen = api.patch_merge(&lease, Some(NAMESPACE), RECORD, &patch, CreateParams::default());
        match self.cluster.block_on(stolen) {
            Ok(_) => Ok(()),
            Err(error) if error.is_absent() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn kill(&mut self, seat: usize, course: &mut Course) -> Result<(), Error> {
        if let Some(mut daemon) = self.seats[seat].daemon.take() {
            daemon.signal(Signal::KILL)?;
            daemon.end()?;
            course.gone.insert(daemon.pid());
        }
        Ok(())
    }

    /// Asks a daemon to end, which it has to do soon and well, whatever is in progress.
    fn stop(&mut self, seat: usize, course: &mut Course) -> Result<(), Error> {
        let seat = &mut self.seats[seat];
        let Some(mut daemon) = seat.daemon.take() else { return Ok(()) };
        let end = Instant::now() + ENDING;
        // Before it listens, a process ends as the system has it.
        while daemon.probe("/livez").is_err() && daemon.ended()?.is_none() && Instant::now() < end {
            std::thread::sleep(POLL_INTERVAL);
        }
        daemon.signal(Signal::TERM)?;
        course.gone.insert(daemon.pid());
        loop {
            match daemon.ended()? {
                Some(status) if status.code() == Some(0) || seat.proxy.killed() => return Ok(()),
                Some(status) => {
                    course.troubles.push(format!("asked to end, {} ended with {status}", seat.name));
                    return Ok(());
                }
                None if Instant::now() > end => {
                    course.troubles.push(format!("asked to end, {} goes on after {ENDING:?}", seat.name));
                    return Ok(());
                }
                None => std::thread::sleep(POLL_INTERVAL),
            }
        }
    }

    /// Starts again what a fault has killed; a daemon that ends by itself is in trouble.
    fn restart_killed(&mut self, course: &mut Course) -> Result<(), Error> {
        for index in 0..self.seats.len() {
            let Seat { name, proxy, daemon, .. } = &mut self.seats[index];
            let Some(found) = daemon else { continue };
            let Some(status) = found.ended()? else { continue };
            course.gone.insert(found.pid());
            if !proxy.killed() || status.signal() != Some(Signal::KILL.as_raw()) {
                let log = found.log();
                let last = log.lines().rev().take(3).collect::<Vec<_>>().join(" | ");
                course.troubles.push(format!("{name} ended by itself, {status}: {last}"));
            }
            *daemon = None;
            std::thread::sleep(Duration::from_millis(course.rng.u64(0..500)));
            self.start(index)?;
        }
        Ok(())
    }

    /// Lets time pass.
    fn idle(&mut self, time: Duration, course: &mut Course) -> Result<(), Error> {
        let end = Instant::now() + time;
        loop {
            self.restart_killed(course)?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(POLL_INTERVAL));
        }
    }

    /// Nothing goes wrong any more, and nobody keeps the daemon from its work.
    fn clear_all_faults(&mut self, course: &mut Course) -> Result<(), Error> {
        self.seats.iter().for_each(|seat| seat.proxy.clear_faults());
        self.restart_killed(course)?;
        if course.paused {
            self.cluster.run(&["resume"])?.expect_code(0)?;
            course.paused = false;
        }
        Ok(())
    }
}

/// Says something to whoever looks closely.
fn note(text: impl FnOnce() -> String) {
    if std::env::var_os("TRAINERD_TORTURE_VERBOSE").is_some() {
        println!("    {}", text());
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { script, ended, early, took } = self;
        match ended {
            Ended::Converged(after) => {
                write!(f, "seed {}: converged after {:.1} s", script.seed, after.as_secs_f32())?;
            }
            Ended::SaidWhy(why) => write!(f, "seed {}: did not converge, and says why: {why}", script.seed)?,
            Ended::Broken(troubles) => {
                write!(f, "seed {}: DID NOT CONVERGE: {}", script.seed, troubles.join("; "))?;
            }
        }
        if *early > 0 {
            write!(f, "; ready was said early {early} times")?;
        }
        write!(f, " ({:.1} s: {script})", took.as_secs_f32())
    }
}
