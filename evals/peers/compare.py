#!/usr/bin/env python3
"""Compares `swinseek bench` with its peers on one machine, in one run: every round runs each program once, in turn, so
that whatever disturbs the machine hits all alike. Prints a Markdown table of medians and ratios.

    python -m venv venv && venv/bin/pip install torch timm transformers openvino onnx onnxscript
    cargo build --release
    venv/bin/python evals/peers/compare.py [--threads 2] [--rounds 15] [swin] [prefill] [decode] [caption]

Weights are random on both sides: speed does not depend on them. Peers that are not installed are left out.
"""
import argparse
import contextlib
import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Ours:
    """A row of `swinseek bench --on-demand`: one run for each line."""

    def __init__(self, args, name, *flags):
        command = [args.swinseek, "bench", "--on-demand", "--filter", name, *flags]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.name = self.process.stdout.readline().strip()

    def __call__(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def timed(call):
    """A Python callable as a function that returns its milliseconds."""
    def run():
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e3
    return run


def table(title, cases, rounds, budget=90.0):
    """Runs the cases in turn; the first of them is ours and the others are compared with it."""
    times = {name: [] for name in cases}
    for case in cases.values():
        case()
        case()
    start = time.perf_counter()
    for turn in range(rounds):
        for name, case in cases.items():
            times[name].append(case())
        if turn >= 4 and time.perf_counter() - start > budget:
            break
    ours = statistics.median(next(iter(times.values())))
    for name, values in times.items():
        values.sort()
        median = statistics.median(values)
        low, high = values[len(values) // 4], values[-1 - len(values) // 4]
        print(f"| {title} | {name} | {median:.1f} | {low:.1f} - {high:.1f} | {median / ours:.2f} |", flush=True)


def swin(args):
    import torch
    sizes = [("swin-t", "swin_tiny_patch4_window7_224"), ("swin-b", "swin_base_patch4_window7_224")]
    for name, model_name in sizes:
        import timm
        torch.manual_seed(0)
        model = timm.create_model(model_name, pretrained=False, num_classes=0, global_pool="").eval()
        for batch in (1, 8):
            ours = Ours(args, f"{name} 224, batch {batch}")
            cases = {f"swinseek bf16": ours}
            pixels = torch.randn(batch, 3, 224, 224)
            with contextlib.suppress(ImportError):
                cases["OpenVINO bf16"] = openvino(args, model, pixels)
            low, small = model.to(torch.bfloat16), pixels.to(torch.bfloat16)
            with torch.inference_mode():
                cases["timm eager bf16"] = timed(lambda: low(small))
                table(f"{name} 224, batch {batch}", cases, args.rounds)
            model.to(torch.float32)
            ours.close()


def openvino(args, model, pixels):
    import openvino
    import torch
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "swin.onnx")
        torch.onnx.export(model.float(), (pixels,), path, input_names=["x"], output_names=["y"], opset_version=17, dynamo=False)
        core = openvino.Core()
        network = core.read_model(path)
        options = {"INFERENCE_NUM_THREADS": args.threads, "INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY",
                   "ENABLE_CPU_PINNING": False}
        request = core.compile_model(network, "CPU", options).create_infer_request()
    data = pixels.numpy()
    return timed(lambda: request.infer({0: data}))


DECODERS = {
    "0.5b": dict(hidden_size=1280, num_hidden_layers=20, num_attention_heads=20, num_key_value_heads=20, intermediate_size=3584),
    "1.3b": dict(hidden_size=2048, num_hidden_layers=24, num_attention_heads=16, num_key_value_heads=16, intermediate_size=5632),
    "mla-moe": dict(hidden_size=1024, num_hidden_layers=12, num_attention_heads=8, num_key_value_heads=8, intermediate_size=2816,
                    n_routed_experts=32, num_experts_per_tok=4, n_shared_experts=2, moe_intermediate_size=768,
                    first_k_dense_replace=1, q_lora_rank=None, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64,
                    v_head_dim=128, n_group=1, topk_group=1, topk_method="greedy", norm_topk_prob=False,
                    routed_scaling_factor=1.0),
}


def decoder(name):
    import torch
    from transformers import AutoModelForCausalLM, DeepseekV2Config, LlamaConfig
    kind = DeepseekV2Config if name == "mla-moe" else LlamaConfig
    config = kind(vocab_size=32256, max_position_embeddings=4096, tie_word_embeddings=False, **DECODERS[name])
    torch.set_default_dtype(torch.bfloat16)
    model = AutoModelForCausalLM.from_config(config).eval()
    torch.set_default_dtype(torch.float32)
    return model


def language(args, what, tokens, past, batches):
    """Prompts (`past` 0) or single tokens behind a prompt."""
    import torch
    for name in args.decoders:
        with torch.inference_mode():
            model = decoder(name)
            for batch in batches:
                row = f"decoder {name} {{}}: {what}" + (f", batch {batch}" if batch > 1 else "")
                flags = {"bf16": [], "int8": ["--precision", "int8"], "int4": ["--precision", "int4"]}
                ours = {f"swinseek {p}": Ours(args, row.format(p), *flags[p]) for p in args.precisions}
                ids = torch.randint(300, 32000, (batch, tokens))
                cache = None
                if past:
                    from transformers import DynamicCache
                    cache = DynamicCache()
                    model(torch.randint(300, 32000, (batch, past)), past_key_values=cache, use_cache=True, logits_to_keep=1)

                def step():
                    model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                    if cache is not None:
                        cache.crop(-tokens)
                table(row.format("").replace(" :", ":"), {**ours, "transformers bf16": timed(step)}, args.rounds)
                for process in ours.values():
                    process.close()
            del model


def caption(args):
    import torch
    from transformers import DonutSwinConfig, DonutSwinModel, MBartConfig, MBartForCausalLM, VisionEncoderDecoderModel
    torch.manual_seed(0)
    encoder = DonutSwinModel(DonutSwinConfig(image_size=224, window_size=7, embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32]))
    text = MBartForCausalLM(MBartConfig(d_model=1024, decoder_layers=4, decoder_ffn_dim=4096, decoder_attention_heads=16, vocab_size=57532,
                                        is_decoder=True, add_cross_attention=True, scale_embedding=True, add_final_layer_norm=True))
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=text).eval().to(torch.bfloat16)
    for settings in (model.generation_config, model.config):
        settings.decoder_start_token_id, settings.pad_token_id, settings.eos_token_id = 0, 2, 2
    pixels = torch.randn(1, 3, 224, 224, dtype=torch.bfloat16)
    for what, tokens in (("first token", 1), ("60 tokens", 60)):
        flags = {"bf16": [], "int8": ["--precision", "int8"]}
        ours = {f"swinseek {p}": Ours(args, f"caption, swin-b + mbart {p}: {what}", *f) for p, f in flags.items()}

        def run():
            with torch.inference_mode():
                model.generate(pixel_values=pixels, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, num_beams=1)
        table(f"caption: {what}", {**ours, "transformers bf16": timed(run)}, args.rounds)
        for process in ours.values():
            process.close()


def machine(threads, *packages):
    """The day, the processor and the versions of what is installed."""
    versions = []
    for name in packages:
        with contextlib.suppress(Exception):
            versions.append(f"{name} {__import__(name).__version__}")
    with open("/proc/cpuinfo") as info:
        model = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.processor())
    return f"{datetime.date.today()}, {model}, {threads} threads, Python {platform.python_version()}, {', '.join(versions)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["swin", "prefill", "decode", "caption"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--swinseek", default=os.path.join(ROOT, "target", "release", "swinseek"))
    parser.add_argument("--decoders", nargs="*", default=list(DECODERS), choices=list(DECODERS))
    parser.add_argument("--precisions", nargs="*", default=["bf16", "int8", "int4"], choices=["bf16", "int8", "int4"])
    args = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch
    torch.set_num_threads(args.threads)
    print(machine(args.threads, "torch", "timm", "transformers", "openvino") + "\n")
    print("| case | program | median ms | middle half | times ours |\n|---|---|---|---|---|", flush=True)
    for part in args.parts:
        if part == "swin":
            swin(args)
        elif part == "prefill":
            language(args, "prefill 512", 512, 0, [1])
        elif part == "decode":
            language(args, "decode at 512", 1, 512, [1, 8])
        elif part == "caption":
            caption(args)
        else:
            sys.exit(f"{part}: expected swin, prefill, decode or caption")


if __name__ == "__main__":
    main()
