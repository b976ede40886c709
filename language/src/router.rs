//! Which experts a token goes to, and with what weights.

use candle_core::{D, Tensor};
use swinseek_kernels::{Init, Precision, Result, Weights, layers::Linear, ops::activation::softmax};

use crate::{
    config::{MoeConfig, Scoring, Selection},
    top_k::top_k,
};

/// Keeps the division by a sum of weights finite.
const NORM_EPS: f64 = 1e-20;

#[derive(Debug)]
pub(crate) struct Router {
    weight: Linear,
    /// `e_score_correction_bias`, which moves the choice but not the weights. The trainer's balancing sets it.
    bias: Option<Tensor>,
    config: MoeConfig,
}

/// The outcome for a batch of `N` tokens.
pub(crate) struct Routing {
    /// `top_k` experts of each token, ascending, `N · top_k` in all.
    pub(crate) experts: Vec<u32>,
    /// Their weights `(N, top_k)`; gradients flow through them.
    pub(crate) weights: Tensor,
    /// Scores of all experts, `(N, experts)`.
    pub(crate) scores: Tensor,
}

impl Router {
    /// Reads `weight (experts, dim)` and, for `noaux_tc`, `e_score_correction_bias (experts)`.
    pub(crate) fn new(dim: usize, config: &MoeConfig, w: &Weights) -> Result<Self> {
        let weight = w.get(&[config.num_experts, dim], "weight")?;
        let bias = match config.selection {
            Selection::NoAux { .. } => {
                Some(w.get_init(&[config.num_experts], "e_score_correction_bias", Init::Const(0.0))?)
            }
            _ => None,
        };
        // Routing is a choice: it stays in f32 whatever the precision of the rest.
        Ok(Self { weight: Linear::from_parts(weight, None, Precision::F32), bias, config: config.clone() })
    }

    /// Routes `x (N, dim)`.
    pub(crate) fn route(&self, x: &Tensor) -> Result<Routing> {
        let logits = self.weight.forward(x)?;
        let scores = match self.config.scoring {
            Scoring::Softmax => softmax(&logits)?,
            // σ(x) = (1 + tanh(x / 2)) / 2 has a finite gradient everywhere.
            Scoring::Sigmoid => (((logits * 0.5)?.tanh()? + 1.0)? * 0.5)?,
        };
        let experts = self.select(&scores)?;
        let n = scores.dim(0)?;
        let index = Tensor::from_slice(&experts, (n, self.config.top_k), x.device())?;
        let mut weights = scores.gather(&index, D::Minus1)?;
        if self.config.norm_topk_prob {
            weights = weights.broadcast_div(&(weights.sum_keepdim(D::Minus1)? + NORM_EPS)?)?;
        }
        if self.config.routed_scaling_factor != 1.0 {
            weights = (weights * self.config.routed_scaling_factor)?;
        }
        Ok(Routing { experts, weights, scores })
    }

    fn select(&self, scores: &Tensor) -> Result<Vec<u32>> {
        let mut scores: Vec<f32> = scores.detach().flatten_all()?.to_vec1()?;
        let e = self.config.num_experts;
        if let Some(bias) = &self.bias {
            let bias: Vec<f32> = bias.detach().to_vec1()?;
            for row in scores.chunks_mut(e) {
                row.iter_mut().zip(&bias).for_each(|(score, bias)| *score += bias);
            }
        }
        Ok(scores.chunks_mut(e).flat_map(|row| select_experts(row, &self.config)).collect())
    }
}

/// The experts of one token by its scores, ascending.
fn select_experts(scores: &mut [f32], config: &MoeConfig) -> Vec<u32> {
    let (groups, kept, best): (_, _, fn(&[f32]) -> f32) = match config.selection {
        Selection::Greedy => return top_k(scores, config.top_k),
        Selection::GroupLimited { groups, kept } => (groups, kept, max),
        Selection::NoAux { groups, kept } => (groups, kept, sum_of_two_best),
    };
    if kept < groups {
        let size = scores.len() / groups;
        let ranking: Vec<f32> = scores.chunks(size).map(best).collect();
        let kept = top_k(&ranking, kept);
        for (group, scores) in scores.chunks_mut(size).enumerate() {
            if !kept.contains(&(group as u32)) {
                scores.fill(f32::NEG_INFINITY);
            }
        }
    }
    top_k(scores, config.top_k)
}

fn max(scores: &[f32]) -> f32 {
    scores.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

fn sum_of_two_best(scores: &[f32]) -> f32 {
    top_k(scores, 2).iter().map(|&i| scores[i as usize]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(selection: Selection, top_k: usize) -> MoeConfig {
        MoeConfig {
            num_experts: 6,
            top_k,
            intermediate_size: 1,
            shared_intermediate_size: None,
            scoring: Scoring::Sigmoid,
            selection,
            norm_topk_prob: true,
            routed_scaling_factor: 1.0,
        }
    }

    #[test]
    fn groups_are_ranked_by_their_best_or_their_two_best() {
        let scores = [0.9, 0.1, 0.6, 0.6, 0.2, 0.3];
        let by_best = config(Selection::GroupLimited { groups: 3, kept: 1 }, 2);
        assert_eq!(select_experts(&mut scores.clone(), &by_best), [0, 1]);
        let by_two = config(Selection::NoAux { groups: 3, kept: 1 }, 2);
        assert_eq!(select_experts(&mut scores.clone(), &by_two), [2, 3]);
        assert_eq!(select_experts(&mut scores.clone(), &config(Selection::Greedy, 3)), [0, 2, 3]);
    }
}
