"""make_formats.py - small files of torch.save and numpy, each beside a safetensors of the
same numbers

    python make_formats.py [FOLDER]

Python 3.11, PyTorch 2.13.0 (CPU), NumPy, safetensors: versions in README.md.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file

out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "formats")
out.mkdir(exist_ok=True)
torch.manual_seed(5)

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
          torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.complex64]


def numbers(dtype):
    x = torch.randn(3, 5) * 10
    if dtype == torch.bool:
        return x > 0
    if dtype in (torch.uint8, torch.uint16):
        return x.abs().to(dtype)
    return torch.complex(x, -x) if dtype == torch.complex64 else x.to(dtype)


def plain(tensors):
    return {name: t.detach().clone().contiguous() for name, t in tensors.items()}


kinds = {str(d).split(".")[1]: numbers(d) for d in DTYPES}
torch.save(kinds, out / "kinds.pt")
save_file(plain(kinds), out / "kinds.safetensors")

w = torch.randn(12, 9)
views = {"w": w, "tied": w, "transposed": w.t(), "slice": w[3:10, 2:8], "steps": w[::2, ::3], "scalar": torch.tensor(3.5),
         "empty": torch.zeros(0, 4), "permuted": torch.randn(2, 3, 2, 3).permute(2, 0, 3, 1),
         "parameter": torch.nn.Parameter(torch.randn(2, 2)), "column": torch.randn(1, 5).t()}
torch.save(views, out / "views.pt")
save_file(plain(views), out / "views.safetensors")

module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).state_dict()
torch.save({"epoch": 3, "state_dict": module, "rate": 0.1}, out / "wrapped.v1.ckpt")
save_file(plain(module), out / "wrapped.v1.safetensors")

arrays = {"x/y": np.arange(12.0).reshape(3, 4), "fortran": np.asfortranarray(np.arange(24, dtype="<f4").reshape(2, 3, 4)),
          "big": np.arange(5, dtype=">i4"), "half": np.array([2.5], dtype="f2"), "flags": np.array([True, False])}
np.savez(out / "arrays.npz", **arrays)
save_numpy({k: np.ascontiguousarray(v, dtype=v.dtype.newbyteorder("=")) for k, v in arrays.items()},
           out / "arrays.safetensors")
