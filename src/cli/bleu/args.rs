//! Flags of `bleu`: those of sacreBLEU, and our `--seed` and `--groups`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use swinseek_evals::bleu::{Bleu, Smoothing};
use swinseek_evals::chrf::Chrf;
use swinseek_evals::metric::Metric;
use swinseek_evals::resample::Bootstrap;
use swinseek_evals::significance::TRIALS;
use swinseek_evals::ter::Ter;
use swinseek_evals::tokenize::{Tercom, Tokenizer};

const EXAMPLES: &str = "Examples:
  swinseek bleu ref.txt -i hyp.txt                      BLEU with its signature, as JSON
  swinseek bleu ref.txt -i hyp.txt -b -w 4              the bare number
  swinseek bleu ref1.txt ref2.txt -i hyp.txt.gz -m bleu chrf ter -f text --confidence
  swinseek bleu ref.txt -i base.txt new.txt --paired-bs -f text
  swinseek bleu reports.txt -i a.txt b.txt --paired-ar --groups patients.txt
  translate < source.txt | swinseek bleu ref.txt -tok zh

Flags of several letters work with one dash as in sacreBLEU: -tok -lc -sv -sl -sh -nr -cc -cw -ci -cin -par -parn -pbs -pbsn.
Files may be compressed with gzip or Zstandard; `-` is standard input, which is also read without -i.";

/// Flags of `bleu`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, infer_long_args = true)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(in crate::cli) struct BleuArgs {
    /// Reference files, one segment on each line.
    #[arg(value_name = "REF")]
    pub(super) references: Vec<PathBuf>,
    /// Hypothesis files, one a system; the first is the baseline of paired tests.
    #[arg(long, short = 'i', value_name = "FILE", num_args = 0..)]
    pub(super) input: Vec<PathBuf>,
    /// Metrics: bleu, chrf, ter.
    #[arg(long, short = 'm', value_name = "NAME", num_args = 1.., default_value = "bleu")]
    metrics: Vec<String>,
    /// References on each line of one reference file, between tabs [-nr].
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) num_refs: usize,
    /// Score each segment alone [-sl].
    #[arg(long)]
    pub(super) sentence_level: bool,

    /// BLEU's tokeniser: 13a, none, char, intl, zh [-tok] [default: 13a].
    #[arg(long, value_name = "NAME")]
    tokenize: Option<String>,
    /// BLEU's smoothing: exp, floor, add-k, none.
    #[arg(long, short = 's', value_name = "NAME", default_value = "exp")]
    smooth_method: String,
    /// Value of the smoothing floor (0.1) or add-k (1) [-sv].
    #[arg(long, value_name = "X")]
    smooth_value: Option<f64>,
    /// Compare BLEU in lower case [-lc].
    #[arg(long)]
    lowercase: bool,
    /// Longest n-gram of BLEU.
    #[arg(long, value_name = "N", default_value_t = 4)]
    max_ngram_order: usize,

    /// Longest character n-gram of chrF [-cc].
    #[arg(long, value_name = "N", default_value_t = 6)]
    chrf_char_order: usize,
    /// Longest word n-gram of chrF; 2 makes it chrF++ [-cw].
    #[arg(long, value_name = "N", default_value_t = 0)]
    chrf_word_order: usize,
    /// How many times as much recall counts as precision.
    #[arg(long, value_name = "N", default_value_t = 2)]
    chrf_beta: u32,
    /// Blanks are characters too.
    #[arg(long)]
    chrf_whitespace: bool,
    /// Compare chrF in lower case.
    #[arg(long)]
    chrf_lowercase: bool,
    /// Orders without n-grams count as almost 0 instead of being left out.
    #[arg(long)]
    chrf_eps_smoothing: bool,

    /// Keep the case for TER.
    #[arg(long)]
    ter_case_sensitive: bool,
    /// Treat Chinese and Japanese apart for TER.
    #[arg(long)]
    ter_asian_support: bool,
    /// Drop punctuation for TER.
    #[arg(long)]
    ter_no_punct: bool,
    /// Tokenise for TER.
    #[arg(long)]
    ter_normalized: bool,

    /// 95 % bootstrap interval of each score [-ci].
    #[arg(long)]
    pub(super) confidence: bool,
    /// Resamples of the interval [-cin].
    #[arg(long, value_name = "N", default_value_t = 1000)]
    confidence_n: usize,
    /// Paired bootstrap test of each system against the first [-pbs].
    #[arg(long, conflicts_with = "paired_ar")]
    pub(super) paired_bs: bool,
    /// Resamples of the paired bootstrap [-pbsn].
    #[arg(long, value_name = "N", default_value_t = 1000)]
    paired_bs_n: usize,
    /// Paired approximate randomisation test of each system against the first [-par].
    #[arg(long)]
    pub(super) paired_ar: bool,
    /// Trials of the approximate randomisation [-parn].
    #[arg(long, value_name = "N", default_value_t = TRIALS)]
    pub(super) paired_ar_n: usize,
    /// Seed of intervals and tests; the same seed draws what sacreBLEU draws.
    #[arg(long, value_name = "N", default_value_t = 12345, env = "SACREBLEU_SEED")]
    pub(super) seed: u64,
    /// File with an id for each segment, such as the patient: intervals and tests draw whole groups.
    #[arg(long, value_name = "FILE")]
    pub(super) groups: Option<PathBuf>,

    /// Output: json, text, latex.
    #[arg(long, short = 'f', value_name = "NAME", default_value = "json", env = "SACREBLEU_FORMAT")]
    format: String,
    /// Print the bare score.
    #[arg(long, short = 'b')]
    pub(super) score_only: bool,
    /// Digits behind the point.
    #[arg(long, short = 'w', value_name = "N", default_value_t = 1)]
    pub(super) width: usize,
    /// Print the signature with short keys [-sh].
    #[arg(long)]
    pub(super) short: bool,
    /// No warnings.
    #[arg(long, short = 'q')]
    pub(super) quiet: bool,
    /// Do not warn of hypotheses that look tokenised.
    #[arg(long)]
    pub(super) force: bool,
    /// Encoding of the files; only utf-8.
    #[arg(long, short = 'e', value_name = "NAME", default_value = "utf-8", hide_default_value = true)]
    encoding: String,

    /// Source and target language; chooses the tokeniser for Chinese.
    #[arg(long, short = 'l', value_name = "PAIR", hide = true)]
    language_pair: Option<String>,
    #[arg(long, short = 't', hide = true)]
    test_set: Option<String>,
    /// Taken as it is typed in scripts: nothing is coloured.
    #[arg(long, hide = true)]
    no_color: bool,
    /// Taken as it is typed in scripts: all cores work.
    #[arg(long, short = 'j', hide = true)]
    paired_jobs: Option<usize>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Text,
    Latex,
}

impl BleuArgs {
    /// Checks what can be checked before a file is opened.
    pub(super) fn validate(&self) -> Result<()> {
        if !matches!(self.encoding.to_ascii_lowercase().as_str(), "utf-8" | "utf8") {
            bail!("--encoding: `{}`, expected utf-8; convert the files, as with iconv", self.encoding);
        }
        if let Some(name) = &self.test_set {
            bail!("--test-set {name}: no test set is downloaded; give the reference files");
        }
        if self.sentence_level && (self.metrics.len() > 1 || self.confidence || self.paired()) {
            bail!("--sentence-level takes one metric and no test");
        }
        if self.groups.is_some() && !(self.confidence || self.paired()) {
            bail!("--groups: nothing is resampled; add --confidence, --paired-bs or --paired-ar");
        }
        if self.width > 17 {
            bail!("--width {}, expected at most 17", self.width);
        }
        self.format().map(|_| ())
    }

    pub(super) fn paired(&self) -> bool {
        self.paired_bs || self.paired_ar
    }

    /// The bootstrap behind intervals, where they are asked for.
    pub(super) fn bootstrap(&self) -> Option<Bootstrap> {
        let resamples = if self.paired_bs { self.paired_bs_n } else { self.confidence_n };
        (self.paired_bs || self.confidence).then_some(Bootstrap { resamples, seed: self.seed })
    }

    pub(super) fn format(&self) -> Result<Format> {
        Ok(match self.format.as_str() {
            "json" => Format::Json,
            "text" => Format::Text,
            "latex" => Format::Latex,
            other => bail!("--format: `{other}`, expected one of json, text, latex"),
        })
    }

    /// The metrics asked for, in order of their names.
    pub(super) fn metrics(&self) -> Result<Vec<Box<dyn Metric>>> {
        let mut names: Vec<&str> = self.metrics.iter().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        let metrics = names.into_iter().map(|name| -> Result<Box<dyn Metric>> {
            Ok(match name {
                "bleu" => Box::new(self.bleu()?),
                "chrf" => Box::new(self.chrf()),
                "ter" => Box::new(self.ter()),
                _ => bail!("--metrics: `{name}`, expected one of bleu, chrf, ter"),
            })
        });
        let metrics: Vec<Box<dyn Metric>> = metrics.collect::<Result<_>>()?;
        metrics.iter().try_for_each(|metric| metric.validate())?;
        Ok(metrics)
    }

    fn bleu(&self) -> Result<Bleu> {
        let target = self.language_pair.as_deref().and_then(|pair| pair.rsplit('-').next());
        let tokenizer = match (&self.tokenize, target) {
            (Some(name), _) => name.parse()?,
            (None, Some("zh")) => Tokenizer::Zh,
            _ => Tokenizer::V13a,
        };
        Ok(Bleu {
            tokenizer,
            lowercase: self.lowercase,
            smoothing: Smoothing::from_name(&self.smooth_method, self.smooth_value)?,
            max_order: self.max_ngram_order,
            effective_order: self.sentence_level,
        })
    }

    fn chrf(&self) -> Chrf {
        Chrf {
            char_order: self.chrf_char_order,
            word_order: self.chrf_word_order,
            beta: self.chrf_beta,
            lowercase: self.chrf_lowercase,
            whitespace: self.chrf_whitespace,
            eps_smoothing: self.chrf_eps_smoothing,
        }
    }

    fn ter(&self) -> Ter {
        Ter(Tercom {
            normalized: self.ter_normalized,
            no_punct: self.ter_no_punct,
            asian_support: self.ter_asian_support,
            case_sensitive: self.ter_case_sensitive,
        })
    }
}
