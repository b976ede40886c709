"""Writes bleu.json.gz: random texts with the statistics and scores of the real sacreBLEU (pip install sacrebleu==2.6.0 regex).

Characters are those assigned in Unicode 14 (Python 3.11), so that the classes of newer tables agree.
"""

import gzip
import json
import random
import sys
import unicodedata
from pathlib import Path

import regex
import sacrebleu
from sacrebleu.metrics import BLEU

TOKENIZERS = ["13a", "none", "char", "intl", "zh"]
rng = random.Random(20260)


def assigned(code):
    return not 0xD800 <= code <= 0xDFFF and unicodedata.category(chr(code)) != "Cn"


PLANES = [[c for c in range(p << 16, (p + 1) << 16) if assigned(c)] for p in (0, 1, 2, 3, 14, 15, 16)]
INTERESTING = [c for c in PLANES[0] + PLANES[1] if unicodedata.category(chr(c))[0] in "PSN" and c > 127]
WORDS = """the lungs are clear no focal consolidation pleural effusion or pneumothorax is seen heart size normal isn't
don't it's 3.5-cm nodule T2/T3 (left) [right] {both} lobe, 1,000.5 mm 10-12 12-point 2019. 50% $5 U.S. e.g. Dr. A&B
&quot;x&quot; &amp; &lt;b&gt; &amp;lt; <skipped> http://a.b/c?d=e&f#g a@b.c ... .. ,, .,., -- --- 1-2-3 .5 5. ,5 5, -5 5- ' " ` ~
L'été naïve Straße STRASSE ΣΊΣΥΦΟΣ ΟΔΟΣ İstanbul ǅ ﬁn Ünïcödé „Zitat“ »Wort« “quote” ‘q’ – — … • → ≤ × ° ² ½ Ⅷ ٣٫٥ 中文 肺部清晰 無積液。 你好，世界！
日本語テスト 한국어 텍스트 𠀀𠀁 🫁 👩‍⚕️ é é हिन्दी ไทย עברית العربية""".split()
SPACES = [" "] * 12 + ["  ", "\t", "\u00a0", "\u3000", "\u2009", "\u2028", "\x85", "\x1c", "\x1f", "\r\n", "\n", "-\n", "\u200b", "\ufeff"]


def char():
    kind = rng.random()
    if kind < 0.35:
        return chr(rng.choice(INTERESTING))
    if kind < 0.5:
        return chr(rng.randrange(0x80))
    return chr(rng.choice(rng.choice(PLANES)))


def token():
    kind = rng.random()
    if kind < 0.75:
        return rng.choice(WORDS)
    if kind < 0.85:
        return "".join(char() for _ in range(rng.randint(1, 3)))
    return "".join(rng.choice(".,-'0a9é–/&; (") for _ in range(rng.randint(1, 6)))


def sentence():
    if rng.random() < 0.03:
        return rng.choice(["", " ", "\n", "\r\n", "\t \u3000", "a a a a a a", ". . . .", "\x00"])
    return "".join(token() + rng.choice(SPACES) for _ in range(rng.randint(1, 14)))


def mutate(text):
    parts = text.split(" ")
    for _ in range(rng.randint(0, 3)):
        at = rng.randrange(len(parts))
        action = rng.random()
        if action < 0.4:
            parts[at] = token()
        elif action < 0.7:
            parts.insert(at, token())
        elif len(parts) > 1:
            parts.pop(at)
    if rng.random() < 0.1:
        rng.shuffle(parts)
    return " ".join(parts)


def pair():
    hyp = sentence()
    refs = [mutate(hyp) if rng.random() < 0.9 else sentence() for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    return hyp, refs


def columns(refs):
    """Streams of references; segments with fewer references are absent in the later ones."""
    return [[r[i] if i < len(r) else None for r in refs] for i in range(max(map(len, refs)))]


def numbers(score):
    return [score.score, score.bp, *score.precisions]


def settings():
    grid = [dict(), dict(lowercase=True), dict(effective_order=True), dict(smooth_method="none"), dict(smooth_method="floor"),
            dict(smooth_method="floor", smooth_value=0.5), dict(smooth_method="add-k"), dict(smooth_method="add-k", smooth_value=2.0),
            dict(max_ngram_order=1), dict(max_ngram_order=2), dict(max_ngram_order=6), dict(max_ngram_order=9, effective_order=True),
            dict(lowercase=True, smooth_method="floor", effective_order=True, max_ngram_order=5)]
    for number, entry in enumerate(grid):
        for tokenizer in TOKENIZERS if number < 2 else [TOKENIZERS[number % 5]]:
            yield dict(tokenize=tokenizer, **entry)


def runs():
    """Classes of all assigned characters as [first, last, class]."""
    names = {"P": regex.compile(r"\p{P}"), "N": regex.compile(r"\p{N}"), "S": regex.compile(r"\p{S}")}
    out = []
    for code in (c for plane in range(17) for c in range(plane << 16, (plane + 1) << 16) if assigned(c)):
        kind = next((n for n, e in names.items() if e.match(chr(code))), "O")
        if out and out[-1][1] == code - 1 and out[-1][2] == kind:
            out[-1][1] = code
        else:
            out.append([code, code, kind])
    return out


def main():
    pairs = [pair() for _ in range(2000)]
    rows = []
    metrics = [BLEU(tokenize=t, force=True) for t in TOKENIZERS]
    sentence_metrics = [BLEU(tokenize=t, effective_order=True, force=True) for t in TOKENIZERS]
    for hyp, refs in pairs:
        stats = [m._extract_corpus_statistics([hyp], [[r] for r in refs])[0] for m in metrics]
        scores = [m.sentence_score(hyp, refs).score for m in sentence_metrics]
        rows.append([hyp, refs, stats, scores])
    corpora = []
    slices = [(i, i + n) for n in (1, 2, 5, 40) for i in rng.sample(range(1900), 6)] + [(0, 2000), (700, 1300)]
    for entry in settings():
        for begin, end in slices:
            metric = BLEU(force=True, **entry)
            hyps, refs = zip(*pairs[begin:end])
            score = metric.corpus_score(hyps, columns(refs))
            signature = metric.get_signature().format()
            corpora.append([begin, end, entry, numbers(score), signature.rsplit("|", 1)[0]])
    data = {"sacrebleu": sacrebleu.__version__, "regex": regex.__version__, "tokenizers": TOKENIZERS,
            "classes": runs(), "pairs": rows, "corpora": corpora}
    # One line per record.
    text = ",\n".join(
        json.dumps(k) + ": " + ("[\n" + ",\n".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) for r in v) + "\n]"
                                if isinstance(v, list) else json.dumps(v)) for k, v in data.items())
    Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("bleu.json.gz")).write_bytes(gzip.compress(("{" + text + "}\n").encode(), mtime=0))


main()
