//! `annotations.json` in the layout of R2Gen (Chen et al., 2020), extended.

use crate::error::{Error, Result};
use crate::finding::{Finding, View};
use crate::grammar::Question;
use crate::study::Study;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Shares of the three parts of a set: by index, the first studies train, the next validate, the last test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    train: f64,
    val: f64,
}

impl Default for Split {
    /// Everything under `test`.
    fn default() -> Self {
        Self { train: 0.0, val: 0.0 }
    }
}

impl FromStr for Split {
    type Err = Error;

    /// Reads `train:0.8,val:0.1,test:0.1`; parts left out are empty, and the shares sum to one.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Option {
            field: "split",
            found: format!("{text:?}"),
            expected: "shares that sum to one, such as train:0.8,val:0.1,test:0.1",
        };
        let mut shares = [None; 3];
        for part in text.split(',') {
            let (name, share) = part.split_once(':').ok_or_else(wrong)?;
            let place =
                ["train", "val", "test"].iter().position(|known| *known == name.trim()).ok_or_else(wrong)?;
            let share: f64 = share.trim().parse().map_err(|_| wrong())?;
            if !(0.0..=1.0).contains(&share) || shares[place].replace(share).is_some() {
                return Err(wrong());
            }
        }
        let [train, val, test] = shares.map(Option::unwrap_or_default);
        // Decimal shares such as 0.7 + 0.2 + 0.1 miss one by a rounding.
        if (train + val + test - 1.0).abs() > 1e-6 {
            return Err(wrong());
        }
        Ok(Self { train, val })
    }
}

impl Split {
    /// The part of study `index` of `count`.
    pub(super) fn of(&self, index: usize, count: usize) -> &'static str {
        let end = |share: f64| (share * count as f64).round() as usize;
        if index < end(self.train) {
            "train"
        } else if index < end(self.train + self.val) {
            "val"
        } else {
            "test"
        }
    }
}

/// One study of `annotations.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The name of the study.
    pub id: String,
    /// `FINDINGS: ... IMPRESSION: ...`.
    pub report: String,
    /// Its picture, relative to `images/`.
    pub image_path: Vec<String>,
    /// `train`, `val` or `test`.
    pub split: String,
    /// Four more reports of the same findings.
    pub references: Vec<String>,
    /// The findings section of `report`.
    pub findings_text: String,
    /// The impression of `report`.
    pub impression_text: String,
    /// The findings with their boxes.
    pub findings: Vec<Finding>,
    /// Questions and answers.
    pub questions: Vec<Question>,
    /// One sentence.
    pub caption: String,
    /// Labels of the CheXpert set that hold.
    pub labels: Vec<String>,
    /// The view.
    pub view: View,
    /// Width and height of the picture in pixels.
    pub size: [usize; 2],
    /// Millimetres of the detector per pixel.
    pub mm_per_pixel: f32,
    /// Width of the heart over that of the chest.
    pub cardiothoracic_ratio: f32,
}

impl Entry {
    pub(super) fn new(study: &Study, seed: u64, index: usize, image: String, split: &str) -> Self {
        let d = &study.description;
        Self {
            id: format!("phantom-{seed}-{index:06}"),
            report: d.report.text(),
            image_path: vec![image],
            split: split.to_owned(),
            references: d.references.iter().map(crate::grammar::Report::text).collect(),
            findings_text: d.report.findings.clone(),
            impression_text: d.report.impression.clone(),
            findings: d.findings.clone(),
            questions: d.questions.clone(),
            caption: d.caption.clone(),
            labels: d.labels.iter().map(|label| (*label).to_owned()).collect(),
            view: d.facts.view,
            size: [study.width, study.height],
            mm_per_pixel: d.mm_per_pixel,
            cardiothoracic_ratio: d.cardiothoracic_ratio,
        }
    }
}

/// The file: entries by part, in order.
#[derive(Serialize)]
struct Annotations {
    train: Vec<Entry>,
    val: Vec<Entry>,
    test: Vec<Entry>,
}

pub(super) fn to_json(entries: Vec<Entry>) -> serde_json::Result<Vec<u8>> {
    let mut file = Annotations { train: Vec::new(), val: Vec::new(), test: Vec::new() };
    for entry in entries {
        match entry.split.as_str() {
            "train" => file.train.push(entry),
            "val" => file.val.push(entry),
            _ => file.test.push(entry),
        }
    }
    serde_json::to_vec(&file)
}

#[cfg(test)]
mod tests {
    use super::Split;
    use proptest::prelude::*;

    #[test]
    fn splits_are_read_or_refused() {
        let split: Split = "train:0.8, val:0.1,test:0.1".parse().unwrap();
        let parts: Vec<_> = (0..10).map(|i| split.of(i, 10)).collect();
        assert_eq!(parts.iter().filter(|p| **p == "train").count(), 8);
        assert_eq!((parts[8], parts[9]), ("val", "test"));
        assert_eq!(Split::default().of(0, 1), "test");
        for wrong in
            ["", "train", "train:0.8", "train:0.5,train:0.5", "all:1", "train:2,val:-1", "train:x,test:1"]
        {
            let error = wrong.parse::<Split>().unwrap_err().to_string();
            assert!(error.starts_with("split: found") && !error.contains('\n'), "{error}");
        }
    }

    proptest! {
        #[test]
        fn reading_a_split_never_panics(text in ".{0,40}") {
            let _ = text.parse::<Split>();
        }

        #[test]
        fn every_study_has_a_part_and_parts_are_in_order(train in 0.0f64..1.0, count in 1usize..50) {
            let split: Split = format!("train:{train},test:{}", 1.0 - train).parse().unwrap();
            let names: Vec<_> = (0..count).map(|i| split.of(i, count)).collect();
            prop_assert!(names.windows(2).all(|w| w[0] == w[1] || w == ["train", "test"]));
        }
    }
}
