//! Parameters of generation as requests state them, checked one by one and named when wrong.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::{Deserialize, Deserializer};
use swinseek_language::sampler::SamplingParams;
use utoipa::ToSchema;

use super::error::{ApiError, ApiResult};
use super::settings::Settings;

const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 1000;
const MAX_BIASES: usize = 1024;
pub(super) const MAX_TOP_LOGPROBS: u64 = 20;

/// `stop`: one text or several.
#[derive(Debug, Clone, ToSchema)]
#[schema(value_type = Vec<String>)]
pub(super) struct Stop(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Stop;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a string or a list of strings")
            }
            fn visit_str<E>(self, text: &str) -> Result<Stop, E> {
                Ok(Stop(vec![text.to_owned()]))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Stop, A::Error> {
                Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(seq)).map(Stop)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// What a request says about sampling; absent is `None`.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) top_k: Option<i64>,
    pub(super) min_p: Option<f64>,
    pub(super) repetition_penalty: Option<f64>,
    pub(super) frequency_penalty: Option<f64>,
    pub(super) presence_penalty: Option<f64>,
    pub(super) logit_bias: Option<BTreeMap<String, f64>>,
    pub(super) seed: Option<i64>,
    pub(super) stop: Option<Stop>,
    pub(super) n: Option<u64>,
    pub(super) top_logprobs: Option<u64>,
    /// The field's name and its value.
    pub(super) max_tokens: Option<(&'static str, u64)>,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) sampling: SamplingParams,
    pub(super) stop: Vec<String>,
    /// Answers to one prompt.
    pub(super) choices: usize,
    max_tokens: Option<(&'static str, usize)>,
}

impl Wishes {
    /// Checks every range.
    pub(super) fn check(self, settings: &Settings, vocab_size: usize) -> ApiResult<Plan> {
        let sampling = SamplingParams {
            temperature: within("temperature", self.temperature, 0.0, 2.0)?
                .unwrap_or(settings.default_temperature),
            top_k: top_k(self.top_k)?,
            top_p: top_p(self.top_p)?,
            min_p: within("min_p", self.min_p, 0.0, 1.0)?.unwrap_or(0.0),
            repetition_penalty: within("repetition_penalty", self.repetition_penalty, 0.01, 10.0)?
                .unwrap_or(1.0),
            frequency_penalty: within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?.unwrap_or(0.0),
            presence_penalty: within("presence_penalty", self.presence_penalty, -2.0, 2.0)?.unwrap_or(0.0),
            logit_bias: logit_bias(self.logit_bias.unwrap_or_default(), vocab_size)?,
            // Reports state their seed, and JSON numbers are exact up to 2^53.
            seed: self.seed.map_or_else(random_seed, |seed| Ok(seed as u64))?,
            top_logprobs: top_logprobs(self.top_logprobs)?,
        };
        let max_tokens = match self.max_tokens {
            Some((name, 0)) => {
                return Err(ApiError::invalid(name, format!("{name} is 0, expected at least 1")));
            }
            given => given.map(|(name, most)| (name, usize::try_from(most).unwrap_or(usize::MAX))),
        };
        Ok(Plan { sampling, stop: stops(self.stop)?, choices: choices(self.n, settings)?, max_tokens })
    }
}

impl Plan {
    /// New tokens after a prompt of `prompt` tokens in a context of `context`; `default` is taken as far as there is
    /// room.
    pub(super) fn max_new_tokens(
        &self,
        prompt: usize,
        context: usize,
        default: usize,
        prompt_param: &str,
    ) -> ApiResult<usize> {
        let room = context.saturating_sub(prompt);
        if room == 0 {
            return Err(too_long(prompt_param, prompt, context));
        }
        match self.max_tokens {
            None => Ok(default.min(room)),
            Some((_, most)) if most <= room => Ok(most),
            Some((name, most)) => {
                let message = format!(
                    "the prompt has {prompt} tokens and {name} is {most}, the context holds {context} together"
                );
                Err(ApiError::invalid(name, message).code("context_length_exceeded"))
            }
        }
    }
}

/// 400: the prompt alone fills the context.
pub(super) fn too_long(param: &str, tokens: usize, context: usize) -> ApiError {
    let message = format!("the prompt has {tokens} tokens, the context holds {context} with the answer");
    ApiError::invalid(param, message).code("context_length_exceeded")
}

fn within(name: &str, value: Option<f64>, low: f64, high: f64) -> ApiResult<Option<f64>> {
    match value {
        Some(value) if !(low..=high).contains(&value) => {
            Err(ApiError::invalid(name, format!("{name} is {value}, expected a number in [{low}, {high}]")))
        }
        value => Ok(value),
    }
}

fn top_p(value: Option<f64>) -> ApiResult<f64> {
    match within("top_p", value, 0.0, 1.0)? {
        Some(0.0) => Err(ApiError::invalid("top_p", "top_p is 0, expected a number in (0, 1]")),
        value => Ok(value.unwrap_or(1.0)),
    }
}

/// -1 means all, as in vLLM.
fn top_k(value: Option<i64>) -> ApiResult<usize> {
    match value {
        None | Some(-1) => Ok(0),
        Some(k) => usize::try_from(k)
            .map_err(|_| ApiError::invalid("top_k", format!("top_k is {k}, expected -1 or at least 0"))),
    }
}

fn top_logprobs(value: Option<u64>) -> ApiResult<usize> {
    match value {
        Some(n) if n > MAX_TOP_LOGPROBS => {
            let message = format!("top_logprobs is {n}, expected at most {MAX_TOP_LOGPROBS}");
            Err(ApiError::invalid("top_logprobs", message))
        }
        n => Ok(n.unwrap_or(0) as usize),
    }
}

fn logit_bias(biases: BTreeMap<String, f64>, vocab_size: usize) -> ApiResult<Vec<(u32, f64)>> {
    if biases.len() > MAX_BIASES {
        let message = format!("logit_bias has {} entries, expected at most {MAX_BIASES}", biases.len());
        return Err(ApiError::invalid("logit_bias", message));
    }
    let entry = |(key, bias): (String, f64)| {
        let id = key.parse::<u32>().ok().filter(|&id| (id as usize) < vocab_size);
        let id = id.ok_or_else(|| {
            ApiError::invalid("logit_bias", format!("a key is no token id below {vocab_size}"))
        })?;
        within(&format!("logit_bias.{id}"), Some(bias), -100.0, 100.0)?;
        Ok((id, bias))
    };
    biases.into_iter().map(entry).collect()
}

fn stops(stop: Option<Stop>) -> ApiResult<Vec<String>> {
    let stop = stop.map_or_else(Vec::new, |Stop(texts)| texts);
    if stop.len() > MAX_STOPS {
        let message = format!("stop has {} texts, expected at most {MAX_STOPS}", stop.len());
        return Err(ApiError::invalid("stop", message));
    }
    match stop.iter().position(|text| text.is_empty() || text.len() > MAX_STOP_BYTES) {
        Some(index) => {
            let message = format!("a stop text has 1 to {MAX_STOP_BYTES} bytes");
            Err(ApiError::invalid(format!("stop.{index}"), message))
        }
        None => Ok(stop),
    }
}

fn choices(n: Option<u64>, settings: &Settings) -> ApiResult<usize> {
    let most = settings.limits.choices;
    match n.unwrap_or(1) {
        n @ 1.. if n <= most as u64 => Ok(n as usize),
        n => Err(ApiError::invalid("n", format!("n is {n}, expected 1 to {most}"))),
    }
}

fn random_seed() -> ApiResult<u64> {
    let seed = getrandom::u64().map_err(|error| {
        tracing::error!(%error, "no random numbers");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the server has no random numbers")
    })?;
    Ok(seed >> 11)
}
