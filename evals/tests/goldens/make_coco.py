"""Writes coco.json.gz: random texts with the scores of the real pycocoevalcap (pip install pycocoevalcap==1.2, and a Java).

Cleaned reports come from R2Gen's expressions, written down here as its papers' code has them; they are the only lines that are
not run from a package.
"""

import gzip
import json
import random
import re
import string
import sys
import unicodedata
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

rng = random.Random(2015)
WORDS = """the lungs are clear no focal consolidation pleural effusion or pneumothorax is seen heart size normal isn't a a a man dog in on of and with
don't it's 3.5-cm T2/T3 (left) [right] {both} 1,000.5 50% $5 U.S. e.g. Dr. A&B &amp; &quot;x&quot; . . , ... - -- l'été naïve Straße ΟΔΟΣ İstanbul
中文 肺部清晰 無積液。 日本語 한국어 𠀀𠀁 🫁 👩‍⚕️ हिन्दी ไทย עברית العربية \x00 \x07 \x7f \u200b \ufeff""".split()
SPACES = [" "] * 14 + ["  ", "\t", "\u00a0", "\u3000", "\u2028", "\x85", "\x1c", "\x1f", "\r\n", "\n", "\x0b"]
CHARS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF and unicodedata.category(chr(c)) != "Cn"]


def word():
    if rng.random() < 0.93:
        return rng.choice(WORDS)
    return "".join(chr(rng.choice(CHARS)) for _ in range(rng.randint(1, 3)))


def sentence():
    if rng.random() < 0.03:
        return rng.choice(["", " ", "\n", "\r\n", "a a a a a a", ". . . .", "\x00", "a"])
    return "".join(word() + rng.choice(SPACES) for _ in range(rng.randint(1, 14)))[: rng.choice([-1, None])]


def mutate(text):
    parts = text.split(" ")
    for _ in range(rng.randint(0, 4)):
        at, action = rng.randrange(len(parts)), rng.random()
        if action < 0.4:
            parts[at] = word()
        elif action < 0.7:
            parts.insert(at, word())
        elif len(parts) > 1:
            parts.pop(at)
    if rng.random() < 0.15:
        rng.shuffle(parts)
    return " ".join(parts)


def pair():
    hyp = sentence()
    return hyp, [mutate(hyp) if rng.random() < 0.9 else sentence() for _ in range(rng.choice([1, 1, 1, 2, 3, 5]))]


def score(hyps, refs):
    """Corpus scores [B1, B2, B3, B4, ROUGE-L, CIDEr] and the same for each text."""
    gts, res = dict(enumerate(refs)), {i: [h] for i, h in enumerate(hyps)}
    bleu, bleus = Bleu(4).compute_score(gts, res, verbose=0)
    rouge, rouges = Rouge().compute_score(gts, res)
    cider, ciders = Cider().compute_score(gts, res)
    single = [[*(b[i] for b in bleus), float(rouges[i]), float(ciders[i])] for i in range(len(hyps))]
    return [*bleu, float(rouge), float(cider)], single


def clean_iu(report):
    report_cleaner = lambda t: t.replace('..', '.').replace('..', '.').replace('..', '.').replace('1. ', '') \
        .replace('. 2. ', '. ').replace('. 3. ', '. ').replace('. 4. ', '. ').replace('. 5. ', '. ') \
        .replace(' 2. ', '. ').replace(' 3. ', '. ').replace(' 4. ', '. ').replace(' 5. ', '. ') \
        .strip().lower().split('. ')
    sent_cleaner = lambda t: re.sub('[.,?;*!%^&_+():-\\[\\]{}]', '', t.replace('"', '').replace('/', '').replace('\\', '').replace("'", '').strip().lower())
    return ' . '.join(sent_cleaner(s) for s in report_cleaner(report)) + ' .'


def clean_mimic(report, colon):
    for old, new, times in [('\n', ' ', 1), ('__', '_', 7), ('  ', ' ', 6), ('..', '.', 8), ('1. ', '', 1), ('. 2. ', '. ', 1), ('. 3. ', '. ', 1), ('. 4. ', '. ', 1),
                            ('. 5. ', '. ', 1), (' 2. ', '. ', 1), (' 3. ', '. ', 1), (' 4. ', '. ', 1), (' 5. ', '. ', 1)]:
        for _ in range(times):
            report = report.replace(old, new)
    if colon:
        report = report.replace(':', ' :')
    bad = '[.,?;*!%^&_+()\\[\\]{}]' if colon else '[.,?;*!%^&_+():-\\[\\]{}]'
    sent_cleaner = lambda t: re.sub(bad, '', t.replace('"', '').replace('/', '').replace('\\', '').replace("'", '').strip().lower())
    return ' . '.join(sent_cleaner(s) for s in report.strip().lower().split('. ')) + ' .'


def coco_words(text):
    return " ".join(w for w in (w.strip(string.punctuation) for w in text.lower().split()) if w)


def report():
    pieces = ["1. ", "2. ", "3. ", "4. ", "5. ", "6. ", " ", "  ", ". ", "..", "....", "_", "___", "__________________", "\n", "\t", ": ", ":", "; ", "FINDINGS: ", "Heart size", "normal",
              "No effusion", "T2/T3", "3.5-cm", "(left)", "[x]", "{y}", "50%", "A&B", "x<y>z=w@v?", "\"q\"", "it's", "\\", "^", "+", "*", "!", ",", "XXXX", "Ünïcödé", "ΟΔΟΣ", "İ", "\u00a0", "\x1c", "中文。"]
    return "".join(rng.choice(pieces) + rng.choice(["", " "]) for _ in range(rng.randint(0, 25)))


def main():
    pairs = [pair() for _ in range(2500)]
    hyps, refs = map(list, zip(*pairs))
    corpora = []
    for begin, end in [(i, i + n) for n in (1, 2, 3, 10, 60) for i in rng.sample(range(2400), 12)] + [(0, 2500), (700, 1300)]:
        corpora.append([begin, end, score(hyps[begin:end], refs[begin:end])[0]])
    rows = [[h, r, s] for (h, r), s in zip(pairs, score(hyps, refs)[1])]
    reports = [report() for _ in range(1200)]
    cleaned = [[r, clean_iu(r), clean_mimic(r, False), clean_mimic(r, True), coco_words(r)] for r in reports]
    # The whole way of the caption evaluation; line breaks that move captions are left out.
    tidy = lambda t: re.sub("[\r\x0b\x0c\u2028\u2029Σ]", " ", t)
    gts = {i: [{"caption": tidy(t)} for t in r] for i, r in enumerate(refs[:600])}
    res = {i: [{"caption": tidy(t)}] for i, t in enumerate(hyps[:600])}
    tokenizer = PTBTokenizer()
    gts, res = tokenizer.tokenize(gts), tokenizer.tokenize(res)
    total, single = score([res[i][0] for i in res], list(gts.values()))
    sections = {"pairs": rows, "corpora": corpora, "cleaned": cleaned, "captions": [total, *single]}
    text = ",\n".join(json.dumps(k) + ": [\n" + ",\n".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) for r in v) + "\n]" for k, v in sections.items())
    Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("coco.json.gz")).write_bytes(gzip.compress(("{" + text + "}\n").encode(), mtime=0))


main()
