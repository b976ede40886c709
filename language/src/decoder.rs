//! The decoder: token ids to hidden states to logits.

use candle_core::{D, Device, Tensor};
use swinseek_kernels::{
    Error, Result, Trace, Weights,
    layers::{Linear, RmsNorm},
    threads::awake,
};

use crate::{
    block::Block,
    cache::Cache,
    config::{LanguageConfig, LayerKind},
    context::{Context, Pass},
    hook::LayerHook,
    rope_table::RopeTable,
};

/// Where checkpoints keep the decoder and its head. The first is also that of fresh parameters.
const LAYOUTS: [(&str, &str); 5] = [
    ("model", "lm_head"),
    ("", "lm_head"),
    ("language_model.model", "language_model.lm_head"),
    ("model.language_model", "lm_head"),
    ("language_model", "lm_head"),
];

/// A decoder of any of the families in [`ModelType`](crate::config::ModelType).
#[derive(Debug)]
pub struct Decoder {
    config: LanguageConfig,
    embed_tokens: Tensor,
    /// `None` where only a hook acts.
    blocks: Vec<Option<Block>>,
    norm: RmsNorm,
    lm_head: Option<Linear>,
    rope: RopeTable,
}

impl Decoder {
    /// Reads the parameters below `w`, under any of the prefixes that checkpoints use.
    ///
    /// # Errors
    /// A tensor is missing or has another shape than `config` asks for.
    pub fn new(config: &LanguageConfig, w: &Weights) -> Result<Self> {
        let below = |prefix: &str| {
            if prefix.is_empty() { w.clone() } else { w.pp(prefix) }
        };
        let found = LAYOUTS.iter().find(|(body, _)| below(body).contains("embed_tokens.weight"));
        let (body, head) = found.unwrap_or(&LAYOUTS[0]);
        let (body, head) = (below(body), below(head));
        let embed_tokens = body.get(&[config.embedding_rows, config.hidden_size], "embed_tokens.weight")?;
        let lm_head = if config.tie_word_embeddings {
            Some(Linear::from_parts(embed_tokens.clone(), None, w.precision()))
        } else if found.is_none() || head.contains("weight") {
            Some(Linear::no_bias(config.hidden_size, config.vocab_size, &head)?)
        } else {
            None
        };
        let block = |(index, kind): (usize, &LayerKind)| {
            let moe = config.moe.as_ref().filter(|_| *kind == LayerKind::Sparse);
            let build = || Block::new(config, moe, index, &body.pp("layers").pp(index));
            if *kind == LayerKind::Cross { Ok(None) } else { build().map(Some) }
        };
        Ok(Self {
            embed_tokens,
            blocks: config.layers.iter().enumerate().map(block).collect::<Result<_>>()?,
            norm: RmsNorm::new(config.hidden_size, config.rms_norm_eps, &body.pp("norm"))?,
            lm_head,
            rope: RopeTable::new(config.rope.clone()),
            config: config.clone(),
        })
    }

    /// The shape it was built from.
    pub fn config(&self) -> &LanguageConfig {
        &self.config
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        self.embed_tokens.device()
    }

    /// Embeddings `(batch, tokens, dim)` of `ids (batch, tokens)`, u32.
    ///
    /// # Errors
    /// [`Error::Input`] names an id outside of the vocabulary.
    pub fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        let (batch, tokens) = ids.dims2()?;
        let flat = ids.flatten_all()?;
        let rows = self.config.embedding_rows;
        if let Some(id) = flat.to_vec1::<u32>()?.into_iter().find(|&id| id as usize >= rows) {
            return Err(Error::Input(format!("token id {id} is outside of the vocabulary of {rows}")));
        }
        let embedded = self.embed_tokens.index_select(&flat.to_device(self.device())?, 0)?;
        Ok(embedded.reshape((batch, tokens, self.config.hidden_size))?)
    }

    /// Runs the layers over `hidden (batch, tokens, dim)` and returns the same shape after the final norm, or less of it if the
    /// context says so ([`Context::last_only`]).
    ///
    /// With a cache the tokens come after the cached ones, and are cached in turn when the pass succeeds.
    /// Without a cache it is differentiable in all parameters but the routers' selection bias and the indexer.
    /// Records `hidden.0` (the input), `hidden.{i + 1}` (after layer `i`), `final_norm`, and per layer
    /// `router.{i}.{experts, weights, scores}` and `indexer.{i}.{scores, selected}`.
    pub fn forward(
        &self,
        hidden: &Tensor,
        context: &Context,
        mut cache: Option<&mut Cache>,
        hook: &dyn LayerHook,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let pass = self.pass(hidden, context, cache.as_deref())?;
        let _awake = awake();
        trace.record("hidden.0", hidden);
        let mut hidden = hidden.clone();
        for (index, block) in self.blocks.iter().enumerate() {
            hidden = hook.before(index, hidden, trace)?;
            if let Some(block) = block {
                let layer = cache.as_mut().and_then(|cache| cache.layer(index));
                let queries = if index + 1 == self.blocks.len() { pass.last_queries } else { pass.q_len };
                hidden = block.forward(&hidden, (&pass, queries), layer, trace)?;
            }
            trace.record(format!("hidden.{}", index + 1), &hidden);
        }
        if let Some(cache) = cache {
            cache.extend(pass.tokens);
        }
        let hidden = self.norm.forward(&hidden)?;
        trace.record("final_norm", &hidden);
        Ok(hidden)
    }

    /// Logits `(.., vocab)` of `hidden (.., dim)`, which [`forward`](Self::forward) returned.
    ///
    /// # Errors
    /// [`Error::Input`] if the checkpoint is a bare model without a head.
    pub fn lm_head(&self, hidden: &Tensor) -> Result<Tensor> {
        match &self.lm_head {
            Some(head) => head.forward(hidden),
            None => Err(Error::Input(
                "the checkpoint has no tensor `lm_head.weight`, expected a language model".into(),
            )),
        }
    }

    /// Whether there is a language-model head.
    pub fn has_head(&self) -> bool {
        self.lm_head.is_some()
    }

    pub(crate) fn blocks(&self) -> &[Option<Block>] {
        &self.blocks
    }

    pub(crate) fn final_norm(&self, hidden: &Tensor) -> Result<Tensor> {
        self.norm.forward(hidden)
    }

    pub(crate) fn pass(&self, hidden: &Tensor, context: &Context, cache: Option<&Cache>) -> Result<Pass> {
        let (batch, tokens, dim) = hidden.dims3()?;
        if hidden.dim(D::Minus1)? != self.config.hidden_size {
            let expected = self.config.hidden_size;
            return Err(Error::Input(format!("hidden states of width {dim}, expected {expected}")));
        }
        if let Some(found) = cache.map(Cache::num_layers).filter(|&found| found != self.blocks.len()) {
            let expected = self.blocks.len();
            return Err(Error::Input(format!("a cache of {found} layers, expected {expected}")));
        }
        Pass::new(context, (batch, tokens), cache, &self.rope, hidden.device())
    }
}
