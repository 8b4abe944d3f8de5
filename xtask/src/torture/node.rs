//! Kills at random instants, on a real node with the real controllers.
//!
//! Every command is killed with signal 9 somewhere on its way, and the same command is run again, undisturbed. It
//! must end well, what it promised must be so, and nothing may be left to do.

use std::path::PathBuf;
use std::time::Duration;

use super::Error;
use crate::demo::{self, Scene, ready};
use crate::foreground::check_interrupted;
use crate::home::Home;
use crate::steps::Steps;
use crate::terminal::print;
use crate::test::clusters::stop_cluster;

const CLUSTER: &str = "torture-node";
const TIMEOUT: &str = "10m";
/// Every command makes a revision, and the first one is gone back to.
const OPTIONS: [&str; 4] = ["--set", "small-footprint=true", "--set", "revision-history=50"];

/// An instant after the end of a command on an idle machine: later ones would kill nothing.
const LATEST_KILL: Duration = Duration::from_secs(25);

/// A command, and where it leads.
struct Command {
    arguments: &'static [&'static str],
    trainer: &'static str,
}

const INSTALL: Command = Command { arguments: &["up", "--set", "trainer-version=2.2.1"], trainer: "2.2.1" };
const UPGRADE: Command = Command { arguments: &["upgrade", "--to", "trainer=2.3.0"], trainer: "2.3.0" };
const ROLLBACK: Command = Command { arguments: &["rollback", "1", "--allow", "lossy"], trainer: "2.2.1" };

/// Kills so many commands: the installation, then upgrades and rollbacks by turns.
pub(super) fn run(home: &Home, kills: u32, trainerd: PathBuf) -> Result<(), Error> {
    let name = CLUSTER.parse().map_err(|_| Error::Name(CLUSTER.to_owned()))?;
    let mut steps = Steps::default();
    let played = demo::open(home, &name, trainerd).and_then(|scene| play(&scene, kills, &mut steps));
    stop_cluster(home, &name);
    print(format_args!("\n{}", steps.table()));
    Ok(played?)
}

fn play(scene: &Scene, kills: u32, steps: &mut Steps) -> Result<(), demo::Error> {
    for number in 0..kills {
        check_interrupted()?;
        let command = match number {
            0 => &INSTALL,
            _ if number % 2 == 1 => &UPGRADE,
            _ => &ROLLBACK,
        };
        let after =
            Duration::from_millis(fastrand::u64(0..u64::try_from(LATEST_KILL.as_millis()).unwrap_or(1)));
        let what = format!("kill `{}` after {:.1} s", command.arguments[..1].join(" "), after.as_secs_f32());
        steps.take(&what, || kill_and_repeat(scene, command, after).map(|note| ((), note)))?;
    }
    Ok(())
}

fn kill_and_repeat(scene: &Scene, command: &Command, after: Duration) -> Result<String, demo::Error> {
    let common = ["--yes", "--timeout", TIMEOUT];
    let options: &[&str] = if command.arguments[0] == "up" { &OPTIONS } else { &[] };
    let arguments = [command.arguments, &common, options].concat();
    let killed = scene.kill(&arguments, after)?;
    scene.run(&arguments)?;
    let revision = scene.ask(&["status"])?["revision"].as_u64().unwrap_or_default();
    let note = ready(scene, revision, command.trainer)?;
    let version = format!("trainer-version={}", command.trainer);
    if !scene.succeeds(&[&["plan", "--set", &version][..], &OPTIONS].concat())? {
        return Err(demo::Error::Broken("something is left to do".to_owned()));
    }
    Ok(format!("{}; then {note}, and nothing to do", if killed { "killed" } else { "it was done before" }))
}
