"""formats_checks.py - files of torch.save and numpy, as those packages read them

    python formats_checks.py --wsurg build/wsurg

Each file stands beside a safetensors of the same numbers: `diff` must find them equal,
and merges of either must give the same bytes. Closes with `N passed, N failed, N skipped`.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
          torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.complex64]

passed = failed = 0


def check(name, good, says=""):
    global passed, failed
    passed, failed = passed + good, failed + (not good)
    print(f"ok   formats/{name}" if good else f"not ok formats/{name}: {says}")


def run(*arguments):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    return done.returncode, (done.stdout + done.stderr).strip().replace("\n", " | ")[:300]


def random_view(rng, dtype):
    shape = [rng.randint(1, 7) for _ in range(rng.randint(0, 4))]
    x = torch.randn(shape) * 20
    x = (x > 0) if dtype == torch.bool else x.abs().to(dtype) if dtype in (torch.uint8, torch.uint16) else x.to(dtype)
    if len(shape) > 1 and rng.random() < 0.5:
        x = x.permute(rng.sample(range(len(shape)), len(shape)))
    if shape and rng.random() < 0.5:
        x = x[tuple(slice(rng.randint(0, 1), None, rng.randint(1, 3)) for _ in shape)]
    return x


def twin(path, tensors):
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, path)


def pytorch(wsurg, room, rng):
    for round_ in range(20):
        tensors = {f"t{i}": random_view(rng, rng.choice(DTYPES)) for i in range(12)}
        tensors["alias"] = tensors["t0"]
        torch.save(tensors, room / "x.y.pt")
        twin(room / "x.safetensors", tensors)
        status, says = run(wsurg, "diff", room / "x.y.pt", room / "x.safetensors")
        check(f"pytorch-{round_}", status == 0, says)


def numpy_(wsurg, room, rng):
    for round_ in range(10):
        arrays = {}
        for i in range(6):
            a = np.array(random_view(rng, rng.choice(DTYPES[:3] + DTYPES[4:10])).numpy())
            order = rng.choice("CF")
            arrays[f"a/{i}"] = np.array(a, dtype=a.dtype.newbyteorder(rng.choice("<>")), order=order)
        np.savez(room / "x.npz", **arrays)
        tensors = {k: torch.from_numpy(np.ascontiguousarray(v).astype(v.dtype.newbyteorder("="))).reshape(v.shape)
                   for k, v in arrays.items()}
        twin(room / "x.safetensors", tensors)
        status, says = run(wsurg, "diff", room / "x.npz", room / "x.safetensors")
        check(f"numpy-{round_}", status == 0, says)


def written(wsurg, room, rng):
    """Archives that wsurg writes, numpy reads: the tensors, bit for bit, and good checksums."""
    dtypes = [d for d in DTYPES if d not in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)]
    for round_ in range(10):
        tensors = {f"a/{i}.w\u00e9": random_view(rng, rng.choice(dtypes)) for i in range(12)}
        tensors["none"] = torch.zeros(3, 0)
        tensors["long"] = torch.randn(300, 1001)
        twin(room / "x.safetensors", tensors)
        status, says = run(wsurg, "convert", room / "x.safetensors", "-o", room / "y.npz", "--force")
        check(f"npz-written-{round_}", status == 0, says)
        broken = zipfile.ZipFile(room / "y.npz").testzip()
        check(f"npz-checksums-{round_}", broken is None, broken)
        arrays = np.load(room / "y.npz")
        bad = [k for k, t in tensors.items()
               if arrays[k].shape != tuple(t.shape) or arrays[k].tobytes() != t.contiguous().numpy().tobytes()
               or arrays[k].dtype != t.numpy().dtype]
        check(f"npz-read-{round_}", not bad and arrays.files == sorted(tensors), bad)
    tensors = {"w": torch.randn(50, 60).to(torch.bfloat16), "n": torch.arange(5)}
    twin(room / "x.safetensors", tensors)
    status, says = run(wsurg, "convert", room / "x.safetensors", "-o", room / "no.npz")
    check("npz-bf16-refused", status == 3 and "BF16, which NumPy has not" in says, f"{status}: {says}")
    status, says = run(wsurg, "convert", room / "x.safetensors", "--dtype", "f32", "-o", room / "z.npz")
    arrays = np.load(room / "z.npz") if status == 0 else {}
    check("npz-bf16-as-f32", status == 0 and np.array_equal(arrays["w"], tensors["w"].to(torch.float32).numpy())
          and np.array_equal(arrays["n"], tensors["n"].numpy()), says)


def merges(wsurg, room):
    for name in ("a", "b", "c"):
        tensors = {f"layers.{i}.w": torch.randn(40, 30).to(torch.bfloat16) for i in range(3)}
        torch.save(tensors, room / f"{name}.pt")
        twin(room / f"{name}.safetensors", tensors)
    for kinds in (("pt", "pt", "pt"), ("safetensors", "pt", "safetensors"), ("pt", "safetensors", "safetensors")):
        files = [room / f"{n}.{k}" for n, k in zip("abc", kinds)]
        plain = [room / f"{n}.safetensors" for n in "abc"]
        outs = []
        for i, models in enumerate((files, plain)):
            out = room / f"out{i}.safetensors"
            status, says = run(wsurg, "merge", "--base", *models, "--method", "ties", "--no-provenance",
                               "--manifest", "none", "--force", "-o", out)
            outs.append(out.read_bytes() if status == 0 else None)
        check("merge-" + "-".join(kinds), outs[0] is not None and outs[0] == outs[1], says)


def refusals(wsurg, room):
    torch.save({"w": torch.zeros(3)}, room / "old.pt", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Linear(2, 2), room / "module.pt")
    np.savez_compressed(room / "small.npz", a=np.zeros(100))
    np.save(room / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name, words in (("old.pt", "before version 1.6"), ("module.pt", "unsupported global"),
                        ("small.npz", "is compressed"), ("object.npy", "is no plain number")):
        status, says = run(wsurg, "inspect", room / name)
        check(f"refuses-{name}", status == 3 and words in says, f"{status}: {says}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--wsurg", required=True)
    wsurg = parser.parse_args().wsurg
    torch.manual_seed(7)
    rng = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        pytorch(wsurg, room, rng)
        numpy_(wsurg, room, rng)
        written(wsurg, room, rng)
        merges(wsurg, room)
        refusals(wsurg, room)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


main()
