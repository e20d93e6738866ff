"""adapter_checks.py - adapters made by PEFT, folded, written and combined by wsurg

    adapter_checks.py WSURG

PEFT's own update of each module in float64, added to the base and rounded once, is the
yardstick: a fold must equal it bit for bit. What wsurg writes must load in PEFT and give
the logits of the same sum.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from peft import LoraConfig, PeftModel, PeftType, get_peft_model
from peft.tuners.lora.intruders import reduce_intruder_dimension
from safetensors.torch import load_file, save_file
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

WSURG = sys.argv[1]
transformers.utils.logging.disable_progress_bar()
warnings.simplefilter("ignore")
passed, failed = [], []


def llama(tied=False, dtype=torch.float32, bias=False):
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                         tie_word_embeddings=tied, attention_bias=bias)
    return LlamaForCausalLM(config).to(dtype)


def gpt2(dtype=torch.float32):
    torch.manual_seed(2)
    config = GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    return GPT2LMHeadModel(config).to(dtype)


def shake(model):
    """Every trained parameter away from its initial value."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad and "magnitude" in name:
                p.mul_(1 + 0.3 * torch.rand_like(p))
            elif p.requires_grad:
                p.add_(0.05 * torch.randn_like(p))


def run(*args, exit=0):
    done = subprocess.run([WSURG, *map(str, args)], capture_output=True, text=True)
    if done.returncode != exit:
        raise AssertionError(f"wsurg {' '.join(map(str, args))}: exit {done.returncode}, "
                             f"wanted {exit}\n{done.stderr}")
    return done.stdout + done.stderr


def weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def logits(model):
    ids = torch.arange(24).reshape(2, 12) % 61
    with torch.no_grad():
        return model.double().eval()(input_ids=ids).logits


def equal_bits(ours, theirs, where):
    for name, t in theirs.items():
        mine = ours[name]
        if mine.dtype != t.dtype or mine.shape != t.shape:
            raise AssertionError(f"{where}: {name} is {mine.dtype} {mine.shape}, wanted {t.dtype} {t.shape}")
        if not torch.equal(mine, t):
            worst = (mine.double() - t.double()).abs().max().item()
            raise AssertionError(f"{where}: {name} differs by up to {worst:g}")


def make(folder, base, config, dtype=None):
    """Save base and adapter; the adapted model, whose numbers are those of the files."""
    base.save_pretrained(folder / "base")
    model = get_peft_model(base, config)
    shake(model)
    if dtype is not None:
        for name, p in model.named_parameters():
            if p.requires_grad:
                p.data = p.data.to(dtype)
    model.save_pretrained(str(folder / "adapter"))
    return model


def check(name):
    def wrap(f):
        with tempfile.TemporaryDirectory() as d:
            try:
                f(Path(d))
                passed.append(name)
            except Exception as e:  # noqa: BLE001 - each check stands alone
                failed.append(name)
                print(f"not ok adapter {name}: {type(e).__name__}: {e}")
        return f
    return wrap


def fold_equals_peft(folder, base, config, adapter_dtype=None):
    """merge_and_unload of PEFT in float64, rounded once, against wsurg's fold."""
    dtypes = {n: p.dtype for n, p in base.state_dict().items()}
    model = make(folder, base, config, adapter_dtype)
    want = logits(model)  # in double, before anything is merged
    merged = model.double().merge_and_unload()
    run("lora", "fold", folder / "base", folder / "adapter", "-o", folder / "out")
    ours = weights(folder / "out")
    theirs = {n: t.to(dtypes.get(n, t.dtype)) for n, t in merged.state_dict().items() if n in ours}
    equal_bits(ours, theirs, "fold")
    again = type(merged).from_pretrained(folder / "out")
    tolerance = 1e-4 if next(iter(ours.values())).dtype == torch.float32 else 0.05
    worst = (logits(again) - want).abs().max().item()
    if worst > tolerance:
        raise AssertionError(f"logits differ by {worst:g}")
    run("lora", "verify", folder / "base", folder / "adapter", folder / "out")
    return ours


LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@check("plain")
def _(d):
    fold_equals_peft(d, llama(), LoraConfig(r=4, lora_alpha=16, target_modules=LINEAR))


@check("bfloat16 base, float32 factors")
def _(d):
    fold_equals_peft(d, llama(dtype=torch.bfloat16), LoraConfig(r=4, target_modules=LINEAR))


@check("float16 base and factors")
def _(d):
    fold_equals_peft(d, llama(dtype=torch.float16), LoraConfig(r=4, target_modules=LINEAR), torch.float16)


@check("rslora")
def _(d):
    fold_equals_peft(d, llama(), LoraConfig(r=6, lora_alpha=5, use_rslora=True, target_modules=LINEAR))


@check("patterns")
def _(d):
    fold_equals_peft(d, llama(), LoraConfig(
        r=4, lora_alpha=8, target_modules=LINEAR, rank_pattern={"q_proj": 2, r"layers.1.mlp.\w+": 7},
        alpha_pattern={"^model.layers.0.self_attn.v_proj": 3, "down_proj": 32}))


@check("dora")
def _(d):
    fold_equals_peft(d, llama(), LoraConfig(r=4, use_dora=True, target_modules=LINEAR))


@check("dora on Conv1D")
def _(d):
    fold_equals_peft(d, gpt2(), LoraConfig(r=4, use_dora=True, target_modules=["c_attn", "c_proj", "c_fc"]))


@check("dora on an embedding")
def _(d):
    fold_equals_peft(d, llama(), LoraConfig(r=4, use_dora=True, target_modules=["embed_tokens", "q_proj"]))


@check("embedding")
def _(d):
    fold_equals_peft(d, llama(), LoraConfig(r=4, target_modules=["embed_tokens", "lm_head", "q_proj"]))


@check("Conv1D, square ones too")
def _(d):
    fold_equals_peft(d, gpt2(), LoraConfig(r=4, target_modules=["c_attn", "c_proj", "c_fc"]))


@check("modules_to_save")
def _(d):
    fold_equals_peft(d, llama(), LoraConfig(r=4, target_modules=["q_proj"],
                                            modules_to_save=["lm_head", "embed_tokens", "norm"]))


@check("biases")
def _(d):
    fold_equals_peft(d, llama(bias=True), LoraConfig(r=4, target_modules=["q_proj", "v_proj"], bias="all"))


@check("bias of B")
def _(d):
    fold_equals_peft(d, llama(bias=True), LoraConfig(r=4, lora_bias=True, target_modules=["q_proj", "v_proj"]))


@check("trained token rows")
def _(d):
    fold_equals_peft(d, llama(), LoraConfig(r=4, target_modules=["q_proj"],
                                            trainable_token_indices={"embed_tokens": [3, 60, 17]}))


@check("trained token rows of a tied model")
def _(d):
    ours = fold_equals_peft(d, llama(tied=True), LoraConfig(
        r=4, target_modules=["q_proj"], trainable_token_indices=[3, 60, 17]))
    if "lm_head.weight" in ours:
        raise AssertionError("the tie was broken")


def function_is_kept(folder, base, config):
    """A tied pair: the fold is the adapted model's function, where PEFT's own merge is not. Its tensors
    are PEFT's updates in float64 on the base, rounded once; the other side of the pair is the base's."""
    kept = {n: t.clone() for n, t in base.state_dict().items()}
    model = make(folder, base, config)
    want = logits(model)  # in double from here on
    run("lora", "fold", folder / "base", folder / "adapter", "-o", folder / "out")
    ours = weights(folder / "out")
    changed = {}
    for name, m in model.base_model.model.named_modules():
        if hasattr(m, "lora_A"):
            changed[name + ".weight"] = m.get_base_layer().weight + m.get_delta_weight("default")
        elif hasattr(m, "modules_to_save"):
            changed[name + ".weight"] = m.modules_to_save["default"].weight
    equal_bits(ours, {n: changed.get(n, t).to(t.dtype) for n, t in kept.items()}, "fold")
    if not changed.keys() <= ours.keys():
        raise AssertionError(f"{changed.keys() - ours.keys()} were not written")
    again = type(base).from_pretrained(folder / "out")
    worst = (logits(again) - want).abs().max().item()
    if worst > 1e-4:
        raise AssertionError(f"logits differ by {worst:g}")
    config = json.loads((folder / "out" / "config.json").read_text())
    if config["tie_word_embeddings"] is not False or "lm_head.weight" not in ours:
        raise AssertionError("the pair is not written as two")


@check("tied head")
def _(d):
    function_is_kept(d, llama(tied=True), LoraConfig(r=4, target_modules=["lm_head", "q_proj"]))


@check("tied embedding")
def _(d):
    function_is_kept(d, llama(tied=True), LoraConfig(r=4, target_modules=["embed_tokens", "q_proj"]))


@check("tied head of gpt2")
def _(d):
    function_is_kept(d, gpt2(), LoraConfig(r=4, target_modules=["lm_head", "c_attn"]))


@check("tied embedding saved whole")
def _(d):
    function_is_kept(d, llama(tied=True), LoraConfig(r=4, target_modules=["q_proj"],
                                                     modules_to_save=["embed_tokens"]))


@check("rslora and dora together, on bfloat16")
def _(d):
    fold_equals_peft(d, llama(dtype=torch.bfloat16), LoraConfig(
        r=4, lora_alpha=3, use_rslora=True, use_dora=True, target_modules=LINEAR, rank_pattern={"k_proj": 2}))


class Convolutions(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(6)
        self.wide = torch.nn.Conv2d(6, 8, 3)
        self.point = torch.nn.Conv2d(8, 4, 1)
        self.line = torch.nn.Conv1d(5, 7, 3)


@check("convolutions, with dora too")
def _(d):
    for name, dora in (("plain", False), ("dora", True)):
        model = get_peft_model(Convolutions(), LoraConfig(
            r=3, lora_alpha=5, use_dora=dora, target_modules=["wide", "point"] + ([] if dora else ["line"])))
        save_file({n: t.contiguous() for n, t in Convolutions().state_dict().items()}, d / "base.safetensors")
        shake(model)
        model.save_pretrained(str(d / name))
        merged = model.double().merge_and_unload().state_dict()
        run("lora", "fold", d / "base.safetensors", d / name, "-o", d / f"{name}.safetensors")
        equal_bits(load_file(d / f"{name}.safetensors"), {n: t.float() for n, t in merged.items()}, name)


# what decides numbers is read and checked above; these say how an adapter was trained, on what, by whom
USED = {"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "use_dora", "bias",
        "lora_bias", "modules_to_save", "trainable_token_indices", "init_lora_weights",
        "base_model_name_or_path", "task_type", "ensure_weight_tying"}
UNHEEDED = {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "auto_mapping",
            "peft_version", "inference_mode", "lora_dropout", "fan_in_fan_out", "revision", "runtime_config",
            "eva_config", "corda_config", "loftq_config", "lora_ga_config", "velora_config", "megatron_core",
            "qalora_group_size"}


@check("every field of the configuration is used, or refused by name")
def _(d):
    make(d, llama(), LoraConfig(r=4, target_modules=["q_proj"]))
    run("lora", "fold", d / "base", d / "adapter", "-o", d / "want")
    path = d / "adapter" / "adapter_config.json"
    plain = json.loads(path.read_text())
    fields = {f.name for f in dataclasses.fields(LoraConfig)} | plain.keys()
    for field in sorted(fields - USED) + ["a_field_of_tomorrow"]:
        path.write_text(json.dumps({**plain, field: {"some": 1}}))
        if field in UNHEEDED:
            run("lora", "fold", d / "base", d / "adapter", "-o", d / "out", "--force")
            equal_bits(weights(d / "out"), weights(d / "want"), field)
        elif f"'{field}' is set" not in run("lora", "fold", d / "base", d / "adapter", "-o", d / "no", exit=3):
            raise AssertionError(f"{field} is refused for another reason")
    for kind in PeftType:
        if kind != PeftType.LORA:
            path.write_text(json.dumps({**plain, "peft_type": kind.value}))
            if kind.value not in run("lora", "fold", d / "base", d / "adapter", "-o", d / "no", exit=3):
                raise AssertionError(f"{kind} is refused for another reason")


@check("vocabulary that has grown")
def _(d):
    base = llama()
    base.save_pretrained(d / "base")
    base.resize_token_embeddings(70)
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"]))
    shake(model)
    model.save_pretrained(str(d / "adapter"), save_embedding_layers=True)
    (d / "adapter" / "tokenizer.json").write_text("{}")
    want = logits(model)
    report = json.loads(run("lora", "fold", d / "base", d / "adapter", "-o", d / "out", "--json", "-qq"))
    if report["result"]["tokenizer_from"] != str(d / "adapter"):
        raise AssertionError("the tokenizer is not the adapter's")
    again = LlamaForCausalLM.from_pretrained(d / "out")
    if again.config.vocab_size != 70 or (logits(again) - want).abs().max() > 1e-4:
        raise AssertionError("the resized model is another")


@check("a residual's adapter is refused on the original")
def _(d):
    base = llama()
    base.save_pretrained(d / "base")
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights="pissa"))
    shake(model)
    model.save_pretrained(str(d / "adapter"))
    if "ancestry" not in run("lora", "fold", d / "base", d / "adapter", "-o", d / "out", "--json", exit=2):
        raise AssertionError("refused for another reason")
    if (d / "out").exists():
        raise AssertionError("something shows")
    # the residual, as PEFT left it in the base layers
    want = logits(model)
    state = {n.replace(".base_layer", ""): p for n, p in model.base_model.model.state_dict().items()
             if "lora_" not in n}
    res = llama()
    res.load_state_dict(state)
    res.float().save_pretrained(d / "residual")
    run("lora", "fold", d / "residual", d / "adapter", "--residual", "-o", d / "out")
    if (logits(LlamaForCausalLM.from_pretrained(d / "out")) - want).abs().max() > 1e-4:
        raise AssertionError("the fold on the residual is another model")


@check("MODEL+ADAPTER among models to merge")
def _(d):
    base = llama()
    make(d, base, LoraConfig(r=4, target_modules=LINEAR))
    run("lora", "fold", d / "base", d / "adapter", "-o", d / "folded")
    run("merge", f"{d}/base+{d}/adapter", "--method", "linear", "-o", d / "m")
    equal_bits(weights(d / "m"), weights(d / "folded"), "merge of base+adapter")
    run("merge", f"{d}/base+{d}/adapter", d / "folded", "--base", d / "base", "--method", "ties",
        "--set", "density=1", "-o", d / "ties")
    for name, t in weights(d / "ties").items():
        if (t - weights(d / "folded")[name]).abs().max() > 1e-6:
            raise AssertionError(f"ties of a model with itself differs in {name}")
    run("diff", f"{d}/base+{d}/adapter", d / "folded")


def two_adapters(d, **b):
    """A base and two adapters of it, on disk; the model with both, none merged."""
    base = llama()
    base.save_pretrained(d / "base")
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=LINEAR), adapter_name="a")
    model.add_adapter("b", LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], **b}))
    for name in ("a", "b"):
        model.set_adapter(name)
        shake(model)
        model.save_pretrained(str(d), selected_adapters=[name])
    return model


def loaded(d, name):
    return PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(d / "base"), d / name)


@check("one adapter less the other")
def _(d):
    model = two_adapters(d, r=6)
    run("lora", "combine", d / "a", d / "b", "--weights", "1,-1", "-o", d / "c")
    combined = loaded(d, "c").double()
    model = model.double()
    layers = dict(combined.base_model.model.named_modules())
    for name, m in model.base_model.model.named_modules():
        if not hasattr(m, "lora_A"):
            continue
        want = m.get_delta_weight("a")
        if "b" in m.lora_A:
            want = want - m.get_delta_weight("b")
        worst = (layers[name].get_delta_weight("default") - want).abs().max().item()
        if worst > 1e-7 * want.abs().max().item():
            raise AssertionError(f"{name} differs by {worst:g}")


@check("factors summed as PEFT sums them")
def _(d):
    model = two_adapters(d, target_modules=LINEAR)
    run("lora", "combine", d / "a", d / "b", "--weights", "0.7,0.4", "--compat", "peft-linear", "-o", d / "c")
    model.add_weighted_adapter(["a", "b"], [0.7, 0.4], "c", combination_type="linear")
    model.set_adapter("c")
    worst = (logits(loaded(d, "c")) - logits(model)).abs().max().item()
    if worst > 1e-6:
        raise AssertionError(f"logits differ by {worst:g}")


@check("a trained PiSSA adapter as a plain LoRA")
def _(d):
    base = llama()
    base.save_pretrained(d / "base")
    model = get_peft_model(base, LoraConfig(r=4, target_modules=LINEAR, init_lora_weights="pissa"))
    model.save_pretrained(str(d / "initial"))
    shake(model)
    model.save_pretrained(str(d / "trained"))
    want = logits(model)
    run("lora", "convert", d / "trained", "--initial", d / "initial", "-o", d / "plain")
    plain = loaded(d, "plain")
    if plain.peft_config["default"].r != 8 or (logits(plain) - want).abs().max() > 1e-4:
        raise AssertionError("another model")


@check("intruder dimensions, found and softened")
def _(d):
    base = llama()
    base.save_pretrained(d / "base")
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=LINEAR))
    torch.manual_seed(5)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.copy_(0.3 * torch.randn_like(p))
    model.save_pretrained(str(d / "adapter"))
    counts, said = {}, []
    model.double()
    reduce_intruder_dimension(model, top_k=6, threshold_epsilon=0.6, mitigation_lambda=0.25, logging_sink=said.append)
    for line in said:
        module, sep, n = line.partition(": Intruders: ")
        if sep:
            counts[module.removeprefix("base_model.model.")] = int(n)
    options = ("--top", 6, "--below", 0.6)
    look = json.loads(run("inspect", d / "adapter", "--intruders", d / "base", *options, "--json", "--tensors"))
    ours = {m["module"]: m["intruders"] for m in look["result"]["adapter"]["list"] if m["intruders"]}
    if ours != counts or not counts:
        raise AssertionError(f"intruders {ours}, PEFT finds {counts}")
    run("lora", "soften", d / "base", d / "adapter", *options, "--lambda", 0.25, "-o", d / "soft")
    layers = dict(loaded(d, "soft").double().base_model.model.named_modules())
    for name, m in model.base_model.model.named_modules():
        if not hasattr(m, "lora_A"):
            continue
        want = m.get_delta_weight("intruder_reduced")
        worst = (layers[name].get_delta_weight("default") - want).abs().max().item()
        if worst > 1e-6 * want.abs().max().item():
            raise AssertionError(f"{name} differs by {worst:g}")


@check("weights in a pickle")
def _(d):
    model = make(d, llama(), LoraConfig(r=4, target_modules=LINEAR))
    run("lora", "fold", d / "base", d / "adapter", "-o", d / "want")
    model.save_pretrained(str(d / "pickle"), safe_serialization=False)
    if (d / "pickle" / "adapter_model.safetensors").exists():
        raise AssertionError("no pickle was written")
    run("lora", "fold", d / "base", d / "pickle", "-o", d / "out")
    equal_bits(weights(d / "out"), weights(d / "want"), "fold of a pickle")


print(f"{len(passed)} passed, {len(failed)} failed, 0 skipped")
sys.exit(bool(failed))
