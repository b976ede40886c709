"""Writes sacrebleu.json.gz: chrF, TER, intervals and paired tests of the real sacreBLEU (pip install sacrebleu==2.6.0 numpy==2.4.6)
on the texts of bleu.json.gz, and on long shuffled texts made here.

Per pair and setting only the statistics are kept: numbers that add up, from which every score follows.
"""

import gzip
import json
import random
import sys
from pathlib import Path

import numpy
import sacrebleu
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest, _bootstrap_resample, estimate_ci

HERE = Path(__file__).parent
rng = random.Random(4711)
CHRF_GRID = [dict(), dict(word_order=2), dict(word_order=2, lowercase=True), dict(whitespace=True), dict(eps_smoothing=True, word_order=1),
             dict(char_order=3, beta=1), dict(char_order=0, word_order=3, beta=3), dict(eps_smoothing=True, whitespace=True, lowercase=True)]
TER_GRID = [dict(), dict(normalized=True), dict(no_punct=True), dict(case_sensitive=True), dict(normalized=True, asian_support=True),
            dict(normalized=True, no_punct=True, asian_support=True), dict(no_punct=True, asian_support=True, case_sensitive=True)]


def shuffled():
    """Many repeated words, moved blocks, lengths that differ: the beam, the limits of shifts and the end of the search."""
    words = [f"{c}{d}" for c in "abcdefgh" for d in range(rng.choice([1, 2, 12]))][: rng.choice([3, 10, 40, 96])]
    ref = [rng.choice(words) for _ in range(rng.choice([1, 8, 20, 40, 70, 130]))]
    hyp = list(ref)
    for _ in range(rng.randint(0, 8)):
        start, size = rng.randrange(len(hyp)), rng.randint(1, 14)
        block = hyp[start:start + size]
        del hyp[start:start + size]
        at = rng.randint(0, len(hyp))
        hyp[at:at] = block
    hyp = [w if rng.random() > 0.1 else rng.choice(words) for w in hyp if rng.random() > 0.05]
    if rng.random() < 0.1:
        hyp = hyp[: rng.randint(0, 4)]
    if rng.random() < 0.1:
        hyp = hyp + [rng.choice(words) for _ in range(rng.randint(30, 90))]
    return " ".join(hyp), [" ".join(ref)]


def columns(refs):
    return [[r[i] if i < len(r) else None for r in refs] for i in range(max(map(len, refs)))]


def statistics(metric, pairs):
    return [metric._extract_corpus_statistics([hyp], [[r] for r in refs])[0] for hyp, refs in pairs]


def corpora(metric, pairs, slices):
    """[begin, end, score, signature without the version]"""
    rows = []
    for begin, end in slices:
        hyps, refs = zip(*pairs[begin:end])
        score = metric.corpus_score(hyps, columns(refs)).score
        rows.append([begin, end, float(score), metric.get_signature().format().rsplit("|", 1)[0],
                     metric.get_signature().format(True).rsplit("|", 1)[0]])
    return rows


def grid(kind, settings, pairs, slices):
    rows = []
    for entry in settings:
        metric = kind(**entry)
        rows.append(dict(settings=entry, name=metric.sentence_score("a", ["a"]).name,
                         statistics=statistics(metric, pairs), corpora=corpora(metric, pairs, slices)))
    return rows


def second_system(hyp, refs, number):
    """Another system on the same references: better in places, worse in others."""
    if number % 3 == 0:
        return refs[0]
    return hyp if number % 3 == 1 else hyp[: len(hyp) // 2]


def significance(pairs):
    rows = []
    for begin, end, kind, entry in [(0, 60, BLEU, dict(force=True)), (100, 130, BLEU, dict(force=True, smooth_method="add-k", tokenize="char")),
                                    (200, 240, CHRF, dict()), (300, 360, CHRF, dict(word_order=2)), (400, 450, TER, dict())]:
        hyps, refs = zip(*pairs[begin:end])
        other = [second_system(h, r, n) for n, (h, r) in enumerate(zip(hyps, refs))]
        # Mean lengths of three references are no binary fractions: sums in another order would turn ties into chance.
        refs = columns([r[:2] for r in refs])
        metric = kind(**entry)
        _, scores = _bootstrap_resample(metric._extract_corpus_statistics(hyps, refs), metric, 400)
        mean, ci = estimate_ci(numpy.array([s.score for s in scores], dtype="float64"))
        row = dict(begin=begin, end=end, metric=kind.__name__, settings=entry, interval=[mean, ci])
        for test, count in [("bs", 300), ("ar", 500)]:
            metric = kind(**entry)
            paired = PairedTest([("a", hyps), ("b", other)], {"m": metric}, refs, test, count)
            signatures, results = paired()
            name = next(n for n in results if n != "System")
            baseline, system = results[name]
            row[test] = dict(count=count, scores=[float(baseline.score), float(system.score)], p_value=float(system.p_value),
                             signature=signatures[name].format().rsplit("|", 1)[0])
        rows.append(row)
    return rows


def main():
    bleu = json.loads(gzip.decompress((HERE / "bleu.json.gz").read_bytes()))
    pairs = [(p[0], p[1]) for p in bleu["pairs"]]
    slices = [(i, i + n) for n in (1, 2, 5, 40) for i in rng.sample(range(1900), 4)] + [(0, 2000)]
    long = [shuffled() for _ in range(400)]
    ter = TER()
    data = {"sacrebleu": sacrebleu.__version__, "numpy": numpy.__version__,
            "chrf": grid(CHRF, CHRF_GRID, pairs, slices), "ter": grid(TER, TER_GRID, pairs, slices),
            "significance": significance(pairs),
            "shuffled": [[hyp, refs[0], row[0]] for (hyp, refs), row in zip(long, statistics(ter, long))]}
    # One line per record.
    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = ",\n".join(json.dumps(k) + ": " + ("[\n" + ",\n".join(map(dump, v)) + "\n]" if isinstance(v, list) else dump(v))
                      for k, v in data.items())
    Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "sacrebleu.json.gz").write_bytes(gzip.compress(("{" + text + "}\n").encode(), mtime=0))


main()
