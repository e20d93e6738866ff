#!/usr/bin/env python3
"""Train the example models: a base on ten skills, and a fine-tune for each of three of them.

    python3 train.py all          everything: tokenizer, base, fine-tunes, table
    python3 train.py base         the tokenizer and the base
    python3 train.py tune         the fine-tunes, from base/
    python3 train.py table        loss and exact match of all models and of some merges, into README.md
    python3 train.py check        load the directories in transformers and compare with this file's model

PyTorch on one CPU thread, float32 while training, BF16 in the files. Each model becomes a directory in the
Hugging Face layout beside this script. The text comes from skills.py; all seeds are below.
"""
import json
import math
import os
import pathlib
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

import skills

HERE = pathlib.Path(__file__).resolve().parent
SEED = 20
HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, INNER, VOCAB = 96, 5, 6, 2, 16, 256, 432
THETA, EPS, CONTEXT = 10000.0, 1e-5, 256
BASE = dict(steps=6000, batch=64, lr=2e-3, decay=0.1, prompt_weight=0.02)
TUNE = dict(steps=300, batch=64, lr=3e-4, decay=0.0, prompt_weight=0.0)
TUNES = {"sums": "sum", "sorting": "sort", "romans": "roman"}  # directory: skill
RARE = {"sum": 0.005, "sort": 0.003, "roman": 0.004}  # their shares in the text of the base
UNK, BOS, EOS = "<unk>", "<s>", "</s>"


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(HIDDEN, HEADS * HEAD_DIM, bias=False)
        self.k_proj = nn.Linear(HIDDEN, KV_HEADS * HEAD_DIM, bias=False)
        self.v_proj = nn.Linear(HIDDEN, KV_HEADS * HEAD_DIM, bias=False)
        self.o_proj = nn.Linear(HEADS * HEAD_DIM, HIDDEN, bias=False)

    def forward(self, x, cos, sin):
        def heads(y, n):
            return y.view(*x.shape[:2], n, HEAD_DIM).transpose(1, 2)

        def rotate(y):
            a, b = y.chunk(2, dim=-1)
            return y * cos + torch.cat((-b, a), dim=-1) * sin

        q, k = rotate(heads(self.q_proj(x), HEADS)), rotate(heads(self.k_proj(x), KV_HEADS))
        v = heads(self.v_proj(x), KV_HEADS)
        k, v = (y.repeat_interleave(HEADS // KV_HEADS, dim=1) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj = nn.Linear(HIDDEN, INNER, bias=False)
        self.up_proj = nn.Linear(HIDDEN, INNER, bias=False)
        self.down_proj = nn.Linear(INNER, HIDDEN, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(HIDDEN, eps=EPS)
        self.self_attn = Attention()
        self.post_attention_layernorm = nn.RMSNorm(HIDDEN, eps=EPS)
        self.mlp = Mlp()

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """The Llama of transformers, with its parameter names and a tied output head."""

    def __init__(self):
        super().__init__()
        self.model = nn.ModuleDict(dict(embed_tokens=nn.Embedding(VOCAB, HIDDEN),
                                        layers=nn.ModuleList(Layer() for _ in range(LAYERS)),
                                        norm=nn.RMSNorm(HIDDEN, eps=EPS)))
        angle = torch.arange(CONTEXT)[:, None] * THETA ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        angle = torch.cat((angle, angle), dim=-1)
        self.cos, self.sin = angle.cos(), angle.sin()
        for name, p in self.named_parameters():
            if p.dim() == 2:
                last = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=0.1 / (math.sqrt(2 * LAYERS) if last else 1))

    def forward(self, ids):
        cos, sin = self.cos[:ids.shape[1]], self.sin[:ids.shape[1]]
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        return self.model.norm(x) @ self.model.embed_tokens.weight.T


def make_tokenizer():
    """BPE with byte fallback on "▁" for spaces, in the manner of Llama; digits and capitals stay single."""
    special = [UNK, BOS, EOS]
    learn = Tokenizer(models.BPE())
    learn.normalizer = normalizers.Replace(" ", "▁")
    learn.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Split(Regex("[0-9A-Z+]"), "isolated")])
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, show_progress=False,
                                  special_tokens=special + [f"<0x{i:02X}>" for i in range(256)])
    lines = [(p + c).rstrip("\n") for p, c in skills.examples("all", "train", 40000, SEED)]
    learn.train_from_iterator(lines, trainer)
    learned = json.loads(learn.to_str())["model"]
    tok = Tokenizer(models.BPE(vocab=learned["vocab"], merges=[tuple(m) for m in learned["merges"]],
                               unk_token=UNK, fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Replace(" ", "▁")
    tok.add_special_tokens(special)
    tok.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B",
                                                       special_tokens=[(BOS, 1)])
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    assert tok.get_vocab_size() == VOCAB
    return tok


def save(model, tok, name):
    """A Hugging Face model directory."""
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    weights = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    ids = {"bos_token_id": 1, "eos_token_id": 2}
    config = {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, **ids,
              "head_dim": HEAD_DIM, "hidden_act": "silu", "hidden_size": HIDDEN, "initializer_range": 0.02,
              "intermediate_size": INNER, "max_position_embeddings": CONTEXT, "mlp_bias": False,
              "model_type": "llama", "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
              "num_key_value_heads": KV_HEADS, "pretraining_tp": 1, "rms_norm_eps": EPS, "rope_scaling": None,
              "rope_theta": THETA, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True,
              "vocab_size": VOCAB}
    tok_config = {"add_bos_token": True, "add_eos_token": False, "bos_token": BOS,
                  "clean_up_tokenization_spaces": False, "eos_token": EOS, "model_max_length": CONTEXT,
                  "pad_token": EOS, "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": UNK}
    specials = {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS, "unk_token": UNK}
    for file, data in (("config.json", config), ("generation_config.json", {**ids, "do_sample": False}),
                       ("tokenizer_config.json", tok_config), ("special_tokens_map.json", specials)):
        (folder / file).write_text(json.dumps(data, indent=2) + "\n")
    tok.save(str(folder / "tokenizer.json"))


def load(name):
    model = Llama()
    model.load_state_dict({k: v.float() for k, v in load_file(HERE / name / "model.safetensors").items()})
    return model


def tokens(tok, lines, prompt_weight):
    """One document of lines as (ids, weights): the weight of a token is that of its prediction."""
    ids, weights = [1], [0.0]
    for prompt, completion in lines:
        n = len(ids)
        ids += tok.encode(prompt + completion, add_special_tokens=False).ids
        weights += [prompt_weight] * len(tok.encode(prompt, add_special_tokens=False).ids)
        weights += [1.0] * (len(ids) - len(weights))
    return ids + [2], weights + [prompt_weight or 1.0]


def batch_of(documents):
    """Padded to the longest: inputs, targets, weights. Padding follows the text, so the causal mask hides it."""
    longest = max(len(ids) for ids, _ in documents)
    ids = torch.tensor([i + [2] * (longest - len(i)) for i, _ in documents])
    weights = torch.tensor([w + [0.0] * (longest - len(w)) for _, w in documents])
    return ids[:, :-1], ids[:, 1:], weights[:, 1:]


def losses(model, inputs, targets):
    logits = model(inputs)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets), logits


def train(model, tok, mix, opts, seed):
    """AdamW with warm-up and cosine decay. mix: {skill: share}. Every fourth step has documents of 2 to 4 lines."""
    rng = skills.Rng(f"mix/{seed}")
    rngs = {name: skills.Rng(f"{name}/train/{seed}") for name in mix}
    wheel = [name for name, share in mix.items() for _ in range(round(1000 * share))]

    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    opt = torch.optim.AdamW([{"params": matrices, "weight_decay": opts["decay"]},
                             {"params": vectors, "weight_decay": 0.0}], lr=opts["lr"], betas=(0.9, 0.98))
    began, warm, steps = time.time(), opts["steps"] // 20, opts["steps"]
    for step in range(steps):
        lines = 2 + rng.below(3) if step % 4 == 3 else 1
        documents = []
        for _ in range(opts["batch"] // lines):
            names = [rng.pick(wheel) for _ in range(lines)]
            documents.append(tokens(tok, [skills.one(n, rngs[n], "train") for n in names], opts["prompt_weight"]))
        inputs, targets, weights = batch_of(documents)
        for group in opt.param_groups:
            group["lr"] = opts["lr"] * min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * step / steps))
        loss = (losses(model, inputs, targets)[0] * weights).sum() / weights.sum()
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        if step % 100 == 99:
            print(f"  step {step + 1}/{steps}  loss {loss.item():.4f}  {time.time() - began:.0f} s", flush=True)


@torch.no_grad()
def score(model, tok, skill, n=300):
    """(loss per answer token, share of answers that are exactly right when decoded greedily)."""
    documents = [tokens(tok, [x], 0.0) for x in skills.examples(skill, "eval", n, SEED)]
    inputs, targets, weights = batch_of([(ids[:-1], w[:-1]) for ids, w in documents])
    loss, logits = losses(model, inputs, targets)
    # Greedy decoding gives the answer if and only if each of its tokens is the likeliest one after the true ones.
    right = ((logits.argmax(-1) == targets) | (weights == 0)).all(-1)
    return (loss * weights).sum().item() / weights.sum().item(), right.float().mean().item()


def merged(base, names, scale):
    """Task arithmetic: base + scale * sum(tune - base), rounded to BF16."""
    tunes = [load(n).state_dict() for n in names]
    model = load("base")
    model.load_state_dict({k: (v + scale * sum(t[k] - v for t in tunes)).to(torch.bfloat16).float()
                           for k, v in base.state_dict().items()})
    return model


def table():
    tok = Tokenizer.from_file(str(HERE / "base" / "tokenizer.json"))
    base, names = load("base"), list(TUNES)
    rows = {"base": base, **{n: load(n) for n in names}}
    for group in (names[:2], names[1:], [names[0], names[2]], names):
        for scale in (0.5, 1.0):
            rows[f"{' + '.join(group)}, {scale}"] = merged(base, group, scale)
    got = {name: [score(model, tok, s) for s in skills.SKILLS] for name, model in rows.items()}
    heading = " | ".join(skills.SKILLS) + " | mean |\n" + "|---" * (len(skills.SKILLS) + 2) + "|\n"
    text = "| exact match, % | " + heading
    for name, cells in got.items():
        exact = [100 * e for _, e in cells]
        text += f"| {name} | " + " | ".join(f"{e:.0f}" for e in exact + [sum(exact) / len(exact)]) + " |\n"
    text += "\n| loss per answer token | " + heading
    for name in ["base", *names]:
        loss = [l for l, _ in got[name]]
        text += f"| {name} | " + " | ".join(f"{l:.3f}" for l in loss + [sum(loss) / len(loss)]) + " |\n"
    print(text)
    readme = HERE / "README.md"
    if readme.exists():
        head, mark, _ = readme.read_text().partition("<!-- table -->\n")
        readme.write_text(head + mark + "\n" + text)


def check():
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging
    logging.disable_progress_bar()
    for name in ["base", *TUNES]:
        tok = AutoTokenizer.from_pretrained(HERE / name)
        own = Tokenizer.from_file(str(HERE / name / "tokenizer.json"))
        theirs, info = AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"], info
        mine, before = load(name), load("base").state_dict()
        same = [k for k, v in mine.state_dict().items() if torch.equal(v, before[k])]
        assert name == "base" or not same, same
        worst = 0.0
        for p, c in skills.examples("all", "eval", 100, SEED + 1):
            ids = tok(p + c)["input_ids"]
            assert ids == own.encode(p + c).ids and tok.decode(ids, skip_special_tokens=True) == p + c
            with torch.no_grad():
                ids = torch.tensor([ids])
                worst = max(worst, (theirs(ids).logits - mine(ids)).abs().max().item())
        assert worst < 1e-3, worst
        prompt = tok("sum: 27+15 =", return_tensors="pt")
        shown = tok.decode(theirs.generate(**prompt, max_new_tokens=12)[0])
        print(f"{name}: logits differ by at most {worst:.1e}; {shown!r}")


def main():
    what = sys.argv[1] if len(sys.argv) == 2 else ""
    if what not in ("all", "base", "tune", "table", "check"):
        sys.exit(__doc__)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if what in ("all", "base"):
        torch.manual_seed(SEED)
        tok, model = make_tokenizer(), Llama()
        rest = (1 - sum(RARE.values())) / (len(skills.SKILLS) - len(RARE))
        mix = {s: RARE.get(s, rest) for s in skills.SKILLS}
        print(f"base: {sum(p.numel() for p in model.parameters())} parameters")
        train(model, tok, mix, BASE, SEED)
        save(model, tok, "base")
    if what in ("all", "tune"):
        tok = Tokenizer.from_file(str(HERE / "base" / "tokenizer.json"))
        for i, (name, skill) in enumerate(TUNES.items()):
            print(name)
            model = load("base")
            train(model, tok, {skill: 1.0}, TUNE, SEED + 1 + i)
            save(model, tok, name)
    if what in ("all", "table"):
        table()
    if what in ("all", "check"):
        check()


if __name__ == "__main__":
    main()
