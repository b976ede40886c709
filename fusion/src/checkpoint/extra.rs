//! Stored tensors that no layer asks for, and are no sign of a wrong checkpoint.

use serde_json::Value;

/// Buffers that older files keep although they follow from the configuration.
const BUFFERS: [&str; 7] = [
    "relative_position_index",
    "relative_coords_table",
    "attn_mask",
    "rotary_emb.inv_freq",
    "position_ids",
    "num_batches_tracked",
    "masked_bias",
];

/// Whether `name` may be in a file without being read.
pub(super) fn is_known_leftover(name: &str, config: &Value) -> bool {
    let buffer =
        |suffix: &&str| name.strip_suffix(*suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    BUFFERS.iter().any(buffer) || is_tied_head(name, config) || is_next_token_layer(name, config)
}

/// A tied head may be stored beside the embedding that it equals. mBART ties unless its file says otherwise.
fn is_tied_head(name: &str, config: &Value) -> bool {
    let tied = |part: &str, default: bool| {
        let flag = config.pointer(&format!("{part}/tie_word_embeddings"));
        flag.and_then(Value::as_bool).unwrap_or(default)
    };
    let mbart = config.pointer("/decoder/model_type").and_then(Value::as_str) == Some("mbart");
    name.ends_with("lm_head.weight")
        && (tied("", false) || tied("/language", false) || tied("/decoder", mbart))
}

/// Multi-token-prediction layers stand behind the last decoder layer (DeepSeek-V3) and are not run.
fn is_next_token_layer(name: &str, config: &Value) -> bool {
    let number = |field: &str| config.get(field).and_then(Value::as_u64).unwrap_or(0);
    let layer =
        name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse::<u64>().ok());
    let (layers, extra) = (number("num_hidden_layers"), number("num_nextn_predict_layers"));
    layer.is_some_and(|layer| (layers..layers + extra).contains(&layer))
}
