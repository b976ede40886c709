//! From pictures and a question to text with its evidence: what every command and, later, the service is built on.

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{Device, IndexOp, Tensor};
use swinseek_kernels::{Compute, Trace};
use swinseek_language::sampler::log_softmax;
use swinseek_language::text_stream::TextStream;
use swinseek_language::tokenizer::Tokenizer;
use swinseek_vision::preprocess::{Geometry, Image, Preprocessor};

use crate::evidence::{self, Sentence};
use crate::generate::{
    FinishReason, GenerateParams, Generation, Token, TokenModel, check_length, generate, id_tensor,
    last_position,
};
use crate::load::{Model, load_model};
use crate::model::{ImageMemory, SwinSeek};
use crate::projector::MemoryLayout;
use crate::prompt_encoder::PromptEncoder;
use crate::{Error, Result};

/// The instruction that asks for a report; training and every command use the same words.
pub const REPORT_PROMPT: &str = "Write the report.";
/// The instruction that asks for a caption.
pub const CAPTION_PROMPT: &str = "Describe the image in one sentence.";

/// A loaded model with everything around it.
pub struct Pipeline {
    model: SwinSeek,
    prompts: PromptEncoder,
    preprocessor: Preprocessor,
    digest: String,
}

/// One question about one or more pictures.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The pictures, in the order the prompt refers to them; may be empty.
    pub images: &'a [Image],
    /// The question or instruction.
    pub prompt: &'a str,
    /// How to generate.
    pub params: GenerateParams,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
}

/// What the model wrote.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The text, up to a stop string.
    pub text: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// The tokens with their log-probabilities.
    pub tokens: Vec<Token>,
    /// Sentences with their confidence and the region they looked at.
    pub sentences: Vec<Sentence>,
    /// Why it ended.
    pub finish: FinishReason,
}

impl Pipeline {
    /// Loads a model directory of our own architecture.
    pub fn open(dir: &Path, compute: impl Into<Compute>) -> Result<Self> {
        let loaded = load_model(dir, compute)?;
        let missing = |file: &str| Error::file(&dir.join(file), "is missing, expected beside config.json");
        let tokenizer =
            Tokenizer::from_bytes(loaded.tokenizer.as_deref().ok_or_else(|| missing("tokenizer.json"))?)
                .map_err(|error| Error::file(&dir.join("tokenizer.json"), error))?;
        let preprocessor = loaded.preprocessor.as_ref().ok_or_else(|| missing("preprocessor_config.json"))?;
        let preprocessor = Preprocessor::from_json(preprocessor)
            .map_err(|error| Error::file(&dir.join("preprocessor_config.json"), error))?;
        let Model::SwinSeek(model) = loaded.model else {
            return Err(Error::file(
                &dir.join("config.json"),
                "is no joined model (SwinSeekForConditionalGeneration); make one with compose",
            ));
        };
        tokenizer
            .check_fits(model.config().language.vocab_size)
            .map_err(|error| Error::file(&dir.join("tokenizer.json"), error))?;
        let null = serde_json::Value::Null;
        let tokenizer_config = loaded.tokenizer_config.as_ref().unwrap_or(&null);
        let prompts =
            PromptEncoder::new(tokenizer, tokenizer_config, loaded.generation.as_ref().unwrap_or(&null))
                .map_err(|error| Error::file(&dir.join("tokenizer_config.json"), error))?;
        Ok(Self { model: *model, prompts, preprocessor, digest: loaded.digest })
    }

    /// From parts in memory, as the trainer has them.
    pub fn from_parts(
        model: SwinSeek,
        prompts: PromptEncoder,
        preprocessor: Preprocessor,
        digest: String,
    ) -> Self {
        Self { model, prompts, preprocessor, digest }
    }

    /// BLAKE3 of configuration and weights, hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The model itself.
    pub fn model(&self) -> &SwinSeek {
        &self.model
    }

    /// What turns questions into ids.
    pub fn prompts(&self) -> &PromptEncoder {
        &self.prompts
    }

    /// What turns pictures into model input.
    pub fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.prompts.tokenizer()
    }

    /// Answers `request`; `on_text` sees each piece of text as soon as it is certain, and may stop the answer.
    pub fn answer(
        &self,
        request: &Request,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let prompt = self.prompts.encode(request.prompt, request.images.len())?;
        // Before the images are looked at, which takes far longer.
        check_length(prompt.len(), self.model.session(None).context_length())?;
        let seen = self.see(request.images)?;
        let params = GenerateParams { stop_ids: self.prompts.stop_ids().to_vec(), ..request.params.clone() };
        let mut stream = TextStream::new(self.tokenizer(), &request.stop)?;
        let mut failure = None;
        let session = self.model.session(seen.memory.as_ref());
        let generation = generate(&session, &prompt, &params, |token| {
            let goes_on = match stream.push(token.id) {
                Ok(piece) => piece.is_empty() || on_text(piece).is_continue(),
                Err(error) => {
                    failure = Some(error);
                    false
                }
            };
            if goes_on && stream.stopped().is_none() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        let rest = stream.finish()?;
        if !rest.is_empty() {
            let _ = on_text(rest); // the answer is over: there is nothing left to stop
        }
        let Generation { tokens, finish, .. } = generation;
        let sentences =
            evidence::sentences(&stream.sentences(), &tokens, seen.layout.as_ref(), &seen.geometry);
        Ok(Answer {
            text: stream.text().to_owned(),
            prompt_tokens: prompt.len(),
            sentences,
            finish: if stream.stopped().is_some() { FinishReason::Stop } else { finish },
            tokens,
        })
    }

    /// The probability that the answer begins as `answer` does, against that it begins as `other` does: for questions
    /// with two answers, where a threshold trades sensitivity for specificity.
    pub fn preference(&self, images: &[Image], prompt: &str, answer: &str, other: &str) -> Result<f64> {
        let seen = self.see(images)?;
        let prompt = self.prompts.encode(prompt, images.len())?;
        let (yes, no) = (self.prompts.encode_answer(answer)?[0], self.prompts.encode_answer(other)?[0]);
        let ids = id_tensor(&[&prompt])?;
        let hidden = self.model.hidden_states(&ids, None, seen.memory.as_ref(), None, &mut Trace::off())?;
        let logits: Vec<f32> = self.model.logits(&last_position(&hidden)?)?.i(0)?.to_vec1()?;
        let log_probability = log_softmax(&logits);
        let difference = f64::from(log_probability[no as usize] - log_probability[yes as usize]);
        Ok(1.0 / (1.0 + difference.exp()))
    }

    /// Encodes pictures once; their memory serves every token of the answer.
    fn see(&self, images: &[Image]) -> Result<Seen> {
        if images.is_empty() {
            return Ok(Seen { memory: None, layout: None, geometry: Vec::new() });
        }
        let mut pixels = Vec::with_capacity(images.len());
        let mut geometry = Vec::with_capacity(images.len());
        for image in images {
            let values = self.preprocessor.apply(image).map_err(|error| Error::Input(error.to_string()))?;
            pixels.push(values.to_tensor(&Device::Cpu)?);
            geometry.push(values.geometry);
        }
        let encoded = self.model.encode_images(&Tensor::cat(&pixels, 0)?, &mut Trace::off())?;
        let memory = self.model.image_memory(&encoded, &[images.len()])?;
        Ok(Seen { memory: Some(memory), layout: Some(encoded.layout), geometry })
    }
}

/// The pictures of one request as the decoder reads them.
struct Seen {
    memory: Option<ImageMemory>,
    layout: Option<MemoryLayout>,
    geometry: Vec<Geometry>,
}
