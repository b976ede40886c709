//! Gated cross-attention: the layers of Llama-3.2-Vision that let the text look at the image.
//!
//! With `z` the memory (image tokens), `g_a`, `g_m` scalar gates and `m` the row mask:
//!
//! ```text
//! x += tanh(g_a) · W_o softmax(RMS_h(W_q RMS(x)) · RMS_h(W_k z)ᵀ / √d) W_v z
//! x += tanh(g_m) · m ⊙ SwiGLU(RMS(x))
//! ```
//!
//! Queries and keys are normalised per head; there is no rotary embedding and no causal mask. Gates that
//! start at 0 leave the text as it was. Reference: `MllamaCrossAttentionDecoderLayer` in transformers.

use candle_core::{D, Device, Tensor};
use swinseek_kernels::{
    Error, Init, Result, Trace, Weights,
    layers::{FeedForward, Linear, RmsNorm},
    ops::attention::{Mask, attention_each, attention_in, attention_probabilities},
};
use swinseek_language::LayerHook;

/// Sizes of the cross layers.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossAttentionConfig {
    /// Width of text and memory.
    pub hidden_size: usize,
    /// Query heads; `hidden_size / num_heads` is the head size.
    pub num_heads: usize,
    /// Key and value heads; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Width of the SwiGLU.
    pub intermediate_size: usize,
    /// Epsilon of all RMS norms.
    pub rms_norm_eps: f64,
    /// Initial value of both gates, before the tanh; 0 leaves the text untouched.
    pub gate_init: f64,
}

/// One layer.
#[derive(Debug)]
pub struct GatedCrossAttention {
    input_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    query_norm: RmsNorm,
    key_norm: RmsNorm,
    attention_gate: Tensor,
    mlp: FeedForward,
    mlp_gate: Tensor,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

/// Keys and values of the memory in one layer, `(batch, memory, kv_heads, head_dim)`.
#[derive(Debug, Clone)]
struct KeyValue {
    key: Tensor,
    value: Tensor,
}

/// The memory as every cross layer sees it, computed once per image.
///
/// A batch of 1 serves any number of rows (beams).
#[derive(Debug, Clone)]
pub struct CrossMemory {
    layers: Vec<KeyValue>,
    /// 0 where a sample has the memory token, −∞ where it is padding: `(batch, 1, memory)`.
    padding: Option<Tensor>,
    /// 1 for samples with an image, 0 for samples without: `(batch, 1, 1)`. A sample without an image passes
    /// through the layers unchanged, as it would alone.
    present: Option<Tensor>,
}

/// Which memory tokens each text token may see, where that differs between tokens.
#[derive(Debug, Clone)]
pub struct CrossMask {
    /// Added to the scores: `(batch, tokens, memory)`.
    additive: Tensor,
    /// `m` above, `(batch, tokens, 1)`: 0 for tokens that see nothing.
    rows: Tensor,
}

impl CrossMask {
    /// From `visible`: 1 where the token may see the memory token, `(batch, tokens, memory)` row by row.
    ///
    /// A token that sees nothing attends to the whole memory with equal bias and its MLP branch is multiplied by 0:
    /// this is what the reference does, and softmax needs one visible key.
    pub fn new(visible: &[bool], shape: (usize, usize, usize), device: &Device) -> Result<Self> {
        let (batch, tokens, memory) = shape;
        let mut additive = Vec::with_capacity(visible.len());
        let mut rows = Vec::with_capacity(batch * tokens);
        for row in visible.chunks_exact(memory) {
            let sees = row.contains(&true);
            rows.push(f32::from(u8::from(sees)));
            additive.extend(row.iter().map(|&v| if v || !sees { 0.0 } else { f32::NEG_INFINITY }));
        }
        Ok(Self {
            additive: Tensor::from_vec(additive, shape, device)?,
            rows: Tensor::from_vec(rows, (batch, tokens, 1), device)?,
        })
    }
}

impl CrossMemory {
    /// Memory tokens per sample.
    pub fn len(&self) -> usize {
        self.layers.first().and_then(|layer| layer.key.dim(1).ok()).unwrap_or(0)
    }

    /// Whether there is nothing to attend to.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory that keys and values take.
    pub fn bytes(&self) -> usize {
        let size = |x: &Tensor| x.elem_count() * x.dtype().size_in_bytes();
        self.layers.iter().map(|layer| size(&layer.key) + size(&layer.value)).sum()
    }

    /// The memories of single samples one behind the other, as the memory of one sample.
    pub fn join(parts: &[&Self]) -> Result<Self> {
        let layers = parts.first().map_or(0, |part| part.layers.len());
        if parts.iter().any(|part| part.layers.len() != layers || !part.is_plain()) {
            return Err(Error::Input("only memories of one sample each, without padding, are joined".into()));
        }
        let cat = |i: usize, part: fn(&KeyValue) -> &Tensor| {
            Tensor::cat(&parts.iter().map(|memory| part(&memory.layers[i])).collect::<Vec<_>>(), 1)
        };
        let layer = |i| Ok(KeyValue { key: cat(i, |kv| &kv.key)?, value: cat(i, |kv| &kv.value)? });
        Ok(Self { layers: (0..layers).map(layer).collect::<Result<_>>()?, padding: None, present: None })
    }

    /// One sample that has all of its memory.
    fn is_plain(&self) -> bool {
        let single = |layer: &KeyValue| layer.key.dim(0).is_ok_and(|batch| batch == 1);
        self.padding.is_none() && self.present.is_none() && self.layers.iter().all(single)
    }
}

impl GatedCrossAttention {
    /// Reads `cross_attn.{q,k,v,o}_proj`, `cross_attn.{q,k}_norm`, `cross_attn_attn_gate`, `cross_attn_mlp_gate`,
    /// `input_layernorm`, `post_attention_layernorm` and `mlp.*`.
    pub fn new(config: &CrossAttentionConfig, w: &Weights) -> Result<Self> {
        let (dim, eps) = (config.hidden_size, config.rms_norm_eps);
        let head_dim = dim / config.num_heads;
        let attn = w.pp("cross_attn");
        let gate = |name: &str| w.get_init(&[1], name, Init::Const(config.gate_init));
        Ok(Self {
            input_norm: RmsNorm::new(dim, eps, &w.pp("input_layernorm"))?,
            query: Linear::no_bias(dim, config.num_heads * head_dim, &attn.pp("q_proj"))?,
            key: Linear::no_bias(dim, config.num_kv_heads * head_dim, &attn.pp("k_proj"))?,
            // Values enter the residual stream beside trained text: at the usual 0.02 they would be a hundredth of it,
            // and too weak to be learnt from.
            value: Linear::unit_gain(dim, config.num_kv_heads * head_dim, &attn.pp("v_proj"))?,
            out: Linear::unit_gain(config.num_heads * head_dim, dim, &attn.pp("o_proj"))?,
            query_norm: RmsNorm::new(head_dim, eps, &attn.pp("q_norm"))?,
            key_norm: RmsNorm::new(head_dim, eps, &attn.pp("k_norm"))?,
            attention_gate: gate("cross_attn_attn_gate")?,
            mlp: FeedForward::swiglu(
                dim,
                config.intermediate_size,
                Some(RmsNorm::new(dim, eps, &w.pp("post_attention_layernorm"))?.into()),
                &w.pp("mlp"),
            )?,
            mlp_gate: gate("cross_attn_mlp_gate")?,
            heads: config.num_heads,
            kv_heads: config.num_kv_heads,
            head_dim,
        })
    }

    fn key_value(&self, memory: &Tensor) -> Result<KeyValue> {
        let (batch, tokens, _) = memory.dims3()?;
        let shape = (batch, tokens, self.kv_heads, self.head_dim);
        let key = self.key_norm.forward(&self.key.forward(memory)?.reshape(shape)?)?;
        Ok(KeyValue { key, value: self.value.forward(memory)?.reshape(shape)? })
    }

    /// `x (batch, tokens, dim)` after this layer; `name` is the trace's name for the attention weights.
    fn forward(
        &self,
        x: &Tensor,
        kv: &KeyValue,
        mask: &RowMasks,
        name: &str,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let batch = x.dim(0)?;
        let query = self.queries(x)?;
        let (key, value) = (broadcast_rows(&kv.key, batch)?, broadcast_rows(&kv.value, batch)?);
        let scale = self.scale();
        let bias = mask.additive.as_ref().map_or(Mask::None, Mask::Additive);
        if trace.wants(name) {
            trace.record(name, &attention_probabilities(&query, &key, None, bias, scale)?.detach());
        }
        let attended = attention_in(self.query.precision(), &query, &key, &value, bias, scale)?;
        self.branches(x, &attended, mask)
    }

    /// One token a row, `x (rows, 1, dim)`, each with keys of its own: row `i` is [`forward`](Self::forward) alone.
    fn decode(&self, x: &Tensor, kv: &[&KeyValue], name: &str, traces: &mut [&mut Trace]) -> Result<Tensor> {
        let query = self.queries(x)?;
        for (row, (trace, kv)) in traces.iter_mut().zip(kv).enumerate().filter(|(_, (t, _))| t.wants(name)) {
            let query = query.narrow(0, row, 1)?;
            let weights = attention_probabilities(&query, &kv.key, None, Mask::None, self.scale())?;
            trace.record(name, &weights.detach());
        }
        let keys: Vec<_> = kv.iter().map(|kv| (kv.key.clone(), kv.value.clone())).collect();
        let attended = attention_each(&query, &keys, self.scale())?;
        self.branches(x, &attended, &RowMasks::default())
    }

    fn scale(&self) -> f64 {
        (self.head_dim as f64).powf(-0.5)
    }

    /// `(batch, tokens, heads, head_dim)`
    fn queries(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, _) = x.dims3()?;
        let query = self.query.forward(&self.input_norm.forward(x)?)?;
        self.query_norm.forward(&query.reshape((batch, tokens, self.heads, self.head_dim))?)
    }

    /// `x` with both gated branches added; `attended (batch, tokens, heads, head_dim)`.
    fn branches(&self, x: &Tensor, attended: &Tensor, mask: &RowMasks) -> Result<Tensor> {
        let attended = self
            .out
            .forward(&attended.flatten_from(D::Minus2)?)?
            .broadcast_mul(&self.attention_gate.tanh()?)?;
        let x = (x + multiply(attended, mask.attention.as_ref())?)?;
        let hidden = self.mlp.forward(&x)?.broadcast_mul(&self.mlp_gate.tanh()?)?;
        Ok((x + multiply(hidden, mask.mlp.as_ref())?)?)
    }
}

/// What multiplies the two branches and what is added to the scores, for this call.
#[derive(Default)]
struct RowMasks {
    additive: Option<Tensor>,
    attention: Option<Tensor>,
    mlp: Option<Tensor>,
}

fn multiply(x: Tensor, rows: Option<&Tensor>) -> Result<Tensor> {
    Ok(match rows {
        Some(rows) => x.broadcast_mul(rows)?,
        None => x,
    })
}

/// A batch of 1 repeated to `batch` rows.
fn broadcast_rows(x: &Tensor, batch: usize) -> Result<Tensor> {
    if x.dim(0)? == batch {
        return Ok(x.clone());
    }
    let mut dims = x.dims().to_vec();
    dims[0] = batch;
    Ok(x.broadcast_as(dims)?.contiguous()?)
}

/// All cross layers of a model, and the decoder layers that they stand at.
#[derive(Debug)]
pub struct CrossAttention {
    layers: Vec<GatedCrossAttention>,
    /// Decoder index of each layer, ascending.
    positions: Vec<usize>,
}

impl CrossAttention {
    /// One layer for each of `positions`; `weights(i, position)` is where layer number `i` is stored.
    pub fn new(
        config: &CrossAttentionConfig,
        positions: &[usize],
        weights: impl Fn(usize, usize) -> Weights,
    ) -> Result<Self> {
        let layers =
            positions.iter().enumerate().map(|(i, &p)| GatedCrossAttention::new(config, &weights(i, p)));
        Ok(Self { layers: layers.collect::<Result<_>>()?, positions: positions.to_vec() })
    }

    /// Number of layers.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there is no cross layer at all.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Keys and values of `memory (batch, tokens, dim)` for every layer.
    ///
    /// `lengths`, if given, says how many memory tokens each sample has; the rest of its row is padding, and 0
    /// means that the sample has no image.
    pub fn memory(&self, memory: &Tensor, lengths: Option<&[usize]>) -> Result<CrossMemory> {
        let layers = self.layers.iter().map(|layer| layer.key_value(memory)).collect::<Result<_>>()?;
        let (batch, tokens, _) = memory.dims3()?;
        let mut result = CrossMemory { layers, padding: None, present: None };
        let Some(lengths) = lengths else {
            return Ok(result);
        };
        if lengths.iter().any(|&n| n != 0 && n != tokens) {
            let hidden =
                |n: usize| (0..tokens).map(move |j| if n == 0 || j < n { 0.0 } else { f32::NEG_INFINITY });
            let padding: Vec<f32> = lengths.iter().flat_map(|&n| hidden(n)).collect();
            result.padding = Some(Tensor::from_vec(padding, (batch, 1, tokens), memory.device())?);
        }
        if lengths.contains(&0) {
            let present: Vec<f32> = lengths.iter().map(|&n| f32::from(u8::from(n > 0))).collect();
            result.present = Some(Tensor::from_vec(present, (batch, 1, 1), memory.device())?);
        }
        Ok(result)
    }

    /// Number of the cross layer before decoder layer `index`.
    pub(crate) fn at(&self, index: usize) -> Option<usize> {
        self.positions.binary_search(&index).ok()
    }

    /// Cross layer `i` on one token a row, `x (rows, 1, dim)`, each with a memory and a trace of its own.
    pub(crate) fn decode(
        &self,
        i: usize,
        x: &Tensor,
        memories: &[&CrossMemory],
        traces: &mut [&mut Trace],
    ) -> Result<Tensor> {
        if memories.iter().any(|memory| !memory.is_plain()) {
            return Err(Error::Input("a row's memory is of one sample without padding".into()));
        }
        let kv: Vec<&KeyValue> = memories.iter().map(|memory| &memory.layers[i]).collect();
        self.layers[i].decode(x, &kv, &weights_name(i), traces)
    }

    /// The hook that runs these layers inside a decoder; without a memory it leaves the text alone.
    pub fn hook<'a>(&'a self, memory: Option<&'a CrossMemory>, mask: Option<&'a CrossMask>) -> CrossHook<'a> {
        CrossHook { layers: self, memory, mask }
    }
}

/// Runs the cross layers at their places in a decoder. Records `cross.I.weights`
/// `(batch, heads, tokens, memory)`, `I` counting cross layers, when the trace wants them.
#[derive(Debug, Clone, Copy)]
pub struct CrossHook<'a> {
    layers: &'a CrossAttention,
    memory: Option<&'a CrossMemory>,
    mask: Option<&'a CrossMask>,
}

impl LayerHook for CrossHook<'_> {
    fn before(&self, index: usize, hidden: Tensor, trace: &mut Trace) -> Result<Tensor> {
        let (Some(memory), Some(i)) = (self.memory, self.layers.at(index)) else {
            return Ok(hidden);
        };
        let masks = row_masks(memory, self.mask, &hidden)?;
        self.layers.layers[i].forward(&hidden, &memory.layers[i], &masks, &weights_name(i), trace)
    }
}

/// The trace's name for the attention of cross layer `i`.
fn weights_name(i: usize) -> String {
    format!("cross.{i}.weights")
}

fn row_masks(memory: &CrossMemory, mask: Option<&CrossMask>, hidden: &Tensor) -> Result<RowMasks> {
    let tokens = hidden.dim(1)?;
    let padding = memory.padding.as_ref();
    let padding =
        padding.map(|p| p.broadcast_as((p.dim(0)?, tokens, p.dim(2)?))?.contiguous()).transpose()?;
    let additive = match (padding, mask) {
        (Some(padding), Some(mask)) => Some(padding.broadcast_add(&mask.additive)?),
        (padding, mask) => padding.or_else(|| mask.map(|mask| mask.additive.clone())),
    };
    let present = memory.present.clone();
    let mlp = match (&present, mask) {
        (Some(present), Some(mask)) => Some(present.broadcast_mul(&mask.rows)?),
        (_, mask) => mask.map(|mask| mask.rows.clone()).or_else(|| present.clone()),
    };
    Ok(RowMasks { additive, attention: present, mlp })
}
