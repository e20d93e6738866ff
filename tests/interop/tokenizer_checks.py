"""tokenizer_checks.py - ids and text against the tokenizers package

    python tokenizer_checks.py --library build/src/libwsurg.so [--megabytes N] [--only REGEX]
                               [FILE...]

Trains small tokenizers in the published configurations of GPT-2, Pythia, SmolLM, Llama 2
and 3, Qwen, Mistral and others, and in every supported combination of parts, on made-up
text of many scripts, code, emoji, controls and added tokens. Each must give the ids and
the text that the package gives; so must each FILE, a tokenizer.json. Closes with the line
`N passed, N failed, N skipped`.
"""

import argparse
import ctypes
import json
import os
import random
import re
import sys
import sysconfig
import unicodedata
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("RAYON_NUM_THREADS", "1")

from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # noqa: E402

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEKKEN = r"[^\r\n\p{L}\p{N}]?\p{L}++|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s*+[\r\n]|\s+(?!\S)|\s+"

ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "[SEP]", "tool", "  ", "Ünique", "<pad"]


# ---- text ------------------------------------------------------------------------------

SCRIPTS = [(0x61, 0x7A), (0x61, 0x7A), (0x41, 0x5A), (0xC0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x531, 0x586),
           (0x5D0, 0x5EA), (0x620, 0x64A), (0x905, 0x94D), (0xE01, 0xE3A), (0x10D0, 0x10F0), (0x1100, 0x11FF),
           (0x1E00, 0x1EFF), (0x1F00, 0x1FFE), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3),
           (0xFF01, 0xFF5E), (0x1D400, 0x1D4FF), (0x20000, 0x20100)]
EMOJI = ["😀", "👩‍💻", "👨‍👩‍👧‍👦", "🏳️‍🌈", "❤️", "🇩🇪", "👍🏽", "🤷‍♀️", "✨", "☕️"]
ODD = ["\u00a0", "\u1680", "\u180e", "\u2003", "\u2028", "\u2029", "\u200b", "\u200c", "\u200d", "\u202f", "\u3000",
       "\ufeff", "\ufffd", "\u0085", "\x00", "\x01", "\x1b", "\x7f", "\x0b", "\x0c", "\u0301", "\u0316\u0301\u0327",
       "\u1100\u1161\u11a8", "\u212b", "\u2126", "\ufb01", "\ufdfa", "ſ", "ß", "İ", "ı", "ǆ", "Ⅷ", "½", "²", "٣", "३", "㊷",
       "▁", "▁▁", "Ġ", "Ċ", "<0x0A>", "_", "ﷺ", "\U000e0001", "\u0958", "\u0344"]
WORDS = ("the of and to in is you that it he was for on are as with his they I at be this have from or one had by "
         "I'm you're it's we'll they've he'd O'Neil DON'T It'S tool tools toolbox Tool").split()


def code_lines():
    lines = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:120]:
        lines += path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    return lines


class Text:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.code = code_lines()
        known = [chr(c) for a, b in SCRIPTS for c in range(a, b + 1)]
        self.vocab = ["".join(self.rng.choice(known) for _ in range(1 + i % 3)) for i in range(400)]
        for low, high in SCRIPTS:
            self.vocab += ["".join(chr(self.rng.randint(low, high)) for _ in range(self.rng.randint(1, 9)))
                           for _ in range(250)]

    def word(self):
        r, k = self.rng, self.rng.random()
        if k < 0.45:
            return r.choice(WORDS)
        if k < 0.80:
            return r.choice(self.vocab)
        if k < 0.88:
            return str(r.randint(0, 10 ** r.randint(1, 12)))
        if k < 0.92:
            return r.choice(EMOJI)
        if k < 0.95:
            return r.choice(ODD)
        if k < 0.97:
            return r.choice(ADDED)
        if k < 0.985:
            return "".join(r.choice("!?.,;:()[]{}<>/\\|@#$%^&*-_=+~`'\"") for _ in range(r.randint(1, 6)))
        # What a younger character is differs between the versions of Unicode in use.
        return "".join(c for c in (chr(r.randint(0, 0x2FFFF)) for _ in range(r.randint(1, 4)))
                       if unicodedata.ucd_3_2_0.category(c) not in ("Cs", "Cn"))

    def gap(self):
        r, k = self.rng, self.rng.random()
        if k < 0.80:
            return " "
        if k < 0.88:
            return ""
        return r.choice(["\n", "\r\n", "\n\n", "\t", "  ", " " * r.randint(2, 40), "\r", " \n", "\n  ", "\t\t ", ", ",
                         ". ", "\r\n\r\n"])

    def document(self):
        r, parts = self.rng, []
        if r.random() < 0.35:
            at = r.randrange(len(self.code) - 60)
            parts += self.code[at:at + r.randint(5, 60)]
        for _ in range(r.randint(1, 400)):
            parts += [self.word(), self.gap()]
        return "".join(parts)

    def documents(self, size):
        out, n = [], 0
        while n < size:
            out.append(self.document())
            n += len(out[-1].encode())
        return out


# ---- configurations --------------------------------------------------------------------

def byte_level(space=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": True, "use_regex": regex}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def replace(pattern, content, kind="String"):
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def sequence(key, *items):
    return {"type": "Sequence", key: list(items)}


def pre(*items):
    return sequence("pretokenizers", *items)


def metaspace(scheme, cut):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}


def template(before, after=()):
    special = [{"SpecialToken": {"id": t, "type_id": 0}} for t in before]
    tail = [{"SpecialToken": {"id": t, "type_id": 0}} for t in after]
    return {"type": "TemplateProcessing", "single": special + [{"Sequence": {"id": "A", "type_id": 0}}] + tail,
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {t: {"id": t, "ids": [0], "tokens": [t]} for t in (*before, *after)}}


BYTES = {"decoder": byte_level(), "base": "bytes"}
SENTENCE = {"base": "marks", "model": {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"},
            "decoder": sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                                {"type": "Strip", "content": " ", "start": 1, "stop": 0})}
LLAMA2 = sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁"))
FORM = {n: {"type": n} for n in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase")}
STRIP = {"type": "Strip", "strip_left": True, "strip_right": True}


def added(content, **flags):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": False, **flags}


PLAIN = [added(t, special=True) for t in ADDED[:6]]
TRICKY = PLAIN + [added("tool", single_word=True), added("  "), added("Ünique", normalized=True),
                  added("<pad", lstrip=True, rstrip=True), added("[SE", special=True), added("\n", rstrip=True)]
NORMAL = [added(t, special=True, normalized=True, lstrip=True) for t in ADDED[:4]] + [
    added("tool", normalized=True, single_word=True, rstrip=True), added("the", normalized=True),
    added("Ünique", normalized=True)]

CONFIGS = {
    "gpt2": {**BYTES, "pre_tokenizer": byte_level(), "post_processor": byte_level()},
    "gpt2-prefix-space": {**BYTES, "pre_tokenizer": byte_level(True), "added": TRICKY},
    "pythia": {**BYTES, "normalizer": FORM["NFC"], "pre_tokenizer": byte_level()},
    "smollm": {**BYTES, "pre_tokenizer": pre({"type": "Digits", "individual_digits": True}, byte_level())},
    "llama3": {**BYTES, "pre_tokenizer": pre(split(LLAMA3), byte_level(regex=False)), "model": {"ignore_merges": True},
               "post_processor": sequence("processors", byte_level(), template(["<s>"]))},
    "qwen": {**BYTES, "normalizer": FORM["NFC"], "pre_tokenizer": pre(split(QWEN), byte_level(regex=False)),
             "post_processor": byte_level(), "added": TRICKY},
    "o200k": {**BYTES, "pre_tokenizer": pre(split(O200K, "Removed", True), byte_level(regex=False))},
    "tekken": {**BYTES, "pre_tokenizer": pre(split(TEKKEN), byte_level(regex=False))},
    "deepseek": {**BYTES, "pre_tokenizer": pre(
        split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"),
        split(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
              r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), byte_level(regex=False))},
    "falcon": {**BYTES, "pre_tokenizer": pre(
        {"type": "Punctuation", "behavior": "Contiguous"}, byte_level(),
        {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]"))},
    "llama2": {**SENTENCE, "normalizer": LLAMA2, "post_processor": template(["<s>"])},
    "llama2-added": {**SENTENCE, "normalizer": LLAMA2, "post_processor": template(["<s>"], ["</s>"]), "added": TRICKY},
    "llama2-normalized": {**SENTENCE, "normalizer": LLAMA2, "added": NORMAL},
    "llama2-no-fuse": {**SENTENCE, "normalizer": LLAMA2, "drop": 20,
                       "model": {"byte_fallback": True, "fuse_unk": False, "unk_token": "<unk>"}},
    "llama2-unk": {**SENTENCE, "normalizer": LLAMA2, "drop": 20},
    "mistral3": {**SENTENCE, "pre_tokenizer": metaspace("first", False), "added": TRICKY},
    "gemma": {**SENTENCE, "normalizer": replace(" ", "▁"),
              "pre_tokenizer": split(" ", "MergedWithPrevious", kind="String"),
              "decoder": sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"})},
    "mark-inside": {**SENTENCE, "normalizer": replace(" ", "▁"), "inside": True},
    "ignore-merges-marks": {**SENTENCE, "normalizer": replace(" ", "▁"),
                            "model": {"byte_fallback": True, "ignore_merges": True, "unk_token": "<unk>"}},
    "metaspace-always": {"base": "marks", "pre_tokenizer": metaspace("always", True), "added": NORMAL,
                         "decoder": metaspace("always", True), "model": {"unk_token": "<unk>", "fuse_unk": True}},
    "metaspace-never": {"base": "marks", "pre_tokenizer": metaspace("never", True), "decoder": metaspace("never", True),
                        "model": {"unk_token": "<unk>"}, "drop": 40},
    "metaspace-words": {"base": "marks", "pre_tokenizer": pre({"type": "WhitespaceSplit"}, metaspace("first", True)),
                        "decoder": metaspace("first", True), "model": {}},
    "whitespace": {"base": "marks", "pre_tokenizer": {"type": "Whitespace"}, "model": {"unk_token": "<unk>"}},
    "bert": {"base": "marks", "pre_tokenizer": {"type": "BertPreTokenizer"}, "model": {"unk_token": "<unk>"},
             "normalizer": sequence("normalizers", FORM["NFD"], FORM["Lowercase"], STRIP), "added": NORMAL},
    "letters": {**BYTES, "pre_tokenizer": pre(byte_level(), {"type": "Digits", "individual_digits": True},
                                              {"type": "Punctuation", "behavior": "MergedWithNext"})},
    "regex-parts": {**BYTES, "pre_tokenizer": pre(
        split(r"\b\w+\b|\W\S*?(?<=[^\d\h])|\p{^L}{,2}"), byte_level(regex=False)),
        "normalizer": sequence("normalizers", replace(r"[\x{1F600}-\x{1F64F}\u2764]+(?=\s)", "*", "Regex"),
                               replace(r"(?i)straße|x+?", "y", "Regex"))},
    "regex-anchors": {**BYTES, "pre_tokenizer": pre(split(r"^.*?(?m:a.b)?$|\A\s+|\n\z"), byte_level(regex=False))},
    "decoders": {**SENTENCE, "normalizer": LLAMA2, "decoder": sequence(
        "decoders", {"type": "Strip", "content": "e", "start": 2, "stop": 0}, replace("[a-c]+", "<>", "Regex"),
        {"type": "ByteFallback"}, metaspace("always", False))},
}
for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
    for invert in (False, True):
        CONFIGS[f"split-{behavior}-{'invert' if invert else 'plain'}"] = {
            **BYTES, "pre_tokenizer": pre(split(r"\p{L}+|\d|\s*?(?=\p{Lu})", behavior, invert), byte_level(regex=False))}
    CONFIGS[f"punctuation-{behavior}"] = {
        **BYTES, "pre_tokenizer": pre({"type": "Punctuation", "behavior": behavior}, byte_level(regex=False))}
for name, form in FORM.items():
    CONFIGS[f"form-{name}"] = {**BYTES, "normalizer": sequence("normalizers", form, STRIP), "added": NORMAL,
                               "pre_tokenizer": byte_level()}


# ---- training --------------------------------------------------------------------------

def train(kind, documents):
    """The model of a small tokenizer: byte-level, or with marks, byte tokens and a cut alphabet."""
    tokenizer = Tokenizer(models.BPE(unk_token=None if kind == "bytes" else "<unk>"))
    if kind == "bytes":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet, special, limit = pre_tokenizers.ByteLevel.alphabet(), ["<s>"], 1000
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        alphabet, limit = ["▁"], 700
        special = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=6000, show_progress=False, initial_alphabet=alphabet,
                                  special_tokens=special, limit_alphabet=limit)
    tokenizer.train_from_iterator(documents, trainer)
    return json.loads(tokenizer.to_str())["model"]


def assemble(config, bases):
    model = json.loads(json.dumps(bases[config["base"]]))
    model.update({"unk_token": None, **config.get("model", {})})
    if config.get("drop"):  # byte tokens that are missing: their characters become unknown
        for i in range(0x80, 0x80 + config["drop"]):
            del model["vocab"][f"<0x{i:02X}>"]
        model["vocab"] = {t: i for i, t in enumerate(model["vocab"])}
    if config.get("inside"):  # a token that reaches over a mark
        for pair in (("s", "▁"), ("s▁", "a"), ("\n", "▁")):
            if all(p in model["vocab"] for p in pair):
                model["vocab"]["".join(pair)] = len(model["vocab"])
                model["merges"].append(list(pair))
    whole = {"version": "1.0", "truncation": None, "padding": None,
             "added_tokens": [{"id": i, **t} for i, t in enumerate(config.get("added", PLAIN))]}
    for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        whole[key] = config.get(key)
    return json.dumps({**whole, "model": model}, ensure_ascii=False)


# ---- wsurg -----------------------------------------------------------------------------

class Err(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("sys", ctypes.c_int), ("offset", ctypes.c_int64),
                ("path", ctypes.c_char * 256), ("tensor", ctypes.c_char * 160), ("msg", ctypes.c_char * 512),
                ("hint", ctypes.c_char * 256), ("tag", ctypes.c_char_p)]


class Ids(ctypes.Structure):
    _fields_ = [("p", ctypes.POINTER(ctypes.c_int32)), ("n", ctypes.c_size_t), ("cap", ctypes.c_size_t)]


class Buf(ctypes.Structure):
    _fields_ = [("p", ctypes.POINTER(ctypes.c_char)), ("n", ctypes.c_size_t), ("cap", ctypes.c_size_t),
                ("failed", ctypes.c_bool)]


class Ours:
    """The tokenizer of libwsurg."""

    def __init__(self, library, text):
        self.lib, self.err = library, Err()
        self.t, self.e = ctypes.c_void_p(), ctypes.c_void_p()
        data = text.encode()
        self.call("ws_tokenizer_parse", ctypes.byref(self.t), data, ctypes.c_size_t(len(data)))
        self.call("ws_encoder_new", ctypes.byref(self.e), self.t)

    def call(self, name, *args):
        if getattr(self.lib, name)(*args, ctypes.byref(self.err)) != 0:
            raise RuntimeError(f"{name}: {self.err.msg.decode()}")

    def encode(self, text, special):
        data, ids = text.encode(), Ids()
        self.call("ws_encode", self.e, data, ctypes.c_size_t(len(data)), ctypes.c_bool(special), ctypes.byref(ids))
        out = ids.p[:ids.n]
        self.lib.ws_ids_free(ctypes.byref(ids))
        return out

    def taken(self, buf):
        out = buf.p[:buf.n].decode() if buf.n else ""
        self.lib.ws_buf_free(ctypes.byref(buf))
        return out

    def decode(self, ids, skip):
        buf, array = Buf(), (ctypes.c_int32 * len(ids))(*ids)
        self.call("ws_decode", self.t, array, ctypes.c_size_t(len(ids)), ctypes.c_bool(skip), ctypes.byref(buf))
        return self.taken(buf)

    def stream(self, ids, skip):
        d, buf = ctypes.c_void_p(), Buf()
        self.call("ws_decoder_new", ctypes.byref(d), self.t, ctypes.c_bool(skip))
        for i in ids:
            self.call("ws_decoder_add", d, ctypes.c_int32(i), ctypes.byref(buf))
        self.call("ws_decoder_end", d, ctypes.byref(buf))
        self.lib.ws_decoder_free(d)
        return self.taken(buf)

    def close(self):
        self.lib.ws_encoder_free(self.e)
        self.lib.ws_tokenizer_free(self.t)


# ---- comparing -------------------------------------------------------------------------

def first_difference(ours, theirs):
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    return f"at {at} of {len(ours)} and {len(theirs)}: {ours[at:at + 6]!r}, want {theirs[at:at + 6]!r}"


def compare(text, library, documents):
    """What differs, or None; and the bytes compared."""
    theirs, ours = Tokenizer.from_str(text), Ours(library, text)
    theirs.no_truncation()
    theirs.no_padding()
    size = 0
    for number, document in enumerate(documents):
        size += len(document.encode())
        special = number % 2 == 0
        try:
            want = theirs.encode(document, add_special_tokens=special).ids
        except Exception as fault:  # the package has no answer either
            if "UnkTokenOutOfVocabulary" in str(fault):
                continue
            raise
        have = ours.encode(document, special)
        if have != want:
            at = next((i for i, (a, b) in enumerate(zip(have, want)) if a != b), 0)
            near = [theirs.id_to_token(i) for i in want[max(0, at - 3):at + 4]]
            return f"document {number}: ids {first_difference(have, want)}; near {near!r}", size
        skip = number % 3 == 0
        want_text, have_text = theirs.decode(want, skip_special_tokens=skip), ours.decode(have, skip)
        if have_text != want_text:
            return f"document {number}: text {first_difference(have_text, want_text)}", size
        if number % 8 == 0 and len(have) < 4000 and "\ufffd" not in have_text:
            pieces = ours.stream(have, skip)
            if pieces != have_text:
                return f"document {number}: stream {first_difference(pieces, have_text)}", size
    noise = random.Random(1)
    for _ in range(200):  # ids in no order that text gives
        ids = [noise.randrange(theirs.get_vocab_size() + 5) for _ in range(noise.randint(0, 40))]
        if ours.decode(ids, True) != theirs.decode(ids):
            return f"ids {ids}: {first_difference(ours.decode(ids, True), theirs.decode(ids))}", size
    ours.close()
    return None, size


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    parser.add_argument("--megabytes", type=float, default=10)
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", type=Path, help="write the trained files there")
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    library = ctypes.CDLL(options.library)
    source = Text(20)
    documents = source.documents(options.megabytes * 1e6)
    whole = "".join(documents[:len(documents) // 10])
    documents.append(whole[:400000])
    bases = {kind: train(kind, Text(7).documents(1.5e6)) for kind in ("bytes", "marks")}
    jobs = {name: assemble(config, bases) for name, config in CONFIGS.items()}
    jobs.update({str(path): path.read_text(encoding="utf-8") for path in options.files})
    passed = failed = 0
    for name, text in jobs.items():
        if not re.search(options.only, name):
            continue
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{name.replace('/', '-')}.json").write_text(text, encoding="utf-8")
        try:
            fault, size = compare(text, library, documents)
        except Exception as trouble:
            fault, size = f"{type(trouble).__name__}: {trouble}", 0
        passed, failed = passed + (fault is None), failed + (fault is not None)
        print(f"{'ok  ' if fault is None else 'FAIL'} tokenizer/{name} {fault or f'{size / 1e6:.1f} MB'}", flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
