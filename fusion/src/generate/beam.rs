//! Beam search as `transformers` does it (`early_stopping=False`): `2·beams` candidates a step, finished answers
//! scored `Σ log p / length^penalty` (the stop id counts in both), stop when no running beam can beat the worst
//! finished one.

use candle_core::Tensor;
use swinseek_kernels::Result;
use swinseek_language::sampler::{log_softmax, top_n};

use super::{
    FinishReason, GenerateParams, Generation, Token, TokenModel, attention_rows, attention_trace,
    id_tensor, next_logits,
};

/// A running answer.
#[derive(Debug, Clone, Default)]
struct Beam {
    tokens: Vec<Token>,
    /// Sum of the tokens' log-probabilities.
    score: f64,
}

/// An answer that ended.
#[derive(Debug, Clone)]
struct Finished {
    beam: Beam,
    stop_logprob: Option<f32>,
    /// Score after the length penalty.
    score: f64,
}

/// A beam and one more token.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    row: usize,
    id: u32,
    logprob: f32,
    score: f64,
}

/// The best answer with at most `room` new tokens.
pub(super) fn search<M: TokenModel>(
    model: &M,
    prompt: &[u32],
    params: &GenerateParams,
    room: usize,
) -> Result<Generation> {
    let mut cache = model.new_cache();
    let mut beams = vec![Beam::default()];
    let mut finished: Vec<Finished> = Vec::new();
    for step in 0..room {
        let rows: Vec<&[u32]> = match step {
            0 => vec![prompt],
            _ => beams
                .iter()
                .map(|beam| std::slice::from_ref(&beam.tokens[step - 1].id))
                .collect(),
        };
        let mut trace = attention_trace(params);
        let logits = next_logits(model, &id_tensor(&rows)?, &mut cache, &mut trace)?;
        let attention = attention_rows(&trace)?;
        let candidates = candidates(&logits, &beams, params)?;
        let last = step + 1 == room;
        let mut next = Vec::with_capacity(params.num_beams);
        let mut kept_rows = Vec::with_capacity(params.num_beams);
        for (rank, candidate) in candidates.iter().enumerate() {
            let stops = params.stop_ids.contains(&candidate.id);
            if stops || last {
                // Candidates below the beams' number only exist to keep enough beams alive.
                if rank < params.num_beams {
                    finished.push(finish(
                        &beams[candidate.row],
                        candidate,
                        stops,
                        &attention,
                        params.length_penalty,
                    ));
                }
            } else if next.len() < params.num_beams {
                next.push(extend(&beams[candidate.row], candidate, &attention));
                kept_rows.push(candidate.row);
            }
        }
        finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        finished.truncate(params.num_beams);
        if next.is_empty() || !can_improve(&next, &finished, step + 1, params) {
            break;
        }
        model.select_rows(&mut cache, &kept_rows)?;
        beams = next;
    }
    let empty = Generation {
        tokens: Vec::new(),
        finish: FinishReason::Length,
        stop_logprob: None,
    };
    Ok(finished
        .into_iter()
        .next()
        .map_or(empty, |best| Generation {
            finish: if best.stop_logprob.is_some() {
                FinishReason::Stop
            } else {
                FinishReason::Length
            },
            stop_logprob: best.stop_logprob,
            tokens: best.beam.tokens,
        }))
}

/// The best continuations of all beams, best first: enough that `num_beams` are left when all stop ids are chosen.
fn candidates(logits: &Tensor, beams: &[Beam], params: &GenerateParams) -> Result<Vec<Candidate>> {
    let wanted = params.num_beams * (params.stop_ids.len() + 1).max(2);
    let mut all = Vec::new();
    for (row, (logits, beam)) in logits.to_vec2::<f32>()?.iter().zip(beams).enumerate() {
        for (id, logprob) in top_n(&log_softmax(logits), wanted) {
            all.push(Candidate {
                row,
                id,
                logprob,
                score: beam.score + f64::from(logprob),
            });
        }
    }
    all.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then(a.row.cmp(&b.row))
            .then(a.id.cmp(&b.id))
    });
    all.truncate(wanted);
    Ok(all)
}

fn extend(beam: &Beam, candidate: &Candidate, attention: &[Vec<f32>]) -> Beam {
    let attention = attention.get(candidate.row).cloned().unwrap_or_default();
    let token = Token {
        id: candidate.id,
        logprob: candidate.logprob,
        top_logprobs: Vec::new(),
        attention,
    };
    let mut tokens = beam.tokens.clone();
    tokens.push(token);
    Beam {
        tokens,
        score: candidate.score,
    }
}

fn finish(
    beam: &Beam,
    candidate: &Candidate,
    stops: bool,
    attention: &[Vec<f32>],
    penalty: f64,
) -> Finished {
    let length = (beam.tokens.len() + 1) as f64;
    let (beam, stop_logprob) = if stops {
        (beam.clone(), Some(candidate.logprob))
    } else {
        (extend(beam, candidate, attention), None)
    };
    Finished {
        beam,
        stop_logprob,
        score: candidate.score / length.powf(penalty),
    }
}

/// Whether the best running beam, at its present length, would beat the worst of a full set of finished answers.
fn can_improve(
    running: &[Beam],
    finished: &[Finished],
    length: usize,
    params: &GenerateParams,
) -> bool {
    let worst = finished
        .get(params.num_beams - 1)
        .map(|answer| answer.score);
    let best = running.first().map_or(f64::NEG_INFINITY, |beam| beam.score);
    worst.is_none_or(|worst| best / (length as f64).powf(params.length_penalty) > worst)
}
