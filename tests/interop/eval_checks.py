"""eval_checks.py - conversations, losses, questions and generated text against transformers

    python eval_checks.py --wsurg build/wsurg --library build/src/libwsurg.so --models examples/models [--only REGEX]

Chat formats are rendered by apply_chat_template from templates that say the same in other words;
losses, multiple choice, greedy text and the distribution of drawn tokens come from the model that
transformers loads in float32. Closes with the line `N passed, N failed, N skipped`.
"""

import argparse
import ctypes
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

# ---- chat formats ----------------------------------------------------------------------

ALTERNATE = ("{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
             "{{ raise_exception('Conversation roles must alternate') }}{% endif %}")
SPLIT = ("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
         "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
         "{% set system_message = false %}{% endif %}")
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>'"
          " + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
DEFAULT = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
           "{{ '<|im_start|>system\\nSYSTEM<|im_end|>\\n' }}{% endif %}")
ROLES = "{% if message['role'] == 'ROLE' %}"
LLAMA3 = ("{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
          "'<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
          "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
          "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}")
PHI3 = ("{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\n' + "
        "message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + "
        "'<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}")
ZEPHYR = "{% for message in messages %}\n" + "".join(
    "{%% %s message['role'] == '%s' %%}\n{{ '<|%s|>\\n'%s + message['content'] + eos_token }}\n" % row
    for row in (("if", "user", "user", ""), ("elif", "system", "system", ""), ("elif", "assistant", "assistant", " "))
) + "{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
GEMMA = ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
         "{% endif %}{% for message in messages %}" + ALTERNATE +
         "{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
         "{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
         "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}")
GEMMA3 = ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first_user_prefix = messages[0]['content'] + "
          "'\n\n' %}{% set loop_messages = messages[1:] %}{% else %}{% set first_user_prefix = '' %}"
          "{% set loop_messages = messages %}{% endif %}{% for message in loop_messages %}" + ALTERNATE +
          "{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
          "{% endif %}{{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else '') }}"
          "{{ message['content'] | trim }}{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}"
          "{{ '<start_of_turn>model\n' }}{% endif %}")
LLAMA2 = (SPLIT + "{% for message in loop_messages %}" + ALTERNATE +
          "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + "
          "'\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}"
          "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
          "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
MISTRAL = ("{{ bos_token }}{% for message in messages %}" + ALTERNATE +
           "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
           "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}"
           "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}")
SYSTEM = ("{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}"
          "{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}{{- bos_token }}"
          "{%- for message in loop_messages %}")
MISTRAL_V1 = (SYSTEM + ALTERNATE + """
    {%- if message['role'] == 'user' %}{%- if loop.first and system_message is defined %}
        {{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}
    {%- else %}{{- ' [INST] ' + message['content'] + ' [/INST]' }}{%- endif %}
    {%- elif message['role'] == 'assistant' %}{{- ' ' + message['content'] + eos_token}}
    {%- else %}{{- raise_exception('Only user and assistant roles are supported') }}{%- endif %}
{%- endfor %}""")
MISTRAL_V3 = (SYSTEM + ALTERNATE + """{%- set users = loop_messages | selectattr("role", "equalto", "user") | list %}
    {%- if message["role"] == "user" %}{%- if tools is defined and tools %}{{- "[AVAILABLE_TOOLS]" }}{%- endif %}
    {%- if loop.index0 == 2 * (users | length) - 2 and system_message is defined %}
        {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
    {%- else %}{{- "[INST] " + message["content"] + "[/INST]" }}{%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- else %}{{- raise_exception("Only user and assistant roles are supported") }}{%- endif %}
{%- endfor %}""")
NEMO = (MISTRAL_V3.replace('"[INST] "', '"[INST]"')
        .replace('{{- " " + message["content"]|trim + eos_token', '{{- message["content"] + eos_token'))
MISTRAL_V7 = """{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + message['content'] + '[/INST]' }}
    {%- elif message['role'] == 'system' %}
        {{- '[SYSTEM_PROMPT] ' + message['content'] + '[/SYSTEM_PROMPT]' }}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'] + eos_token }}
    {%- endif %}
{%- endfor %}"""
MISTRAL_V7_TEKKEN = (MISTRAL_V7.replace("[INST] '", "[INST]'").replace("[SYSTEM_PROMPT] '", "[SYSTEM_PROMPT]'")
                     .replace("' ' + ", ""))
LLAMA31 = ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set said = messages[0]['content']|trim %}"
           "{% set messages = messages[1:] %}{% else %}{% set said = '' %}{% endif %}"
           "{{ '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
           "Today Date: 26 Jul 2024\n\n' + said + '<|eot_id|>' }}{% for message in messages %}"
           "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + "
           "'<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
           "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
QWEN3 = """{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}{%- set ns = namespace(looking=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}
{%- if ns.looking and message.role == 'user' and not message.content.startswith('<tool_response>') %}
{%- set ns.looking = false %}{%- set ns.last_query_index = index %}{%- endif %}{%- endfor %}
{%- for message in messages %}{%- set content = message.content %}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- elif message.role == 'assistant' %}{%- set thought = '' %}{%- if '</think>' in content %}
{%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}{{- '<|im_start|>assistant\\n' }}
{%- if loop.index0 > ns.last_query_index and (loop.last or thought) %}
{{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
{%- else %}{{- content }}{%- endif %}{{- '<|im_end|>\\n' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
QWEN2 = DEFAULT.replace("SYSTEM", "You are a helpful assistant.") + CHATML.removeprefix("{% for message in messages %}")
QWEN25 = DEFAULT.replace("SYSTEM", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.") + \
    CHATML.removeprefix("{% for message in messages %}")
# These two come from training code, not from a model's files: no template is recognised as theirs.
FIRST = ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + 'GAP' }}{% set messages = "
         "messages[1:] %}{% else %}{{ 'WORDSGAP' }}{% endif %}{% for message in messages %}{% if message['role'] == "
         "'system' %}{{ raise_exception('late') }}{% endif %}")
ALPACA = (FIRST.replace("GAP", "\\n\\n").replace("WORDS", "Below is an instruction that describes a task. Write a response "
                                                  "that appropriately completes the request.")
          + "{% if message['role'] == 'user' %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}{% else %}"
          "{{ '### Response:\n' + message['content'] + eos_token + '\n\n' }}{% endif %}{% endfor %}"
          "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}")
VICUNA = (FIRST.replace("GAP", " ").replace("WORDS", "A chat between a curious user and an artificial intelligence assistant. "
                                           "The assistant gives helpful, detailed, and polite answers to the user\\'s questions.")
          + "{% if message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}{% else %}"
          "{{ 'ASSISTANT: ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
          "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}")

# format: template, and whether it is recognised as that format ("" as another name, None not at all)
TEMPLATES = {
    "alpaca": (ALPACA, ""),
    "vicuna": (VICUNA, ""),
    "chatml": (CHATML, "chatml"),
    "gemma": (GEMMA.replace("must alternate", "must alternate user"), "gemma"),
    "gemma3": (GEMMA3, "gemma3"),
    "llama2": (LLAMA2, "llama2"),
    "llama3": (LLAMA3, "llama3"),
    "llama3.1": (LLAMA31, "llama3.1"),
    "mistral": (MISTRAL, None),
    "mistral-v1": (MISTRAL_V1, "mistral-v1"),
    "mistral-v3": (MISTRAL_V3, "mistral-v3"),
    "mistral-v3-tekken": (NEMO, "mistral-v3-tekken"),
    "mistral-v7": (MISTRAL_V7, "mistral-v7"),
    "mistral-v7-tekken": (MISTRAL_V7_TEKKEN, "mistral-v7-tekken"),
    "phi3": (PHI3, "phi3"),
    "qwen2": (QWEN2, "chatml"),
    "qwen2.5": (QWEN25, "chatml"),
    "qwen3": (QWEN3, "qwen3"),
    "zephyr": (ZEPHYR, "zephyr"),
}

A = {"role": "user", "content": "  Hello, what is 2+2?\n"}
B = {"role": "assistant", "content": " It is 4. "}
C = {"role": "user", "content": "And why?"}
D = {"role": "assistant", "content": "<think>\nhmm\n</think>\n\nBecause.\n"}
E = {"role": "system", "content": " You are brief. "}
TALKS = [[A], [A, B], [A, B, C], [E, A], [E, A, B, C], [A, D, C, D], [E, A, D, C], [A, B, C, D], [A, A], [B], [A, B, E, C]]


class Buffer(ctypes.Structure):
    _fields_ = [("p", ctypes.c_void_p), ("n", ctypes.c_size_t), ("cap", ctypes.c_size_t), ("failed", ctypes.c_bool)]


class Message(ctypes.Structure):
    _fields_ = [("role", ctypes.c_char_p), ("content", ctypes.c_char_p), ("len", ctypes.c_size_t)]


class Chats:
    """ws_chat_open() and ws_chat_render()."""

    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        self.library.ws_chat_name_of.restype = ctypes.c_char_p

    def open(self, name, folder):
        chat = ctypes.create_string_buffer(4096)
        status = self.library.ws_chat_open(chat, name.encode() if name else None, str(folder).encode(), None)
        return None if status else chat

    def name(self, chat):
        return self.library.ws_chat_name_of(chat).decode()

    def render(self, chat, talk, prompt):
        turns = (Message * len(talk))(*[Message(m["role"].encode(), m["content"].encode(), len(m["content"].encode()))
                                        for m in talk])
        out = Buffer()
        status = self.library.ws_chat_render(chat, turns, ctypes.c_size_t(len(talk)), ctypes.c_bool(prompt),
                                             ctypes.byref(out), None, None, None)
        text = None if status else ctypes.string_at(out.p, out.n).decode()
        self.library.ws_buf_free(ctypes.byref(out))
        return text


def theirs(tokenizer, template, talk, prompt):
    try:
        return tokenizer.apply_chat_template(talk, chat_template=template, tokenize=False, add_generation_prompt=prompt)
    except Exception:
        return None


def check_format(chats, tokenizer, folder, name):
    template = TEMPLATES[name][0]
    chat = chats.open(name, folder)
    for talk in TALKS:
        for prompt in (False, True):
            want, have = theirs(tokenizer, template, talk, prompt), chats.render(chat, talk, prompt)
            late = any(m["role"] == "system" for m in talk[1:])
            if name in ("llama2", "gemma3", "llama3.1") and late and want is not None:
                continue  # these templates drop or misplace such a turn, we refuse or keep it
            if have != want:
                return f"{[m['role'] for m in talk]} prompt={prompt}: {have!r}, want {want!r}"
    return None


def config_with(folder, template):
    place = Path(tempfile.mkdtemp(dir=folder))
    (place / "tokenizer_config.json").write_text(json.dumps(
        {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": template}))
    return place


def check_recognised(chats, tokenizer, folder, name):
    template, want = TEMPLATES[name]
    if want is None:
        template, want = template.replace("['content'] + eos_token}", "['content'] + eos_token }"), name
    chat = chats.open(None, config_with(folder, template))
    if chat is None or chats.name(chat) != want:
        return f"taken for {chat and chats.name(chat)}, want {want}"
    for talk in TALKS[:5]:
        have, text = chats.render(chat, talk, True), theirs(tokenizer, template, talk, True)
        if have != text:
            return f"{have!r}, want {text!r}"
    for strange in (template.replace("content']", "content'] | upper") + "{# trim strip tool think #}",
                    template.replace("<|im_end|>", "<|end_of|>").replace("eos_token", "pad_token")
                    .replace("<|eot_id|>", "<|eot|>").replace("<end_of_turn>", "<end>")):
        if strange != template and name not in ("gemma", "gemma3", "llama2", "llama3", "llama3.1", "qwen3", "phi3") \
                and chats.open(None, config_with(folder, strange)) is not None:
            return "a strange template is taken for a known one"
    return None


# ---- models ----------------------------------------------------------------------------


class Rig:
    def __init__(self, options, work):
        self.wsurg, self.work = options.wsurg, Path(work)
        self.folder = options.models / "base"
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        self.model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()
        lines = subprocess.run([sys.executable, options.models / "skills.py", "--skill", "all", "--split", "eval",
                                "--count", "60", "--jsonl"], check=True, capture_output=True, text=True).stdout
        self.held = self.work / "held.jsonl"
        self.held.write_text(lines)
        self.lines = [json.loads(line) for line in lines.splitlines()]

    def run(self, *words):
        got = subprocess.run([self.wsurg, *map(str, words), "--json", "-qq"], capture_output=True, text=True)
        answer = json.loads(got.stdout)
        if answer["status"] != "ok":
            raise RuntimeError(answer["error"])
        return answer["result"]

    def ids(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def logps(self, ids):
        with torch.no_grad():
            return torch.log_softmax(self.model(torch.tensor([ids])).logits[0].double(), -1)


def close(have, want, what, tolerance=1e-4):
    return None if abs(have - want) <= tolerance else f"{what} {have}, want {want}"


def check_windows(rig):
    text = "".join(line["prompt"] + line["completion"] for line in rig.lines)
    path = rig.work / "text.txt"
    path.write_text(text)
    ids, window, stride = rig.ids(text), 64, 24
    total = count = done = 0
    for at in range(0, len(ids) - (window - 1) + 1, stride):
        logp = rig.logps([1] + ids[at:at + window - 1])
        for i in range(window - 1):
            if at + i >= done:
                total, count, done = total - logp[i, ids[at + i]].item(), count + 1, at + i + 1
    cell = rig.run("eval", rig.folder, "--data", path, "--window", window, "--stride", stride)["models"][0]["data"][0]
    size = len(rig.tokenizer.decode(ids[:done]).encode())
    return (close(cell["tokens"], count, "tokens", 0) or close(cell["loss"], total / count, "loss")
            or close(cell["bits_per_byte"], total / math.log(2) / size, "bits per byte"))


def check_completions(rig):
    total = count = hits = 0
    for line in rig.lines:
        prompt, whole = [1] + rig.ids(line["prompt"]), [1] + rig.ids(line["prompt"] + line["completion"]) + [2]
        assert whole[:len(prompt)] == prompt
        logp = rig.logps(whole)
        for i in range(len(prompt), len(whole)):
            total, count = total - logp[i - 1, whole[i]].item(), count + 1
            hits += logp[i - 1].argmax().item() == whole[i]
    cell = rig.run("eval", rig.folder, "--data", rig.held)["models"][0]["data"][0]
    return (close(cell["tokens"], count, "tokens", 0) or close(cell["loss"], total / count, "loss")
            or close(cell["accuracy"], hits / count, "accuracy"))


def check_choices(rig):
    path, answers = rig.work / "quiz.jsonl", sorted({line["completion"] for line in rig.lines})
    acc, norm, loss, count = [], [], 0.0, 0
    with path.open("w") as out:
        for number, line in enumerate(rig.lines):
            gold = number % 4
            choices = [answers[(7 * number + k) % len(answers)] for k in range(4)]
            choices[gold] = line["completion"]
            context = line["prompt"] + (" " if number % 3 == 0 else "")  # goes over to the choice
            if number % 3 == 0:
                choices = [choice.lstrip(" ") for choice in choices]
            out.write(json.dumps({"context": context, "choices": choices, "gold": gold}) + "\n")
            spaces = len(context) - len(context.rstrip())
            scores = []
            for k, choice in enumerate(choices):
                start = rig.ids(context.rstrip())
                whole = rig.ids(context.rstrip() + context[len(context) - spaces:] + choice)
                logp = rig.logps([1] + whole)
                score = sum(logp[i, whole[i]].item() for i in range(len(start), len(whole)))
                scores.append(score)
                if k == gold:
                    loss, count = loss - score, count + len(whole) - len(start)
            lengths = [len(choice.lstrip()) for choice in choices]
            acc.append(max(range(4), key=lambda k: scores[k]) == gold)
            norm.append(max(range(4), key=lambda k: scores[k] / lengths[k]) == gold)
    cell = rig.run("eval", rig.folder, "--data", path)["models"][0]["data"][0]
    p = sum(acc) / len(acc)
    return (close(cell["acc"], p, "acc", 1e-9) or close(cell["acc_norm"], sum(norm) / len(norm), "acc_norm", 1e-9)
            or close(cell["acc_se"], math.sqrt(p * (1 - p) / (len(acc) - 1)), "acc_se")
            or close(cell["loss"], loss / count, "loss"))


def check_distance(rig):
    other = rig.folder.parent / "sums"
    model = AutoModelForCausalLM.from_pretrained(other, dtype=torch.float32).eval()
    text = "".join(line["prompt"] + line["completion"] for line in rig.lines)[:900]
    path = rig.work / "short.txt"
    path.write_text(text)
    ids = [1] + rig.ids(text)[:127]
    with torch.no_grad():
        q = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)[:-1]
    p = rig.logps(ids)[:-1]
    kl = (p.exp() * (p - q)).sum(-1).mean().item()
    cell = rig.run("eval", other, "--against", rig.folder, "--data", path, "--window", 128,
                   "--limit", 127)["models"][0]["data"][0]
    same = (p.argmax(-1) == q.argmax(-1)).double().mean().item()
    return close(cell["kl"], kl, "kl") or close(cell["agreement"], same, "agreement", 1e-9)


def check_greedy(rig, penalty):
    for line in rig.lines[:8]:
        ids = torch.tensor([[1] + rig.ids(line["prompt"])])
        with torch.no_grad():
            out = rig.model.generate(ids, do_sample=False, max_new_tokens=24, repetition_penalty=penalty,
                                     eos_token_id=2, pad_token_id=0)[0, ids.shape[1]:].tolist()
        want = rig.tokenizer.decode([i for i in out if i != 2], clean_up_tokenization_spaces=False)
        have = rig.run("generate", rig.folder, "--prompt", line["prompt"], "--max-tokens", 24,
                       "--repetition-penalty", penalty)["text"]
        if have != want:
            return f"{have!r}, want {want!r}"
    return None


def check_draws(rig, words, keep):
    prompt, n = "sum: 35+4", 4000
    logits = rig.logps([1] + rig.ids(prompt))[-1]
    temperature = float(words[words.index("--temperature") + 1])
    p = torch.softmax(logits / temperature, -1)
    p = keep(p)
    p = p / p.sum()
    got = rig.run("generate", rig.folder, "--prompt", prompt, "--max-tokens", 1, "--samples", n, *words)
    counts = {}
    for sample in got["samples"]:
        counts[sample["text"]] = counts.get(sample["text"], 0) + 1
    want = {}
    for i in p.nonzero().flatten().tolist():
        text = "" if i < 3 else rig.tokenizer.decode([i], clean_up_tokenization_spaces=False)
        want[text] = want.get(text, 0.0) + p[i].item()
    for text in counts.keys() - want.keys():
        return f"{text!r} was drawn and should not"
    for text, share in want.items():
        sigma = math.sqrt(n * share * (1 - share)) + 1
        if abs(counts.get(text, 0) - n * share) > 5 * sigma:
            return f"{text!r} was drawn {counts.get(text, 0)} times of {n}, expected {n * share:.1f}"
    return None


def top_k(p, k):
    return torch.where(p >= p.topk(k).values[-1], p, torch.zeros_like(p))


def top_p(p, limit):
    order = p.argsort(descending=True)
    before = p[order].cumsum(-1) - p[order]
    out = torch.zeros_like(p)
    out[order[before < limit]] = p[order[before < limit]]
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--wsurg", required=True)
    parser.add_argument("--library", required=True)
    parser.add_argument("--models", required=True, type=Path)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.set_num_threads(2)
    passed = failed = 0
    with tempfile.TemporaryDirectory() as work:
        rig, chats = Rig(options, work), Chats(options.library)
        place = config_with(work, None)
        jobs = {f"chat/{name}": (check_format, chats, rig.tokenizer, place, name) for name in TEMPLATES}
        jobs.update({f"template/{name}": (check_recognised, chats, rig.tokenizer, work, name) for name in TEMPLATES if TEMPLATES[name][1] != ""})
        jobs.update({
            "eval/windows": (check_windows, rig),
            "eval/completions": (check_completions, rig),
            "eval/choices": (check_choices, rig),
            "eval/distance": (check_distance, rig),
            "generate/greedy": (check_greedy, rig, 1.0),
            "generate/penalty": (check_greedy, rig, 1.3),
            "generate/temperature": (check_draws, rig, ["--temperature", "1.7"], lambda p: p),
            "generate/top_k": (check_draws, rig, ["--temperature", "2", "--top-k", "7"], lambda p: top_k(p, 7)),
            "generate/top_p": (check_draws, rig, ["--temperature", "2", "--top-p", "0.8"], lambda p: top_p(p, 0.8)),
            "generate/min_p": (check_draws, rig, ["--temperature", "2", "--min-p", "0.1"],
                               lambda p: torch.where(p >= 0.1 * p.max(), p, torch.zeros_like(p))),
        })
        for name, (check, *arguments) in jobs.items():
            if not re.search(options.only, name):
                continue
            try:
                fault = check(*arguments)
            except Exception as trouble:
                fault = f"{type(trouble).__name__}: {trouble}"
            passed, failed = passed + (fault is None), failed + (fault is not None)
            print(f"{'ok  ' if fault is None else 'FAIL'} {name} {fault or ''}".rstrip(), flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
