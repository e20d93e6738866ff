"""families.py - a base and its fine-tunes, as directories that both programs can read."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from safetensors.torch import load_file


@dataclass
class Family:
    name: str
    paths: list  # directories: the base, then three fine-tunes
    sources: list  # what wsurg is given for each
    tensors: list = None  # name -> float32 array, for each

    def load(self):
        if self.tensors is None:
            self.tensors = [floats(p / "model.safetensors") for p in self.paths]
        return self.tensors


def floats(path):
    return {k: v.float().numpy() for k, v in load_file(path).items()}


def examples(root, work):
    """examples/models: the base and the first three full fine-tunes beside it."""
    folder = root / "examples" / "models"
    tunes = sorted(p.parent for p in folder.glob("*/model.safetensors") if p.parent.name != "base")
    paths = [folder / "base", *tunes[:3]]
    if len(tunes) < 3 or not (folder / "base" / "model.safetensors").exists():
        return None
    copies = [Path(shutil.copytree(p, work / "examples" / p.name)) for p in paths]
    return Family("examples", copies, copies)


def stories(root, work):
    """Plain fine-tune files beside the checkout, with the base's configuration."""
    folder = root.parent / "shared" / "data"
    base = folder / "stories260k"
    files = sorted(folder.glob("stories260k-*.safetensors"))
    if len(files) < 3 or not (base / "model.safetensors").exists():
        return None
    paths = [base]
    for file in files[:3]:
        path = work / "stories" / file.stem
        path.mkdir(parents=True)
        for companion in base.glob("*.json"):
            shutil.copyfile(companion, path / companion.name)
        (path / "model.safetensors").symlink_to(file)
        paths.append(path)
    return Family("stories", paths, [base, *files[:3]])


CRAFTED_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 32,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


def crafted_shapes():
    yield "model.embed_tokens.weight", (32, 16)
    yield "lm_head.weight", (32, 16)
    yield "model.norm.weight", (16,)
    for layer in ("model.layers.0.", "model.layers.1."):
        for head in "qkvo":
            yield f"{layer}self_attn.{head}_proj.weight", (16, 16)
        yield f"{layer}mlp.gate_proj.weight", (24, 16)
        yield f"{layer}mlp.up_proj.weight", (24, 16)
        yield f"{layer}mlp.down_proj.weight", (16, 24)
        yield f"{layer}input_layernorm.weight", (16,)
        yield f"{layer}post_attention_layernorm.weight", (16,)


def crafted_update(name, shape, tune, rng, earlier):
    """The update of one tensor; the named ones sit on the edges of the rules."""
    update = rng.normal(0, 0.05, shape)
    if name == "model.layers.0.self_attn.q_proj.weight":  # alike, and below absolute floors
        return earlier[0] + 2e-4 * update if earlier else 6e-4 * update
    if name == "model.layers.0.self_attn.k_proj.weight":  # no model changed it
        return update * 0
    if name == "model.layers.0.self_attn.v_proj.weight" and earlier:  # all changed alike
        return earlier[0]
    if name == "model.layers.0.self_attn.o_proj.weight":  # few magnitudes: ties at every cut
        return np.round(update * 40) / 64
    if name == "model.layers.1.self_attn.q_proj.weight" and tune == 2:  # exactly opposite
        return -earlier[0]
    if name.startswith("model.layers.1.mlp"):  # nearly parallel to the base
        return update * 0.01
    return update


def crafted(work):
    """A tiny model whose updates sit on the edges where the known defects act."""
    rng = np.random.default_rng(20240607)
    shapes = dict(crafted_shapes())
    # multiples of 2^-20 below 8: every sum and difference of them is exact in float32
    base = {n: grid(rng.normal(0, 0.5, s)) for n, s in shapes.items()}
    base["model.layers.1.self_attn.v_proj.weight"] *= 0
    updates = {n: [] for n in shapes}
    models = [base]
    for tune in (1, 2, 3):
        for name, shape in shapes.items():
            updates[name].append(grid(crafted_update(name, shape, tune, rng, updates[name])))
        models.append({n: (base[n] + updates[n][-1]).astype(np.float32) for n in shapes})
    paths = []
    for number, tensors in enumerate(models):
        path = work / "crafted" / ("base" if number == 0 else f"tune{number}")
        path.mkdir(parents=True)
        (path / "config.json").write_text(json.dumps(CRAFTED_CONFIG), encoding="utf-8")
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        paths.append(path)
    return Family("crafted", paths, paths)


def grid(values):
    return (np.round(np.asarray(values) * 2.0**20) / 2.0**20).astype(np.float32)


def families(root, work):
    """(name, family or None, why there is none)"""
    yield "examples", examples(Path(root), Path(work)), "no base and three fine-tunes in examples/models"
    yield "stories", stories(Path(root), Path(work)), "no ../shared/data beside the checkout"
    yield "crafted", crafted(Path(work)), ""
