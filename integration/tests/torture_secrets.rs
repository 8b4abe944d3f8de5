//! One of trainerd's own Secrets is deleted at random instants of install, upgrade, rollback and idleness.
//!
//! A sample; `TRAINERD_TORTURE_SEEDS=FIRST..END` takes these seeds, of which `TRAINERD_TORTURE_PART=2/3` leaves the
//! second of three parts.

use std::error::Error;

use trainerd_integration::torture::{Losses, part_of_seeds};

/// Each scene twice; in seed 3 a rollback is killed in the moment in which a chunk is deleted that it needs.
const SAMPLE: [u64; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

#[test]
fn a_lost_secret_changes_nothing_and_the_suggested_command_repairs_it() -> Result<(), Box<dyn Error>> {
    if trainerd_integration::cluster::is_existing() {
        println!("skipped: state can only be put back in the local cluster");
        return Ok(());
    }
    let seeds = part_of_seeds()?.unwrap_or_else(|| SAMPLE.into());
    assert!(!seeds.is_empty(), "there is no such part");
    let mut losses = Losses::new()?;
    let mut broken = Vec::new();
    for seed in &seeds {
        let loss = losses.run(*seed)?;
        println!("{loss}");
        if !loss.troubles.is_empty() {
            broken.push(*seed);
        }
    }
    losses.end()?;
    println!("{} runs, {} with troubles {broken:?}", seeds.len(), broken.len());
    if let Some(seed) = broken.first() {
        println!("again: cargo xtask torture --scenario secrets --seed {seed} --runs 1");
    }
    assert!(broken.is_empty(), "not every loss was healed");
    Ok(())
}
