#!/usr/bin/env python3
"""make_hostile.py - files that attack a reader, each to be refused (formats.md 7 and 9)

    python3 tests/fuzz/make_hostile.py tests/fuzz/corpus

Writes corpus/archive/9-NAME and corpus/gguf/9-NAME. Nothing is ever loaded here.
"""

import struct
import sys
import zlib
from pathlib import Path

LOCAL, CENTRAL, END = 0x04034B50, 0x02014B50, 0x06054B50


def archive(members, method=0, flags=0, lie=None, comment=b"", count=None):
    """A zip of (name, data); LIE maps a member's number to fields that are told falsely."""
    out, directory, lie = b"", b"", lie or {}
    for i, (name, data) in enumerate(members):
        raw = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = raw.compress(data) + raw.flush() if method == 8 else data
        say = {"name": name, "size": len(data), "packed": len(packed), "at": len(out), "flags": flags,
               "local": name, "extra": b"", **lie.get(i, {})}
        crc = zlib.crc32(data)
        out += struct.pack("<IHHHHHIIIHH", LOCAL, 20, flags, method, 0, 33, crc, len(packed), len(data),
                           len(say["local"]), 0) + say["local"].encode() + packed
        directory += struct.pack("<IHHHHHHIIIHHHHHII", CENTRAL, 20, 20, say["flags"], method, 0, 33, crc,
                                 say["packed"], say["size"], len(say["name"]), len(say["extra"]), 0, 0, 0, 0,
                                 say["at"]) + say["name"].encode() + say["extra"]
    n = len(members) if count is None else count
    return out + directory + struct.pack("<IHHHHIIH", END, 0, 0, n & 0xFFFF, n & 0xFFFF, len(directory),
                                         len(out), len(comment)) + comment


def text(s):
    return b"X" + struct.pack("<I", len(s)) + s.encode()


def number(v):
    return b"J" + struct.pack("<i", v) if -2**31 <= v < 2**31 else b"\x8a\x08" + struct.pack("<q", v)


def tensor(size, stride, offset=0, numel=4, key="0", kind="FloatStorage"):
    """Opcodes of one tensor on storage KEY."""
    storage = (b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(numel)
               + b"tQ")
    shape = b"".join(b"(" + b"".join(map(number, x)) + b"t" for x in (size, stride))
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + shape
            + b"\x89ccollections\nOrderedDict\n)RtR")


def state(value, name="w"):
    return b"\x80\x02}" + text(name) + value + b"s."


def torch(program, data=b"\0" * 16, **how):
    return archive([("a/data.pkl", program), ("a/data/0", data)], **how)


GOOD = state(tensor([2, 2], [2, 1]))


def pickles():
    """Programs that would run something, or never end."""
    call = b"\x80\x02c%s\n%s\n(" + text("id") + b"tR."
    yield "runs-system", call % (b"posix", b"system")
    yield "runs-nt", call % (b"nt", b"system")
    yield "runs-eval", call % (b"builtins", b"eval")
    yield "runs-python2", call % (b"__builtin__", b"exec")
    yield "runs-popen", call % (b"subprocess", b"Popen")
    yield "runs-getattr", call % (b"builtins", b"getattr")
    yield "runs-torch-load", call % (b"torch.serialization", b"load")
    yield "runs-codecs", call % (b"_codecs", b"encode")
    yield "runs-numpy", call % (b"numpy.core.multiarray", b"_reconstruct")
    yield "runs-stack-global", b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + text("id") + b"\x85R."
    yield "runs-inst", b"\x80\x02(" + text("id") + b"iposix\nsystem\n."
    yield "runs-newobj", b"\x80\x02cposix\nsystem\n)\x81."
    yield "runs-obj", b"\x80\x02(cposix\nsystem\n" + text("id") + b"o."
    yield "runs-extension", b"\x80\x02\x82\x01."
    yield "case-of-a-global", b"\x80\x02cTorch._utils\n_rebuild_tensor_v2\n)R."
    yield "global-prefix", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2x\n)R."
    yield "build-on-tensor", b"\x80\x02" + tensor([2, 2], [2, 1]) + b"}b."
    yield "setitem-on-tensor", b"\x80\x02" + tensor([2, 2], [2, 1]) + number(0) + number(1) + b"s."
    yield "setitem-on-tuple", b"\x80\x02)" + number(0) + number(1) + b"s."
    yield "append-on-map", b"\x80\x02}" + number(1) + b"a."
    yield "memo-index", b"\x80\x02}r\xff\xff\xff\xff."
    yield "memo-miss", b"\x80\x02h\x07."
    yield "marks", b"\x80\x02" + b"(" * 5000 + b"."
    yield "mark-open", b"\x80\x02(" + number(1) + b"."
    yield "lists-deep", b"\x80\x02" + b"]" * 200 + b"a" * 199 + b"."
    yield "stack-deep", b"\x80\x02" + b"N" * 20000 + b"."
    yield "text-giant", b"\x80\x02X\xff\xff\xff\x7fabc."
    yield "long-giant", b"\x80\x02\x8b\xff\xff\xff\x7f\1."
    yield "self-in-self", b"\x80\x02]q\0h\0a."
    yield "no-stop", b"\x80\x02}"
    yield "empty-program", b""
    yield "protocol-9", b"\x80\x09}."


def views():
    """Tensors that describe more than there is."""
    yield "stride-0-terabytes", tensor([1 << 20, 1 << 20], [0, 0])
    yield "stride-overflow", tensor([3, 3], [1 << 62, 1 << 62])
    yield "stride-negative", tensor([2, 2], [-1, 1])
    yield "size-negative", tensor([-1, 2], [2, 1])
    yield "size-overflow", tensor([1 << 62, 1 << 62], [1, 1])
    yield "offset-past-end", tensor([2, 2], [2, 1], offset=1)
    yield "offset-negative", tensor([2, 2], [2, 1], offset=-4)
    yield "offset-overflow", tensor([1], [1], offset=(1 << 63) - 1)
    yield "numel-too-large", tensor([2, 2], [2, 1], numel=1 << 40)
    yield "numel-wraps", tensor([2, 2], [2, 1], numel=(1 << 62) + 4)
    yield "numel-negative", tensor([2, 2], [2, 1], numel=-4)
    yield "ranks-differ", tensor([2, 2], [1])
    yield "rank-100", tensor([1] * 100, [1] * 100)
    yield "storage-absent", tensor([2, 2], [2, 1], key="7")
    yield "storage-traversal", tensor([2, 2], [2, 1], key="../0")
    yield "storage-kind", tensor([2, 2], [2, 1], kind="QInt8Storage")


def zips():
    """Archives that readers take differently, or that grow."""
    two = [("a/data.pkl", GOOD), ("a/data/0", b"\0" * 16)]
    yield "deflated", torch(GOOD, method=8)
    yield "bomb", archive([("a/data.pkl", GOOD), ("a/data/0", b"\0" * (8 << 20))], method=8)
    yield "encrypted", torch(GOOD, flags=1)
    yield "names-case", archive([*two, ("a/DATA/0", b"\1" * 16)])
    yield "names-twice", archive([*two, ("a/data/0", b"\1" * 16)])
    yield "names-differ", torch(GOOD, lie={1: {"local": "a/data/9"}})
    yield "flags-differ", torch(GOOD, lie={1: {"flags": 0x800}})
    yield "overlap", torch(GOOD, lie={1: {"at": 0, "size": len(GOOD), "packed": len(GOOD), "name": "a/data.pkl"}})
    yield "overlap-quoted", archive([("a/data.pkl", GOOD), ("a/data/0", b"\0" * 16)], lie={1: {"at": 4}})
    yield "size-past-end", torch(GOOD, lie={1: {"size": 1 << 30, "packed": 1 << 30}})
    yield "sizes-differ", torch(GOOD, lie={1: {"size": 16, "packed": 4}})
    yield "zip64-wraps", torch(GOOD, lie={1: {"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF, "at": 0xFFFFFFFF,
                                              "extra": struct.pack("<HHQQQ", 1, 24, 2**64 - 1, 2**64 - 1, 2**64 - 9)}})
    yield "zip64-absent", torch(GOOD, lie={1: {"at": 0xFFFFFFFF}})
    yield "traversal", archive([("../data.pkl", GOOD), ("../data/0", b"\0" * 16)])
    yield "backslash", archive([*two, ("a\\..\\x", b"")])
    yield "absolute", archive([*two, ("/etc/x", b"")])
    yield "prefixes", archive([*two, ("b/data/1", b"")])
    yield "count-too-large", archive(two, count=60000)
    yield "comment-after", torch(GOOD) + b"polyglot"
    yield "torchscript", archive([*two, ("a/constants.pkl", b"\x80\x02)."), ("a/code/x.py", b"")])
    yield "big-endian-word", archive([*two, ("a/byteorder", b"middle")])
    yield "cut", torch(GOOD)[:-30]
    yield "cut-map", torch(GOOD)[:100]


def npy(header, data=b"", version=1):
    head = header.encode()
    length = struct.pack("<H" if version == 1 else "<I", len(head))
    return b"\x93NUMPY" + bytes([version, 0]) + length + head + data


def arrays():
    form = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}\n"
    yield "object", npy(form.format("|O", "(1,)"), b"cposix\nsystem\n(X\2\0\0\0idtR.")
    yield "structured", npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n", b"\0" * 4)
    yield "text", npy(form.format("<U4", "(1,)"), b"\0" * 16)
    yield "shape-overflow", npy(form.format("<f4", "(4294967296, 4294967296, 4)"), b"\0" * 64)
    yield "shape-negative", npy(form.format("<f4", "(-1,)"), b"\0" * 4)
    yield "shape-deep", npy(form.format("<f4", "(" * 400 + ")" * 400))
    yield "shape-too-large", npy(form.format("<f4", "(1000000000,)"), b"\0" * 4)
    yield "calls", npy("{'descr': __import__('os').system('id'), 'fortran_order': False, 'shape': ()}\n")
    yield "header-length", b"\x93NUMPY\2\0\xff\xff\xff\x7f{}"
    yield "header-long", npy("{" + " " * 20000 + "}\n", version=2)
    yield "data-short", npy(form.format("<f8", "(2,)"), b"\0" * 15)
    yield "data-long", npy(form.format("<f8", "(2,)"), b"\0" * 17)
    yield "npz-bomb", archive([("a.npy", npy(form.format("<f4", "(2000000,)"), b"\0" * 8000000))], method=8)
    yield "npz-twice", archive([("a.npy", npy(form.format("<f4", "()"), b"\0" * 4))] * 2)
    yield "npz-object", archive([("a.npy", npy(form.format("|O", "()"), b"N."))])


def key(name, kind, value):
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<i", kind) + value


def gguf(pairs=(), infos=(), tail=b"", n_pairs=None, n_infos=None, version=3):
    n_infos = len(infos) if n_infos is None else n_infos
    n_pairs = len(pairs) if n_pairs is None else n_pairs
    head = b"GGUF" + struct.pack("<Iqq", version, n_infos, n_pairs) + b"".join(pairs) + b"".join(infos)
    return head + b"\0" * (-len(head) % 32) + tail


def info(name, dims, kind=0, offset=0, n_dims=None):
    return (struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(dims) if n_dims is None else n_dims)
            + b"".join(struct.pack("<q", d) for d in dims) + struct.pack("<iQ", kind, offset))


def ggufs():
    arch = key("general.architecture", 8, struct.pack("<Q", 1) + b"x")
    yield "pairs-2-62", gguf([arch], n_pairs=1 << 62)
    yield "pairs-negative", gguf([arch], n_pairs=-1)
    yield "tensors-2-62", gguf([arch], n_infos=1 << 62)
    yield "key-2-63", gguf([struct.pack("<Q", 1 << 63) + b"x"])
    yield "key-empty", gguf([key("", 4, b"\0" * 4)])
    yield "text-2-40", gguf([key("a", 8, struct.pack("<Q", 1 << 40) + b"x")])
    yield "list-2-61", gguf([key("a", 9, struct.pack("<iQ", 10, 1 << 61))])
    yield "list-of-lists", gguf([key("a", 9, struct.pack("<iQ", 9, 1) + struct.pack("<iQ", 9, 1) * 500)])
    yield "list-type", gguf([key("a", 9, struct.pack("<iQ", -1, 1))])
    yield "value-type", gguf([key("a", -1, b"\0" * 8)])
    yield "bool-2", gguf([key("a", 7, b"\2")])
    yield "alignment-3", gguf([key("general.alignment", 4, struct.pack("<I", 3))])
    yield "alignment-text", gguf([key("general.alignment", 8, struct.pack("<Q", 2) + b"32")])
    yield "dims-2-31", gguf([arch], [info("w", [1], n_dims=1 << 31)])
    yield "dims-negative", gguf([arch], [info("w", [-4])], b"\0" * 32)
    yield "dims-wrap", gguf([arch], [info("w", [1 << 32, 1 << 32, 4])], b"\0" * 64)
    yield "name-64", gguf([arch], [info("n" * 64, [4])], b"\0" * 32)
    yield "type-negative", gguf([arch], [info("w", [4], kind=-1)], b"\0" * 32)
    yield "type-999", gguf([arch], [info("w", [4], kind=999)], b"\0" * 32)
    yield "offset-2-63", gguf([arch], [info("w", [4], offset=1 << 63)], b"\0" * 32)
    yield "offsets-overlap", gguf([arch], [info("a", [8]), info("b", [8], offset=0)], b"\0" * 64)
    yield "offset-unaligned", gguf([arch], [info("a", [8]), info("b", [8], offset=33)], b"\0" * 96)
    yield "data-short", gguf([arch], [info("w", [1 << 20])], b"\0" * 32)
    yield "version-99", gguf([arch], version=99)
    yield "only-magic", b"GGUF"


def main():
    corpus = Path(sys.argv[1])
    files = {}
    files |= {f"archive/9-pickle-{n}": torch(p) for n, p in pickles()}
    files |= {f"archive/9-view-{n}": torch(state(t)) for n, t in views()}
    files |= {f"archive/9-zip-{n}": z for n, z in zips()}
    files |= {f"archive/9-npy-{n}": a for n, a in arrays()}
    files |= {f"gguf/9-{n}": g for n, g in ggufs()}
    for name, data in files.items():
        (corpus / name).write_bytes(data)


main()
