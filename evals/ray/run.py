"""Runs `swinseek eval` in shards on Ray: one task a shard, then `eval merge`.

    python run.py --shards 4 --out results -- --data phantoms --metric bleu

Everything behind `--` goes to `swinseek eval` as it is. The result is that of the undivided run, interval included.
"""

import argparse
import pathlib
import subprocess
import sys

import ray


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="swinseek", help="the swinseek binary, at the same path on every node")
    parser.add_argument("--shards", type=int, default=2, help="parts of the run")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="result directory, seen by every node")
    parser.add_argument("--address", help="an existing cluster, such as auto; without it a local one is started")
    parser.add_argument("--workers", type=int, default=2, help="workers of the local cluster")
    parser.add_argument("--cpus", type=float, default=1, help="processors that a shard asks for")
    parser.add_argument("eval", nargs=argparse.REMAINDER, metavar="-- …", help="flags of swinseek eval")
    options = parser.parse_args()
    options.eval = [flag for flag in options.eval if flag != "--"]
    return options


def evaluate(binary, flags, shard, out, threads):
    """One shard; run again by Ray after a node is lost, it goes on where its answers end."""
    import os

    command = [binary, "eval", *flags, "--shard", shard, "--out", out, "--json"]
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    return shard, out, done.returncode, done.stderr.strip()


def main():
    options = arguments()
    if options.address:
        ray.init(address=options.address, log_to_driver=False)
    else:
        ray.init(num_cpus=options.workers, include_dashboard=False, log_to_driver=False)
    out = options.out.resolve()
    task = ray.remote(num_cpus=options.cpus)(evaluate)
    threads = max(1, int(options.cpus))
    parts = [(f"{index}/{options.shards}", str(out / f"shard-{index}")) for index in range(1, options.shards + 1)]
    running = [task.remote(options.binary, options.eval, shard, part, threads) for shard, part in parts]
    failed = False
    while running:
        ready, running = ray.wait(running)
        shard, part, code, errors = ray.get(ready[0])
        print(f"shard {shard}: {part}" if code == 0 else f"shard {shard}: exit code {code}: {errors}", file=sys.stderr)
        failed |= code != 0
    merge = [options.binary, "eval", "merge", *(part for _, part in parts), "--out", str(out), "--json"]
    return subprocess.run(merge).returncode or int(failed)


if __name__ == "__main__":
    sys.exit(main())
