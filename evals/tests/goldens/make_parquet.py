"""Writes the small Parquet files that the readers are tested on, with Arrow's own writer (pyarrow 19 or later)."""

import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

here = pathlib.Path(__file__).parent / "parquet"
here.mkdir(exist_ok=True)

# As Hugging Face writes a set of questions: pictures as {bytes, path}, several row groups.
image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
rows = 7
pictures = [{"bytes": bytes([n] * (n + 1)), "path": None} for n in range(rows)]
pictures[5] = {"bytes": None, "path": "beside.bin"}
pictures[6] = None
questions = pa.table(
    {
        "image": pa.array(pictures, image),
        "question": [f"what is {n}?" for n in range(rows)],
        "answer": ["yes" if n % 2 else "a circle" for n in range(rows)],
        "grade": pa.array([None if n == 3 else n for n in range(rows)], pa.int32()),
    }
)
pq.write_table(questions, here / "test-00000-of-00001.parquet", compression="snappy", row_group_size=3)

# Paths, several references, splits, in the other codecs.
reports = pa.table(
    {
        "id": pa.array([11, 12, 13, 14], pa.int64()),
        "image": ["a.png", "b.png", "c.png", None],
        "references": [["one", "two"], ["three"], [], ["four"]],
        "split": ["test", "train", "test", "test"],
        "score": [0.5, 1.5, 2.5, 3.5],
    }
)
for codec in ["zstd", "gzip", "none"]:
    pq.write_table(reports, here / f"reports-{codec}.parquet", compression=codec)
pq.write_table(pa.table({"image": pa.array([b"\x01", b"\x02\x03"], pa.binary()), "caption": ["x", "y"]}), here / "binary.parquet")
