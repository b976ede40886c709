//! Constraints that `llguidance` compiles: JSON schemas, regular expressions, Lark grammars, lists of texts.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use swinseek_kernels::{Error, Result};

use super::vocabulary::Vocabulary;
use super::{Constraint, TokenMask, place};

/// Largest schema, as JSON text.
const MAX_SCHEMA_BYTES: usize = 128 << 10;
/// Deepest schema.
const MAX_SCHEMA_DEPTH: usize = 64;
/// Longest regular expression.
const MAX_REGEX_BYTES: usize = 16 << 10;
/// Longest grammar.
const MAX_GRAMMAR_BYTES: usize = 64 << 10;
/// Most choices, and their length together.
const MAX_CHOICES: usize = 1_000;
const MAX_CHOICE_BYTES: usize = 64 << 10;
/// White space between the parts of JSON: a space or none. A weak model fills whatever else it may with blanks.
const JSON_SPACE: &str = r"\x20";
/// Compilers recurse over what they compile.
const COMPILER_STACK_BYTES: usize = 64 << 20;

/// What a request asks for.
pub(super) enum Source<'a> {
    Schema(&'a Value),
    Regex(&'a str),
    Lark(&'a str),
    Choice(&'a [String]),
}

pub(super) struct GrammarConstraint {
    vocabulary: Arc<Vocabulary>,
    matcher: Matcher,
    /// A stop id was taken.
    ended: bool,
}

impl GrammarConstraint {
    pub(super) fn new(vocabulary: Arc<Vocabulary>, source: &Source) -> Result<Self> {
        let matcher = match source {
            Source::Schema(schema) => schema_matcher(&vocabulary.factory, schema)?,
            Source::Regex(regex) => regex_matcher(&vocabulary.factory, regex)?,
            Source::Lark(grammar) => lark_matcher(&vocabulary.factory, grammar)?,
            Source::Choice(choices) => choice_matcher(&vocabulary.factory, choices)?,
        };
        Ok(Self { vocabulary, matcher, ended: false })
    }
}

impl Constraint for GrammarConstraint {
    fn allowed(&mut self) -> Result<TokenMask> {
        if self.is_done() {
            return Ok(TokenMask::of(self.vocabulary.trie().vocab_size(), &self.vocabulary.stop_ids));
        }
        let mut mask = self.matcher.compute_mask().map_err(|error| step_error(&error))?;
        mask.and(&self.vocabulary.usable);
        if self.matcher.is_accepting().map_err(|error| step_error(&error))? {
            self.vocabulary.stop_ids.iter().for_each(|&id| mask.allow_token(id));
        }
        if mask.is_zero() {
            let message = "the constraint cannot go on: no token of the vocabulary fits the grammar here";
            return Err(Error::Input(message.to_owned()));
        }
        Ok(TokenMask::from_bits(&mask))
    }

    fn accept(&mut self, id: u32) -> Result<()> {
        if self.vocabulary.stop_ids.contains(&id) {
            let complete =
                self.is_done() || self.matcher.is_accepting().map_err(|error| step_error(&error))?;
            self.ended = complete;
            return if complete { Ok(()) } else { Err(refused(id)) };
        }
        if self.is_done() || (id as usize) >= self.vocabulary.trie().vocab_size() {
            return Err(refused(id));
        }
        match self.matcher.try_consume_tokens(&[id]) {
            Ok(1) => Ok(()),
            Ok(_) => Err(refused(id)),
            Err(error) => Err(step_error(&error)),
        }
    }

    fn is_done(&self) -> bool {
        self.ended || self.matcher.is_stopped()
    }
}

pub(super) fn refused(id: u32) -> Error {
    Error::Input(format!("token {id} is not among those that the constraint allows here"))
}

fn step_error(error: &impl std::fmt::Display) -> Error {
    Error::Input(format!("the constraint cannot go on: {}", first_line(&error.to_string())))
}

/// The first line of a compiler's message; the others repeat the input, or say where in our process it was noticed.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default().trim();
    let line = if line.starts_with("panic:") { "it is too large or too intricate" } else { line };
    line.chars().take(300).collect()
}

/// Compiles `grammar`; the error is the compiler's first line.
fn compile(factory: &ParserFactory, grammar: TopLevelGrammar) -> std::result::Result<Matcher, String> {
    let compiler = || factory.create_parser(grammar).map_err(|error| error.to_string());
    let parser = std::thread::scope(|scope| {
        let builder =
            std::thread::Builder::new().name("constraint".to_owned()).stack_size(COMPILER_STACK_BYTES);
        let thread = builder.spawn_scoped(scope, compiler).map_err(|error| error.to_string())?;
        thread.join().unwrap_or_else(|_| Err("panic: in the compiler".to_owned()))
    });
    let matcher = Matcher::new(Ok(parser.map_err(|message| first_line(&message))?));
    match matcher.get_error() {
        Some(message) => Err(first_line(&message)),
        None => Ok(matcher),
    }
}

fn check_size(field: &str, what: &str, size: usize, limit: usize) -> Result<()> {
    if size <= limit {
        return Ok(());
    }
    Err(Error::config(field, format!("{size} {what}, expected at most {limit}")))
}

fn schema_matcher(factory: &ParserFactory, schema: &Value) -> Result<Matcher> {
    const FIELD: &str = "json_schema";
    if let Some(pointer) = place::deeper_than(schema, MAX_SCHEMA_DEPTH) {
        let message = format!("{pointer}: nested deeper than {MAX_SCHEMA_DEPTH} levels");
        return Err(Error::config(FIELD, message));
    }
    check_size(FIELD, "bytes", schema.to_string().len(), MAX_SCHEMA_BYTES)?;
    let try_compile = |schema: &Value| -> std::result::Result<Matcher, String> {
        let mut schema = match schema {
            Value::Bool(true) => json!({}),
            Value::Object(_) => schema.clone(),
            _ => return Err("accepts nothing: expected an object or `true`".to_owned()),
        };
        if schema.get("x-guidance").is_some() {
            return Err("x-guidance is no keyword of JSON Schema".to_owned());
        }
        schema["x-guidance"] = json!({"whitespace_pattern": JSON_SPACE});
        compile(factory, TopLevelGrammar::from_json_schema(schema))
    };
    try_compile(schema).map_err(|message| {
        let fits = |part: &Value| try_compile(part).err();
        let (pointer, message) = place::fault(schema, message, fits);
        Error::config(FIELD, format!("{}: {message}", if pointer.is_empty() { "/" } else { &pointer }))
    })
}

fn regex_matcher(factory: &ParserFactory, regex: &str) -> Result<Matcher> {
    const FIELD: &str = "regex";
    check_size(FIELD, "bytes", regex.len(), MAX_REGEX_BYTES)?;
    if let Err(error) = regex_syntax::ParserBuilder::new().nest_limit(100).build().parse(regex) {
        let (message, place) = match &error {
            regex_syntax::Error::Parse(error) => (error.kind().to_string(), Some(error.span().start)),
            regex_syntax::Error::Translate(error) => (error.kind().to_string(), Some(error.span().start)),
            other => (first_line(&other.to_string()), None),
        };
        let place = place.map_or(String::new(), |at| format!("line {}, column {}: ", at.line, at.column));
        return Err(Error::config(FIELD, format!("{place}{message}")));
    }
    compile(factory, TopLevelGrammar::from_regex(regex)).map_err(|message| {
        // The compiler speaks of the grammar that it puts around the expression.
        let message = message.split_once("(in regex): ").map_or(message.as_str(), |(_, rest)| rest);
        Error::config(FIELD, format!("the expression cannot be used: {message}"))
    })
}

fn lark_matcher(factory: &ParserFactory, grammar: &str) -> Result<Matcher> {
    const FIELD: &str = "grammar";
    check_size(FIELD, "bytes", grammar.len(), MAX_GRAMMAR_BYTES)?;
    compile(factory, TopLevelGrammar::from_lark(grammar.to_owned()))
        .map_err(|message| Error::config(FIELD, lark_place(&message)))
}

/// `3(7): text` as `line 3, column 7: text`.
fn lark_place(message: &str) -> String {
    let parts = message.split_once('(').and_then(|(line, rest)| {
        let (column, rest) = rest.split_once("):")?;
        Some((line.trim().parse::<u32>().ok()?, column.parse::<u32>().ok()?, rest.trim_start()))
    });
    match parts {
        Some((line, column, rest)) => format!("line {line}, column {column}: {rest}"),
        None => message.to_owned(),
    }
}

fn choice_matcher(factory: &ParserFactory, choices: &[String]) -> Result<Matcher> {
    const FIELD: &str = "choice";
    if choices.is_empty() {
        return Err(Error::config(FIELD, "the list is empty, expected at least one text"));
    }
    if let Some(index) = choices.iter().position(String::is_empty) {
        return Err(Error::config(format!("{FIELD}[{index}]"), "the text is empty"));
    }
    check_size(FIELD, "texts", choices.len(), MAX_CHOICES)?;
    check_size(FIELD, "bytes", choices.iter().map(String::len).sum(), MAX_CHOICE_BYTES)?;
    let escaped: Vec<String> = choices.iter().map(|choice| regex_syntax::escape(choice)).collect();
    compile(factory, TopLevelGrammar::from_regex(&escaped.join("|")))
        .map_err(|message| Error::config(FIELD, message))
}
