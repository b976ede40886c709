"""A tiny llama as GGUF with tensors of many types, and what transformers makes of it: the goldens of `tests/it/gguf.rs`.

    pip install gguf torch transformers accelerate safetensors
    python make.py            # writes llama.gguf, golden.safetensors and parameters.safetensors here

The file is written by the `gguf` package with llama.cpp's names and its order of query and key rows; transformers reads
it back by its own code. `golden` holds its `logits` for `input_ids`, `parameters` the product of each parameter with
cos(0), cos(1), ... along the last dimension, in f64: all of a parameter's values count, in little space.
"""
import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

HIDDEN, HEADS, KV_HEADS, INNER, LAYERS, VOCAB = 32, 4, 2, 256, 2, 48
rng = np.random.default_rng(0)
writer = gguf.GGUFWriter("llama.gguf", "llama")
writer.add_vocab_size(VOCAB)
writer.add_context_length(128)
writer.add_embedding_length(HIDDEN)
writer.add_block_count(LAYERS)
writer.add_feed_forward_length(INNER)
writer.add_head_count(HEADS)
writer.add_head_count_kv(KV_HEADS)
writer.add_rope_dimension_count(HIDDEN // HEADS)
writer.add_rope_freq_base(5000.0)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_bos_token_id(1)
writer.add_eos_token_id(2)


def permuted(w, heads):
    """llama.cpp's order of the rows of a head: rotated pairs side by side (convert_hf_to_gguf.py, LlamaModel.permute)."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def q4_k(rows, columns):
    """Blocks of 256: d, dmin, twelve bytes of 6-bit scales and minima, 128 bytes of values. Random ones are as good."""
    blocks = rows * columns // 256
    d = rng.uniform(2e-4, 6e-4, (blocks, 2)).astype(np.float16) * np.array([1, 6], np.float16)
    raw = rng.integers(0, 256, (blocks, 140), dtype=np.uint8)
    return np.concatenate([d.view(np.uint8), raw], axis=1).reshape(rows, -1)


def add(name, shape, kind, heads=None):
    if kind == T.Q4_K:
        writer.add_tensor(name, q4_k(*shape), raw_dtype=kind)
        return
    w = rng.normal(0, 0.3 if len(shape) > 1 else 0.2, shape).astype(np.float32)
    w = w + 1 if len(shape) == 1 else w
    w = permuted(w, heads) if heads else w
    writer.add_tensor(name, w if kind == T.F32 else gguf.quants.quantize(w, kind), raw_dtype=kind)


add("token_embd.weight", (VOCAB, HIDDEN), T.F16)
add("output_norm.weight", (HIDDEN,), T.F32)
add("output.weight", (VOCAB, HIDDEN), T.Q8_0)
for i in range(LAYERS):
    add(f"blk.{i}.attn_norm.weight", (HIDDEN,), T.F32)
    add(f"blk.{i}.attn_q.weight", (HIDDEN, HIDDEN), T.Q4_0, HEADS)
    add(f"blk.{i}.attn_k.weight", (HIDDEN // HEADS * KV_HEADS, HIDDEN), T.BF16, KV_HEADS)
    add(f"blk.{i}.attn_v.weight", (HIDDEN // HEADS * KV_HEADS, HIDDEN), T.Q8_0)
    add(f"blk.{i}.attn_output.weight", (HIDDEN, HIDDEN), T.Q4_0)
    add(f"blk.{i}.ffn_norm.weight", (HIDDEN,), T.F32)
    add(f"blk.{i}.ffn_gate.weight", (INNER, HIDDEN), T.Q4_0)
    add(f"blk.{i}.ffn_up.weight", (INNER, HIDDEN), T.Q4_0)
    add(f"blk.{i}.ffn_down.weight", (HIDDEN, INNER), T.Q4_K)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

model = LlamaForCausalLM.from_pretrained(".", gguf_file="llama.gguf", dtype=torch.float32).eval()
ids = torch.tensor([[1, 7, 33, 20, 5, 5, 47, 12, 0, 9]])
with torch.no_grad():
    save_file({"input_ids": ids, "logits": model(ids).logits}, "golden.safetensors")
parameters = {}
for name, w in model.state_dict().items():
    w = w.double()
    parameters[name] = (w @ torch.cos(torch.arange(w.shape[-1], dtype=torch.float64))).reshape(-1)
save_file(parameters, "parameters.safetensors")
