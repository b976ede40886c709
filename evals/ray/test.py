"""The run on Ray against the single process: every file of the result directory, byte for byte.

    python test.py target/release/swinseek

`speed` and `hardware` of result.json are left out of the comparison: they are where the run was, not what it found.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent


def main():
    binary = str(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/release/swinseek").resolve())
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        data, single, sharded = (str(root / name) for name in ("data", "single", "ray"))
        subprocess.run([binary, "phantom", "--count", "12", "--seed", "5", "--out", data,
                        "--split", "train:0.25,test:0.75"], check=True, stdout=subprocess.DEVNULL)
        flags = ["--data", data, "--metric", "bleu,chrf"]
        subprocess.run([binary, "eval", *flags, "--out", single, "--json"], check=True, stdout=subprocess.DEVNULL)
        driver = [sys.executable, str(HERE / "run.py"), "--binary", binary, "--shards", "3", "--out", sharded, "--"]
        subprocess.run([*driver, *flags], check=True, stdout=subprocess.DEVNULL)
        for name in ("run.json", "hypotheses.jsonl", "shard.json"):
            assert (root / "single" / name).read_bytes() == (root / "ray" / name).read_bytes(), name
        results = [json.loads((root / run / "result.json").read_text()) for run in ("single", "ray")]
        for result in results:
            result.pop("speed", None)
            result.pop("hardware", None)
        assert json.dumps(results[0]) == json.dumps(results[1]), "result.json"
        bleu = results[0]["scores"]["bleu"]
        print(f"equal: BLEU {bleu['score']:.4f} [{bleu['interval']['low']:.4f}, {bleu['interval']['high']:.4f}], "
              f"n = {results[0]['data']['n']}, 3 shards on Ray")


if __name__ == "__main__":
    main()
