"""model_library.py - the training step of libwsurg.so, through ctypes

The structures mirror src/model/train_step.h and src/model/layers.h; what each field means is
written there.
"""

import ctypes as c

import numpy as np

EMBED, POSITIONS, LINEAR, BIAS, NORM, NORM_BIAS, HEAD = range(7)
KEEP_AUTO, KEEP_ALL, KEEP_SMALL, KEEP_INPUT = range(4)


class Err(c.Structure):
    _fields_ = [("code", c.c_int), ("sys", c.c_int), ("offset", c.c_int64), ("text", c.c_char * 4096)]


class Ctx(c.Structure):
    _fields_ = [("threads", c.c_int), ("max_memory", c.c_uint64), ("max_disk", c.c_uint64),
                ("pointers", c.c_void_p * 4), ("strict", c.c_bool)]


class Part(c.Structure):
    _fields_ = [("name", c.c_char_p), ("kind", c.c_int), ("layer", c.c_int64), ("dtype", c.c_int),
                ("stored", c.c_int), ("rows", c.c_int64), ("cols", c.c_int64), ("n", c.c_int64),
                ("transposed", c.c_bool), ("data", c.c_void_p)]


class Overlay(c.Structure):
    _fields_ = [("n", c.c_int64), ("tau", c.c_void_p), ("tau_dtype", c.c_void_p), ("lam", c.c_void_p),
                ("rank", c.c_int64), ("A", c.c_void_p), ("B", c.c_void_p), ("gain", c.c_void_p),
                ("dA", c.c_void_p), ("dB", c.c_void_p), ("dgain", c.c_void_p)]


class Want(c.Structure):
    _fields_ = [("grad", c.c_void_p), ("sink", c.c_void_p), ("over", c.POINTER(Overlay))]


class Options(c.Structure):
    _fields_ = [("rows", c.c_int64), ("positions", c.c_int64), ("keep", c.c_int), ("forward_only", c.c_bool),
                ("logits", c.c_int64), ("limit", c.c_uint64), ("beside", c.c_uint64)]


class Memory(c.Structure):
    _fields_ = [(k, c.c_uint64) for k in ("kept", "work", "logits", "panels", "total", "weights")] + \
               [(k, c.c_int64) for k in ("layers_all", "layers_small", "layers_input", "layers_frozen",
                                         "logit_rows")] + [("flops", c.c_double)]


class Batch(c.Structure):
    _fields_ = [("rows", c.c_int64), ("tokens", c.c_void_p), ("targets", c.c_void_p), ("weights", c.c_void_p),
                ("start", c.c_void_p), ("docs", c.c_int64)]


class Result(c.Structure):
    _fields_ = [("loss", c.c_double), ("weight", c.c_double), ("rows", c.c_int64)]


class Low:
    """Low-rank factors over a linear, and their gradients."""

    def __init__(self, A, B, scale):
        self.A, self.B = (np.ascontiguousarray(x, np.float32) for x in (A, B))
        self.gain = np.full(len(A), scale, np.float32)
        self.dA, self.dB = np.zeros_like(self.A), np.zeros_like(self.B)
        self.struct = Overlay(rank=len(A), A=self.A.ctypes.data, B=self.B.ctypes.data, gain=self.gain.ctypes.data,
                              dA=self.dA.ctypes.data, dB=self.dB.ctypes.data)


class Model:
    def __init__(self, library, path, threads=1, max_memory=0):
        self.lib = c.CDLL(str(library))
        self.lib.ws_model_part_count.restype = c.c_size_t
        self.lib.ws_model_part_at.restype = c.POINTER(Part)
        self.lib.ws_step_memory_of.restype = c.POINTER(Memory)
        self.ctx = Ctx(threads=threads, max_memory=max_memory)
        self.err = Err()
        self.model, self.step = c.c_void_p(), c.c_void_p()
        self.call("ws_model_open", c.byref(self.model), str(path).encode(), None, c.byref(self.ctx))
        self.parts = {}
        for i in range(self.lib.ws_model_part_count(self.model)):
            part = self.lib.ws_model_part_at(self.model, c.c_size_t(i)).contents
            self.parts[part.name.decode()] = (i, part)
        self.want = (Want * len(self.parts))()
        self.grad, self.low = {}, {}

    def call(self, name, *args):
        if getattr(self.lib, name)(*args, c.byref(self.err)) != 0:
            raise RuntimeError(f"{name}: {self.err.text!r}"[:400])

    def master(self, name):
        """The part's numbers in float32; writable."""
        i, part = self.parts[name]
        at = c.POINTER(c.c_float)()
        self.call("ws_model_master", self.model, c.c_size_t(i), c.byref(at))
        shape = (part.cols,) if part.rows == 1 and part.kind in (BIAS, NORM, NORM_BIAS) else (part.rows, part.cols)
        return np.ctypeslib.as_array(at, shape)

    def train(self, name):
        """Ask for a gradient."""
        i, part = self.parts[name]
        vector = part.kind in (BIAS, NORM, NORM_BIAS)
        self.grad[name] = np.zeros((part.cols,) if vector else (part.rows, part.cols), np.float32)
        self.want[i].grad = self.grad[name].ctypes.data

    def adapt(self, name, low):
        self.low[name] = low
        self.want[self.parts[name][0]].over = c.pointer(low.struct)

    def start(self, rows, positions=0, keep=KEEP_AUTO, forward_only=False, limit=0):
        options = Options(rows=rows, positions=positions, keep=keep, forward_only=forward_only, limit=limit)
        self.call("ws_step_new", c.byref(self.step), self.model, self.want, c.byref(options), None,
                  c.byref(self.ctx))
        return self.lib.ws_step_memory_of(self.step).contents

    def run(self, tokens, targets, scale, starts=(0,), weights=None):
        """Forward and backward; (loss, valid rows, log-probabilities)."""
        keep = [np.ascontiguousarray(tokens, np.int32), np.ascontiguousarray(targets, np.int32),
                np.ascontiguousarray(starts, np.int64)]
        if weights is not None:
            keep.append(np.ascontiguousarray(weights, np.float32))
        batch = Batch(len(keep[0]), keep[0].ctypes.data, keep[1].ctypes.data,
                      keep[3].ctypes.data if weights is not None else None, keep[2].ctypes.data, len(keep[2]))
        result, logp = Result(), np.zeros(len(keep[0]))
        self.call("ws_step_run", self.step, c.byref(batch), c.c_double(scale), c.c_void_p(logp.ctypes.data),
                  c.byref(result))
        return result.loss, result.rows, logp

    def logits(self, tokens, vocabulary):
        ids = np.ascontiguousarray(tokens, np.int32)
        out = np.zeros((len(ids), vocabulary), np.float32)
        self.call("ws_model_logits", self.model, c.c_void_p(ids.ctypes.data), c.c_int64(len(ids)),
                  c.c_void_p(out.ctypes.data), c.byref(self.ctx))
        return out

    def close(self):
        self.lib.ws_step_free(self.step)
        self.lib.ws_model_free(self.model)
