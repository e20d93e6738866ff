"""model_checks.py - logits and gradients against transformers and peft

    python model_checks.py --library build/src/libwsurg.so [--only REGEX]

Makes small models of random weights with transformers, one for each family and trait, saves
them as transformers does, and compares in float32: logits within 1e-4, the gradient of every
parameter within 1e-3 of its largest entry and of its norm, for a batch of three packed
documents with ignored labels and for one sequence; gradients of low-rank factors with those
of peft. The packed batch is three separate sequences to transformers. Closes with the line
`N passed, N failed, N skipped`.
"""

import argparse
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers as tf  # noqa: E402

import model_library as ml  # noqa: E402

tf.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore", category=FutureWarning)

V, IGNORED = 101, -100
BASE = dict(vocab_size=V, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6,
            num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2)
GPT2 = dict(vocab_size=V, n_embd=48, n_layer=3, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)

CASES = {
    "llama": tf.LlamaConfig(**BASE),
    "llama_tied_bias": tf.LlamaConfig(**BASE, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "llama_llama3": tf.LlamaConfig(**BASE, head_dim=16, rope_parameters=LLAMA3),
    "mistral_window": tf.MistralConfig(**BASE, sliding_window=7),
    "mistral": tf.MistralConfig(**BASE, sliding_window=None),
    "qwen2": tf.Qwen2Config(**BASE),
    "qwen2_tied": tf.Qwen2Config(**BASE, tie_word_embeddings=True),
    "qwen2_window": tf.Qwen2Config(**BASE, use_sliding_window=True, sliding_window=5, max_window_layers=1),
    "qwen3": tf.Qwen3Config(**BASE, head_dim=12, tie_word_embeddings=True),
    "qwen3_untied": tf.Qwen3Config(**BASE, head_dim=10, attention_bias=True),
    "gpt2": tf.GPT2Config(**GPT2),
    "gpt2_scaled": tf.GPT2Config(**GPT2, n_inner=72, scale_attn_by_inverse_layer_idx=True,
                                 activation_function="gelu"),
}

STARTS, ROWS = (0, 17, 18), 41


def model_made(config, seed):
    torch.manual_seed(seed)
    model = tf.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            gain = ("norm" in name or ".ln_" in name) and name.endswith("weight")
            p.copy_(torch.randn_like(p) * (0.2 if p.dim() == 1 else 0.15) + (1.0 if gain else 0.0))
    return model


def batch_made(seed):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, V, ROWS)
    targets = np.full(ROWS, IGNORED)
    ends = (*STARTS[1:], ROWS)
    for start, end in zip(STARTS, ends):
        targets[start:end - 1] = tokens[start + 1:end]
    targets[2:9] = IGNORED
    targets[30] = IGNORED
    return tokens, targets


def torch_loss(model, tokens, targets, starts):
    """Mean loss over the rows with a target; documents one by one."""
    total, valid = 0, int((targets != IGNORED).sum())
    for start, end in zip(starts, (*starts[1:], len(tokens))):
        logits = model(torch.tensor(tokens[None, start:end])).logits[0]
        total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(targets[start:end]),
                                                          ignore_index=IGNORED, reduction="sum")
    return total / valid, valid


def differ(name, got, want, limit=1e-3):
    """What is wrong with a gradient, or None."""
    got, want = got.astype(np.float64), want.astype(np.float64)
    worst, norm = np.abs(got - want).max(), np.linalg.norm(got - want)
    # A key's bias moves all scores of a row alike: its gradient is noise around zero.
    floor = 1e-6
    if worst > limit * max(np.abs(want).max(), floor / limit) or norm > limit * max(np.linalg.norm(want), floor / limit):
        return f"gradient of {name} is off by {worst:.2e}, largest {np.abs(want).max():.2e}"
    return None


def check_case(library, folder, config, seed):
    model = model_made(config, seed)
    model.save_pretrained(folder)
    tokens, targets = batch_made(seed)
    wrong = []
    ours = ml.Model(library, folder, threads=1 + seed % 2)
    with torch.no_grad():
        want = model(torch.tensor(tokens[None])).logits[0].numpy()
    off = np.abs(ours.logits(tokens, V) - want).max()
    if off > 1e-4:
        wrong.append(f"logits off by {off:.2e}")
    for name in ours.parts:
        ours.train(name)
    ours.start(ROWS, keep=1 + seed % 3)
    for starts, what in ((STARTS, "packed"), ((0,), "one sequence")):
        model.zero_grad()
        loss, valid = torch_loss(model, tokens, targets, starts)
        loss.backward()
        for grad in ours.grad.values():
            grad[:] = 0
        total, rows, _ = ours.run(tokens, targets, 1.0 / valid, starts)
        if rows != valid or abs(total / valid - loss.item()) > 1e-5:
            wrong.append(f"{what}: loss {total / valid}, wanted {loss.item()}")
        named = dict(model.named_parameters())
        prefix = "" if set(ours.grad) & set(named) else "transformer."
        for name, grad in ours.grad.items():
            fault = differ(name, grad, named.get(name, named.get(prefix + name)).grad.numpy())
            if fault:
                wrong.append(f"{what}: {fault}")
    ours.close()
    return wrong


def check_peft(library, folder, config, seed):
    import peft
    model = model_made(config, seed)
    model.save_pretrained(folder)
    tokens, targets = batch_made(seed)
    gpt2 = config.model_type == "gpt2"
    lora = peft.LoraConfig(r=4, lora_alpha=6, use_rslora=bool(seed % 2), target_modules="all-linear",
                           fan_in_fan_out=gpt2, task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(model, lora)
    factors = {n: p for n, p in adapted.named_parameters() if "lora_" in n}
    with torch.no_grad():
        for p in factors.values():
            p.copy_(torch.randn_like(p) * 0.1)
    scale = 6 / 4 ** (0.5 if seed % 2 else 1)
    ours, wrong = ml.Model(library, folder, threads=2), []
    names = {}
    for name in factors:
        if ".lora_A." in name:
            part = name.removeprefix("base_model.model.").replace(".lora_A.default", "")
            part = part if part in ours.parts else part.removeprefix("transformer.")
            names[part] = name
            ours.adapt(part, ml.Low(factors[name].detach().numpy(),
                                    factors[name.replace("lora_A", "lora_B")].detach().numpy(), scale))
    ours.start(ROWS)
    loss, valid = torch_loss(adapted, tokens, targets, STARTS)
    loss.backward()
    total, _, _ = ours.run(tokens, targets, 1.0 / valid, STARTS)
    if abs(total / valid - loss.item()) > 1e-5:
        wrong.append(f"loss {total / valid}, wanted {loss.item()}")
    for part, name in names.items():
        low = ours.low[part]
        wrong += filter(None, [differ(name, low.dA, factors[name].grad.numpy()),
                               differ(name.replace("lora_A", "lora_B"), low.dB,
                                      factors[name.replace("lora_A", "lora_B")].grad.numpy())])
    ours.close()
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    torch.set_num_threads(1)
    checks = [(name, check_case, config) for name, config in CASES.items()]
    checks += [(f"peft_{name}", check_peft, CASES[name]) for name in ("llama", "qwen3", "qwen2", "gpt2")]
    passed = failed = 0
    for seed, (name, check, config) in enumerate(checks):
        if not re.search(args.only, name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            wrong = check(args.library, Path(folder), config, seed)
        passed, failed = passed + (not wrong), failed + bool(wrong)
        print(f"{'not ok' if wrong else 'ok'} model/{name}")
        for line in wrong[:5]:
            print(f"# {line}")
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


main()
