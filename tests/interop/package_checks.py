"""package_checks.py - files between wsurg and the safetensors package, both ways.

The package's own writer is the yardstick: for the same tensors and {"format": "pt"} its
bytes and those of `wsurg merge --method passthrough --no-provenance` are equal.
"""

import json

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from safetensors import safe_open

from support import Absent

PT = {"format": "pt"}
TORCH = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "C64": "complex64",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu", "F4": "float4_e2m1fn_x2",
}
AWKWARD = ['quote"d', "back\\slash", "sla/sh", "d\u00e9j\u00e0.\u6743\u91cd.\U0001f980", "del\x7f",
           "tab\tline\nreturn\r", "\b\f", "\x01\x1f\x1b[31m", " ", "a" * 300, "Z", "a", "\u00ff"]


def sample(kind, shape=(3, 4)):
    """Finite values of one dtype, any bits that are plain numbers in it."""
    rng = np.random.default_rng(11)
    dtype = getattr(torch, TORCH[kind])
    count = int(np.prod(shape))
    if kind in ("F64", "F32", "F16", "BF16"):
        return torch.from_numpy(rng.normal(size=shape)).to(dtype)
    if kind == "C64":
        return torch.complex(sample("F32", shape), sample("F32", shape))
    if kind == "BOOL":
        return torch.from_numpy(rng.integers(0, 2, shape).astype(bool))
    size = torch.empty((), dtype=dtype).element_size()
    data = rng.integers(1, 0x38, count * size).astype(np.uint8)
    return torch.from_numpy(data).view(dtype).reshape(shape)


def shapes():
    """Scalars and empty tensors, between others."""
    return {"scalar": sample("F32", ()), "empty": sample("F32", (0,)), "b": sample("F32"),
            "hollow": sample("F32", (2, 0, 3)), "whole": sample("I64", ()), "end": sample("BF16", (0, 7)),
            "one": sample("BF16", (1,)), "deep": sample("F16", (1, 2, 1, 3, 1, 2))}


def sets():
    """name -> tensors, for everything that goes both ways."""
    for kind in TORCH:
        yield kind, {"x": sample(kind), "a.b": sample(kind, (5,)) if kind != "F4" else sample(kind)}
    yield "all-dtypes", {f"t{i}": sample(k) for i, k in enumerate(sorted(TORCH))}
    yield "names", {n: sample("F32", (i + 1,)) for i, n in enumerate(AWKWARD)}
    yield "shapes", shapes()
    for length in range(1, 9):  # every remainder of the header's length
        yield f"padding-{length}", {"n" * length: sample("U8", (3,))}


def passthrough(wsurg, source, out, *extra):
    out.unlink(missing_ok=True)
    wsurg.merge(out, [source], "passthrough", {}, extra=extra)
    return out.read_bytes()


def header(path):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8:8 + length]), data[8 + length:]


def check_bytes(wsurg, folder, tensors):
    """The package's file, through wsurg, byte for byte."""
    source, out = folder / "package.safetensors", folder / "wsurg.safetensors"
    safetensors.torch.save_file(tensors, source, metadata=PT)
    if passthrough(wsurg, source, out) != source.read_bytes():
        mine, theirs = header(out)[0], header(source)[0]
        yield "headers differ" if mine != theirs or list(mine) != list(theirs) else "bytes differ"
    back = safetensors.torch.load_file(out)
    if list(back) and {n: (t.dtype, t.shape) for n, t in back.items()} != {
            n: (t.dtype, t.shape) for n, t in tensors.items()}:
        yield "the package reads other tensors from wsurg's file"


def listed(document):
    """The per-tensor list of `inspect --json --tensors`."""
    tensors = document["result"]["tensors"]["list"]
    return {t["name"]: (t["dtype"], [int(d) for d in t["shape"]]) for t in tensors}


def check_inspect(wsurg, folder, tensors):
    """wsurg lists what the package wrote."""
    if not wsurg.has_command("inspect"):
        raise Absent("wsurg has no command inspect")
    source = folder / "package.safetensors"
    safetensors.torch.save_file(tensors, source, metadata=PT)
    wanted = {n: (t["dtype"], t["shape"]) for n, t in header(source)[0].items() if n != "__metadata__"}
    found = listed(wsurg.json("inspect", source, "--tensors"))
    for name in sorted(set(wanted) | set(found)):
        if wanted.get(name) != found.get(name):
            yield f"{name!r}: package {wanted.get(name)}, wsurg {found.get(name)}"


def check_order(wsurg, folder):
    """A file in another order, without metadata or padding, comes out as the package's."""
    tensors = {f"t{i}": sample(k) for i, k in enumerate(sorted(TORCH)) if k not in ("F4", "C64")}
    written, other = folder / "written.safetensors", folder / "other.safetensors"
    safetensors.torch.save_file(tensors, written, metadata=PT)
    entries, data = header(written)
    parts, position, table = [], 0, {}
    for name in sorted(tensors, reverse=True):
        first, last = entries[name]["data_offsets"]
        parts.append(data[first:last])
        table[name] = {**entries[name], "data_offsets": [position, position + last - first]}
        position += last - first
    text = json.dumps(table, indent=1).encode()
    text += b" " * (len(text) % 8 == 0)
    other.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))
    if passthrough(wsurg, other, folder / "out.safetensors") != written.read_bytes():
        yield "bytes differ from the package's own"


def check_numpy(wsurg, folder):
    """The NumPy writer agrees with the PyTorch one, and wsurg with both."""
    kinds = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32",
             "uint16", "uint8", "bool")
    tensors = {k: np.arange(6).astype(k).reshape(2, 3) for k in kinds}
    source = folder / "numpy.safetensors"
    safetensors.numpy.save_file(tensors, source, metadata=PT)
    if passthrough(wsurg, source, folder / "out.safetensors") != source.read_bytes():
        yield "bytes differ from the NumPy writer's"


def check_merge(wsurg, folder, kind):
    """A real merge in one dtype: the package reads it, and writes it again as it was."""
    paths = []
    for number in (1, 2):
        paths.append(folder / f"m{number}.safetensors")
        safetensors.torch.save_file({"w": sample(kind) * number, "v": sample(kind, (7,))}, paths[-1],
                                    metadata=PT)
    out, again = folder / "merged.safetensors", folder / "again.safetensors"
    out.unlink(missing_ok=True)
    wsurg.merge(out, paths, "linear", {"weight": [0.5, 0.5]})
    merged = safetensors.torch.load_file(out)
    safetensors.torch.save_file(merged, again, metadata=PT)
    if out.read_bytes() != again.read_bytes():
        yield "the package writes other bytes"
    exact = ((sample(kind).double() + (sample(kind) * 2).double()) / 2).to(getattr(torch, TORCH[kind]))
    gap = (merged["w"].double() - exact.double()).abs().max().item()
    if merged["w"].dtype != sample(kind).dtype or gap > 1e-6:
        yield f"the merge is {gap:.3g} off"
    with safe_open(out, "pt") as f:
        if f.metadata() != PT:
            yield f"metadata {f.metadata()}"


def check_nan(wsurg, folder):
    """Payloads of NaN and infinities pass unchanged where they are allowed at all."""
    source = folder / "nan.safetensors"
    raw = np.array([0x7FC00001, 0xFFC12345, 0x7F800001, 0x7F800000, 0xFF800000, 0x80000000], np.uint32)
    half = np.array([0x7E01, 0x7C01, 0xFC00, 0x8000], np.uint16)
    safetensors.torch.save_file({"w": torch.from_numpy(raw).view(torch.float32),
                                 "h": torch.from_numpy(half).view(torch.float16),
                                 "b": torch.from_numpy(half.copy()).view(torch.bfloat16)}, source, metadata=PT)
    out = folder / "out.safetensors"
    if passthrough(wsurg, source, out, "--allow-nonfinite") != source.read_bytes():
        yield "bytes differ"


def check_shards(wsurg, folder):
    """Shards of a directory are files of the package, and the index names every tensor."""
    source = folder / "model"
    source.mkdir()
    tensors = {f"model.layers.{i}.w": sample("BF16", (64, 64)) for i in range(8)}
    safetensors.torch.save_file(tensors, source / "model.safetensors", metadata=PT)
    (source / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    out = folder / "sharded"
    wsurg.merge(out, [source], "passthrough", {}, extra=["--shard-size", "20KiB"])
    index = json.loads((out / "model.safetensors.index.json").read_text(encoding="utf-8"))
    shards = sorted(set(index["weight_map"].values()))
    if len(shards) < 2 or set(index["weight_map"]) != set(tensors):
        yield f"{len(shards)} shards, {len(index['weight_map'])} tensors in the index"
    for shard in shards:
        part = safetensors.torch.load_file(out / shard)
        for name, tensor in part.items():
            if index["weight_map"].get(name) != shard or not torch.equal(tensor, tensors[name]):
                yield f"{name} is not in the shard that the index names"
        safetensors.torch.save_file(part, folder / "shard.safetensors", metadata=PT)
        if (folder / "shard.safetensors").read_bytes() != (out / shard).read_bytes():
            yield f"{shard} differs from the package's own"


def run(report, wsurg, work):
    folder = work / "package"
    folder.mkdir()
    for name, tensors in sets():
        report.check(f"package/{name}-bytes", check_bytes, wsurg, folder, tensors)
        report.check(f"package/{name}-inspect", check_inspect, wsurg, folder, tensors)
    report.check("package/order", check_order, wsurg, folder)
    report.check("package/numpy", check_numpy, wsurg, folder)
    report.check("package/nan", check_nan, wsurg, folder)
    report.check("package/shards", check_shards, wsurg, folder)
    for kind in ("F64", "F32", "F16", "BF16"):
        report.check(f"package/merge-{kind}", check_merge, wsurg, folder, kind)
