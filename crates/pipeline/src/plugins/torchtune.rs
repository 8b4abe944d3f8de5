//! torchtune: `tune run` gets its recipe, configuration and what the runtime fixes appended.

use serde_json::Value;

use super::torch::Processes;
use crate::field_error::FieldError;
use crate::go;
use crate::info::{Info, ancestor};
use crate::names::{NODE, PORT, TRAINER, head_address};
use crate::value::{at, items, list_mut, text, texts};
use crate::wire;

const LLAMA_1B: &str = "llama3_2/1B";
const LLAMA_3B: &str = "llama3_2/3B";
const LLAMA_70B: &str = "llama3_3/70B";
const QWEN: &str = "qwen2_5/1.5B";
/// What the runtime says of its model, and a TrainJob may not.
const FIXED_ARGUMENTS: [&str; 4] =
    ["output_dir", "tokenizer.path", "tokenizer.merges_file", "checkpointer.checkpoint_dir"];

/// Ways of tuning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tuning {
    Full,
    Lora,
    QuantizedLora,
}

impl Tuning {
    fn of(arguments: &[String]) -> Self {
        let is_on = |item: &str| {
            arguments
                .iter()
                .filter_map(|argument| argument.split_once('='))
                .any(|(key, value)| key.contains(item) && value.trim().eq_ignore_ascii_case("true"))
        };
        if is_on("model.quantize_base") && !is_on("model.use_dora") {
            Self::QuantizedLora
        } else if arguments.iter().any(|argument| argument.contains("model.lora_attn_modules")) {
            Self::Lora
        } else {
            Self::Full
        }
    }
}

/// Whether the TrainJob's command is `tune run`, to the word.
pub(super) fn is_asked(info: &Info) -> bool {
    texts(&info.trainer, &["command"]) == ["tune", "run"]
}

/// The model that the runtime's name says: `torchtune-llama3.2-1b` is of `llama3_2/1B`. Empty for other names.
fn model(train_job: &Value) -> String {
    let name = text(train_job, &["spec", "runtimeRef", "name"]).unwrap_or_default();
    match name.split('-').collect::<Vec<_>>().as_slice() {
        [_, family, size] => format!("{}/{}", family.replace('.', "_"), size.to_uppercase()),
        _ => String::new(),
    }
}

/// Recipe and suffix of the configuration's name.
fn recipe(nodes: i32, processes: Processes, gpus: i64, tuning: Tuning) -> (&'static str, &'static str) {
    let one_device = processes == Processes::Count(1) || gpus == 1;
    match (nodes, one_device, tuning) {
        (1, true, Tuning::QuantizedLora) => ("lora_finetune_single_device", "_qlora_single_device"),
        (1, true, Tuning::Lora) => ("lora_finetune_single_device", "_lora_single_device"),
        (1, true, Tuning::Full) => ("full_finetune_single_device", "_full_single_device"),
        (1, false, Tuning::QuantizedLora) => ("lora_finetune_distributed", "_qlora"),
        (1, false, Tuning::Lora) => ("lora_finetune_distributed", "_lora"),
        (nodes, _, _) if nodes > 1 => ("full_finetune_distributed", "_full_multinode"),
        _ => ("full_finetune_distributed", "_full"),
    }
}

/// What the runtime's own command fixes.
fn fixed_arguments(info: &Info) -> Vec<String> {
    let jobs = items(&info.template, &["replicatedJobs"]).iter().filter(|job| ancestor(job) == Some(TRAINER));
    let containers = jobs.flat_map(|job| items(job, &["template", "spec", "template", "spec", "containers"]));
    let nodes = containers.filter(|container| text(container, &["name"]) == Some(NODE));
    let mut words: Vec<String> = nodes.flat_map(|container| texts(container, &["command"])).collect();
    words.retain(|word| FIXED_ARGUMENTS.contains(&word.split('=').next().unwrap_or_default()));
    words
}

/// Appends to the TrainJob's command.
pub(super) fn extend_command(info: &mut Info, train_job: &Value, nodes: i32, processes: Processes) {
    let gpus = info.gpus();
    let mut words = Vec::new();
    let several = match processes {
        Processes::Count(count) => count > 1,
        Processes::Auto => gpus > 1,
    };
    if nodes > 1 || several {
        words.push(format!("--rdzv_endpoint={}:{PORT}", head_address(train_job)));
    }
    let tuning = Tuning::of(&texts(&info.trainer, &["args"]));
    let (recipe, suffix) = recipe(nodes, processes, gpus, tuning);
    words.extend([recipe.to_owned(), "--config".to_owned(), format!("{}{suffix}", model(train_job))]);
    words.extend(fixed_arguments(info));
    list_mut(&mut info.trainer, &["command"]).extend(words.into_iter().map(Value::from));
}

/// What torchtune can do of what is asked.
pub(super) fn validate(info: &Info, train_job: &Value, errors: &mut Vec<FieldError>) {
    let model = model(train_job);
    let runtime = text(train_job, &["spec", "runtimeRef", "name"]).unwrap_or_default();
    let refuse_runtime = |errors: &mut Vec<FieldError>, detail: String| {
        errors.push(FieldError::invalid_text("spec.runtimeRef.name", runtime, detail));
    };
    if ![LLAMA_1B, LLAMA_3B, LLAMA_70B, QWEN].contains(&model.as_str()) {
        let detail = format!("must have a supported pretrained model, invalid model configured: {model}");
        refuse_runtime(errors, detail);
    }
    let nodes = info.num_nodes().unwrap_or(1);
    if nodes > 1 && model != LLAMA_70B {
        let detail = format!("must be 1 for {model} model");
        errors.push(FieldError::invalid("spec.trainer.numNodes", nodes, detail));
    }
    let arguments = texts(&info.trainer, &["args"]);
    let tuning = Tuning::of(&arguments);
    let processes = Processes::requested(info);
    let (_, suffix) = recipe(nodes, processes, info.gpus(), tuning);
    if suffix.starts_with("_qlora") {
        if model == QWEN {
            refuse_runtime(errors, format!("QLoRA is not supported for {model} model"));
        }
        if suffix == "_qlora" && [LLAMA_1B, LLAMA_3B].contains(&model.as_str()) {
            let value = match processes {
                Processes::Auto => go::quoted("auto"),
                Processes::Count(count) => count.to_string(),
            };
            let detail = format!("must be auto or 1 for {model} model when using QLoRA");
            errors.push(FieldError::invalid("spec.trainer.numProcPerNode", value, detail));
            let resources = wire::json("ResourceRequirements", at(&info.trainer, &["resourcesPerNode"]));
            let detail = format!("must have gpu resource with value 1 for {model} model when using QLoRA");
            errors.push(FieldError::invalid("spec.trainer.resourcesPerNode", resources, detail));
        }
    }
    if nodes > 1 && tuning != Tuning::Full {
        let detail = "LoRA fine-tuning is not supported for multi-node training in TorchTune";
        errors.push(FieldError::invalid("spec.trainer.numNodes", nodes, detail));
    }
    for (at, argument) in arguments.iter().enumerate() {
        let key = argument.split('=').next().unwrap_or_default();
        if FIXED_ARGUMENTS.contains(&key) {
            let key = go::quoted(key);
            let detail =
                format!("must not set immutable config {key} in trainer args; it is managed by the runtime");
            errors.push(FieldError::invalid_text(format!("spec.trainer.args[{at}]"), argument, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tuning_method_follows_from_the_arguments() {
        for (arguments, expected) in [
            (&[][..], Tuning::Full),
            (&["model.lora_attn_modules=[q]"], Tuning::Lora),
            (&["model.quantize_base=True"], Tuning::QuantizedLora),
            (&["model.quantize_base= true "], Tuning::QuantizedLora),
            (&["model.quantize_base"], Tuning::Full),
            (&["model.quantize_base=true", "model.use_dora=TRUE"], Tuning::Full),
            (
                &["model.quantize_base=true", "model.use_dora=true", "model.lora_attn_modules=[]"],
                Tuning::Lora,
            ),
            (&["model.quantize_base=true", "model.use_dora=false"], Tuning::QuantizedLora),
        ] {
            let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
            assert_eq!(Tuning::of(&arguments), expected, "{arguments:?}");
        }
    }

    #[test]
    fn recipes_follow_nodes_devices_and_tuning() {
        use Processes::{Auto, Count};
        for (nodes, processes, gpus, tuning, expected) in [
            (1, Count(1), 0, Tuning::Full, ("full_finetune_single_device", "_full_single_device")),
            (1, Auto, 1, Tuning::Lora, ("lora_finetune_single_device", "_lora_single_device")),
            (1, Count(1), 4, Tuning::QuantizedLora, ("lora_finetune_single_device", "_qlora_single_device")),
            (1, Auto, 2, Tuning::Full, ("full_finetune_distributed", "_full")),
            (1, Count(2), 2, Tuning::Lora, ("lora_finetune_distributed", "_lora")),
            (1, Auto, 0, Tuning::QuantizedLora, ("lora_finetune_distributed", "_qlora")),
            (2, Count(1), 1, Tuning::QuantizedLora, ("full_finetune_distributed", "_full_multinode")),
            (0, Count(1), 1, Tuning::Lora, ("full_finetune_distributed", "_full")),
        ] {
            assert_eq!(
                recipe(nodes, processes, gpus, tuning),
                expected,
                "{nodes} {processes} {gpus} {tuning:?}"
            );
        }
    }

    #[test]
    fn the_model_is_in_the_name_of_the_runtime() {
        for (name, expected) in [
            ("torchtune-llama3.2-1b", "llama3_2/1B"),
            ("torchtune-qwen2.5-1.5b", "qwen2_5/1.5B"),
            ("torchtune", ""),
            ("my-torchtune-llama3.2-1b", ""),
        ] {
            assert_eq!(model(&serde_json::json!({"spec": {"runtimeRef": {"name": name}}})), expected);
        }
    }
}
