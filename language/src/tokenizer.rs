//! Text to token ids and back: published `tokenizer.json` files, special tokens, and training of our own.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rayon::iter::{ParallelBridge, ParallelIterator};
use serde_json::{Value, json};
use swinseek_kernels::{Error, Result};
use tokenizers::{
    AddedToken, AddedVocabulary, DecoderWrapper, Model, OffsetReferential, OffsetType, PreTokenizer,
};

use crate::bpe;

/// A tokenizer with its special tokens; cloning shares the vocabulary.
#[derive(Clone, Debug)]
pub struct Tokenizer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tokenizer: tokenizers::Tokenizer,
    /// The same added tokens, with every control token marked as one that text cannot spell.
    untrusted: AddedVocabulary,
    /// Ids that only a template may produce.
    control: HashSet<u32>,
    vocab_size: usize,
    byte_level: bool,
}

/// The ids that generation needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Begin of sequence.
    pub bos: Option<u32>,
    /// Any of these ends the answer.
    pub eos: Vec<u32>,
    /// Fills a batch.
    pub pad: Option<u32>,
    /// Stands where an image goes.
    pub image: Option<u32>,
}

fn input(what: &str, error: impl std::fmt::Display) -> Error {
    Error::Input(format!("{what}: {error}"))
}

/// Whether text must not be able to spell this token: everything marked special, and everything that looks like
/// a marker (DeepSeek V3 lists `<｜User｜>` as an ordinary added token).
fn is_control(token: &AddedToken) -> bool {
    let text = token.content.as_str();
    token.special
        || (text.len() > 2 && text.starts_with('<') && text.ends_with('>'))
        || (text.len() > 2 && text.starts_with('[') && text.ends_with(']'))
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. Truncation and padding stored in it are ignored: lengths are the caller's.
    ///
    /// # Errors
    /// [`Error::Input`] when the bytes are no tokenizer.
    pub fn from_bytes(json: &[u8]) -> Result<Self> {
        let mut tokenizer =
            tokenizers::Tokenizer::from_bytes(json).map_err(|e| input("tokenizer.json", e))?;
        tokenizer.with_truncation(None).map_err(|e| input("tokenizer.json", e))?;
        tokenizer.with_padding(None);

        let added = tokenizer.get_added_tokens_decoder();
        let highest = tokenizer.get_model().get_vocab().into_values().chain(added.keys().copied()).max();
        let control: HashSet<u32> = added.iter().filter(|(_, t)| is_control(t)).map(|(&id, _)| id).collect();
        let mut untrusted = tokenizer.get_added_vocabulary().clone();
        let marked: Vec<AddedToken> =
            added.values().filter(|t| is_control(t) && !t.special).map(|t| t.clone().special(true)).collect();
        untrusted
            .add_tokens(marked, tokenizer.get_model(), tokenizer.get_normalizer())
            .map_err(|e| input("tokenizer.json: added_tokens", e))?;
        untrusted.set_encode_special_tokens(true);

        let byte_level = matches!(tokenizer.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        let vocab_size = highest.map_or(0, |id| id as usize + 1);
        Ok(Self(Arc::new(Inner { tokenizer, untrusted, control, vocab_size, byte_level })))
    }

    /// The `tokenizer.json` of this tokenizer; the same tokenizer gives the same bytes.
    ///
    /// # Errors
    /// [`Error::Input`] when a part cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        self.0.tokenizer.to_string(false).map_err(|e| input("tokenizer", e))
    }

    /// Ids of `text`, in which special tokens may be spelled out (a rendered template). `add_special` applies the
    /// post-processor (usually: begin of sequence first); templates already hold their own.
    ///
    /// # Errors
    /// [`Error::Input`] when the text cannot be encoded with this vocabulary.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = self
            .0
            .tokenizer
            .encode_fast(text, add_special)
            .map_err(|e| input("text cannot be encoded", e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids of text from outside: special tokens spelled in it become ordinary text, so that a question cannot open
    /// a turn, end the answer or place an image.
    ///
    /// # Errors
    /// [`Error::Input`] when the text cannot be encoded with this vocabulary.
    pub fn encode_untrusted(&self, text: &str) -> Result<Vec<u32>> {
        let inner = &*self.0;
        let encode = || -> tokenizers::Result<Vec<u32>> {
            let mut pieces = inner.untrusted.extract_and_normalize(inner.tokenizer.get_normalizer(), text);
            if let Some(pre_tokenizer) = inner.tokenizer.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut pieces)?;
            }
            inner.tokenizer.get_model().tokenize_in_pretokenized(&mut pieces, None)?;
            Ok(pieces.into_encoding(None, 0, OffsetType::None)?.get_ids().to_vec())
        };
        let ids = encode().map_err(|e| input("text cannot be encoded", e))?;
        // A model whose own vocabulary (not only the added tokens) can spell a control token.
        match ids.iter().find(|id| inner.control.contains(id)) {
            Some(id) => Err(Error::Input(format!(
                "the text spells the control token {id} ({}), which only the prompt template may use",
                self.token(*id).unwrap_or_default()
            ))),
            None => Ok(ids),
        }
    }

    /// Text of `ids`, without special tokens. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`Error::Input`] when the decoder of the file fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.0.tokenizer.decode(ids, true).map_err(|e| input("ids cannot be decoded", e))
    }

    /// Text of `ids` with the special tokens spelled out.
    ///
    /// # Errors
    /// [`Error::Input`] when the decoder of the file fails.
    pub fn decode_with_special(&self, ids: &[u32]) -> Result<String> {
        self.0.tokenizer.decode(ids, false).map_err(|e| input("ids cannot be decoded", e))
    }

    /// Highest id plus one, added tokens included: the least number of embedding rows that fit.
    pub fn vocab_size(&self) -> usize {
        self.0.vocab_size
    }

    /// Checks that every id has an embedding row. Models may have more rows than ids (padded vocabularies).
    ///
    /// # Errors
    /// [`Error::Input`] naming both numbers.
    pub fn check_fits(&self, model_vocab_size: usize) -> Result<()> {
        if self.vocab_size() <= model_vocab_size {
            return Ok(());
        }
        Err(Error::Input(format!(
            "the tokenizer has ids up to {}, but the model's vocab_size is {model_vocab_size}: \
             tokenizer.json and config.json do not belong together",
            self.vocab_size() - 1,
        )))
    }

    /// Id of a token by its exact text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.0.tokenizer.token_to_id(token)
    }

    /// Text of one token as the vocabulary spells it (byte-level alphabet, not decoded).
    pub fn token(&self, id: u32) -> Option<String> {
        self.0.tokenizer.id_to_token(id)
    }

    /// Whether decoding leaves this token out.
    pub fn is_special(&self, id: u32) -> bool {
        self.token(id).is_some_and(|token| self.0.tokenizer.get_added_vocabulary().is_special_token(&token))
    }

    /// Texts of the tokens that only a template may produce.
    pub fn control_tokens(&self) -> Vec<String> {
        self.0.control.iter().filter_map(|&id| self.token(id)).collect()
    }

    /// The bytes that `id` contributes to the decoded text, for byte-level vocabularies; `None` for others, whose
    /// tokens cannot be decoded one by one. Special and unknown ids contribute nothing.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        if !self.0.byte_level {
            return None;
        }
        let Some(token) = self.token(id).filter(|_| !self.is_special(id)) else {
            return Some(Vec::new());
        };
        let bytes: Option<Vec<u8>> = token.chars().map(byte_of_char).collect();
        Some(bytes.unwrap_or_else(|| token.into_bytes()))
    }

    /// Begin, end, padding and image ids: from `generation_config.json`, else `tokenizer_config.json`, else the
    /// added tokens by their usual names. Pass [`Value::Null`] for a file that does not exist.
    ///
    /// # Errors
    /// [`Error::Config`] when a field has the wrong type or names a token that the vocabulary does not have.
    pub fn special_ids(&self, generation_config: &Value, tokenizer_config: &Value) -> Result<SpecialIds> {
        let find = |role: &str, usual: &[&str]| -> Result<Vec<u32>> {
            for config in [generation_config, tokenizer_config] {
                for field in [format!("{role}_token_id"), format!("{role}_token_index")] {
                    let value = &config[&field];
                    if !value.is_null() {
                        return ids_of(&field, value);
                    }
                }
                let field = format!("{role}_token");
                if let Some(token) = token_text(&field, &config[&field])? {
                    let id = self.id(token).ok_or_else(|| {
                        Error::config(
                            &field,
                            format!("token {token:?} is not in the vocabulary of tokenizer.json"),
                        )
                    })?;
                    return Ok(vec![id]);
                }
            }
            Ok(usual.iter().find_map(|token| self.id(token)).into_iter().collect())
        };
        Ok(SpecialIds {
            bos: find("bos", &["<bos>", "<｜begin▁of▁sentence｜>", "<s>", "<|begin_of_text|>"])?
                .first()
                .copied(),
            eos: find("eos", &["<eos>", "<｜end▁of▁sentence｜>", "</s>", "<|end_of_text|>"])?,
            pad: find("pad", &["<pad>", "<｜▁pad▁｜>", "[PAD]"])?.first().copied(),
            image: find("image", &["<image>", "<image_placeholder>", "<|image|>"])?.first().copied(),
        })
    }

    /// Trains a byte-level BPE: GPT-2's splitting rules, single digits, all 256 bytes in the alphabet, so that any
    /// text can be encoded. Ids: `special_tokens` in order, then the bytes, then merges. The same texts in any
    /// order give the same tokenizer. When `<bos>` is among the special tokens, `encode(.., true)` puts it first.
    ///
    /// # Errors
    /// [`Error::Config`] when `vocab_size` has no room for the special tokens and the 256 bytes.
    pub fn train_bpe<S: AsRef<str> + Send>(
        texts: impl Iterator<Item = S> + Send,
        vocab_size: usize,
        special_tokens: &[&str],
    ) -> Result<Self> {
        let least = special_tokens.len() + 256;
        if vocab_size < least {
            let message =
                format!("{vocab_size}, expected at least {least} (256 bytes and the special tokens)");
            return Err(Error::config("vocab_size", message));
        }
        let mut alphabet: Vec<char> = (0..=255).map(char_of_byte).collect();
        alphabet.sort_unstable();
        let mut first: Vec<String> = special_tokens.iter().map(ToString::to_string).collect();
        first.extend(alphabet.into_iter().map(String::from));

        // With a vocabulary of nothing but the first tokens, the parts of the file split text for training too.
        let untrained =
            Self::assemble(&bpe::Learnt { tokens: first.clone(), merges: Vec::new() }, special_tokens)?;
        let words = untrained.count_words(texts)?;
        Self::assemble(&bpe::learn(&words, first, vocab_size), special_tokens)
    }

    /// Pre-tokens of all texts with their counts; special tokens are not words.
    fn count_words<S: AsRef<str> + Send>(
        &self,
        texts: impl Iterator<Item = S> + Send,
    ) -> Result<BTreeMap<String, u64>> {
        let tokenizer = &self.0.tokenizer;
        let count =
            |mut words: BTreeMap<String, u64>, text: S| -> tokenizers::Result<BTreeMap<String, u64>> {
                let mut pieces = tokenizer
                    .get_added_vocabulary()
                    .extract_and_normalize(tokenizer.get_normalizer(), text.as_ref());
                if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
                    pre_tokenizer.pre_tokenize(&mut pieces)?;
                }
                for (word, _, tokens) in pieces.get_splits(OffsetReferential::Original, OffsetType::None) {
                    if tokens.is_none() {
                        match words.get_mut(word) {
                            Some(count) => *count += 1,
                            None => drop(words.insert(word.to_owned(), 1)),
                        }
                    }
                }
                Ok(words)
            };
        texts
            .par_bridge()
            .try_fold(BTreeMap::new, count)
            .try_reduce(BTreeMap::new, |a, b| {
                let (mut larger, smaller) = if a.len() < b.len() { (b, a) } else { (a, b) };
                for (word, count) in smaller {
                    *larger.entry(word).or_default() += count;
                }
                Ok(larger)
            })
            .map_err(|e| input("training text cannot be split", e))
    }

    /// The `tokenizer.json` of a learnt vocabulary, read back.
    fn assemble(learnt: &bpe::Learnt, special_tokens: &[&str]) -> Result<Self> {
        let tokens = &learnt.tokens;
        let vocab: serde_json::Map<String, Value> =
            tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
        let merges: Vec<[&String; 2]> =
            learnt.merges.iter().map(|&(a, b)| [&tokens[a as usize], &tokens[b as usize]]).collect();
        let added: Vec<Value> = special_tokens
            .iter()
            .enumerate()
            .map(|(id, content)| {
                json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": true})
            })
            .collect();
        let bos = special_tokens.iter().position(|&token| token == "<bos>");
        let post_processor = bos.map(|id| {
            json!({"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                         {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {"<bos>": {"id": "<bos>", "ids": [id], "tokens": ["<bos>"]}}})
        });
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": true},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
            "post_processor": post_processor,
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                      "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                      "vocab": vocab, "merges": merges},
        });
        Self::from_bytes(file.to_string().as_bytes())
    }
}

/// GPT-2's printable stand-in for a byte: itself when printable, else the next free character from U+0100 on.
fn char_of_byte(byte: u8) -> char {
    let shifted = match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => return char::from(byte),
        0..=b' ' => u32::from(byte),
        0x7F..=0xA0 => u32::from(byte) - 0x7F + 33,
        0xAD => 67,
    };
    char::from_u32(256 + shifted).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Inverse of [`char_of_byte`].
fn byte_of_char(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121) as u8 + 0x7F),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// An id or a list of ids in a configuration.
fn ids_of(field: &str, value: &Value) -> Result<Vec<u32>> {
    let one = |value: &Value| {
        value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
            Error::config(
                field,
                format!("{value} is no token id; expected a whole number from 0, or a list of them"),
            )
        })
    };
    match value {
        Value::Array(values) => values.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

/// A token given as a string or as `{"content": ..}`.
pub(crate) fn token_text<'a>(field: &str, value: &'a Value) -> Result<Option<&'a str>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Object(object) if object.get("content").is_some_and(Value::is_string) => {
            Ok(object["content"].as_str())
        }
        other => Err(Error::config(
            field,
            format!("{other}, expected a token as text or an object with `content`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    #[test]
    fn byte_alphabet_is_the_one_of_the_tokenizers_crate() {
        let ours: HashSet<char> = (0..=255).map(char_of_byte).collect();
        let theirs: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
        assert_eq!(ours, theirs);
        for byte in 0..=255 {
            assert_eq!(byte_of_char(char_of_byte(byte)), Some(byte));
        }
    }
}
