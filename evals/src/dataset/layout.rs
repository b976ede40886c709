//! The layouts that are read.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How the files of a data set are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Layout {
    /// `annotation.json` of R2Gen (IU X-Ray, MIMIC-CXR), and our extension of it by references and findings.
    R2gen,
    /// The questions inside such a file, as the phantom sets have them.
    R2genQuestions,
    /// `captions_val2017.json`: `images` and `annotations` of COCO captions.
    CocoCaptions,
    /// `dataset_*.json` of Karpathy and Fei-Fei (2015): `images` with `sentences` and their split.
    Karpathy,
    /// `Flickr8k.token.txt` with its lists of splits, or `captions.txt`.
    Flickr8k,
    /// `results_20130124.token`, or one of its CSV forms.
    Flickr30k,
    /// The published JSON of VQA-RAD (Lau et al. 2018).
    VqaRad,
    /// `train.json`, `validate.json`, `test.json` of SLAKE (Liu et al. 2021): the English questions.
    Slake,
    /// The Chinese questions of SLAKE.
    SlakeZh,
    /// `train_qa.json`, … of PathVQA (He et al. 2020).
    PathVqa,
    /// The data folder of the package easy-VQA.
    EasyVqa,
    /// `questions.json` with `images` and their reference questions, as VQA-Med's question generation (2021).
    VqaMed,
    /// One JSON object a line.
    Jsonl,
    /// Parquet with the columns of the JSON lines.
    Parquet,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::R2gen,
        Self::R2genQuestions,
        Self::CocoCaptions,
        Self::Karpathy,
        Self::Flickr8k,
        Self::Flickr30k,
        Self::VqaRad,
        Self::Slake,
        Self::SlakeZh,
        Self::PathVqa,
        Self::EasyVqa,
        Self::VqaMed,
        Self::Jsonl,
        Self::Parquet,
    ];

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::R2gen => "r2gen",
            Self::R2genQuestions => "r2gen-questions",
            Self::CocoCaptions => "coco-captions",
            Self::Karpathy => "karpathy",
            Self::Flickr8k => "flickr8k",
            Self::Flickr30k => "flickr30k",
            Self::VqaRad => "vqa-rad",
            Self::Slake => "slake",
            Self::SlakeZh => "slake-zh",
            Self::PathVqa => "path-vqa",
            Self::EasyVqa => "easy-vqa",
            Self::VqaMed => "vqa-med",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Layout {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|layout| layout.name() == name).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|layout| layout.name()).collect();
            let message = format!("`{name}`, expected one of {}", known.join(", "));
            Error::Setting { name: "layout", message }
        })
    }
}

/// Annotation files that were found.
pub(super) struct Source {
    pub(super) layout: Layout,
    /// What the caller named.
    pub(super) named: PathBuf,
    /// At least one.
    pub(super) files: Vec<PathBuf>,
    /// The data folder.
    pub(super) root: PathBuf,
    /// The list of the split's images, where the layout keeps one.
    pub(super) list: Option<PathBuf>,
}
