"""vocab_checks.py - vocabularies through mergekit and through wsurg: vocab_checks.py WSURG

Runs in mergekit's environment. Small random models with tokenizers that share most of
their tokens are merged under every tokenizer setting; rows of embedding and head must
agree token by token (mergekit's order of new tokens is not fixed), the rest as it stands,
and both tokenizers must give the same tokens.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")

import torch
import yaml
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig,
                          PreTrainedTokenizerFast, Qwen2Config)

from support import Report, said

LIMIT = 2e-6
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2}
FAMILIES = {
    "llama": lambda n: LlamaConfig(**SMALL, vocab_size=n, tie_word_embeddings=False),
    "qwen2": lambda n: Qwen2Config(**SMALL, vocab_size=n, tie_word_embeddings=True),
    "gpt2": lambda n: GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=n, n_positions=32),
}
TEXT = ["the cat sat on the mat and the dog sat on the cat", "merging models of many kinds",
        "tokens that one model has and another one lacks", "a row for every token"]
OTHER = ["entirely different words were trained here", "zebras quietly vexing jackdaws"]
# name: texts, size, added tokens (special or not), rows beyond the tokens
MODELS = {
    "BASE": (TEXT, 300, [("<pad>", True)], 12),
    "A": (TEXT, 300, [("<|im_start|>", True), ("<|im_end|>", True)], 0),
    "B": (TEXT + OTHER, 320, [("<|im_end|>", True), ("<tool>", False)], 5),
}

RECIPES = {
    "linear_union": ("linear", "", "tokenizer_source: union"),
    "linear_base": ("linear", "base_model: BASE", "tokenizer_source: base"),
    "linear_model": ("linear", "base_model: BASE", "tokenizer_source: B"),
    "ties_union": ("ties", "base_model: BASE", "tokenizer_source: union"),
    "slerp_union": ("slerp", "base_model: BASE", "tokenizer: {source: union}"),
    "padded": ("task_arithmetic", "base_model: BASE",
               "tokenizer: {source: union, pad_to_multiple_of: 64}"),
    "tokens": ("linear", "base_model: BASE", """tokenizer:
          source: union
          tokens:
            <|im_start|>: {source: A}
            <tool>: {source: {kind: zero}, force: true}
            <new>: {source: {kind: model_token, model: A, token: "<|im_end|>"}}
            <other>: {source: {kind: model_token, model: B, token_id: 7}}
            <|im_end|>: {source: A, force: true}"""),
}


def make_tokenizer(texts, size, added, out):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<s>", "</s>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    for token, special in [("<|endoftext|>", True), *added]:  # qwen2's own is always there
        entry = [AddedToken(token, normalized=False, special=special)]
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(entry)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(out)
    return len(fast)


def make_models(folder):
    for family, config in FAMILIES.items():
        for k, (name, (texts, size, added, beyond)) in enumerate(MODELS.items()):
            out = folder / family / name
            rows = make_tokenizer(texts, size, added, out) + beyond
            torch.manual_seed(k)
            AutoModelForCausalLM.from_config(config(rows)).float().save_pretrained(out)


def text_of(recipe, family, folder):
    method, base, vocab = RECIPES[recipe]
    others = ["BASE", "A"] if method == "slerp" else ["BASE", "A", "B"]
    weight = "" if method == "slerp" else ", parameters: {weight: 0.5}"
    listed = [n for n in others if not (base and n == "BASE" and method != "linear")]
    if method == "slerp":
        listed = others
    lines = ["models:"] + [f"  - {{model: {n}{weight}}}" for n in listed]
    lines += [f"merge_method: {method}", base, "dtype: float32", vocab.replace("\n        ", "\n")]
    if method == "slerp":
        lines.append("parameters: {t: 0.4}")
    text = "\n".join(lines) + "\n"
    for name in ("BASE", "A", "B"):
        for lead in ("model: ", "base_model: ", "source: ", "tokenizer_source: "):
            for tail in ("}", ",", "\n"):
                text = text.replace(f"{lead}{name}{tail}", f"{lead}{folder / family / name}{tail}")
    return text


def peer(jobs, folder):
    (folder / "jobs.json").write_text(json.dumps(jobs))
    script = Path(__file__).with_name("peer.py")
    subprocess.run([sys.executable, script, folder / "jobs.json", folder / "said.json"],
                   check=True, capture_output=True)
    return json.loads((folder / "said.json").read_text())


def gap(a, b):
    return ((a.double() - b.double()).abs() / b.double().abs().clamp(min=1.0)).max().item()


TEXTS = ["the <|im_start|>cat<|im_end|> sat", "zebras <tool> were", "<pad><new>"]
ADDED = ["special", "normalized", "lstrip", "rstrip", "single_word"]


def compare(theirs, ours, has_base):
    problems = []
    a, b = load_file(theirs / "model.safetensors"), load_file(ours / "model.safetensors")
    if a.keys() != b.keys():
        return [f"other names: {sorted(a.keys() ^ b.keys())[:4]}"]
    mine, peers = AutoTokenizer.from_pretrained(ours), AutoTokenizer.from_pretrained(theirs)
    va, vb = peers.get_vocab(), mine.get_vocab()
    if va.keys() != vb.keys():
        return [f"other tokens: {sorted(va.keys() ^ vb.keys())[:6]}"]
    tokens = sorted(va)
    ia, ib = [va[t] for t in tokens], [vb[t] for t in tokens]
    for name in a:
        x, y = a[name], b[name]
        if x.shape != y.shape or x.dtype != y.dtype:
            problems.append(f"{name}: {y.dtype} {list(y.shape)}, mergekit {x.dtype} {list(x.shape)}")
            continue
        if name.endswith(("embed_tokens.weight", "wte.weight", "lm_head.weight")):
            if x.shape[0] > len(tokens) and gap(x[len(tokens):], y[len(tokens):]) > LIMIT:
                problems.append(f"{name}: padding rows differ")
            x, y = x[ia], y[ib]
        if not gap(x, y) <= LIMIT:
            problems.append(f"{name}: off by {gap(x, y):.3g}")
    # Without a base mergekit begins a union with any of the models, by the order of a set;
    # we with the first. Which tokens count as added ones follows from that.
    for text in TEXTS if has_base else []:
        ours_said = [mine.convert_ids_to_tokens(i) for i in mine(text)["input_ids"]]
        if ours_said != [peers.convert_ids_to_tokens(i) for i in peers(text)["input_ids"]]:
            problems.append(f"other tokens for {text!r}: {ours_said}")
    for kind in ADDED if has_base else []:
        x, y = ({t.content: getattr(t, kind) for t in k.added_tokens_decoder.values()}
                for k in (peers, mine))
        if x != y:
            problems.append(f"added tokens: {kind} of {[t for t in x if x[t] != y.get(t)]}")
    x, y = (json.loads((p / "config.json").read_text())["vocab_size"] for p in (theirs, ours))
    if x != y:
        problems.append(f"config vocab_size: {y}, mergekit {x}")
    return problems


def run(wsurg, *args):
    return subprocess.run([wsurg, *map(str, args)], capture_output=True, text=True)


def policies(wsurg, models, out):
    """--vocab without a recipe, and the refusal without one."""
    problems = []
    line = ["merge", models / "BASE", models / "A", models / "B", "--method", "linear"]
    done = run(wsurg, *line, "-o", out / "none")
    if done.returncode != 3 or "<|im_start|>" not in done.stderr or "--vocab" not in done.stderr:
        problems.append(f"no policy: exit {done.returncode}: {said(done)}")
    sets = {}
    for n in MODELS:
        sets[n] = set(AutoTokenizer.from_pretrained(models / n).get_vocab())
    want = {"base": sets["BASE"], "union": sets["BASE"] | sets["A"] | sets["B"],
            "common": sets["BASE"] & sets["A"] & sets["B"], "pad": sets["BASE"]}
    for policy, tokens in want.items():
        done = run(wsurg, *line, "--vocab", policy, "-q", "-o", out / policy)
        if done.returncode != 0:
            problems.append(f"{policy}: {said(done)}")
            continue
        got = set(AutoTokenizer.from_pretrained(out / policy).get_vocab())
        if got != tokens:
            problems.append(f"{policy}: tokens {sorted(got ^ tokens)[:5]}")
        model, info = AutoModelForCausalLM.from_pretrained(out / policy, output_loading_info=True)
        if info["missing_keys"] or info["mismatched_keys"]:
            problems.append(f"{policy}: does not load: {info}")
        if model.get_input_embeddings().weight.shape[0] < len(got):
            problems.append(f"{policy}: fewer rows than tokens")
    return problems


def same_bytes(wsurg, recipe, out):
    """Any number of threads, any memory, any shards."""
    digests = set()
    for k, args in enumerate([["-j1"], ["-j2"], ["--max-memory", "24MiB"],
                              ["--shard-size", "100KB"]]):
        done = run(wsurg, "merge", recipe, "-o", out / str(k), "-q", "--no-provenance", *args)
        if done.returncode != 0:
            return [said(done)]
        tensors = {}
        for f in sorted((out / str(k)).glob("*.safetensors")):
            tensors.update(load_file(f))
        digests.add(hash(tuple(tensors[n].numpy().tobytes() for n in sorted(tensors))))
    return [] if len(digests) == 1 else ["other bytes"]


def template(wsurg, models, folder):
    """chat_template: the same conversation through mergekit's text and ours. Of the others
    mergekit's have line ends of their own; ours are those of their makers."""
    problems = []
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"},
            {"role": "user", "content": "why"}]
    jobs = []
    for name in ("chatml",):
        text = (f"models: [{{model: {models / 'A'}}}, {{model: {models / 'A'}}}]\n"
                "merge_method: linear\nparameters: {weight: 0.5}\n"
                f"tokenizer_source: base\nchat_template: {name}\n")
        text = text.replace(f", {{model: {models / 'A'}}}", "")
        (folder / f"{name}.yml").write_text(text)
        jobs.append({"name": name, "config": yaml.safe_load(text),
                     "out": str(folder / f"mergekit-{name}")})
    theirs = peer(jobs, folder)
    for job in jobs:
        name = job["name"]
        done = run(wsurg, "merge", folder / f"{name}.yml", folder / name, "-q")
        if done.returncode != 0 or theirs[name] != "ok":
            problems.append(f"{name}: {said(done)}, mergekit {theirs[name]}")
            continue
        a, b = (AutoTokenizer.from_pretrained(p).apply_chat_template(
            talk, tokenize=False, add_generation_prompt=True) for p in (job["out"], folder / name))
        if a != b:
            problems.append(f"{name}: {b!r}, mergekit {a!r}")
    return problems


def main():
    wsurg = sys.argv[1]
    report = Report()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_models(folder)
        jobs = []
        for family in FAMILIES:
            for recipe in RECIPES:
                key = f"{family}-{recipe}"
                (folder / f"{key}.yml").write_text(text_of(recipe, family, folder))
                jobs.append({"name": key, "out": str(folder / "mergekit" / key),
                             "config": yaml.safe_load((folder / f"{key}.yml").read_text())})
        theirs = peer(jobs, folder)
        (folder / "wsurg").mkdir()
        for job in jobs:
            key, out = job["name"], folder / "wsurg" / job["name"]
            done = run(wsurg, "merge", folder / f"{key}.yml", out, "-q")
            if done.returncode != 0:
                report.say(f"vocabulary {key}", [said(done)])
            elif theirs[key] != "ok":
                report.say(f"vocabulary {key}", [f"mergekit: {theirs[key]}"])
            else:
                has_base = "linear_union" not in key
                report.say(f"vocabulary {key}", compare(Path(job["out"]), out, has_base))
        report.say("--vocab", policies(wsurg, folder / "llama", folder))
        report.say("same bytes", same_bytes(wsurg, folder / "llama-padded.yml", folder))
        report.say("chat templates", template(wsurg, folder / "llama", folder))
        if os.environ.get("INTEROP_KEEP"):
            shutil.copytree(folder, os.environ["INTEROP_KEEP"], dirs_exist_ok=True)
    print(f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    sys.exit(report.failed > 0)


main()
