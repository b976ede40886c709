//! Constrained decoding: which tokens may come next so that the finished text has a given form.
//!
//! [`Constraints`] knows a vocabulary and makes one [`Constraint`] a request: JSON of a schema, a regular expression, a
//! Lark grammar, one of a list of texts (all compiled by `llguidance`), or our own report form, by choice in the words
//! of a [`Lexicon`]. The loop asks for [`Constraint::allowed`] before a token is chosen
//! ([`Sampler::sample_allowed`](crate::sampler::Sampler::sample_allowed)) and tells it the choice by
//! [`Constraint::accept`].
//!
//! Requests may come from anywhere: the sizes of schema, expression and grammar, the work of compiling them and the work
//! of each step are bounded, and what is wrong with them is said together with the place.

mod grammar;
mod lexicon;
mod mask;
mod place;
mod report;
mod vocabulary;

use std::sync::Arc;

use serde_json::Value;
use swinseek_kernels::Result;

use crate::tokenizer::Tokenizer;

use grammar::{GrammarConstraint, Source};
use report::{ReportConstraint, ReportForm};
use vocabulary::Vocabulary;

pub use lexicon::{FUNCTION_WORDS, Lexicon};
pub use mask::TokenMask;

/// What the answer must look like, token by token.
pub trait Constraint: Send {
    /// Ids that may come next; at least one unless [`Constraint::is_done`]. Ids that end the answer are allowed where
    /// the text may end.
    ///
    /// # Errors
    /// [`swinseek_kernels::Error::Input`] when the vocabulary cannot go on, or the grammar needs more work than a step
    /// may take.
    fn allowed(&mut self) -> Result<TokenMask>;

    /// Takes the id that was chosen.
    ///
    /// # Errors
    /// [`swinseek_kernels::Error::Input`] when the id is not among those allowed.
    fn accept(&mut self, id: u32) -> Result<()>;

    /// Whether the text is complete and nothing can follow: the loop may end without another step.
    fn is_done(&self) -> bool;
}

/// Makes constraints for one vocabulary; cloning shares it.
#[derive(Clone)]
pub struct Constraints(Arc<Vocabulary>);

impl Constraints {
    /// For `tokenizer`, whose `stop_ids` end an answer.
    ///
    /// # Errors
    /// [`swinseek_kernels::Error::Input`] when the vocabulary is not byte-level: the tokens of others cannot be told
    /// apart one by one.
    pub fn new(tokenizer: &Tokenizer, stop_ids: &[u32]) -> Result<Self> {
        Ok(Self(Arc::new(Vocabulary::new(tokenizer, stop_ids)?)))
    }

    /// JSON that the schema accepts (draft 2020-12 and earlier, without remote references). Between the parts of the
    /// JSON there is at most a little white space.
    ///
    /// # Errors
    /// [`swinseek_kernels::Error::Config`] for `json_schema`, with the JSON pointer of the part that is wrong, is not
    /// supported, or accepts nothing.
    pub fn json_schema(&self, schema: &Value) -> Result<Box<dyn Constraint>> {
        self.grammar(&Source::Schema(schema))
    }

    /// Any JSON object.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn json_object(&self) -> Result<Box<dyn Constraint>> {
        self.grammar(&Source::Schema(&serde_json::json!({"type": "object"})))
    }

    /// Text that the expression matches as a whole (syntax of the `regex` crate without look-around; `^` at the front
    /// and `$` at the end are allowed and change nothing).
    ///
    /// # Errors
    /// [`swinseek_kernels::Error::Config`] for `regex`, with the column.
    pub fn regex(&self, regex: &str) -> Result<Box<dyn Constraint>> {
        self.grammar(&Source::Regex(regex))
    }

    /// Text of a grammar in `llguidance`'s variant of Lark, whose first rule is `start`.
    ///
    /// # Errors
    /// [`swinseek_kernels::Error::Config`] for `grammar`, with line and column.
    pub fn lark(&self, grammar: &str) -> Result<Box<dyn Constraint>> {
        self.grammar(&Source::Lark(grammar))
    }

    /// One of `choices`.
    ///
    /// # Errors
    /// [`swinseek_kernels::Error::Config`] for `choice`, naming the entry.
    pub fn choice(&self, choices: &[String]) -> Result<Box<dyn Constraint>> {
        self.grammar(&Source::Choice(choices))
    }

    /// A report: `FINDINGS: ` sentences ` IMPRESSION: ` sentences, one space between words, no line breaks, each
    /// sentence ended by `.`, `!` or `?`. With a lexicon every word is one of it, a [function word](FUNCTION_WORDS)
    /// or a number.
    pub fn report(&self, lexicon: Option<&Arc<Lexicon>>) -> Box<dyn Constraint> {
        Box::new(ReportConstraint::new(ReportForm::new(Arc::clone(&self.0), lexicon.cloned())))
    }

    fn grammar(&self, source: &Source) -> Result<Box<dyn Constraint>> {
        Ok(Box::new(GrammarConstraint::new(Arc::clone(&self.0), source)?))
    }
}
