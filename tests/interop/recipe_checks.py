"""recipe_checks.py - recipes through mergekit and through wsurg: recipe_checks.py WSURG

Runs in mergekit's environment. Each recipe is merged from small random models of four
shapes; names, shapes, dtypes, values (within 2e-6, float32) and config.json must agree.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")

import torch
import yaml
from safetensors.torch import load_file
from transformers import (AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig,
                          Qwen2Config)

from support import Report, said

LIMIT = 2e-6
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
         "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 96}
FAMILIES = {
    "llama": (LlamaConfig(**SMALL, tie_word_embeddings=False), "self_attn", "mlp", "o_proj"),
    "mistral": (MistralConfig(**SMALL), "self_attn", "mlp", "down_proj"),
    "qwen2": (Qwen2Config(**SMALL, tie_word_embeddings=True), "self_attn", "mlp", "o_proj"),
    "gpt2": (GPT2Config(n_embd=32, n_layer=4, n_head=4, vocab_size=96, n_positions=32),
             "attn", "mlp", "c_proj"),
}

# ATTN, MLP and PROJ are words in the family's tensor names; BASE, A, B, C its models.
RECIPES = {
    "linear": """
        models:
          - {model: A, parameters: {weight: 0.3}}
          - {model: B, parameters: {weight: 0.9}}
        merge_method: linear
        dtype: float32""",
    "linear_sum": """
        models:
          - {model: A, parameters: {weight: '5e-1'}}
          - {model: B, parameters: {weight: -0.25}}
        merge_method: linear
        parameters: {normalize: false}""",
    "linear_gradient": """
        models:
          - model: A
            parameters: {weight: [1, 0.5, 0]}
          - model: B
            parameters:
              weight:
                - {filter: MLP, value: [0.2, 0.8]}
                - {filter: ATTN, value: 0.7}
                - value: 0.5
        merge_method: linear
        base_model: A
        parameters: {normalize: true}
        dtype: float32""",
    "linear_bf16": """
        models:
          - {model: A, parameters: {weight: 0.5}}
          - {model: B, parameters: {weight: 0.5}}
        merge_method: linear
        dtype: float32
        out_dtype: bfloat16""",
    "slerp_classic": """
        slices:
          - sources:
              - {model: BASE, layer_range: [0, 4]}
              - {model: A, layer_range: [0, 4]}
        merge_method: slerp
        base_model: BASE
        parameters:
          t:
            - {filter: ATTN, value: [0, 0.5, 0.3, 0.7, 1]}
            - {filter: MLP, value: [1, 0.5, 0.7, 0.3, 0]}
            - value: 0.5
        dtype: float32""",
    "slerp_models": """
        models: [{model: A}, {model: B}]
        merge_method: slerp
        base_model: B
        parameters: {t: 0.35}""",
    "ties": """
        models:
          - model: BASE
          - {model: A, parameters: {density: 0.5, weight: 0.5}}
          - {model: B, parameters: {density: 0.3, weight: 0.3}}
        merge_method: ties
        base_model: BASE
        parameters: {normalize: true, int8_mask: true}
        dtype: float32""",
    "ties_gradients": """
        models:
          - model: A
            parameters: {density: [1, 0.7, 0.1], weight: 1.0}
          - model: B
            parameters: {density: 0.5, weight: [0, 0.3, 0.7, 1]}
          - model: C
            parameters:
              density: 0.33
              weight: [{filter: MLP, value: 0.5}, {value: 0.25}]
        merge_method: ties
        base_model: BASE
        parameters: {normalize: false, lambda: 0.8}
        dtype: float32""",
    "task_arithmetic": """
        models:
          - {model: A, parameters: {weight: 0.6}}
          - {model: B, parameters: {weight: -0.4}}
        merge_method: task_arithmetic
        base_model: BASE
        parameters: {lambda: 1.5, normalize: no}
        dtype: float32""",
    "breadcrumbs": """
        models:
          - {model: A, parameters: {weight: 0.5, density: 0.6, gamma: 0.05}}
          - {model: B, parameters: {weight: 0.5, density: 0.7, gamma: 0.04}}
        merge_method: breadcrumbs
        base_model: BASE
        dtype: float32""",
    "model_stock": """
        models: [{model: A}, {model: B}, {model: C}]
        merge_method: model_stock
        base_model: BASE
        dtype: float32""",
    "sce": """
        models: [{model: A}, {model: B}, {model: C}]
        merge_method: sce
        base_model: BASE
        parameters: {select_topk: 0.3}
        dtype: float32""",
    "nuslerp": """
        models:
          - {model: A, parameters: {weight: 0.3}}
          - {model: B, parameters: {weight: 0.7}}
        merge_method: nuslerp
        base_model: BASE
        dtype: float32""",
    "dare_whole": """
        models:
          - {model: A, parameters: {weight: 0.5}}
          - {model: B, parameters: {weight: 0.5}}
        merge_method: dare_ties
        base_model: BASE
        dtype: float32""",
    "stack": """
        slices:
          - sources: [{model: A, layer_range: [0, 3]}]
          - sources: [{model: B, layer_range: [1, 4]}]
        merge_method: passthrough
        dtype: float32""",
    "stack_self": """
        slices:
          - sources: [{model: A, layer_range: [0, 3]}]
          - sources:
              - model: A
                layer_range: [1, 3]
                parameters:
                  scale: [{filter: PROJ, value: 0.0}, {value: 1.0}]
          - sources: [{model: A, layer_range: [3, 4]}]
        merge_method: passthrough
        dtype: float32""",
    "slices_linear": """
        slices:
          - sources:
              - {model: A, layer_range: [0, 2], parameters: {weight: 0.8}}
              - {model: B, layer_range: [2, 4], parameters: {weight: [0.2, 0.6]}}
          - sources:
              - {model: B, layer_range: [0, 2], parameters: {weight: 1}}
              - {model: C, layer_range: [1, 3], parameters: {weight: 0.5}}
            parameters: {normalize: false}
        merge_method: linear
        dtype: float32""",
}


def make_models(folder):
    for family, (config, *_) in FAMILIES.items():
        torch.manual_seed(1)
        base = AutoModelForCausalLM.from_config(config).float()
        start = {n: p.clone() for n, p in base.state_dict().items()}
        for k, name in enumerate(["BASE", "A", "B", "C"]):
            torch.manual_seed(k)
            base.load_state_dict(start)
            with torch.no_grad():
                for p in base.parameters():
                    p.add_(torch.randn_like(p) * 0.02 * (k > 0))
            base.save_pretrained(folder / family / name)


def text_of(recipe, family, folder):
    words = dict(zip(["ATTN", "MLP", "PROJ"], FAMILIES[family][1:]))
    out = []
    for line in RECIPES[recipe].splitlines():
        for word, value in words.items():
            line = line.replace(word, value)
        for name in ["BASE", "A", "B", "C"]:
            for lead in ["model: ", "base_model: "]:
                for tail in ["}", ",", "\n"]:
                    line = (line + "\n").replace(f"{lead}{name}{tail}",
                                                 f"{lead}{folder / family / name}{tail}")[:-1]
        out.append(line[8:])
    return "\n".join(out).strip() + "\n"


def peer(jobs, folder):
    """mergekit's own runs, in one process of its environment."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    script = Path(__file__).with_name("peer.py")
    subprocess.run([sys.executable, script, folder / "jobs.json", folder / "said.json"],
                   check=True, capture_output=True)
    return json.loads((folder / "said.json").read_text())


def compare(theirs, ours):
    problems = []
    a, b = load_file(theirs / "model.safetensors"), load_file(ours / "model.safetensors")
    if a.keys() != b.keys():
        return [f"other names: {sorted(a.keys() ^ b.keys())[:4]}"]
    for name in a:
        if a[name].dtype != b[name].dtype or a[name].shape != b[name].shape:
            problems.append(f"{name}: {b[name].dtype} {list(b[name].shape)}, "
                            f"mergekit {a[name].dtype} {list(a[name].shape)}")
            continue
        limit = LIMIT if a[name].dtype == torch.float32 else 2.0**-8
        gap = (a[name].double() - b[name].double()).abs()
        worst = (gap / b[name].double().abs().clamp(min=1.0)).max().item()
        if not worst <= limit:
            problems.append(f"{name}: off by {worst:.3g}")
    a, b = (json.loads((p / "config.json").read_text()) for p in (theirs, ours))
    for key in ["architectures", "num_hidden_layers", "n_layer", "vocab_size", "layer_types",
                "hidden_size", "tie_word_embeddings"]:
        if a.get(key) != b.get(key):
            problems.append(f"config {key}: {b.get(key)}, mergekit {a.get(key)}")
    return problems


def loads(out):
    """Transformers takes the directory, with a value per layer in its lists."""
    model, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    layers, kinds = model.config.num_hidden_layers, model.config.layer_types
    return [f"missing {n}" for n in info["missing_keys"]] + (
        [] if len(kinds) == layers else [f"{len(kinds)} layer_types, {layers} layers"])


def quick_refusal(wsurg, folder):
    """A recipe full of mistakes: one report, exit 2, at once."""
    bad = folder / "bad.yml"
    bad.write_text("modles: []\nmerge_method: tyes\ndtype: bf17\nparameters: {t: [}\n")
    fastest = 1.0
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run([wsurg, "merge", bad, folder / "no"], capture_output=True)
        fastest = min(fastest, time.perf_counter() - start)
    return [] if done.returncode == 2 and fastest < 0.05 else [
        f"exit {done.returncode} after {fastest:.3f} s"]


def main():
    wsurg = sys.argv[1]
    report = Report()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_models(folder)
        jobs, recipes = [], {}
        for family in FAMILIES:
            for recipe in RECIPES:
                key = f"{family}-{recipe}"
                recipes[key] = text_of(recipe, family, folder)
                jobs.append({"name": key, "config": yaml.safe_load(recipes[key]),
                             "out": str(folder / "mergekit" / key)})
        theirs = peer(jobs, folder)
        for job in jobs:
            key = job["name"]
            path, out = folder / f"{key}.yml", folder / "wsurg" / key
            out.parent.mkdir(exist_ok=True)
            path.write_text(recipes[key])
            done = subprocess.run([wsurg, "merge", path, out, "-q"], capture_output=True,
                                  text=True)
            if done.returncode != 0:
                report.say(f"recipe {key}", [said(done)])
            elif "`layer_types`" in theirs[key]:  # mergekit leaves the list as it was
                report.say(f"recipe {key}, which mergekit cannot write", loads(out))
            elif theirs[key] != "ok":
                report.say(f"recipe {key}", [f"mergekit: {theirs[key]}"])
            else:
                report.say(f"recipe {key}", compare(Path(job["out"]), out))
        report.say("recipe mistakes in 50 ms", quick_refusal(wsurg, folder))
    print(f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    sys.exit(report.failed > 0)


main()
