//! The tokens of a vocabulary as bytes, in the trie that masks are computed with.

use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::toktrie::{ApproximateTokEnv, INVALID_TOKEN, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use swinseek_kernels::{Error, Result};

use crate::tokenizer::Tokenizer;

/// Longer tokens are never chosen under a constraint; the trie walk's stack holds no more.
const MAX_TOKEN_BYTES: usize = 256;

/// Tokens as bytes, and the compiler of grammars over them.
pub(super) struct Vocabulary {
    pub(super) factory: ParserFactory,
    pub(super) env: TokEnv,
    /// Ids that a constraint may ever choose: those that write text, and the stop ids.
    pub(super) usable: SimpleVob,
    pub(super) stop_ids: Vec<u32>,
}

impl Vocabulary {
    pub(super) fn new(tokenizer: &Tokenizer, stop_ids: &[u32]) -> Result<Self> {
        let size = tokenizer.vocab_size();
        let control: Vec<u32> = tokenizer.control_tokens().iter().filter_map(|t| tokenizer.id(t)).collect();
        let mut words = Vec::with_capacity(size);
        for id in 0..size as u32 {
            let bytes = tokenizer.token_bytes(id).ok_or_else(|| {
                Error::Input("constrained decoding needs a tokenizer with a ByteLevel decoder".to_owned())
            })?;
            let unusable = control.contains(&id) || stop_ids.contains(&id) || !is_speakable(&bytes);
            words.push(if unusable { Vec::new() } else { bytes });
        }
        let mut usable = SimpleVob::alloc_with_capacity(size, size + 1);
        let written = (0..size as u32).filter(|&id| !words[id as usize].is_empty());
        let stop_ids: Vec<u32> = stop_ids.iter().copied().filter(|&id| (id as usize) < size).collect();
        written.chain(stop_ids.iter().copied()).for_each(|id| usable.allow_token(id));
        let info = TokRxInfo::new(size as u32, stop_ids.first().copied().unwrap_or(INVALID_TOKEN));
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(TokTrie::from(&info, &words)));
        let mut factory = ParserFactory::new_simple(&env)
            .map_err(|error| Error::Input(format!("the vocabulary cannot be constrained: {error}")))?;
        factory.quiet();
        let limits = factory.limits_mut();
        // A state takes 1 to 2 kB: 40 MB a request at most. What is left out of the errors is the text so far.
        limits.max_lexer_states = 20_000;
        limits.max_grammar_size = 100_000;
        limits.verbose_errors = false;
        Ok(Self { factory, env, usable, stop_ids })
    }

    pub(super) fn trie(&self) -> &TokTrie {
        self.env.tok_trie()
    }
}

/// Bytes that can stand in UTF-8 text; 0xFF marks special tokens in the trie.
fn is_speakable(bytes: &[u8]) -> bool {
    bytes.len() <= MAX_TOKEN_BYTES && !bytes.contains(&0xFF)
}
