//! Sizes and routing rule of a mixture of experts.

use swinseek_kernels::Result;

use super::{ModelType, fields::Fields};

/// More experts than this are a damaged file.
const MAX_EXPERTS: usize = 1 << 16;

/// How router logits become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scoring {
    /// Over all experts.
    Softmax,
    /// Each expert for itself.
    Sigmoid,
}

/// How experts are chosen by their scores (`topk_method`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// `greedy`: the best of all.
    Greedy,
    /// `group_limited_greedy`: the best within the `kept` groups of the highest maximum (V2).
    GroupLimited {
        /// Groups that the experts are divided into, in order.
        groups: usize,
        /// Groups that a token may use.
        kept: usize,
    },
    /// `noaux_tc`: score plus a learned bias decides; groups are ranked by the sum of their two best (V3).
    NoAux {
        /// Groups that the experts are divided into, in order.
        groups: usize,
        /// Groups that a token may use.
        kept: usize,
    },
}

/// A mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct MoeConfig {
    /// Routed experts.
    pub num_experts: usize,
    /// Experts per token.
    pub top_k: usize,
    /// Width of one expert's SwiGLU.
    pub intermediate_size: usize,
    /// Width of the SwiGLU that every token passes, if there is one.
    pub shared_intermediate_size: Option<usize>,
    /// Router scores.
    pub scoring: Scoring,
    /// Choice of experts.
    pub selection: Selection,
    /// Whether a token's weights are divided by their sum.
    pub norm_topk_prob: bool,
    /// What the weights are multiplied by in the end.
    pub routed_scaling_factor: f64,
}

#[derive(Clone, Copy)]
enum Method {
    Greedy,
    GroupLimited,
    NoAux,
}

impl MoeConfig {
    /// `None` for a decoder without experts.
    pub(super) fn read(fields: &Fields, model_type: ModelType) -> Result<Option<Self>> {
        let v3 = model_type.is_v3();
        let default = match model_type {
            ModelType::Llama | ModelType::MllamaText => return Ok(None),
            ModelType::Deepseek => None,
            ModelType::DeepseekV3 | ModelType::DeepseekV32 => Some(256),
            ModelType::DeepseekV2 | ModelType::DeepseekOcr2Text => Some(64),
        };
        let Some(num_experts) = fields.nullable_size("n_routed_experts", default)? else {
            return Ok(None);
        };
        if num_experts > MAX_EXPERTS {
            return Err(fields.error("n_routed_experts", &format!("at most {MAX_EXPERTS}")));
        }
        let top_k = fields.size("num_experts_per_tok")?;
        let selection = read_selection(fields, v3, num_experts)?;
        let reachable = match selection {
            Selection::Greedy => num_experts,
            Selection::GroupLimited { groups, kept } | Selection::NoAux { groups, kept } => {
                num_experts / groups * kept
            }
        };
        if top_k > reachable {
            return Err(
                fields.error("num_experts_per_tok", &format!("at most the {reachable} experts within reach"))
            );
        }
        let scorings = [("softmax", Scoring::Softmax), ("sigmoid", Scoring::Sigmoid)];
        let scoring = fields.choice("scoring_func", &scorings)?;
        let scoring = scoring.unwrap_or(if v3 { Scoring::Sigmoid } else { Scoring::Softmax });
        let intermediate_size = fields.size("moe_intermediate_size")?;
        let shared = match (fields.has("n_shared_experts"), model_type) {
            (true, _) => fields.count("n_shared_experts")?.unwrap_or(0),
            (false, ModelType::DeepseekV2 | ModelType::DeepseekOcr2Text) => 2,
            (false, _) => usize::from(v3),
        };
        // The transformers classes with a softmax router, which write `rope_parameters`, ignore norm_topk_prob;
        // the code that older files were published with divides.
        let ignored = scoring == Scoring::Softmax && fields.has("rope_parameters");
        Ok(Some(Self {
            num_experts,
            top_k,
            intermediate_size,
            shared_intermediate_size: (shared > 0).then_some(shared * intermediate_size),
            scoring,
            selection,
            norm_topk_prob: fields.flag_or("norm_topk_prob", v3)? && !ignored,
            routed_scaling_factor: fields.positive_or("routed_scaling_factor", if v3 { 2.5 } else { 1.0 })?,
        }))
    }
}

fn read_selection(fields: &Fields, v3: bool, num_experts: usize) -> Result<Selection> {
    let methods = [
        ("greedy", Method::Greedy),
        ("group_limited_greedy", Method::GroupLimited),
        ("noaux_tc", Method::NoAux),
    ];
    let method = fields.choice("topk_method", &methods)?;
    let method = method.unwrap_or(if v3 { Method::NoAux } else { Method::Greedy });
    if matches!(method, Method::Greedy) {
        return Ok(Selection::Greedy);
    }
    let groups = fields.nullable_size("n_group", v3.then_some(8))?.unwrap_or(1);
    let kept = fields.nullable_size("topk_group", v3.then_some(groups.min(4)))?.unwrap_or(1);
    if !num_experts.is_multiple_of(groups) {
        return Err(fields.error("n_group", &format!("a divisor of n_routed_experts = {num_experts}")));
    }
    if kept > groups {
        return Err(fields.error("topk_group", &format!("at most n_group = {groups}")));
    }
    Ok(match method {
        Method::NoAux => Selection::NoAux { groups, kept },
        _ => Selection::GroupLimited { groups, kept },
    })
}
