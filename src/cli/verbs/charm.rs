//! `charm`: the file that Juju deploys.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use trainerd_juju::pack::{self, Parts};

use crate::cli::context::Context;
use crate::problem::Exit;
use crate::problem::{InputError, Problem};

/// Build the charm that Juju deploys
#[derive(Clone, Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = false)]
pub(crate) struct CharmArgs {
    #[command(subcommand)]
    verb: CharmVerb,
}

#[derive(Clone, Debug, Subcommand)]
enum CharmVerb {
    Pack(PackArgs),
}

/// Write the charm file, which contains this program
///
/// Needs neither charmcraft nor a network. The same program gives the same bytes; the files in it have the time of
/// SOURCE_DATE_EPOCH, or else 1980. Juju runs the program without shared libraries, so use a statically linked one, as
/// `cargo xtask charm` does.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd charm pack                               kubeflow-trainer_ubuntu@24.04-amd64.charm, here
  trainerd charm pack --output-dir dist
  trainerd charm pack --no-container                deploys without an image of the daemon

If Juju runs it (with JUJU_DISPATCH_PATH in the environment), the program acts as the charm's hook code.")]
struct PackArgs {
    /// Build a charm without the workload container: hooks do the work, and nothing runs between them
    #[arg(long)]
    no_container: bool,

    /// Folder to write it to
    #[arg(long, value_name = "DIR", default_value = ".")]
    output_dir: PathBuf,
}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &CharmArgs) -> Result<Exit, Problem> {
    let CharmVerb::Pack(args) = &args.verb;
    let itself = PathBuf::from("/proc/self/exe");
    let dispatch = std::fs::read(&itself).map_err(|source| InputError::ReadFile { path: itself, source })?;
    let parts = Parts {
        license: include_str!("../../../LICENSE"),
        actions: include_str!("../../../actions.yaml"),
        config: include_str!("../../../config.yaml"),
        metadata: include_str!("../../../metadata.yaml"),
        dispatch: &dispatch,
        version: env!("CARGO_PKG_VERSION"),
        architecture: std::env::consts::ARCH,
        container: !args.no_container,
        epoch: epoch(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref())?,
    };
    let charm = pack::pack(&parts).map_err(InputError::Pack)?;
    let path = args.output_dir.join(pack::file_name(parts.architecture).map_err(InputError::Pack)?);
    let write = || {
        std::fs::create_dir_all(&args.output_dir)?;
        std::fs::write(&path, &charm)
    };
    write().map_err(|source| InputError::WriteFile { path: path.clone(), source })?;
    if needs_loader(&dispatch) {
        context.printer.note(
            "this program is linked against the C library of its machine; `cargo xtask charm` packs a static one",
        );
    }
    context.printer.data(&format!("{}\n", path.display()))?;
    Ok(Exit::Done)
}

/// The time that somebody names.
fn epoch(text: Option<&str>) -> Result<Option<Timestamp>, InputError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let time = text.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(Some).ok_or_else(|| InputError::Epoch(text.to_owned()))
}

/// Whether an ELF of 64 bits asks for a loader: it has a program header of type `PT_INTERP`.
fn needs_loader(elf: &[u8]) -> bool {
    const INTERPRETER: u32 = 3;
    let number = |at: usize, bytes: usize| -> Option<u64> {
        let slice = elf.get(at..at + bytes)?;
        Some(slice.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let headers = || -> Option<Vec<u64>> {
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        (0..count).map(|index| number(usize::try_from(table + index * size).ok()?, 4)).collect()
    };
    headers().is_some_and(|kinds| kinds.contains(&u64::from(INTERPRETER)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_must_be_in_seconds() {
        assert_eq!(epoch(None).unwrap(), None);
        assert_eq!(epoch(Some("")).unwrap(), None);
        assert_eq!(epoch(Some("86400")).unwrap().unwrap().to_string(), "1970-01-02T00:00:00Z");
        assert!(matches!(epoch(Some("yesterday")), Err(InputError::Epoch(_))));
    }

    #[test]
    fn dynamically_linked_programs_are_recognized() {
        let elf = |kind: u8| {
            let mut bytes = vec![0; 64 + 56];
            (bytes[32], bytes[54], bytes[56], bytes[64]) = (64, 56, 1, kind);
            bytes
        };
        assert!(needs_loader(&elf(3)));
        assert!(!needs_loader(&elf(1)));
        assert!(!needs_loader(b"no ELF"));
    }
}
