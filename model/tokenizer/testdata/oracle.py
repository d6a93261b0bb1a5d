"""Makes what the tests compare with, by Hugging Face tokenizers.

  oracle.py train TEXT OUT       small tokenizers of every kind: OUT/KIND/tokenizer.json
  oracle.py samples OUT          samples.json, the hard cases
  oracle.py golden SAMPLES DIR   DIR/KIND/ids.json for each DIR/KIND/tokenizer.json
  oracle.py real SAMPLES DIR OUT OUT/KIND.json for each DIR/KIND/tokenizer.json
  oracle.py parity DIR TEXT...   DIR/mixed.txt (1 MB) and DIR/KIND/mixed.ids
  oracle.py classes OUT          classes.json, the code points of each class as ranges

Written with tokenizers 0.23.3; outputs are deterministic.
"""

import array
import json
import os
import random
import sys

from tokenizers import Tokenizer

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
MARKS = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def byte_level(**options):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True, **options}


def regex(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(kind, key, *parts):
    return {"type": kind, key: list(parts)}


def pre(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


def template(before, after):
    single = [{"SpecialToken": {"id": t, "type_id": 0}} for t in before]
    single += [{"Sequence": {"id": "A", "type_id": 0}}]
    single += [{"SpecialToken": {"id": t, "type_id": 0}} for t in after]
    return single


def added(content, **options):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True, **options}


SPM_NORMALIZER = {"type": "Sequence", "normalizers": [
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
SPM_DECODER = {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}


def metaspace(scheme, split):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


RAW = byte_level(use_regex=False)
KINDS = {
    "gpt2": dict(pre=byte_level(), added=[added("<|endoftext|>")]),
    "gpt2-prefix": dict(pre=byte_level(add_prefix_space=True), added=[added("<|endoftext|>")]),
    "llama3": dict(pre=pre(regex(LLAMA3), RAW), model={"ignore_merges": True}, bos=["<|begin_of_text|>"],
                   added=[added("<|begin_of_text|>"), added("<|end_of_text|>"), added("<|eot_id|>")]),
    "qwen2": dict(pre=pre(regex(QWEN2), RAW), normalizer={"type": "NFC"},
                  added=[added("<|endoftext|>"), added("<|im_start|>"), added("<|im_end|>"),
                         added("<tool_call>", special=False)]),
    "smollm2": dict(pre=pre({"type": "Digits", "individual_digits": True}, byte_level()),
                    added=[added("<|endoftext|>"), added("<|im_start|>")]),
    "marks": dict(pre=pre(regex(MARKS), RAW), added=[]),
    "splits": dict(pre=pre(regex("ab", "MergedWithNext", kind="String"), regex(r"\d+", "MergedWithPrevious"),
                           regex(r"\s", "Contiguous"), {"type": "Punctuation", "behavior": "Contiguous"},
                           {"type": "Digits", "individual_digits": False}, regex("[xX]+", "Removed"),
                           regex(r"[a-z]+|\s+|[^a-z\s]+", "Removed", invert=True), RAW), added=[]),
    "added": dict(pre=byte_level(), normalizer={"type": "NFC"}, added=[
        added("<mask>", lstrip=True), added("<r>", rstrip=True), added("<both>", lstrip=True, rstrip=True),
        added("word", single_word=True), added("wörd", single_word=True, normalized=True, special=False),
        added("<|a|>"), added("<|a|><|b|>"), added("  ", normalized=True, special=False),
        added("e\u0301<n>", normalized=True)]),
    "llama2": dict(spm=True, normalizer=SPM_NORMALIZER, decoder=SPM_DECODER, fallback=True, bos=["<s>"]),
    "mistral": dict(spm=True, pre=metaspace("first", False), fallback=True, bos=["<s>"], eos=["</s>"],
                    decoder=SPM_DECODER, model={"ignore_merges": True},
                    added=[added("[INST]"), added("<x>", normalized=True)]),
    "metaspace": dict(spm=True, pre=metaspace("always", True), decoder=metaspace("always", True),
                      model={"fuse_unk": True}),
    "unfused": dict(spm=True, pre=metaspace("never", True), decoder=metaspace("never", True),
                    model={"fuse_unk": False}),
}


def train(text, out):
    lines = open(text, encoding="utf-8").read()[:400_000].splitlines()
    lines += [s["text"] for s in samples()]
    for kind, k in KINDS.items():
        spm = k.get("spm", False)
        start = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
                 "normalizer": k.get("normalizer"), "pre_tokenizer": k.get("pre"), "post_processor": None,
                 "decoder": None, "model": {"type": "BPE", "dropout": None, "unk_token": None,
                 "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": spm,
                 "byte_fallback": False, "ignore_merges": False, "vocab": {}, "merges": []}}
        if spm:  # words are needed to learn from, not to encode
            start["normalizer"], start["pre_tokenizer"] = None, metaspace("always", True)
        tok = Tokenizer.from_str(json.dumps(start))
        from tokenizers import pre_tokenizers, trainers
        tok.train_from_iterator(lines, trainers.BpeTrainer(
            vocab_size=620, show_progress=False, min_frequency=2,
            limit_alphabet=120 if spm else 256,
            initial_alphabet=[] if spm else sorted(pre_tokenizers.ByteLevel.alphabet())))
        made = json.loads(tok.to_str())
        learnt = sorted(made["model"]["vocab"], key=made["model"]["vocab"].get)
        names, extra = learnt, list(k.get("added", []))
        if spm:
            names = ["<unk>", "<s>", "</s>"]
            extra = [added(n) for n in names] + extra
            if k.get("fallback"):
                names += [f"<0x{b:02X}>" for b in range(256)]
            names += learnt
        vocab = {t: i for i, t in enumerate(names)}
        size = len(vocab)
        for a in extra:
            if a["content"] not in vocab:
                a["id"], size = size, size + 1
            else:
                a["id"] = vocab[a["content"]]
        ids = {a["content"]: a["id"] for a in extra}
        made["added_tokens"] = sorted(({"id": a.pop("id"), **a} for a in extra), key=lambda a: a["id"])
        made["model"].update(vocab=vocab, byte_fallback=bool(k.get("fallback")), fuse_unk=spm,
                             unk_token="<unk>" if spm else None)
        made["model"].update(k.get("model", {}))
        made["normalizer"], made["pre_tokenizer"] = k.get("normalizer"), k.get("pre")
        made["decoder"] = k.get("decoder", byte_level())
        bos, eos = k.get("bos", []), k.get("eos", [])
        post = {"type": "TemplateProcessing", "single": template(bos, eos),
                "pair": template(bos, eos) + [{"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in bos + eos}}
        made["post_processor"] = {"type": "Sequence", "processors": [byte_level(), post]} if kind == "llama3" \
            else post if bos or eos else None if spm else byte_level()
        os.makedirs(f"{out}/{kind}", exist_ok=True)
        with open(f"{out}/{kind}/tokenizer.json", "w", encoding="utf-8") as f:
            json.dump(made, f, ensure_ascii=False, separators=(",", ":"))
            f.write("\n")


def samples():
    s = {
        "empty": "", "one blank": " ", "blanks": "     ", "one letter": "a",
        "english": "The Mole had been working very hard all the morning, spring-cleaning his little home.",
        "contractions": "I'm you're he'll they've it's don't I'd 'twas 'S 'Re 'LL 'VE O'Neill's ' s 'ſ 'ſa ''s",
        "digits": "1 12 123 1234 12345 3.14159 1e-10 0xFF ٣٤٥ ½ ² Ⅷ 一二三 1２3",
        "code": "func main() {\n\tfor i := 0; i < 10; i++ {\n\t\tfmt.Println(\"hi\\n\", i)\n\t}\n}\n",
        "python": "def f(x):\r\n    return x**2 if x != None else {'a': [1, 2, 3]}  # done\r\n\r\n",
        "cjk": "東京は日本の首都です。你好,世界!한국어 텍스트입니다. 漢字かな交じり文",
        "emoji": "👍🏽 👩‍👩‍👧‍👦 🇫🇷🇩🇪 ☃️ 😀😀😀 a😀b ❤️‍🔥",
        "white space": " a  b   c\t\td \n e\n\nf\r\n\r\n g\u00a0h\u2003i\u3000j\u2028k\u0085l\u200bm\ufeffn \n \n",
        "trailing": "end   ", "leading": "   start", "line ends": "\n\n\n", "mixed line ends": " \n \r\n\t\n  x",
        "controls": "\x00\x01\x02\x07\x08\x0b\x0c\x1b[0m\x7f\x80\x9f",
        "combining": "e\u0301 n\u0303 o\u0308\u0304 \u1100\u1161\u11a8 a\u0323\u0307 a\u0307\u0323 \u212b \u0958 \u0344 \u2126",
        "long combining": "a" + "\u0301\u0323" * 20 + "b" + "e" + "\u0300" * 45,
        "normalized differently": "ﬁ ﬃ ① Ａ ｱ ſ ẛ̣ İ",
        "arabic": "السلام عليكم ورحمة الله وبركاته ١٢٣", "hebrew": "שָׁלוֹם עוֹלָם", "thai": "สวัสดีชาวโลก",
        "hindi": "नमस्ते दुनिया क्षत्रिय १२३", "russian": "Съешь же ещё этих мягких французских булок",
        "greek": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία", "private": "\ue000\U000f0000\U0010ffff\ufffe\ufffd",
        "new in unicode 16": "\u1c89\ua7cb\U000105c0 \U00010d40\U0001e5f1 \U0002ebf0",
        "long word": "a" * 200 + "b" * 50 + "abcabcabc" * 20, "long digits": "1234567890" * 15,
        "long punctuation": "=" * 130 + "-" * 70 + "!?" * 30, "long blanks": " " * 130 + "x" + "\t" * 40,
        "special tokens": "<|endoftext|>a<|im_start|>user\nhi<|im_end|> <s>x</s> <unk> [INST] y <|eot_id|>",
        "added": "a <mask> b  <r>  c <both>\n d<mask><r> word words word. wörd xwörd wo\u0308rd <|a|><|b|><|a|> x",
        "added at edges": " <mask>", "added normalized": "x é<n> e\u0301<n>  y   z <x> <x>", "broken": "<|endoftext <|im_ <s <mas",
        "bytes spelled": "<0x41> <0x0A> <0xZZ>", "metaspace": "▁a▁▁b ▁ c▁", "ab splits": "abab12cd34 xXx,,..;a b\t c ab1x2",
        "url": "https://example.com/a?b=c&d=%20e#f_g", "html": "<p class=\"x\">A &amp; B</p><!-- c -->",
        "latex": "\\frac{\\partial f}{\\partial x} = \\sum_{i=0}^{n} x_i^2", "markdown": "# T\n\n* a\n* **b** `c`\n\n```go\nx\n```\n",
        "json": '{"a": [1, 2.5e3, null], "b": {"c": "d\\u00e9"}}',
    }
    return [{"name": k, "text": v} for k, v in s.items()]


def encode_all(tok, texts):
    out = []
    for s in texts:
        ids = tok.encode(s["text"]).ids
        row = {"ids": ids}
        back = tok.decode(ids, skip_special_tokens=False)
        if back != s["text"]:
            row["decoded"] = back
        out.append(row)
    return out


def rows(path, list_):
    with open(path, "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(json.dumps(r, ensure_ascii=True, separators=(",", ":")) for r in list_) + "\n]\n")


def kinds(folder):
    return [k for k in sorted(os.listdir(folder)) if os.path.exists(f"{folder}/{k}/tokenizer.json")]


def mixed(texts):
    """1 MB of everything: the given files, the samples, and random characters."""
    rng = random.Random(7)
    files = [open(t, encoding="utf-8").read() for t in texts]
    hard = [s["text"] for s in samples() if s["text"]]
    ranges = [(0, 0x80), (0x20, 0x7F), (0x80, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0xE80),
              (0x1100, 0x1200), (0x1E00, 0x2200), (0x2000, 0x2070), (0x3000, 0x3100), (0x4E00, 0x9FFF),
              (0xAC00, 0xD7A4), (0xF900, 0xFB50), (0xFF00, 0xFFF0), (0x10000, 0x11000), (0x1D400, 0x1D800),
              (0x1F300, 0x1FAFF), (0x20000, 0x2A6E0), (0xA000, 0xA800)]
    blanks = [" ", "  ", "\n", "\r\n", "\t", " \n", "\n ", "\u00a0", "\u3000", "   ", "'", "'s", "1", ".", ""]
    parts, size = [], 0
    while size < 1_000_000:
        roll = rng.random()
        if roll < 0.6:
            f = rng.choice(files)
            n = rng.randrange(50, 3000)
            at = rng.randrange(max(1, len(f) - n))
            p = f[at:at + n]
        elif roll < 0.75:
            p = rng.choice(hard)
        else:
            lo, hi = rng.choice(ranges)
            p = "".join(chr(rng.randrange(lo, hi)) if rng.random() < 0.8 else rng.choice(blanks)
                        for _ in range(rng.randrange(1, 200)))
        p += rng.choice(blanks)
        parts.append(p)
        size += len(p.encode("utf-8"))
    return "".join(parts)


def classes():
    """Asks the library for the class of every code point."""
    from tokenizers import AddedToken, Regex, models, pre_tokenizers
    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]

    def removed(splitter):
        kept = set()
        for at in range(0, len(points), 4096):
            for part, _ in splitter.pre_tokenize_str("".join(map(chr, points[at:at + 4096]))):
                kept.update(part)
        return [c for c in points if chr(c) not in kept]

    word = Tokenizer(models.BPE({"a": 0}, []))
    word.add_tokens([AddedToken("|", single_word=True, normalized=False)])
    found = {
        "letter": removed(pre_tokenizers.Split(Regex(r"\p{L}"), "removed")),
        "number": removed(pre_tokenizers.Split(Regex(r"\p{N}"), "removed")),
        "space": removed(pre_tokenizers.Split(Regex(r"\s"), "removed")),
        "punctuation": removed(pre_tokenizers.Punctuation("removed")),
        "numeric": [], "word": [],
    }
    digits = pre_tokenizers.Digits(individual_digits=True)
    for c in points:
        if len(digits.pre_tokenize_str("a" + chr(c) + "a")) == 3:
            found["numeric"].append(c)
        if c != ord("|") and not word.encode(chr(c) + "|").ids.count(1):
            found["word"].append(c)
    out = {}
    for name, list_ in found.items():
        ranges = []
        for c in list_:
            if ranges and ranges[-1][1] == c - 1:
                ranges[-1][1] = c
            else:
                ranges.append([c, c])
        out[name] = ranges
    return out


def main(argv):
    verb, args = argv[1], argv[2:]
    if verb == "train":
        train(*args)
    elif verb == "samples":
        rows(args[0], samples())
    elif verb in ("golden", "real"):
        texts = json.load(open(args[0], encoding="utf-8"))
        for kind in kinds(args[1]):
            tok = Tokenizer.from_file(f"{args[1]}/{kind}/tokenizer.json")
            path = f"{args[1]}/{kind}/ids.json" if verb == "golden" else f"{args[2]}/{kind}.json"
            rows(path, encode_all(tok, texts))
    elif verb == "classes":
        with open(args[0], "w") as f:
            f.write("{\n" + ",\n".join(json.dumps(k) + ":" + json.dumps(v, separators=(",", ":"))
                                      for k, v in classes().items()) + "\n}\n")
    elif verb == "parity":
        text = mixed(args[1:])
        with open(f"{args[0]}/mixed.txt", "w", encoding="utf-8", newline="") as f:
            f.write(text)
        for kind in kinds(args[0]):
            tok = Tokenizer.from_file(f"{args[0]}/{kind}/tokenizer.json")
            with open(f"{args[0]}/{kind}/mixed.ids", "wb") as f:
                array.array("I", tok.encode(text).ids).tofile(f)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv)
