//! One decoding step of many sequences: everything that acts on a token alone runs on all of them at once, attention on
//! each sequence's own cache.

use candle_core::Tensor;
use swinseek_kernels::{Error, Result, Trace, threads::awake};

use crate::{
    cache::{Cache, LayerCache},
    context::{Context, Pass},
    decoder::Decoder,
    hook::LayerHook,
    rope_table::Rotation,
};

/// What a step knows of its rows.
pub(crate) struct Step {
    /// Each row as a pass of its own, of one token.
    pub(crate) passes: Vec<Pass>,
    /// Cosine and sine of all rows, `(rows, 1, dim / 2)`.
    pub(crate) rotation: Rotation,
}

impl Step {
    fn new(passes: Vec<Pass>) -> Result<Self> {
        let stack = |table: fn(&Rotation) -> &Tensor| {
            Tensor::cat(&passes.iter().map(|pass| table(&pass.rotation)).collect::<Vec<_>>(), 0)
        };
        let rotation = Rotation { cos: stack(|r| &r.cos)?, sin: stack(|r| &r.sin)? };
        Ok(Self { passes, rotation })
    }
}

impl Decoder {
    /// One more token of each of many sequences, `hidden (rows, 1, dim)`; `caches[i]`, of one sequence without padding,
    /// belongs to row `i`. Row `i` of the result is bit for bit what [`forward`](Self::forward) gives for it alone.
    ///
    /// After an error the caches are not to be used again.
    ///
    /// # Errors
    /// A cache that holds another number of sequences or padding, or that is not of this decoder.
    pub fn decode(
        &self,
        hidden: &Tensor,
        caches: &mut [&mut Cache],
        hook: &dyn LayerHook,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let (rows, tokens, _) = hidden.dims3()?;
        if rows == 0 || rows != caches.len() || tokens != 1 {
            let found = caches.len();
            return Err(Error::Input(format!("{rows} rows of {tokens} tokens for {found} caches")));
        }
        let mut passes = Vec::with_capacity(rows);
        for (row, cache) in caches.iter().enumerate() {
            let pass = self.pass(&hidden.narrow(0, row, 1)?, &Context::causal(), Some(&**cache))?;
            if pass.has_padding() {
                return Err(Error::Input(format!("the cache of row {row} holds padding")));
            }
            passes.push(pass);
        }
        let step = Step::new(passes)?;
        let _awake = awake();
        let mut hidden = hidden.clone();
        for (index, block) in self.blocks().iter().enumerate() {
            hidden = hook.before(index, hidden, trace)?;
            if let Some(block) = block {
                let mut layers: Vec<&mut LayerCache> =
                    caches.iter_mut().filter_map(|cache| cache.layer(index)).collect();
                hidden = block.decode(&hidden, &step, &mut layers)?;
            }
        }
        for (cache, pass) in caches.iter_mut().zip(step.passes) {
            cache.extend(pass.tokens);
        }
        self.final_norm(&hidden)
    }
}
