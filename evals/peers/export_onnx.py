#!/usr/bin/env python3
"""Writes an encoder of timm as an ONNX file that `swinseek bench --onnx` runs beside our own.

    python -m venv venv && venv/bin/pip install torch timm onnx onnxruntime
    venv/bin/python evals/peers/export_onnx.py swin_tiny_patch4_window7_224 swin-t.onnx [--batch 8]
    cargo run --release --features onnx -- bench --onnx swin-t.onnx \\
        --onnx-library venv/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.*

Weights are random: speed does not depend on them.
"""
import argparse

import timm
import torch


class Encoder(torch.nn.Module):
    """Features as (batch, tokens, dim), whatever their layout in timm."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixels):
        features = self.model(pixels)
        return features.flatten(1, 2) if features.dim() == 4 else features


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="timm's name of a Swin or ViT")
    parser.add_argument("file")
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(0)
    model = timm.create_model(args.model, pretrained=False, num_classes=0, global_pool="").eval()
    pixels = torch.randn(args.batch, *model.default_cfg["input_size"])
    torch.onnx.export(Encoder(model), (pixels,), args.file, input_names=["pixel_values"], output_names=["last_hidden_state"],
                      opset_version=17, dynamo=False)


if __name__ == "__main__":
    main()
