"""Low-rank adapters of PEFT on two golden models: what `fusion/tests/it/adapter.rs` compares with.

    pip install torch transformers peft safetensors
    python make.py            # reads ../goldens, writes one folder an adapter here

llama_gqa: three projections of each layer; swinv2: attention and MLP, scaled by the rank's root (`use_rslora`). `B` is drawn as well:
PEFT starts it at zero, which would change nothing.
"""
import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, Swinv2Model

torch.set_num_threads(1)


@torch.no_grad()
def adapter(case, model, config, outputs):
    torch.manual_seed(0)
    model = get_peft_model(model.eval(), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.copy_(0.2 * torch.randn_like(parameter))
    golden = outputs(model, load_file(f"../goldens/{case}/golden.safetensors"))
    model.save_pretrained(case)
    path = pathlib.Path(case) / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": f"../../goldens/{case}"}, indent=2) + "\n")
    (pathlib.Path(case) / "README.md").unlink()
    save_file({name: tensor.contiguous() for name, tensor in golden.items()}, f"{case}/golden.safetensors")


def text(model, golden):
    ids = golden["input_ids"]
    return {"input_ids": ids, "logits": model(input_ids=ids).logits}


def picture(model, golden):
    pixels = golden["pixel_values"]
    return {"pixel_values": pixels, "last_hidden_state": model(pixel_values=pixels).last_hidden_state}


adapter(
    "llama_gqa",
    LlamaForCausalLM.from_pretrained("../goldens/llama_gqa", attn_implementation="eager"),
    LoraConfig(r=3, lora_alpha=7, target_modules=["q_proj", "v_proj", "down_proj"]),
    text,
)
adapter(
    "swinv2",
    Swinv2Model.from_pretrained("../goldens/swinv2", attn_implementation="eager"),
    LoraConfig(r=4, lora_alpha=3, use_rslora=True, target_modules=["query", "key", "value", "dense", "reduction"]),
    picture,
)
