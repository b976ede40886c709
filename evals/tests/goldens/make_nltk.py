"""Writes nltk.json.gz: scores of the real NLTK (pip install nltk==3.10.4) for the texts of coco.json.gz, words between white space."""

import gzip
import json
import random
import sys
from pathlib import Path

from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu, sentence_bleu

rng = random.Random(310)
METHODS = [["none", None], ["method1", 0.1], ["method1", 0.5], ["method2", None], ["method3", None]]


def function(name, epsilon):
    smoothing = SmoothingFunction(epsilon=epsilon) if epsilon else SmoothingFunction()
    return None if name == "none" else getattr(smoothing, name)


def main():
    pairs = json.loads(gzip.decompress(Path(__file__).with_name("coco.json.gz").read_bytes()))["pairs"]
    hyps = [h.split() for h, _, _ in pairs]
    refs = [[r.split() for r in all_] for _, all_, _ in pairs]
    sentences = [[number, [float(sentence_bleu(refs[number], hyps[number], smoothing_function=function(*m))) for m in METHODS]] for number in range(0, 2500, 2)]
    corpora = []
    for begin, end in [(i, i + n) for n in (1, 2, 5, 40) for i in rng.sample(range(2400), 8)] + [(0, 2500), (700, 1300)]:
        for method in METHODS:
            scores = [float(corpus_bleu(refs[begin:end], hyps[begin:end], weights=(1 / n,) * n, smoothing_function=function(*method))) for n in range(1, 6)]
            corpora.append([begin, end, method, scores])
    sections = {"methods": METHODS, "sentences": sentences, "corpora": corpora}
    text = ",\n".join(json.dumps(k) + ": [\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in v) + "\n]" for k, v in sections.items())
    Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("nltk.json.gz")).write_bytes(gzip.compress(("{" + text + "}\n").encode(), mtime=0))


main()
