"""The decoders of `swinseek bench`, in the words of Hugging Face configurations."""

VOCABULARY = 32256

DECODERS = {
    "0.5b": dict(hidden_size=1280, num_hidden_layers=20, num_attention_heads=20, num_key_value_heads=20, intermediate_size=3584),
    "1.3b": dict(hidden_size=2048, num_hidden_layers=24, num_attention_heads=16, num_key_value_heads=16, intermediate_size=5632),
    "mla-moe": dict(hidden_size=1024, num_hidden_layers=12, num_attention_heads=8, num_key_value_heads=8, intermediate_size=2816,
                    n_routed_experts=32, num_experts_per_tok=4, n_shared_experts=2, moe_intermediate_size=768,
                    first_k_dense_replace=1, q_lora_rank=None, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64,
                    v_head_dim=128, n_group=1, topk_group=1, topk_method="greedy", norm_topk_prob=False,
                    routed_scaling_factor=1.0),
}
