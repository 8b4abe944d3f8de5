//! The examples there are, and what has to be seen in their logs.

use std::f64::consts::PI;

use crate::image::catalog::{Entry, VERSITYGW};

/// An example: a folder of `examples/`.
#[derive(Debug)]
pub(super) struct Example {
    /// Name of the folder; the TrainJob's name is `NAME-example`.
    pub(super) name: &'static str,
    /// Training runtime, `None` where the example brings its own.
    pub(super) runtime: Option<&'static str>,
    /// Image that the local node needs, by its recipe's name.
    pub(super) image: &'static str,
    /// Images of our own programs that the local node needs besides, by name.
    pub(super) programs: &'static [&'static str],
    /// Images of other programs that it needs besides.
    pub(super) servers: &'static [&'static Entry],
    /// A claim of its training runtime, for which the local node needs a volume.
    pub(super) claim: Option<&'static str>,
    /// The script in the folder that submits the TrainJob, where it is not applied.
    pub(super) script: Option<&'static str>,
    /// What is done to it while it runs.
    pub(super) act: Option<Act>,
    /// What it takes that the local node has not: it is followed as far as its pods then, and counts as skipped.
    pub(super) lacks: Option<&'static str>,
    /// Nodes of its TrainJob.
    pub(super) nodes: u8,
    /// Whether every test run has it: those that are quick and need little.
    pub(super) tested: bool,
    /// What its logs must say.
    pub(super) expect: Expect,
}

/// A pod that is deleted without a warning, as a node that fails would end it.
#[derive(Debug)]
pub(super) struct Act {
    /// What a log says when the time has come.
    pub(super) when: &'static str,
    /// The pod.
    pub(super) pod: &'static str,
}

/// What logs must say. Lines are in logfmt: `rank=0/2 epoch=3 loss=0.12`.
#[derive(Debug)]
pub(super) struct Expect {
    /// Number of ranks that must be heard of.
    pub(super) ranks: usize,
    /// The last loss that the first rank tells is at most this part of its first.
    pub(super) loss_falls_to: Option<f64>,
    /// A key that every rank must tell with the same value.
    pub(super) agree: Option<&'static str>,
    /// A key that every rank must tell with a number of at least that.
    pub(super) at_least: Option<(&'static str, f64)>,
    /// A key that must be told with so many different values.
    pub(super) distinct: Option<(&'static str, usize)>,
    /// A key of which all values together must be so near to a number: key, number, distance.
    pub(super) sum_near: Option<(&'static str, f64, f64)>,
    /// A key that must be told with just this value each time, so many times in all.
    pub(super) each: Option<(&'static str, &'static str, usize)>,
    /// A text that some log must have.
    pub(super) says: Option<&'static str>,
    /// How the command of its nodes begins, where the controller makes it.
    pub(super) command: &'static [&'static str],
}

const NOTHING: Expect = Expect {
    ranks: 0,
    loss_falls_to: None,
    agree: None,
    at_least: None,
    distinct: None,
    sum_near: None,
    each: None,
    says: None,
    command: &[],
};

/// One that trains on two nodes, and needs nothing but its image.
const EXAMPLE: Example = Example {
    name: "",
    runtime: None,
    image: "",
    programs: &[],
    servers: &[],
    claim: None,
    script: None,
    act: None,
    lacks: None,
    nodes: 2,
    tested: false,
    expect: TRAINED,
};

/// Two ranks that train one model.
const TRAINED: Expect = Expect {
    ranks: 2,
    loss_falls_to: Some(0.5),
    agree: Some("weights"),
    at_least: Some(("accuracy", 0.9)),
    ..NOTHING
};

/// The one without a framework.
pub(super) fn plain() -> &'static Example {
    &ALL[0]
}

/// What the controller makes of LoRA on one device.
const TUNE: [&str; 5] =
    ["tune", "run", "lora_finetune_single_device", "--config", "llama3_2/1B_lora_single_device"];

/// Every example, the quickest first.
pub(super) static ALL: [Example; 12] = [
    Example {
        name: "plain",
        runtime: None,
        image: "python",
        nodes: 3,
        tested: true,
        expect: Expect { ranks: 3, sum_near: Some(("part", PI, 1e-4)), ..NOTHING },
        ..EXAMPLE
    },
    Example {
        name: "mpi",
        runtime: Some("mpi-distributed"),
        image: "mpi",
        tested: true,
        // One process a pod: mpirun reached the other one.
        expect: Expect { ranks: 2, distinct: Some(("host", 2)), sum_near: Some(("pi", PI, 0.01)), ..NOTHING },
        ..EXAMPLE
    },
    Example { name: "xgboost", runtime: Some("xgboost-distributed"), image: "xgboost", ..EXAMPLE },
    Example { name: "jax", runtime: Some("jax-distributed"), image: "jax", ..EXAMPLE },
    Example { name: "mlx", runtime: Some("mlx-distributed"), image: "mlx", ..EXAMPLE },
    Example { name: "torch", runtime: Some("torch-distributed"), image: "torch", ..EXAMPLE },
    Example {
        name: "sdk",
        runtime: Some("torch-distributed"),
        image: "torch",
        script: Some("submit.py"),
        expect: Expect { agree: Some("slope"), at_least: Some(("slope", 2.9)), ..TRAINED },
        ..EXAMPLE
    },
    Example { name: "deepspeed", runtime: Some("deepspeed-distributed"), image: "deepspeed", ..EXAMPLE },
    Example {
        name: "torch-with-cache",
        runtime: Some("torch-distributed-with-cache"),
        image: "torch",
        programs: &["data-cache", "dataset-initializer"],
        servers: &[&VERSITYGW],
        act: Some(Act { when: "epoch=1 step=0 ", pod: "torch-with-cache-example-cache-0-1" }),
        expect: Expect { each: Some(("once", "65536", 6)), says: Some("asking again"), ..TRAINED },
        ..EXAMPLE
    },
    Example {
        name: "torchtune-cpu",
        runtime: Some("torchtune-llama3.2-1b"),
        image: "torchtune",
        programs: &["dataset-initializer", "model-initializer"],
        servers: &[&VERSITYGW],
        claim: Some("initializer-torchtune-cpu-example"),
        nodes: 1,
        expect: Expect {
            ranks: 1,
            loss_falls_to: Some(0.25),
            says: Some("saved to /workspace/output/epoch_1"),
            command: &TUNE,
            ..NOTHING
        },
        ..EXAMPLE
    },
    Example {
        name: "torchtune",
        runtime: Some("torchtune-llama3.2-1b"),
        image: "python",
        lacks: Some("a GPU, and a model and a dataset from the hub"),
        nodes: 1,
        expect: Expect { command: &TUNE, ..NOTHING },
        ..EXAMPLE
    },
    Example {
        name: "flux",
        runtime: None,
        image: "python",
        lacks: Some("the image that brings Flux along"),
        expect: Expect { command: &["/bin/bash", "/etc/flux-config/entrypoint.sh", "hostname"], ..NOTHING },
        ..EXAMPLE
    },
];
