//! Beam search as `transformers` does it (`early_stopping=False`): `2·beams` candidates a step, finished answers
//! scored `Σ log p / length^penalty` (the stop id counts in both), stop when no running beam can beat the worst
//! finished one.

use candle_core::Tensor;
use swinseek_kernels::Result;
use swinseek_language::sampler::{log_softmax, top_n};

use super::{
    FinishReason, GenerateParams, Generation, Token, TokenModel, attention_rows, attention_trace, id_tensor,
    next_logits, read_ahead,
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
    let prompt = read_ahead(model, prompt, params, &mut cache)?;
    let mut beams = vec![Beam::default()];
    let mut finished: Vec<Finished> = Vec::new();
    for step in 0..room {
        let rows: Vec<&[u32]> = match step {
            0 => vec![prompt],
            _ => beams.iter().map(|beam| std::slice::from_ref(&beam.tokens[step - 1].id)).collect(),
        };
        let mut trace = attention_trace(params.attention);
        let logits = next_logits(model, &id_tensor(&rows)?, &mut cache, &mut trace)?;
        let attention = attention_rows(&trace)?;
        let candidates = candidates(&logits, &beams, params)?;
        let step = Step { beams: &beams, attention: &attention, last: step + 1 == room, params };
        let (next, kept_rows) = step.divide(&candidates, &mut finished);
        if next.is_empty() || !can_improve(&next, &finished, params) {
            break;
        }
        model.select_rows(&mut cache, &kept_rows)?;
        beams = next;
    }
    let empty = Generation { tokens: Vec::new(), finish: FinishReason::Length, stop_logprob: None };
    Ok(finished.into_iter().next().map_or(empty, |best| Generation {
        finish: if best.stop_logprob.is_some() { FinishReason::Stop } else { FinishReason::Length },
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
            all.push(Candidate { row, id, logprob, score: beam.score + f64::from(logprob) });
        }
    }
    all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)).then(a.id.cmp(&b.id)));
    all.truncate(wanted);
    Ok(all)
}

/// What the candidates of one step continue.
struct Step<'a> {
    beams: &'a [Beam],
    attention: &'a [Vec<f32>],
    /// No token fits after this one.
    last: bool,
    params: &'a GenerateParams,
}

impl Step<'_> {
    /// The beams that go on, with the rows they continue; answers that end join `finished`, best first.
    fn divide(&self, candidates: &[Candidate], finished: &mut Vec<Finished>) -> (Vec<Beam>, Vec<usize>) {
        let num_beams = self.params.num_beams;
        let (mut next, mut rows) = (Vec::with_capacity(num_beams), Vec::with_capacity(num_beams));
        for (rank, candidate) in candidates.iter().enumerate() {
            let stops = self.params.stop_ids.contains(&candidate.id);
            if stops || self.last {
                // Candidates below the beams' number only exist to keep enough beams alive.
                if rank < num_beams {
                    finished.push(self.finish(candidate, stops));
                }
            } else if next.len() < num_beams {
                next.push(self.extend(candidate));
                rows.push(candidate.row);
            }
        }
        finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        finished.truncate(num_beams);
        (next, rows)
    }

    fn extend(&self, candidate: &Candidate) -> Beam {
        let mut tokens = self.beams[candidate.row].tokens.clone();
        tokens.push(Token {
            id: candidate.id,
            logprob: candidate.logprob,
            top_logprobs: Vec::new(),
            attention: self.attention.get(candidate.row).cloned().unwrap_or_default(),
        });
        Beam { tokens, score: candidate.score }
    }

    fn finish(&self, candidate: &Candidate, stops: bool) -> Finished {
        let beam = &self.beams[candidate.row];
        let length = (beam.tokens.len() + 1) as f64;
        let score = candidate.score / length.powf(self.params.length_penalty);
        if stops {
            Finished { beam: beam.clone(), stop_logprob: Some(candidate.logprob), score }
        } else {
            Finished { beam: self.extend(candidate), stop_logprob: None, score }
        }
    }
}

/// Whether the best running beam, at its present length, would beat the worst of a full set of finished answers.
fn can_improve(running: &[Beam], finished: &[Finished], params: &GenerateParams) -> bool {
    let worst = finished.get(params.num_beams - 1).map(|answer| answer.score);
    let best = running.first().map_or(f64::NEG_INFINITY, |beam| {
        beam.score / (beam.tokens.len() as f64).powf(params.length_penalty)
    });
    worst.is_none_or(|worst| best > worst)
}
