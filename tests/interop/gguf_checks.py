#!/usr/bin/env python3
"""gguf_checks.py - wsurg's GGUF against the gguf package.

gguf_checks.py --wsurg BINARY

Files that the package writes, of every type that wsurg reads, must give the numbers of its
own dequantisation, in Hugging Face's names and layout. Files that wsurg writes must hold
the bytes that the package's writer and quantiser give.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants
from safetensors.numpy import load_file, save_file

RNG = np.random.default_rng(7)
PLAIN = (T.F32, T.F16, T.BF16)
BLOCKS = (T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q4_K, T.Q5_K, T.Q6_K)
HEADS, KV_HEADS, HEAD = 4, 2, 8


class Checks:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, good, detail=""):
        if good:
            self.passed += 1
        else:
            self.failed += 1
            print(f"not ok {name}: {detail}")


def half(x):
    return np.frombuffer(np.float16(x).tobytes(), np.uint8)


def random_blocks(kind, elements):
    """Blocks of random bits with scales that are finite and of a size."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    raw = RNG.integers(0, 256, (elements // block, size), dtype=np.uint8)
    at = {T.Q6_K: [208], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q4_1: [0, 2], T.Q5_1: [0, 2]}
    for i in range(raw.shape[0]):
        for k in at.get(kind, [0]):
            raw[i, k : k + 2] = half(RNG.normal() * 0.01)
    return raw


def stored(kind, shape):
    """Bytes as the file has them, shape (rows, bytes of a row), and their numbers."""
    if kind == T.F32:
        x = RNG.normal(size=shape).astype(np.float32)
        return x, x
    if kind == T.F16:
        x = RNG.normal(size=shape).astype(np.float16)
        return x, x.astype(np.float32)
    if kind == T.BF16:
        x = RNG.integers(0, 1 << 14, shape, dtype=np.uint16)
        return x.view(np.uint8), (x.astype(np.uint32) << 16).view(np.float32)
    raw = random_blocks(kind, int(np.prod(shape)))
    raw = raw.reshape(*shape[:-1], -1)
    return raw, quants.dequantize(raw, kind).astype(np.float32).reshape(shape)


def run(wsurg, *args):
    return subprocess.run([wsurg, *map(str, args)], capture_output=True, text=True)


def as_numbers(wsurg, path, work):
    """What wsurg reads: a plain copy as F32."""
    out = work / "read.safetensors"
    done = run(wsurg, "merge", path, "--method", "passthrough", "--dtype", "f32", "-o", out,
               "--force", "--manifest", "none")
    if done.returncode:
        return None, done.stderr
    return load_file(out), ""


def permute(x, heads):
    """Hugging Face's rows to GGUF's, as in llama.cpp's converter."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def check_types(c, wsurg, work):
    for kind in PLAIN + BLOCKS:
        path = work / f"{kind.name}.gguf"
        w = gguf.GGUFWriter(path, "other")
        w.add_string("general.name", "ä name")
        w.add_array("list", [1, 2, 3])
        want = {}
        for name, shape in (("a", (3, 512)), ("b", (256,)), ("c", (2, 5, 256)), ("long", (4, 8192))):
            raw, want[name] = stored(kind, shape)
            w.add_tensor(name, raw, raw_dtype=kind)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        got, why = as_numbers(wsurg, path, work)
        c.check(f"{kind.name}", got is not None, why)
        for name in want if got else ():
            same = got[name].shape == want[name].shape and np.array_equal(
                got[name].view(np.uint32), want[name].view(np.uint32))
            c.check(f"{kind.name}/{name}", same, "numbers differ")


def llama(kind):
    """Names and weights of a small llama as Hugging Face has them."""
    hidden = 256
    shapes = {
        "model.embed_tokens.weight": (64, hidden), "model.norm.weight": (hidden,),
        "lm_head.weight": (64, hidden),
    }
    for n in range(2):
        p = f"model.layers.{n}."
        shapes |= {
            p + "input_layernorm.weight": (hidden,),
            p + "post_attention_layernorm.weight": (hidden,),
            p + "self_attn.q_proj.weight": (HEADS * HEAD, hidden),
            p + "self_attn.k_proj.weight": (KV_HEADS * HEAD, hidden),
            p + "self_attn.v_proj.weight": (KV_HEADS * HEAD, hidden),
            p + "self_attn.o_proj.weight": (hidden, HEADS * HEAD * 8),
            p + "mlp.gate_proj.weight": (512, hidden), p + "mlp.up_proj.weight": (512, hidden),
            p + "mlp.down_proj.weight": (hidden, 512),
        }
    return {k: RNG.normal(size=s).astype(np.float32) for k, s in shapes.items()}


def write_model(path, arch, tensors, kind=T.F32):
    """A GGUF file with the package's own table of names."""
    w = gguf.GGUFWriter(path, arch)
    w.add_block_count(2)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV_HEADS)
    names = gguf.get_tensor_name_map({v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[arch], 2)
    for name, x in tensors.items():
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if arch == "llama" and ".q_proj." in name:
            x = permute(x, HEADS)
        if arch == "llama" and ".k_proj." in name:
            x = permute(x, KV_HEADS)
        if arch == "gpt2" and x.ndim == 2 and (".c_" in name):
            x = np.ascontiguousarray(x.T)
        k = kind if x.ndim == 2 else T.F32
        raw = quants.quantize(x, k) if k != T.F32 else x
        w.add_tensor(theirs, raw, raw_dtype=k)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def gpt2():
    shapes = {"transformer.wte.weight": (64, 96), "transformer.wpe.weight": (32, 96),
              "transformer.ln_f.weight": (96,), "transformer.ln_f.bias": (96,)}
    for n in range(2):
        p = f"transformer.h.{n}."
        shapes |= {p + "attn.c_attn.weight": (96, 288), p + "attn.c_attn.bias": (288,),
                   p + "attn.c_proj.weight": (96, 96), p + "attn.c_proj.bias": (96,),
                   p + "mlp.c_fc.weight": (96, 384), p + "mlp.c_fc.bias": (384,),
                   p + "mlp.c_proj.weight": (384, 96), p + "mlp.c_proj.bias": (96,)}
        for ln in ("ln_1", "ln_2"):
            shapes |= {p + ln + ".weight": (96,), p + ln + ".bias": (96,)}
    return {k: RNG.normal(size=s).astype(np.float32) for k, s in shapes.items()}


def qwen(three):
    tensors = llama(None)
    for n in range(2):
        for x, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            p = f"model.layers.{n}.self_attn.{x}"
            if three and x != "v":
                tensors[p + "_norm.weight"] = RNG.normal(size=(HEAD,)).astype(np.float32)
            elif not three:
                tensors[p + "_proj.bias"] = RNG.normal(size=(heads * HEAD,)).astype(np.float32)
    return tensors


def check_models(c, wsurg, work):
    models = {"llama": llama(None), "qwen2": qwen(False), "qwen3": qwen(True), "gpt2": gpt2()}
    for arch, tensors in models.items():
        st, gg = work / f"{arch}.safetensors", work / f"{arch}.gguf"
        save_file(tensors, st, {"format": "pt"})
        write_model(gg, arch, tensors)
        done = run(wsurg, "diff", gg, st)
        c.check(f"{arch}: diff", done.returncode == 0, done.stdout + done.stderr)
        other = work / "other.safetensors"
        save_file({k: v + np.float32(0.5) for k, v in tensors.items()}, other, {"format": "pt"})
        outs = []
        for base in (st, gg):
            out = work / f"merged-{base.suffix[1:]}.safetensors"
            done = run(wsurg, "merge", base, other, "--base", base, "--method", "task_arithmetic",
                       "--set", "lambda=0.3", "-o", out, "--force", "--no-provenance",
                       "--manifest", "none")
            c.check(f"{arch}: merge onto {base.suffix}", done.returncode == 0, done.stderr)
            outs.append(out.read_bytes() if out.exists() else b"")
        c.check(f"{arch}: merges are equal", outs[0] == outs[1] != b"", "bytes differ")


def check_written(c, wsurg, work):
    """What wsurg writes, the package reads: the tensors that its own writer would give."""
    common = {"num_hidden_layers": 2, "hidden_size": 256, "intermediate_size": 512,
              "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
              "max_position_embeddings": 128, "vocab_size": 64}
    configs = {a: common for a in ("llama", "qwen2", "qwen3")}
    configs["gpt2"] = {"n_layer": 2, "n_ctx": 32, "n_embd": 96, "n_head": 4}
    models = {"llama": llama(None), "qwen2": qwen(False), "qwen3": qwen(True), "gpt2": gpt2()}
    for arch, tensors in models.items():
        model = work / f"{arch}-model"
        model.mkdir()
        save_file(tensors, model / "model.safetensors", {"format": "pt"})
        (model / "config.json").write_text(json.dumps({"model_type": arch, **configs[arch]}))
        for dtype, kind in (("f32", T.F32), ("f16", T.F16), ("bf16", T.BF16), ("q8_0", T.Q8_0)):
            name, ours, theirs = f"{arch} as {dtype}", work / "ours.gguf", work / "theirs.gguf"
            done = run(wsurg, "convert", model, "--dtype", dtype, "--no-tokenizer", "-o", ours,
                       "--force", "--manifest", "none")
            c.check(name, done.returncode == 0, done.stderr)
            if done.returncode:
                continue
            write_model(theirs, arch, tensors, kind)
            a, b = gguf.GGUFReader(ours), gguf.GGUFReader(theirs)
            c.check(f"{name}: architecture",
                    a.get_field("general.architecture").contents() == arch, "another")
            c.check(f"{name}: heads",
                    a.get_field(f"{arch}.attention.head_count").contents() == HEADS, "another")
            want = {t.name: t for t in b.tensors}
            c.check(f"{name}: names", {t.name for t in a.tensors} == set(want), "other tensors")
            for t in a.tensors:
                w = want[t.name]
                if t.name == "position_embd.weight":  # F32 in llama.cpp's converter
                    same = np.array_equal(t.data, tensors["transformer.wpe.weight"])
                else:
                    same = (t.tensor_type == w.tensor_type and list(t.shape) == list(w.shape)
                            and t.data.tobytes() == w.data.tobytes())
                if not same:
                    c.check(f"{name}: {t.name}", False, f"{t.tensor_type} {w.tensor_type} differ")
            if dtype == "f32":
                done = run(wsurg, "diff", ours, model)
                c.check(f"{name}: read back", done.returncode == 0, done.stdout[-300:])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--wsurg", required=True)
    args = parser.parse_args()
    c = Checks()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        check_types(c, args.wsurg, work)
        check_models(c, args.wsurg, work)
        check_written(c, args.wsurg, work)
    print(f"{c.passed} passed, {c.failed} failed, 0 skipped")
    return c.failed > 0


sys.exit(main())
