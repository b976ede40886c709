//! From logits to the next token: penalties, temperature, filters, a seeded draw.
//!
//! Order, as in vLLM and Hugging Face `generate`: logit bias, repetition, frequency and presence penalty, temperature,
//! top-k, top-p, min-p; a constraint's mask comes before the temperature. Reported log-probabilities are those of the
//! model itself, before all of these.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use rand::rngs::ChaCha12Rng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use swinseek_kernels::{Error, Result};

use crate::constraint::TokenMask;

/// How tokens are chosen. The default is greedy, without penalties.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingParams {
    /// Divides the logits; 0 is greedy. In `[0, 100]`.
    pub temperature: f64,
    /// Keep the `top_k` most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of most probable tokens that holds this much probability; 1 keeps all. In `(0, 1]`.
    pub top_p: f64,
    /// Keep tokens at least this probable relative to the best one; 0 keeps all. In `[0, 1]`.
    pub min_p: f64,
    /// Divides positive and multiplies negative logits of tokens seen in prompt or answer (CTRL, arXiv 1909.05858);
    /// 1 is off. In `(0, 10]`.
    pub repetition_penalty: f64,
    /// Subtracted from a logit for every occurrence in the answer. In `[-2, 2]`.
    pub frequency_penalty: f64,
    /// Subtracted once from the logits of tokens that occur in the answer. In `[-2, 2]`.
    pub presence_penalty: f64,
    /// Added to the logits of single tokens. Each in `[-100, 100]`.
    pub logit_bias: Vec<(u32, f64)>,
    /// Seed of this request's generator.
    pub seed: u64,
    /// How many of the most probable tokens to report with each sample.
    pub top_logprobs: usize,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
            top_logprobs: 0,
        }
    }
}

impl SamplingParams {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the parameter, its value and the range.
    pub fn validate(&self) -> Result<()> {
        let check = |name: &str, value: f64, ok: bool, range: &str| {
            if ok {
                Ok(())
            } else {
                Err(Error::config(name, format!("{value}, expected a number in {range}")))
            }
        };
        let within = |value: f64, low: f64, high: f64| (low..=high).contains(&value);
        check("temperature", self.temperature, within(self.temperature, 0.0, 100.0), "[0, 100]")?;
        check("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "(0, 1]")?;
        check("min_p", self.min_p, within(self.min_p, 0.0, 1.0), "[0, 1]")?;
        let repetition = self.repetition_penalty;
        check("repetition_penalty", repetition, repetition > 0.0 && repetition <= 10.0, "(0, 10]")?;
        check(
            "frequency_penalty",
            self.frequency_penalty,
            within(self.frequency_penalty, -2.0, 2.0),
            "[-2, 2]",
        )?;
        check(
            "presence_penalty",
            self.presence_penalty,
            within(self.presence_penalty, -2.0, 2.0),
            "[-2, 2]",
        )?;
        for &(id, bias) in &self.logit_bias {
            check(&format!("logit_bias[{id}]"), bias, within(bias, -100.0, 100.0), "[-100, 100]")?;
        }
        Ok(())
    }

    fn has_penalties(&self) -> bool {
        self.repetition_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }
}

/// One chosen token.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub id: u32,
    /// Its log-probability under the model, before penalties, temperature and filters.
    pub logprob: f32,
    /// The most probable tokens under the model with their log-probabilities, best first.
    pub top_logprobs: Vec<(u32, f32)>,
}

/// Chooses the tokens of one request. Its generator belongs to it alone, so that what else runs in the batch cannot
/// change the result; greedy choices draw nothing.
#[derive(Debug)]
pub struct Sampler {
    params: SamplingParams,
    rng: ChaCha12Rng,
    prompt_len: usize,
}

/// A token that may still be drawn, with its weight `exp(logit - max)`.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    weight: f64,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Candidate {}
impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Candidate {
    /// Heavier first; of equals the lower id.
    fn cmp(&self, other: &Self) -> Ordering {
        self.weight.total_cmp(&other.weight).then(other.id.cmp(&self.id))
    }
}

impl Sampler {
    /// A sampler for one request.
    ///
    /// # Errors
    /// [`Error::Config`] when a parameter is out of range.
    pub fn new(params: SamplingParams) -> Result<Self> {
        params.validate()?;
        let rng = ChaCha12Rng::seed_from_u64(params.seed);
        Ok(Self { params, rng, prompt_len: 0 })
    }

    /// Says how many tokens at the front of the history are the prompt: these count for the repetition penalty
    /// only. Without it the whole history counts as answer.
    #[must_use]
    pub fn with_prompt_len(mut self, prompt_len: usize) -> Self {
        self.prompt_len = prompt_len;
        self
    }

    /// The parameters of this request.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// Chooses the next token from the `logits` of the last position, `(vocab_size)`. `history` is the prompt
    /// followed by the answer so far. `-inf` forbids a token.
    ///
    /// # Errors
    /// [`Error::Input`] when a logit is NaN or `+inf`, when all are `-inf`, or when an id is not in the vocabulary.
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> Result<Sampled> {
        self.choose(logits, history, None)
    }

    /// As [`Sampler::sample`], among the tokens that `mask` allows. The reported log-probabilities are the model's own,
    /// before the mask.
    ///
    /// # Errors
    /// As [`Sampler::sample`]; also when every allowed token has the logit `-inf`.
    pub fn sample_allowed(&mut self, logits: &[f32], history: &[u32], mask: &TokenMask) -> Result<Sampled> {
        self.choose(logits, history, Some(mask))
    }

    fn choose(&mut self, logits: &[f32], history: &[u32], mask: Option<&TokenMask>) -> Result<Sampled> {
        let (scores, best) = self.scores(logits, history, mask)?;
        let id =
            if self.params.temperature == 0.0 { best } else { self.draw(&scores, scores[best as usize]) };
        let log_sum = log_sum_exp(logits);
        let logprob = |logit: f32| (f64::from(logit) - log_sum) as f32;
        let top_logprobs =
            top_n(logits, self.params.top_logprobs).into_iter().map(|(id, l)| (id, logprob(l))).collect();
        Ok(Sampled { id, logprob: logprob(logits[id as usize]), top_logprobs })
    }

    /// Logits after bias and penalties, in f64.
    fn penalised(&self, logits: &[f32], history: &[u32]) -> Result<Vec<f64>> {
        let params = &self.params;
        let mut scores: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
        let outside = |what: &str, id: u32| {
            Error::Input(format!("{what} has token id {id}, but there are only {} logits", logits.len()))
        };
        for &(id, bias) in &params.logit_bias {
            *scores.get_mut(id as usize).ok_or_else(|| outside("logit_bias", id))? += bias;
        }
        if !params.has_penalties() {
            return Ok(scores);
        }
        let mut counts: HashMap<u32, u32> = HashMap::new();
        for (position, &id) in history.iter().enumerate() {
            *counts.entry(id).or_default() += u32::from(position >= self.prompt_len);
        }
        for (id, answered) in counts {
            let score = scores.get_mut(id as usize).ok_or_else(|| outside("the history", id))?;
            let penalty = params.repetition_penalty;
            *score = if *score > 0.0 { *score / penalty } else { *score * penalty };
            if answered > 0 {
                *score -= params.frequency_penalty * f64::from(answered) + params.presence_penalty;
            }
        }
        Ok(scores)
    }

    /// The distribution that [`Sampler::sample`] draws from: the tokens that all filters leave over with their
    /// probabilities, which sum to one. Greedy gives its one token.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn distribution(&self, logits: &[f32], history: &[u32]) -> Result<Vec<(u32, f64)>> {
        let (scores, best) = self.scores(logits, history, None)?;
        if self.params.temperature == 0.0 {
            return Ok(vec![(best, 1.0)]);
        }
        let candidates = kept(&self.params, &scores, scores[best as usize]);
        let total: f64 = candidates.iter().map(|c| c.weight).sum();
        Ok(candidates.into_iter().filter(|c| c.weight > 0.0).map(|c| (c.id, c.weight / total)).collect())
    }

    /// Checked and penalised scores, and the best token.
    fn scores(&self, logits: &[f32], history: &[u32], mask: Option<&TokenMask>) -> Result<(Vec<f64>, u32)> {
        check_logits(logits)?;
        let mut scores = self.penalised(logits, history)?;
        if let Some(mask) = mask {
            let forbidden = scores.iter_mut().enumerate().filter(|(id, _)| !mask.contains(*id as u32));
            forbidden.for_each(|(_, score)| *score = f64::NEG_INFINITY);
        }
        let best = argmax(&scores);
        if scores[best as usize] == f64::NEG_INFINITY {
            return Err(Error::Input("no token is allowed: every logit is -inf".into()));
        }
        Ok((scores, best))
    }

    /// Temperature, filters and one draw.
    fn draw(&mut self, scores: &[f64], best: f64) -> u32 {
        let candidates = kept(&self.params, scores, best);
        let total: f64 = candidates.iter().map(|c| c.weight).sum();
        // 53 random bits: uniform in [0, 1), the same on every platform and in every version of the library.
        let uniform = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = uniform * total;
        for candidate in &candidates {
            left -= candidate.weight;
            if left < 0.0 {
                return candidate.id;
            }
        }
        // Rounding may leave a remainder of nothing: the last token that can occur at all.
        candidates.iter().rev().find(|c| c.weight > 0.0).map_or(0, |c| c.id)
    }
}

/// The tokens that temperature, top-k, top-p and min-p leave over, with their weights; most probable first when a
/// filter had to look at the order, else by id.
fn kept(params: &SamplingParams, scores: &[f64], best: f64) -> Vec<Candidate> {
    let weight = |score: f64| ((score - best) / params.temperature).exp();
    let mut candidates: Vec<Candidate> = scores
        .iter()
        .enumerate()
        .map(|(id, &score)| Candidate { id: id as u32, weight: weight(score) })
        .collect();
    if params.top_k > 0 && params.top_k < candidates.len() {
        candidates.select_nth_unstable_by(params.top_k - 1, |a, b| b.cmp(a));
        candidates.truncate(params.top_k);
        candidates.sort_unstable_by(|a, b| b.cmp(a));
    }
    if params.top_p < 1.0 {
        let enough = params.top_p * candidates.iter().map(|c| c.weight).sum::<f64>();
        let mut heap = BinaryHeap::from(candidates);
        candidates = Vec::new();
        let mut mass = 0.0;
        // A token stays when those before it do not reach the mass; the best one always does.
        while mass < enough
            && let Some(candidate) = heap.pop()
        {
            mass += candidate.weight;
            candidates.push(candidate);
        }
    }
    // The best token has weight 1, whatever the filters before have removed.
    candidates.retain(|c| c.weight >= params.min_p);
    candidates
}

fn check_logits(logits: &[f32]) -> Result<()> {
    if logits.is_empty() {
        return Err(Error::Input("there are no logits to sample from".into()));
    }
    match logits.iter().position(|l| l.is_nan() || *l == f32::INFINITY) {
        Some(id) => {
            Err(Error::Input(format!("logit of token {id} is {}, expected a finite number", logits[id])))
        }
        None => Ok(()),
    }
}

/// Index of the largest score; of equals the lowest.
fn argmax(scores: &[f64]) -> u32 {
    let mut best = 0;
    for (id, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = id;
        }
    }
    best as u32
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    max + logits.iter().map(|&l| (f64::from(l) - max).exp()).sum::<f64>().ln()
}

/// Log-probabilities of `logits`, computed in f64.
pub fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let log_sum = log_sum_exp(logits);
    logits.iter().map(|&logit| (f64::from(logit) - log_sum) as f32).collect()
}

/// The `n` largest values with their indices, largest first; of equals the lower index first. NaN counts as smallest.
pub fn top_n(values: &[f32], n: usize) -> Vec<(u32, f32)> {
    let n = n.min(values.len());
    if n == 0 {
        return Vec::new();
    }
    let key = |value: f32| {
        if value.is_nan() { f32::NEG_INFINITY } else { value + 0.0 }
    };
    let order = |a: &(u32, f32), b: &(u32, f32)| key(b.1).total_cmp(&key(a.1)).then(a.0.cmp(&b.0));
    let mut indexed: Vec<(u32, f32)> =
        values.iter().enumerate().map(|(id, &value)| (id as u32, value)).collect();
    indexed.select_nth_unstable_by(n - 1, order);
    indexed.truncate(n);
    indexed.sort_unstable_by(order);
    indexed
}
