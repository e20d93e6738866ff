#!/usr/bin/env python3
"""mkmodel.py - models of real shapes and random weights, for the benchmarks

    python3 mkmodel.py gpt2|qwen2|small float32|bfloat16 FOLDER [TUNES]

With TUNES also FOLDER-1 ... FOLDER-TUNES: the same with a little noise in every tensor.
"""

import sys

import torch
import transformers as tf

SHAPES = {
    "gpt2": lambda: tf.GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
    "qwen2": lambda: tf.Qwen2Config(vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
                                    num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=32768,
                                    rope_parameters=dict(rope_type="default", rope_theta=1000000.0),
                                    tie_word_embeddings=True, bos_token_id=151643, eos_token_id=151645),
    "small": lambda: tf.LlamaConfig(vocab_size=4096, hidden_size=512, intermediate_size=1408, num_hidden_layers=8,
                                    num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=1024,
                                    tie_word_embeddings=True, bos_token_id=1, eos_token_id=2),
}

shape, dtype, folder = sys.argv[1:4]
torch.manual_seed(1)
model = tf.AutoModelForCausalLM.from_config(SHAPES[shape](), dtype=getattr(torch, dtype))
model.save_pretrained(folder)
before = {n: p.detach().clone() for n, p in model.named_parameters()}
for k in range(1, int(sys.argv[4]) + 1 if len(sys.argv) > 4 else 1):
    with torch.no_grad():
        for n, p in model.named_parameters():
            p.copy_(before[n] + 0.001 * torch.randn_like(p))
    model.save_pretrained(f"{folder}-{k}")
