#!/usr/bin/env python3
"""Gradients of some of the models in tests/golden/models, as transformers computes them.

gradients.safetensors beside a model: the gradient of the mean cross-entropy of the ids in
expect.safetensors, float32, by the name of each tensor. Run with the versions named in
README.md: python3 make_gradients.py models
"""

import pathlib
import sys

import torch
import transformers as tf
from safetensors.torch import load_file, save_file

CASES = ["llama_bias_tied", "qwen3", "gpt2"]


def main(root):
    torch.set_num_threads(1)
    for name in CASES:
        folder = root / name
        model = tf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        model.eval()
        ids = load_file(folder / "expect.safetensors")["ids"]
        loss = model(ids, labels=ids).loss
        loss.backward()
        found = {key: p.grad.contiguous() for key, p in model.named_parameters()}
        save_file({**found, "loss": loss.detach().reshape(1)}, folder / "gradients.safetensors")


main(pathlib.Path(sys.argv[1]))
