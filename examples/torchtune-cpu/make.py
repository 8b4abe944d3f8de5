"""Creates a model and a dataset on the S3 server beside it, as on the hub, and then waits.

The model is a Llama 3.2, so small that a CPU trains it in seconds: its tokens are bytes, its weights are random. The dataset is a
table of questions and their answers.
"""

import base64
import json
import pathlib
import signal
import time

import pyarrow
import pyarrow.fs
import pyarrow.parquet
import torch
from safetensors.torch import save

LAYERS, WIDTH, HEADS, GROUPS, INNER, VOCABULARY = 4, 128, 4, 2, 256, 272
# Llama's special tokens, in order; their numbers follow those of the 256 bytes.
SPECIAL = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>", "<|image|>", "<|video|>",
]
CAPITALS = {
    "Austria": "Vienna", "Brazil": "Brasilia", "Canada": "Ottawa", "Denmark": "Copenhagen", "Egypt": "Cairo",
    "Finland": "Helsinki", "Ghana": "Accra", "Hungary": "Budapest", "India": "New Delhi", "Japan": "Tokyo",
    "Kenya": "Nairobi", "Latvia": "Riga", "Mongolia": "Ulaanbaatar", "Norway": "Oslo", "Oman": "Muscat", "Peru": "Lima",
}


def weights():
    """The weights of a Llama 3.2, with the names that the hub uses."""
    torch.manual_seed(0)
    head = WIDTH // HEADS

    def matrix(rows, columns):
        return torch.randn(rows, columns) / columns**0.5

    tensors = {"model.embed_tokens.weight": matrix(VOCABULARY, WIDTH), "model.norm.weight": torch.ones(WIDTH)}
    for number in range(LAYERS):
        layer = f"model.layers.{number}"
        tensors |= {
            f"{layer}.input_layernorm.weight": torch.ones(WIDTH),
            f"{layer}.self_attn.q_proj.weight": matrix(WIDTH, WIDTH),
            f"{layer}.self_attn.k_proj.weight": matrix(GROUPS * head, WIDTH),
            f"{layer}.self_attn.v_proj.weight": matrix(GROUPS * head, WIDTH),
            f"{layer}.self_attn.o_proj.weight": matrix(WIDTH, WIDTH),
            f"{layer}.post_attention_layernorm.weight": torch.ones(WIDTH),
            f"{layer}.mlp.gate_proj.weight": matrix(INNER, WIDTH),
            f"{layer}.mlp.up_proj.weight": matrix(INNER, WIDTH),
            f"{layer}.mlp.down_proj.weight": matrix(WIDTH, INNER),
        }
    return tensors


def model():
    """The files of the model, by name."""
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": INNER,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": GROUPS,
        "head_dim": WIDTH // HEADS, "vocab_size": VOCABULARY, "tie_word_embeddings": True, "torch_dtype": "float32",
    }
    special = [{"id": 256 + number, "content": token} for number, token in enumerate(SPECIAL)]
    tokens = "".join(f"{base64.b64encode(bytes([byte])).decode()} {byte}\n" for byte in range(256))
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": save(weights(), metadata={"format": "pt"}),
        "tokenizer.json": json.dumps({"added_tokens": special}).encode(),
        "original/tokenizer.model": tokens.encode(),
    }


def write(store, bucket):
    """Writes both into the bucket."""
    for name, content in model().items():
        with store.open_output_stream(f"{bucket}/model/{name}") as file:
            file.write(content)
    rows = [
        {"input": f"What is the capital of {country}?", "output": f"The capital of {country} is {capital}."}
        for country, capital in CAPITALS.items()
    ]
    # Repeated, so that an epoch is long enough to learn them.
    table = pyarrow.Table.from_pylist(rows * 16)
    pyarrow.parquet.write_table(table, f"{bucket}/dataset/data/train.parquet", filesystem=store)


def main():
    # Must be blocked: otherwise PID 1 of a container does not receive it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    store = pyarrow.fs.S3FileSystem(
        endpoint_override="localhost:7070", scheme="http", region="us-east-1", allow_bucket_creation=True
    )
    for _ in range(60):
        try:
            store.create_dir("example")
            break
        except OSError:
            time.sleep(0.5)
    write(store, "example")
    print("model and dataset are there", flush=True)
    pathlib.Path("/tmp/made").touch()
    signal.sigwait([signal.SIGTERM])


if __name__ == "__main__":
    main()
