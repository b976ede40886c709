"""Speed of `swinseek bleu` beside the sacrebleu package: corpus BLEU (13a) of 100,000 pairs, and the score with 1,000 bootstrap
resamples of 3,000 pairs; then the peak memory of a stream of ten million pairs.

    cargo build --release && python evals/bench/bleu_speed.py -o evals/results/bleu-speed.md     (pip install sacrebleu==2.6.0)

The times of the command are of the whole process: start, reading the files, printing. sacrebleu's are of the call alone, on lists
that are in memory. Cases take turns, so that a disturbance hits all alike; medians of the rounds. A case counts 40 (20) times only
if the number it prints is sacrebleu's.
"""

import argparse
import datetime
import os
import platform
import random
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import sacrebleu
from sacrebleu.metrics import BLEU

ROOT = Path(__file__).parents[2]


def pairs(count, seed=0):
    """Texts of 14 to 26 words of a Zipf vocabulary; a quarter of the words is replaced."""
    rng = random.Random(seed)
    words = [f"w{i}" for i in range(5000)]
    weights = [1 / (i + 2) for i in range(5000)]
    hypotheses, references = [], []
    for _ in range(count):
        reference = rng.choices(words, weights, k=rng.randint(14, 26))
        references.append(" ".join(reference))
        hypotheses.append(" ".join(w if rng.random() > 0.25 else rng.choice(words) for w in reference))
    return hypotheses, references


def write(folder, name, lines):
    path = Path(folder) / name
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def timed(call):
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin, result


def command(binary, threads, *arguments):
    environment = dict(os.environ, RAYON_NUM_THREADS=str(threads))
    return lambda: subprocess.run([binary, "bleu", *arguments], env=environment, check=True, capture_output=True, text=True).stdout.strip()


def interleaved(cases, rounds):
    times, results = {name: [] for name in cases}, {}
    for name, call in cases.items():
        results[name] = call()
    for _ in range(rounds):
        for name, call in cases.items():
            times[name].append(timed(call)[0])
    return times, results


def rows(title, cases, rounds):
    times, results = interleaved(cases, rounds)
    names = list(cases)
    base = statistics.median(times[names[0]])
    out = []
    for name in names:
        middle = statistics.median(times[name])
        out.append(f"| {title} | {name} | {1000 * middle:.1f} | {1000 * min(times[name]):.1f} – {1000 * max(times[name]):.1f} | "
                   f"{base / middle:.1f} | {results[name]} |")
    return out


def peak_memory(arguments):
    """Runs the command; its output, and its peak memory in MiB. (A child's `ru_maxrss` would begin with our own.)"""
    process = subprocess.Popen(arguments, env=dict(os.environ, RAYON_NUM_THREADS="2"), stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        try:
            found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{process.pid}/status").read_text())
        except OSError:
            break
        peak = max(peak, int(found.group(1)) if found else 0)
        time.sleep(0.01)
    return process.communicate()[0].strip(), peak / 1024


def stream(binary, folder, sizes):
    """Time and peak memory for more and more lines."""
    hypotheses, references = pairs(100_000)
    block = {"hyp": "\n".join(hypotheses) + "\n", "ref": "\n".join(references) + "\n"}
    out = []
    for size in sizes:
        files = []
        for name, text in block.items():
            path = Path(folder) / f"stream.{name}"
            with path.open("w") as file:
                for _ in range(size // 100_000):
                    file.write(text)
            files.append(str(path))
        seconds, (score, peak) = timed(lambda: peak_memory([binary, "bleu", files[1], "-i", files[0], "-b", "-w", "4"]))
        out.append(f"| {size:,} | {score} | {seconds:.1f} | {peak:.0f} |")
    return out


def processor():
    found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else None
    return f"{found.group(1) if found else platform.processor()}, {os.cpu_count()} cores seen"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default=str(ROOT / "target/release/swinseek"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stream", type=int, nargs="*", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("-o", "--out")
    args = parser.parse_args()
    version = subprocess.run([args.binary, "--version"], capture_output=True, text=True).stdout.strip()
    hypotheses, references = pairs(100_000)
    with tempfile.TemporaryDirectory() as folder:
        hyp, ref = write(folder, "hyp", hypotheses), write(folder, "ref", references)
        small = write(folder, "hyp3", hypotheses[:3000]), write(folder, "ref3", references[:3000])
        whole = {"sacrebleu": lambda: f"{sacrebleu.corpus_bleu(hypotheses, [references]).score:.4f}"}
        bootstrap = {"sacrebleu": lambda: BLEU().corpus_score(hypotheses[:3000], [references[:3000]], n_bootstrap=1000).format(4, True)}
        for threads in (1, 2):
            plural = "s" if threads > 1 else ""
            whole[f"swinseek, {threads} thread{plural}"] = command(args.binary, threads, ref, "-i", hyp, "-b", "-w", "4")
            bootstrap[f"swinseek, {threads} thread{plural}"] = command(
                args.binary, threads, small[1], "-i", small[0], "-b", "-w", "4", "--confidence")
        table = rows("100,000 pairs, 13a", whole, args.rounds) + rows("3,000 pairs, 1,000 resamples", bootstrap, args.rounds)
        memory = stream(args.binary, folder, args.stream)
    text = "\n".join([
        "# Speed of `swinseek bleu`", "",
        f"Measured on {datetime.date.today()}: {processor()}; load {os.getloadavg()[0]:.1f} at the end; {version}, "
        f"sacrebleu {sacrebleu.__version__}, Python {platform.python_version()}.",
        f"Command: `python evals/bench/bleu_speed.py -o evals/results/bleu-speed.md`, {args.rounds} rounds, cases in turn. Times of swinseek are of the",
        "whole process with its files; those of sacrebleu of the call alone.", "",
        "| task | what | median ms | range ms | times as fast | prints |", "|---|---|---|---|---|---|", *table, "",
        "A stream, two threads, the score of all lines; memory does not grow with the lines:", "",
        "| pairs | score | seconds | peak MiB |", "|---|---|---|---|", *memory, ""])
    print(text)
    if args.out:
        Path(args.out).write_text(text)


main()
