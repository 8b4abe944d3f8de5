//! A daemon is put through random faults: killed, cut off, robbed of its lease, its objects changed and its
//! options with them. When they end, it brings the installation to what is declared, or says why not.
//!
//! A sample, all of which converges; `TRAINERD_TORTURE_SEEDS=FIRST..END` takes these seeds, of which
//! `TRAINERD_TORTURE_PART=2/3` leaves the second of three parts.

use std::error::Error;

use trainerd_integration::torture::{Ended, Runner, part_of_seeds};

/// Seeds with most of what may happen among them, which need few clean installations to compare with: a minute.
const SAMPLE: [u64; 6] = [1, 18, 19, 28, 30, 33];

#[test]
fn a_daemon_under_random_faults_settles_or_reports_why() -> Result<(), Box<dyn Error>> {
    if trainerd_integration::cluster::is_existing() {
        println!("skipped: state can only be put back in the local cluster");
        return Ok(());
    }
    let named = part_of_seeds()?;
    let is_sample = named.is_none();
    let seeds = named.unwrap_or_else(|| SAMPLE.into());
    let mut runner = Runner::new()?;
    let (mut converged, mut early, mut said_why, mut broken) = (0, 0, Vec::new(), Vec::new());
    for seed in &seeds {
        let told = runner.run(*seed);
        println!("{told}");
        early += usize::from(told.early > 0);
        match told.ended {
            Ended::Converged(_) => converged += 1,
            Ended::SaidWhy(_) => said_why.push(*seed),
            Ended::Broken(_) => broken.push(*seed),
        }
    }
    println!(
        "{} runs, {converged} converged, {} said why not {said_why:?}, {} did neither {broken:?}; in {early} ready was said \
         before the news to the contrary had come",
        seeds.len(),
        said_why.len(),
        broken.len()
    );
    if let Some(seed) = broken.first() {
        println!("again: cargo xtask torture --scenario daemon --seed {seed} --runs 1");
    }
    assert!(!seeds.is_empty(), "there is no such part");
    assert!(broken.is_empty(), "not every daemon came to rest or said why");
    assert!(said_why.is_empty() || !is_sample, "not every daemon of the sample came to rest");
    Ok(())
}
