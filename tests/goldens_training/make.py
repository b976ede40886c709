"""One AdamW step of two golden models, and of an adapter, in PyTorch: what `tests/training.rs` compares the trainer's step with.

    pip install torch transformers peft safetensors
    python make.py            # reads ../goldens and ../goldens_adapter, writes *.safetensors here

deepseek_v3: next-token cross-entropy of `input_ids`; swinv2: mean of last_hidden_state squared, times 0.5; adapter: the latter, by the
low-rank additions alone.
AdamW: lr 1e-3, betas (0.9, 0.95), eps 1e-5, weight decay 0.1 on tensors of two or more dimensions. The eps is large
so that a gradient that is only rounding noise (about 1e-8) moves a parameter by at most 1e-6.
"""
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import DeepseekV3ForCausalLM, Swinv2Model

torch.manual_seed(0)
torch.set_num_threads(1)


def step(model, loss, out, file="model.safetensors"):
    loss.backward()
    named = [(n, p) for n, p in model.named_parameters() if p.grad is not None]
    decayed = [p for _, p in named if p.dim() > 1]
    plain = [p for _, p in named if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-5).step()
    model.save_pretrained("tmp")  # under the published names
    tensors = load_file(f"tmp/{file}")
    tensors["loss"] = loss.detach().reshape(1)
    save_file(tensors, out)


golden = load_file("../goldens/deepseek_v3/golden.safetensors")
model = DeepseekV3ForCausalLM.from_pretrained("../goldens/deepseek_v3", attn_implementation="eager").eval()
ids = golden["input_ids"]
logits = model(ids).logits[:, :-1]
step(model, torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1)), "deepseek_v3.safetensors")

golden = load_file("../goldens/swinv2/golden.safetensors")
model = Swinv2Model.from_pretrained("../goldens/swinv2", attn_implementation="eager").eval()
hidden = model(golden["pixel_values"]).last_hidden_state
step(model, 0.5 * hidden.square().mean(), "swinv2.safetensors")

import shutil

shutil.rmtree("tmp")

base = Swinv2Model.from_pretrained("../goldens/swinv2", attn_implementation="eager")
model = PeftModel.from_pretrained(base, "../goldens_adapter/swinv2", is_trainable=True).eval()
hidden = model(pixel_values=golden["pixel_values"]).last_hidden_state
step(model, 0.5 * hidden.square().mean(), "adapter.safetensors", "adapter_model.safetensors")
