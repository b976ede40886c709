//! The plain, unbatched generation loop: ids in, ids out. Serving batches requests, but must give what this gives.

mod beam;

use std::ops::ControlFlow;

use candle_core::{Device, Tensor};
use swinseek_kernels::{Error, Result, Trace};
use swinseek_language::{
    Context,
    sampler::{Sampler, SamplingParams},
};

use crate::session::{Prediction, predict, read};

/// A model that continues a sequence, with its image (if it has one) already in place.
pub trait TokenModel {
    /// What the model keeps of the tokens so far.
    type Cache;

    /// Most tokens that prompt and answer may have together.
    fn context_length(&self) -> usize;

    /// An empty cache.
    fn new_cache(&self) -> Self::Cache;

    /// Runs `ids (batch, tokens)` after what `cache` holds: hidden states `(batch, tokens, dim)` after the last norm, or fewer of
    /// them, up to the last, where the context wants no others ([`Context::last_only`]).
    /// Attention over the memory is recorded as `cross.I.weights` `(batch, heads, tokens, memory)`.
    fn forward(
        &self,
        ids: &Tensor,
        context: &Context,
        cache: Option<&mut Self::Cache>,
        trace: &mut Trace,
    ) -> Result<Tensor>;

    /// Logits `(.., vocab)` of hidden states `(.., dim)`.
    fn head(&self, hidden: &Tensor) -> Result<Tensor>;

    /// Keeps batch rows `rows` of the cache, in that order; a row may repeat.
    fn select_rows(&self, cache: &mut Self::Cache, rows: &[usize]) -> Result<()>;
}

/// Prompt tokens that are read in one pass, unless asked otherwise.
pub const PREFILL_CHUNK: usize = 128;

/// What to generate.
#[derive(Debug, Clone)]
pub struct GenerateParams {
    /// Most new tokens; the context may end earlier.
    pub max_new_tokens: usize,
    /// How the next token is chosen; not used by beam search.
    pub sampling: SamplingParams,
    /// Ids that end the answer; they are not part of it.
    pub stop_ids: Vec<u32>,
    /// Beams; 1 samples, more search for the most probable answer.
    pub num_beams: usize,
    /// Beam scores are divided by `length ^ length_penalty`.
    pub length_penalty: f64,
    /// Keep each token's attention over the memory.
    pub attention: bool,
    /// Tokens of the prompt that are read in one pass. Whoever reads the same prompt in other chunks gets the same up
    /// to rounding only.
    pub prefill_chunk: usize,
}

impl Default for GenerateParams {
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            sampling: SamplingParams::default(),
            stop_ids: Vec::new(),
            num_beams: 1,
            length_penalty: 1.0,
            attention: false,
            prefill_chunk: PREFILL_CHUNK,
        }
    }
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop id was chosen.
    Stop,
    /// `max_new_tokens` or the context was reached.
    Length,
    /// The callback asked for it.
    Cancelled,
}

/// One generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Its log-probability under the model, before temperature and filters.
    pub logprob: f32,
    /// The most probable ids with their log-probabilities, as many as the sampling asks for.
    pub top_logprobs: Vec<(u32, f32)>,
    /// Attention over the memory when the token was chosen, mean over cross layers and heads: sums to 1. Empty unless
    /// asked for.
    pub attention: Vec<f32>,
}

/// A finished answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The tokens, without the stop id.
    pub tokens: Vec<Token>,
    /// Why it ended.
    pub finish: FinishReason,
    /// Log-probability of the stop id, if one ended the answer.
    pub stop_logprob: Option<f32>,
}

impl Generation {
    /// The ids alone.
    pub fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.id).collect()
    }
}

/// Continues `prompt`. `on_token` sees every token as it is chosen and may stop the loop; with beams it sees the
/// best answer's tokens at the end.
pub fn generate<M: TokenModel>(
    model: &M,
    prompt: &[u32],
    params: &GenerateParams,
    mut on_token: impl FnMut(&Token) -> ControlFlow<()>,
) -> Result<Generation> {
    let room = room(model.context_length(), prompt, params)?;
    if params.num_beams > 1 {
        let generation = beam::search(model, prompt, params, room)?;
        return Ok(replay(generation, &mut on_token));
    }
    let mut sampler = Sampler::new(params.sampling.clone())?.with_prompt_len(prompt.len());
    let mut cache = model.new_cache();
    let mut history = prompt.to_vec();
    let mut next = read_ahead(model, prompt, params, &mut cache)?.to_vec();
    let mut result = Generation { tokens: Vec::new(), finish: FinishReason::Length, stop_logprob: None };
    for _ in 0..room {
        let Prediction { logits, attention } = predict(model, &next, &mut cache, params.attention)?;
        let sampled = sampler.sample(&logits, &history)?;
        if params.stop_ids.contains(&sampled.id) {
            result.finish = FinishReason::Stop;
            result.stop_logprob = Some(sampled.logprob);
            break;
        }
        let token =
            Token { id: sampled.id, logprob: sampled.logprob, top_logprobs: sampled.top_logprobs, attention };
        history.push(token.id);
        next = vec![token.id];
        let flow = on_token(&token);
        result.tokens.push(token);
        if flow.is_break() {
            result.finish = FinishReason::Cancelled;
            break;
        }
    }
    Ok(result)
}

/// Refuses a prompt that does not fit in the context.
pub(crate) fn check_length(prompt: usize, context: usize) -> Result<()> {
    if prompt > context {
        return Err(Error::Input(format!(
            "the prompt has {prompt} tokens, the model's context holds {context}"
        )));
    }
    Ok(())
}

/// How many tokens may follow the prompt.
fn room(context: usize, prompt: &[u32], params: &GenerateParams) -> Result<usize> {
    if prompt.is_empty() {
        return Err(Error::Input("the prompt has no tokens, expected at least one".to_owned()));
    }
    if params.num_beams == 0 {
        return Err(Error::config("num_beams", "is 0, expected at least 1"));
    }
    if params.prefill_chunk == 0 {
        return Err(Error::config("prefill_chunk", "is 0, expected at least 1"));
    }
    check_length(prompt.len(), context)?;
    // The last token that is chosen need not fit: it is never run.
    Ok(params.max_new_tokens.min(context - prompt.len() + 1))
}

/// Reads `prompt` in chunks up to the last one, which it returns.
fn read_ahead<'a, M: TokenModel>(
    model: &M,
    prompt: &'a [u32],
    params: &GenerateParams,
    cache: &mut M::Cache,
) -> Result<&'a [u32]> {
    let mut rest = prompt;
    while rest.len() > params.prefill_chunk {
        let (chunk, after) = rest.split_at(params.prefill_chunk);
        read(model, chunk, cache)?;
        rest = after;
    }
    Ok(rest)
}

fn replay(mut generation: Generation, on_token: &mut impl FnMut(&Token) -> ControlFlow<()>) -> Generation {
    if let Some(stop) = generation.tokens.iter().position(|token| on_token(token).is_break()) {
        generation.tokens.truncate(stop + 1);
        generation.finish = FinishReason::Cancelled;
    }
    generation
}

/// Rows of ids, all of one length, as `(batch, tokens)`.
pub(crate) fn id_tensor(rows: &[&[u32]]) -> Result<Tensor> {
    let tokens = rows.first().map_or(0, |row| row.len());
    Ok(Tensor::from_vec(rows.concat(), (rows.len(), tokens), &Device::Cpu)?)
}

/// A trace for [`attention_rows`], if it is wanted.
pub(crate) fn attention_trace(wanted: bool) -> Trace {
    if wanted { Trace::only(&["cross."]) } else { Trace::off() }
}

/// Attention of the last position over the memory, mean over cross layers and heads, one vector a batch row.
pub(crate) fn attention_rows(trace: &Trace) -> Result<Vec<Vec<f32>>> {
    let mut sum: Option<Tensor> = None;
    let layers = trace.tensors().len().max(1) as f64;
    for weights in trace.tensors().values() {
        let last = weights.narrow(2, weights.dim(2)? - 1, 1)?.squeeze(2)?.mean(1)?;
        sum = Some(match sum {
            Some(sum) => (sum + last)?,
            None => last,
        });
    }
    Ok(match sum {
        Some(sum) => (sum / layers)?.to_vec2()?,
        None => Vec::new(),
    })
}

/// Logits `(batch, vocab)` of the token after `ids (batch, tokens)`.
fn next_logits<M: TokenModel>(
    model: &M,
    ids: &Tensor,
    cache: &mut M::Cache,
    trace: &mut Trace,
) -> Result<Tensor> {
    let hidden = model.forward(ids, &Context::causal().last_only(), Some(cache), trace)?;
    // Only the last position needs the head, by far the largest matrix of a small model.
    model.head(&last_position(&hidden)?)
}

/// The last position `(batch, dim)` of `hidden (batch, tokens, dim)`.
pub(crate) fn last_position(hidden: &Tensor) -> Result<Tensor> {
    Ok(hidden.narrow(1, hidden.dim(1)? - 1, 1)?.squeeze(1)?.contiguous()?)
}
