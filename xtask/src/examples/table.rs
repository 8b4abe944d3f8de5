//! The examples there are, and what has to be seen in their logs.

use std::f64::consts::PI;

/// An example: a folder of `examples/`.
#[derive(Debug)]
pub(super) struct Example {
    /// Name of the folder; the TrainJob's name is `NAME-example`.
    pub(super) name: &'static str,
    /// Training runtime, `None` where the example brings its own.
    pub(super) runtime: Option<&'static str>,
    /// Image that the local node needs, by its recipe's name.
    pub(super) image: &'static str,
    /// What it takes that the local node has not: it is followed as far as its pods then, and counts as skipped.
    pub(super) lacks: Option<&'static str>,
    /// Nodes of its TrainJob.
    pub(super) nodes: u8,
    /// Whether every test run has it: those that are quick and need little.
    pub(super) tested: bool,
    /// What its logs must say.
    pub(super) expect: Expect,
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
    /// Where nothing can be logged: how the command of its nodes begins.
    pub(super) command: &'static [&'static str],
}

const NOTHING: Expect = Expect {
    ranks: 0,
    loss_falls_to: None,
    agree: None,
    at_least: None,
    distinct: None,
    sum_near: None,
    command: &[],
};

/// Two ranks that train one model.
const TRAINED: Expect = Expect {
    ranks: 2,
    loss_falls_to: Some(0.5),
    agree: Some("weights"),
    at_least: Some(("accuracy", 0.9)),
    ..NOTHING
};

/// What the controller makes of LoRA on one GPU.
const TUNE: [&str; 5] =
    ["tune", "run", "lora_finetune_single_device", "--config", "llama3_2/1B_lora_single_device"];

/// Every example, the quickest first.
pub(super) static ALL: [Example; 9] = [
    Example {
        name: "plain",
        runtime: None,
        image: "python",
        lacks: None,
        nodes: 3,
        tested: true,
        expect: Expect { ranks: 3, sum_near: Some(("part", PI, 1e-4)), ..NOTHING },
    },
    Example {
        name: "mpi",
        runtime: Some("mpi-distributed"),
        image: "mpi",
        lacks: None,
        nodes: 2,
        tested: true,
        // One process a pod: mpirun reached the other one.
        expect: Expect { ranks: 2, distinct: Some(("host", 2)), sum_near: Some(("pi", PI, 0.01)), ..NOTHING },
    },
    Example {
        name: "xgboost",
        runtime: Some("xgboost-distributed"),
        image: "xgboost",
        lacks: None,
        nodes: 2,
        tested: false,
        expect: TRAINED,
    },
    Example {
        name: "jax",
        runtime: Some("jax-distributed"),
        image: "jax",
        lacks: None,
        nodes: 2,
        tested: false,
        expect: TRAINED,
    },
    Example {
        name: "mlx",
        runtime: Some("mlx-distributed"),
        image: "mlx",
        lacks: None,
        nodes: 2,
        tested: false,
        expect: TRAINED,
    },
    Example {
        name: "torch",
        runtime: Some("torch-distributed"),
        image: "torch",
        lacks: None,
        nodes: 2,
        tested: false,
        expect: TRAINED,
    },
    Example {
        name: "deepspeed",
        runtime: Some("deepspeed-distributed"),
        image: "deepspeed",
        lacks: None,
        nodes: 2,
        tested: false,
        expect: TRAINED,
    },
    Example {
        name: "torchtune",
        runtime: Some("torchtune-llama3.2-1b"),
        image: "python",
        lacks: Some("a GPU, and a model and a dataset from the hub"),
        nodes: 1,
        tested: false,
        expect: Expect { command: &TUNE, ..NOTHING },
    },
    Example {
        name: "flux",
        runtime: None,
        image: "python",
        lacks: Some("the image that brings Flux along"),
        nodes: 2,
        tested: false,
        expect: Expect { command: &["/bin/bash", "/etc/flux-config/entrypoint.sh", "hostname"], ..NOTHING },
    },
];
