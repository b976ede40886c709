#!/usr/bin/env python3
"""Compares a training step of the default model (forward, losses, backward, clipping, AdamW) with PyTorch's on one machine,
in one run: every round runs each program once, in turn. Prints a Markdown table of medians and ratios.

    python -m venv venv && venv/bin/pip install torch transformers
    cargo build --release
    venv/bin/python evals/peers/train_step.py [--threads 2] [--rounds 15] [f32] [bf16] [bf16-compiled]

The peer is put together from transformers' own parts (Swinv2, DeepseekV3, Mllama's cross-attention) and PyTorch's
convolutions, in the sizes of samples/model; it has as many parameters. It uses the fused AdamW, grouped products for the experts,
and whichever attention and split of the batch is fastest here: each is tried first. Its router is not balanced, which is a
little less work than ours.
"""
import argparse
import functools
import json
import os
import re
import subprocess
import sys

import compare
from compare import ROOT, table, timed

PROMPT = 8  # tokens before the answer, as in src/cli/bench/train.rs
ANSWERS = (52, 29, 76, 40, 32, 61, 36, 45)
IGNORE = -100


def config():
    with open(os.path.join(ROOT, "samples", "model", "config.json")) as file:
        return json.load(file)


def build(sizes, experts, attention):
    """The default model as a module: (pixels, ids, learnt positions) to logits there and the findings' logits."""
    import torch
    from torch import nn
    from transformers import DeepseekV3Config, DeepseekV3Model, Swinv2Config, Swinv2Model
    from transformers.models.mllama.configuration_mllama import MllamaTextConfig
    from transformers.models.mllama.modeling_mllama import MllamaCrossAttentionDecoderLayer

    vision, language, fusion = sizes["vision"], dict(sizes["language"]), sizes["fusion"]
    width = language["hidden_size"]

    class Stem(nn.Module):
        """Overlapping convolutions, each with an instance norm and GELU, to tokens."""

        def __init__(self):
            super().__init__()
            layers, inputs = [], vision["num_channels"]
            for channels, stride in zip(vision["stem"]["channels"], vision["stem"]["strides"]):
                layers += [nn.Conv2d(inputs, channels, 3, stride, 1, bias=False), nn.InstanceNorm2d(channels, affine=True), nn.GELU()]
                inputs = channels
            self.layers, self.norm = nn.Sequential(*layers), nn.LayerNorm(inputs)

        def forward(self, pixels, **_):
            x = self.layers(pixels)
            return self.norm(x.flatten(2).transpose(1, 2)), x.shape[2:]

    class Projector(nn.Module):
        """One stage's features to the decoder's width, with positions."""

        def __init__(self, stage):
            super().__init__()
            inputs, side = vision["embed_dim"] << stage, vision["image_size"] // vision["patch_size"] >> stage
            self.norm, self.linear = nn.LayerNorm(inputs), nn.Linear(inputs, width)
            self.rows, self.columns = (nn.Parameter(0.1 * torch.randn(side, width)) for _ in range(2))
            self.stage = nn.Parameter(0.1 * torch.randn(width))

        def forward(self, x):
            return self.linear(self.norm(x)) + ((self.rows[:, None] + self.columns).flatten(0, 1) + self.stage)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            fields = ("image_size", "patch_size", "num_channels", "embed_dim", "depths", "num_heads", "window_size", "mlp_ratio",
                      "qkv_bias", "hidden_act", "layer_norm_eps")
            self.vision = Swinv2Model(Swinv2Config(**{name: vision[name] for name in fields}, drop_path_rate=0.0),
                                      add_pooling_layer=False)
            self.vision.embeddings = Stem()
            self.projectors = nn.ModuleList(map(Projector, fusion["vision_stages"]))
            cross = MllamaTextConfig(hidden_size=width, num_attention_heads=fusion["num_attention_heads"],
                                     num_key_value_heads=fusion["num_key_value_heads"], intermediate_size=fusion["intermediate_size"],
                                     rms_norm_eps=language["rms_norm_eps"], attn_implementation=attention)
            self.cross = nn.ModuleDict({str(at): MllamaCrossAttentionDecoderLayer(cross, i)
                                        for i, at in enumerate(fusion["cross_attention_layers"])})
            for layer in self.cross.values():
                for gate in (layer.cross_attn_attn_gate, layer.cross_attn_mlp_gate):
                    nn.init.constant_(gate, fusion["gate_init"])
            unknown = ("model_type", "topk_method", "scoring_func", "moe_layer_freq", "rope_theta", "rope_scaling")
            text = {name: value for name, value in language.items() if name not in unknown}
            self.language = DeepseekV3Model(DeepseekV3Config(**text, attn_implementation=attention, experts_implementation=experts))
            self.findings = nn.Linear(width, len(fusion["findings_head"]["classes"]))
            nn.init.constant_(self.findings.bias, -4.6)

        def forward(self, pixels, ids, learnt):
            x, grid = self.vision.embeddings(pixels)
            encoded = self.vision.encoder(x, grid, output_hidden_states=True, output_hidden_states_before_downsampling=True)
            stages = list(encoded.hidden_states[1:])
            stages[-1] = self.vision.layernorm(stages[-1])
            memory = [project(stages[stage]) for project, stage in zip(self.projectors, fusion["vision_stages"])]
            findings = self.findings(memory[0])
            memory = torch.cat(memory, 1)
            x = self.language.embed_tokens(ids)
            places = torch.arange(ids.shape[1])[None]
            angles = self.language.rotary_emb(x, places)
            for index, layer in enumerate(self.language.layers):
                if str(index) in self.cross:
                    x = self.cross[str(index)](x, memory, None, None, None)
                # Rows are padded on the right: what is learnt sees no padding. Without a mask SDPA takes its causal path.
                x = layer(x, attention_mask=causal, position_ids=places, position_embeddings=angles)
            x = self.language.norm(x).flatten(0, 1)[learnt]
            return x @ self.language.embed_tokens.weight.T, findings

    causal = None
    if attention == "eager":
        length = PROMPT + max(ANSWERS) - 1
        causal = torch.full((length, length), float("-inf")).triu(1)[None, None]
    torch.manual_seed(0)
    return Model().train()


def data(sizes, micro_batches):
    """The batch of src/cli/bench/train.rs: made-up pixels and tokens in the shapes of eight reports, one finding an image."""
    import torch
    torch.manual_seed(0)
    rows, length = micro_batches * len(ANSWERS), PROMPT + max(ANSWERS) - 1
    size, vocabulary = sizes["vision"]["image_size"], sizes["language"]["vocab_size"]
    pixels = torch.rand(rows, sizes["vision"]["num_channels"], size, size) * 2 - 1
    ids = torch.randint(vocabulary, (rows, length))
    learnt = [row * length + place for row in range(rows) for place in range(PROMPT - 1, PROMPT + ANSWERS[row % len(ANSWERS)] - 1)]
    targets = torch.randint(vocabulary, (len(learnt),))
    cells = (size // sizes["vision"]["patch_size"] >> sizes["fusion"]["vision_stages"][0]) ** 2
    shape = (rows, cells, len(sizes["fusion"]["findings_head"]["classes"]))
    positive, negative = torch.zeros(shape), torch.ones(shape)
    positive[:, 64:68, 0], negative[:, 64:68, 0] = 0.25, 0
    return pixels, ids, torch.tensor(learnt), targets, positive / rows, negative / rows


def focal(logits, positive, negative):
    """Lin et al. 2017, γ = 2, as src/train/findings.rs."""
    import torch.nn.functional as F
    logits = logits.float()
    present = logits.sigmoid()
    return (positive * (1 - present) ** 2 * F.softplus(-logits) + negative * present ** 2 * F.softplus(logits)).sum()


def stepper(model, batch, dtype, parts=1, compiled=False):
    """A step as a callable; `parts` accumulate their gradients, for comparison with one large batch."""
    import torch
    import torch.nn.functional as F
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in parameters if (p.ndim > 1) == matrix], "weight_decay": 0.1 * matrix} for matrix in (True, False)]
    optimizer = torch.optim.AdamW(groups, lr=5e-5, betas=(0.9, 0.95), eps=1e-8, fused=True)
    pixels, ids, learnt, targets, positive, negative = batch

    def loss(pixels, ids, learnt, targets, positive, negative):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits, findings = model(pixels, ids, learnt)
        return F.cross_entropy(logits.float(), targets) + focal(findings, positive, negative)

    forward = torch.compile(loss) if compiled else loss
    shares = [part.chunk(parts) for part in (pixels, ids, learnt % (ids.numel() // parts), targets, positive, negative)]
    shares = list(zip(*shares))

    def step():
        optimizer.zero_grad(set_to_none=True)
        for share in shares:
            (forward(*share) / parts).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
    return step


def fastest(sizes, batch, dtype, log):
    """The fastest of the ways to compute the attention, with or without accumulation. `grouped_mm` was the fastest way to compute
    the experts, in float32: autocast leaves it alone, and with weights cast to bf16 the step took longer."""
    best, experts = None, "grouped_mm"
    for attention, parts in (("sdpa", 1), ("eager", 1), ("eager", 2)):
        try:
            run = timed(stepper(build(sizes, experts, attention), batch, dtype, parts))
            run()
            time = min(run() for _ in range(2))
        except Exception as error:  # a way that this version does not have
            print(f"{experts}, {attention}: {type(error).__name__}: {str(error)[:100]}", file=sys.stderr)
            continue
        log(f"{dtype} {experts} experts, {attention} attention, {parts} part{'s' * (parts > 1)}: {time:.0f} ms")
        if best is None or time < best[0]:
            best = time, (experts, attention), parts
    return best[1], best[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=["f32", "bf16", "bf16-compiled"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--swinseek", default=os.path.join(ROOT, "target", "release", "swinseek"))
    parser.add_argument("--way", metavar="EXPERTS,ATTENTION,PARTS", help="do not look for the fastest way")
    args = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch
    torch.set_num_threads(args.threads)
    sizes = config()
    ours = compare.ours(args, "train step")
    micro_batches = int(re.search(r"(\d+) x", ours.name)[1])
    batch = data(sizes, micro_batches)
    log = functools.partial(print, file=sys.stderr, flush=True)
    inspected = subprocess.run([args.swinseek, "inspect", "--json", os.path.join(ROOT, "samples", "model")], capture_output=True, text=True)
    print(compare.machine(args.threads, "torch", "transformers"))
    cases = {"swinseek bf16": ours}
    for variant in args.variants:
        name, compiled = variant.removesuffix("-compiled"), variant.endswith("-compiled")
        dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[name]
        if args.way:
            experts, attention, parts = args.way.split(",")
            way, parts = (experts, attention), int(parts)
        elif not compiled:
            way, parts = fastest(sizes, batch, dtype, log)
        model = build(sizes, *way)
        run = timed(stepper(model, batch, dtype, parts, compiled))
        label = f"PyTorch {name}{' autocast' * (name != 'f32')}{', compiled' * compiled} ({way[0]}, {way[1]}, {parts} x {len(batch[1]) // parts})"
        try:
            log(f"{label}: first step {run():.0f} ms")
            cases[label] = run
        except Exception as error:
            log(f"{label}: {type(error).__name__}: {str(error)[:300]}")
    counts = sum(p.numel() for p in model.parameters())
    print(f"Parameters: {json.loads(inspected.stdout)['parameters']} ours, {counts} PyTorch's\n")
    print("| case | program | median ms | middle half | times ours |\n|---|---|---|---|---|", flush=True)
    table(ours.name, cases, args.rounds)
    ours.close()


if __name__ == "__main__":
    main()
