#!/usr/bin/env python3
"""llama.cpp for compare.py: one case with random weights, run once for each line on standard input, its milliseconds printed.

    pip install llama-cpp-python gguf numpy     (compiled for this machine: CMAKE_ARGS=-DGGML_NATIVE=ON, --no-binary llama-cpp-python)
    python run_llama.py --decoder 0.5b --weights q4_0 --past 512 --batch 8 [--folder DIR]

The weights are made once, in bf16, quantised by llama.cpp itself, and kept in the folder. The cache is in bf16: f16, its
default, is slower on processors like the one that evals/results/speed.md names.
"""
import argparse
import ctypes
import os
import random
import sys
import tempfile
import time

from decoders import DECODERS, VOCABULARY

BF16 = 30  # ggml's number of the type
QUANTISED = {"q8_0": 7, "q4_0": 2}  # llama.cpp's numbers of file types


def write_bf16(path, shape):
    """A model of the llama layout."""
    import gguf
    import numpy
    writer = gguf.GGUFWriter(path, "llama")
    dim, layers, heads = shape["hidden_size"], shape["num_hidden_layers"], shape["num_attention_heads"]
    writer.add_context_length(4096)
    writer.add_embedding_length(dim)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(shape["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(shape["num_key_value_heads"])
    writer.add_rope_dimension_count(dim // heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    words = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)] + [f"\u2581t{i}" for i in range(259, VOCABULARY)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words)
    writer.add_token_scores([-float(i) for i in range(VOCABULARY)])
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (VOCABULARY - 259))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    values = numpy.random.default_rng(0).standard_normal(1 << 24, dtype=numpy.float32) * 0.02

    def put(name, *size):
        if len(size) == 1:
            return writer.add_tensor(name, numpy.ones(size, numpy.float32))
        bits = (numpy.resize(values, size).view(numpy.uint32) >> 16).astype(numpy.uint16)
        writer.add_tensor(name, bits.view(numpy.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)

    put("token_embd.weight", VOCABULARY, dim)
    put("output_norm.weight", dim)
    put("output.weight", VOCABULARY, dim)
    for layer in range(layers):
        block = f"blk.{layer}."
        put(block + "attn_norm.weight", dim)
        put(block + "ffn_norm.weight", dim)
        for part in ("q", "k", "v", "output"):
            put(f"{block}attn_{part}.weight", dim, dim)
        for part in ("gate", "up"):
            put(f"{block}ffn_{part}.weight", shape["intermediate_size"], dim)
        put(block + "ffn_down.weight", dim, shape["intermediate_size"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def model_file(llama, args):
    os.makedirs(args.folder, exist_ok=True)

    def made(kind, make):
        path = os.path.join(args.folder, f"{args.decoder}-{kind}.gguf")
        if not os.path.exists(path):
            make(path + ".part")
            os.replace(path + ".part", path)
        return path

    def quantise(path):
        options = llama.llama_model_quantize_default_params()
        options.nthread, options.ftype = args.threads, QUANTISED[args.weights]
        code = llama.llama_model_quantize(full.encode(), path.encode(), options)
        if code != 0:
            sys.exit(f"llama.cpp could not quantise {full}: code {code}")

    full = made("bf16", lambda path: write_bf16(path, DECODERS[args.decoder]))
    return full if args.weights == "bf16" else made(args.weights, quantise)


class Context:
    def __init__(self, llama, args, longest):
        self.llama = llama
        options = llama.llama_model_default_params()
        self.model = llama.llama_model_load_from_file(model_file(llama, args).encode(), options)
        options = llama.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch, options.n_seq_max = longest * args.batch, 2048, 512, args.batch
        options.n_threads = options.n_threads_batch = args.threads
        options.type_k = options.type_v = BF16
        if hasattr(options, "kv_unified"):
            options.kv_unified = False
        self.context = llama.llama_init_from_model(self.model, options)
        if not self.context:
            sys.exit("llama.cpp could not make a context")
        self.batch = llama.llama_batch_init(2048, 0, 1)

    def forget(self, sequence, start):
        """Drops the tokens of a sequence from position `start` on."""
        self.llama.llama_memory_seq_rm(self.llama.llama_get_memory(self.context), sequence, start, -1)

    def run(self, tokens):
        """Of (position, sequence, whether logits are wanted), random tokens."""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for i, (position, sequence, wanted) in enumerate(tokens):
            batch.token[i], batch.pos[i] = random.randrange(300, VOCABULARY), position
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, sequence, wanted
        code = self.llama.llama_decode(self.context, batch)
        if code != 0:
            sys.exit(f"llama_decode: code {code}")
        self.llama.llama_synchronize(self.context)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", default="0.5b", choices=["0.5b", "1.3b"])
    parser.add_argument("--weights", default="bf16", choices=["bf16", *QUANTISED])
    parser.add_argument("--tokens", type=int, default=1, help="tokens of a run, of each sequence")
    parser.add_argument("--past", type=int, default=0, help="tokens that are there before")
    parser.add_argument("--batch", type=int, default=1, help="sequences")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", default=os.path.join(tempfile.gettempdir(), "swinseek-peers"))
    args = parser.parse_args()
    import llama_cpp as llama
    quiet = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(quiet, ctypes.c_void_p(0))
    llama.llama_backend_init()
    context = Context(llama, args, args.past + args.tokens + 8)
    for sequence in range(args.batch):
        if args.past:
            context.run([(position, sequence, False) for position in range(args.past)])
    positions = range(args.past, args.past + args.tokens)
    step = [(position, sequence, position == positions[-1]) for sequence in range(args.batch) for position in positions]
    print(f"llama.cpp {args.weights}", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        context.run(step)
        print((time.perf_counter() - start) * 1e3, flush=True)
        for sequence in range(args.batch):
            context.forget(sequence, args.past)


if __name__ == "__main__":
    main()
