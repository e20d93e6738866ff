#!/usr/bin/env python3
"""Make the small models of tests/golden/models with transformers, and what they say.

Each folder holds a model of random weights as transformers saves it, and expect.safetensors:
ids (1, T) int64, logits (T, V) float32, computed in float32. Run with the versions named in
README.md: python3 make_models.py models
"""

import pathlib
import sys

import torch
import transformers as tf
from safetensors.torch import save_file

BASE = dict(
    vocab_size=29,
    hidden_size=16,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=32,
    bos_token_id=1,
    eos_token_id=2,
)
GPT2 = dict(vocab_size=29, n_embd=16, n_layer=2, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2)
LENGTH = 13


def rope(kind, **more):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=10000.0, **more))


CASES = {
    "llama": tf.LlamaConfig(**BASE),
    "llama_bias_tied": tf.LlamaConfig(**BASE, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "llama_linear": tf.LlamaConfig(**BASE, **rope("linear", factor=4.0)),
    "llama_dynamic": tf.LlamaConfig(**{**BASE, "max_position_embeddings": 8}, **rope("dynamic", factor=4.0)),
    "llama_llama3": tf.LlamaConfig(
        **BASE,
        head_dim=8,
        **rope(
            "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16
        ),
    ),
    "llama_yarn": tf.LlamaConfig(
        **BASE, head_dim=8, **rope("yarn", factor=4.0, original_max_position_embeddings=8)
    ),
    "mistral": tf.MistralConfig(**BASE, sliding_window=5),
    "qwen2": tf.Qwen2Config(**BASE),
    "qwen2_window": tf.Qwen2Config(**BASE, use_sliding_window=True, sliding_window=4, max_window_layers=1),
    "qwen3": tf.Qwen3Config(**BASE, head_dim=6, tie_word_embeddings=True),
    "gpt2": tf.GPT2Config(**GPT2),
    "gpt2_scaled": tf.GPT2Config(**GPT2, n_inner=20, scale_attn_by_inverse_layer_idx=True),
}


def main(root):
    torch.set_num_threads(1)
    for seed, (name, config) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        model = tf.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for key, p in model.named_parameters():
                gain = "norm" in key or ".ln_" in key
                p.copy_(torch.randn_like(p) * (0.2 if p.dim() == 1 else 0.3) + (gain and key.endswith("weight")))
            ids = torch.randint(0, BASE["vocab_size"], (1, LENGTH))
            logits = model(ids).logits[0].float().contiguous()
        folder = root / name
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        save_file({"ids": ids, "logits": logits}, folder / "expect.safetensors")


main(pathlib.Path(sys.argv[1]))
