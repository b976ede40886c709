"""The golden Swin of `tests/goldens/swin` as an ONNX file: what `tests/onnx.rs` runs beside our own encoder.

    pip install torch==2.15.0 transformers==5.23.0 onnx==1.23.2 onnxscript
    python make.py            # writes model.onnx here

Outputs: `last_hidden_state (batch, tokens, dim)`, `pooler_output (batch, dim)`, and each stage before its patch merging as a
map `stages.N (batch, dim, height, width)`, the last one after the final norm.
"""
from pathlib import Path

import onnx
import torch
from transformers import SwinModel

HERE = Path(__file__).parent
FILE = HERE / "model.onnx"
swin = SwinModel.from_pretrained(HERE / "../../../../tests/goldens/swin", attn_implementation="eager").eval()


class Maps(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.swin = swin

    def forward(self, pixel_values):
        x, size = self.swin.embeddings(pixel_values)
        out = self.swin.encoder(x, size, output_hidden_states=True, output_hidden_states_before_downsampling=True)
        last = self.swin.layernorm(out.last_hidden_state)
        stages = list(out.reshaped_hidden_states[1:])
        stages[-1] = last.transpose(1, 2).reshape(stages[-1].shape)
        return (last, last.mean(1), *stages)


names = ["last_hidden_state", "pooler_output"] + [f"stages.{i}" for i in range(len(swin.config.depths))]
torch.onnx.export(
    Maps(), (torch.zeros(2, 3, 32, 32),), FILE, dynamo=False, opset_version=17,
    input_names=["pixel_values"], output_names=names,
    dynamic_axes={name: {0: "batch"} for name in ["pixel_values", *names]},
)

# Half of the file would be names of nodes and values that nobody reads.
model, short = onnx.load(FILE), {}
kept = {"pixel_values", "", *names}
rename = lambda name: name if name in kept else short.setdefault(name, f"v{len(short)}")
for node in model.graph.node:
    node.name = node.doc_string = ""
    node.input[:] = [rename(name) for name in node.input]
    node.output[:] = [rename(name) for name in node.output]
for weight in model.graph.initializer:
    weight.name = rename(weight.name)
del model.graph.value_info[:]
onnx.checker.check_model(model, full_check=True)
onnx.save(model, FILE)
