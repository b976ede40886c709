//! The floors of real data sets, where they lie in `shared/data` beside the repository: what a constant, a random and a human
//! answer score under two profiles. The sets may not be copied, so texts are named by their place in the training part.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use swinseek_evals::bleu::Bleu;
use swinseek_evals::coco;
use swinseek_evals::diversity::Diversity;
use swinseek_evals::floors::{random_texts, verbatim_share};
use swinseek_evals::profile::{Profile, Scores};
use swinseek_evals::tokenize::Tokenizer;

use super::strings;

fn read(name: &str) -> Option<Value> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(1);
    let mut places = above.map(|folder| folder.join("shared/data").join(name));
    let path: PathBuf = places.find(|path| path.is_file())?;
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

/// Reports of a part of an annotation file in R2Gen's layout.
fn reports<'a>(set: &'a Value, part: &str) -> Vec<&'a str> {
    set[part].as_array().unwrap().iter().map(|entry| entry["report"].as_str().unwrap()).collect()
}

fn alone<'a>(texts: &[&'a str]) -> Vec<Vec<&'a str>> {
    texts.iter().map(|text| vec![*text]).collect()
}

/// The published numbers have three decimals: B1 to B4, ROUGE-L, CIDEr.
fn assert_row(scores: &Scores, published: [f64; 6], slack: f64, what: &str) {
    let found = scores.bleu.into_iter().chain(scores.rouge_l).chain(scores.cider);
    for (index, (found, expected)) in found.zip(published).enumerate() {
        assert!((found - expected).abs() < 5.5e-4 + slack, "{what} {index}: {found}, published {expected}");
    }
}

/// The mean of several rows.
fn mean(rows: &[Scores]) -> Scores {
    let of = |value: &dyn Fn(&Scores) -> f64| rows.iter().map(value).sum::<f64>() / rows.len() as f64;
    Scores {
        bleu: std::array::from_fn(|order| of(&|row| row.bleu[order])),
        rouge_l: Some(of(&|row| row.rouge_l.unwrap())),
        cider: Some(of(&|row| row.cider.unwrap())),
        length_ratio: 1.0,
    }
}

fn constant(profile: Profile, text: &str, references: &[Vec<&str>]) -> Scores {
    profile.table(&vec![text; references.len()], references).unwrap().scores()
}

#[test]
fn iu_xray_constant_and_random() {
    let Some(set) = read("iu-xray-text/annotation.json") else { return };
    let (train, test) = (reports(&set, "train"), reports(&set, "test"));
    let references = alone(&test);
    // Of all training reports this one scores best on the validation part.
    let words = constant(Profile::CocoWords, train[1438], &references);
    assert_row(&words, [0.457, 0.302, 0.206, 0.137, 0.315, 0.276], 0.0, "constant, words");
    // The published constant for the cleaner is the best of 600 reports: the fifth of all.
    let cleaned = constant(Profile::R2genIu, train[369], &references);
    assert_row(&cleaned, [0.493, 0.321, 0.218, 0.151, 0.356, 0.247], 0.0, "constant, cleaner");
    // The draws are ours; published are one draw and the mean of five, which spread by 0.005.
    let draw = |profile: Profile, seed: u64| {
        profile.table(&random_texts(&train, test.len(), seed).unwrap(), &references).unwrap().scores()
    };
    for (profile, published) in [(Profile::R2genIu, 0.087), (Profile::CocoWords, 0.065)] {
        let rows: Vec<Scores> = (0..5).map(|seed| draw(profile, seed)).collect();
        let found = mean(&rows).bleu[3];
        assert!((found - published).abs() < 0.005, "{profile}: {found}, published {published}");
    }
    // The README says 46 %.
    let share = verbatim_share(&test, &train);
    assert!((0.455..0.475).contains(&share), "{share}");
    assert_eq!(Diversity::of(&vec![train[0]; 590], 4).distinct_outputs, 1);
}

/// For every test report the best of the 20 training reports that share the most bigrams with it (Jaccard), by the
/// sentence's BLEU-4.
#[test]
fn iu_xray_retrieval_oracle() {
    let Some(set) = read("iu-xray-text/annotation.json") else { return };
    let (train, test) = (reports(&set, "train"), reports(&set, "test"));
    let profile = Profile::R2genIu;
    let (prepared, targets) = (profile.prepare_all(&train), profile.prepare_all(&test));
    let bigrams = |text: &str| -> HashSet<(String, String)> {
        let words: Vec<&str> = text.split(' ').collect();
        words.windows(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
    };
    let mut holders: HashMap<(String, String), Vec<usize>> = HashMap::new();
    let mut sizes = Vec::new();
    for (index, text) in prepared.iter().enumerate() {
        let pairs = bigrams(text);
        sizes.push(pairs.len());
        for pair in pairs {
            holders.entry(pair).or_default().push(index);
        }
    }
    let bleu = Bleu { tokenizer: Tokenizer::None, ..Bleu::default() };
    let oracle = |target: &String| {
        let wanted = bigrams(target);
        let mut common = vec![0_usize; prepared.len()];
        for index in wanted.iter().filter_map(|pair| holders.get(pair)).flatten() {
            common[*index] += 1;
        }
        let jaccard = |index: usize| {
            let shared = common[index];
            shared as f64 / (wanted.len() + sizes[index] - shared).max(1) as f64
        };
        let mut nearest: Vec<(f64, usize)> =
            (0..prepared.len()).map(|index| (jaccard(index), index)).collect();
        nearest.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let score = |index: usize| coco::bleu(&bleu.sentence(&prepared[index], &[target]).unwrap().stats)[3];
        let candidates = nearest[..20].iter().map(|&(_, index)| (score(index), index));
        candidates.reduce(|best, next| if next.0 > best.0 { next } else { best }).unwrap().1
    };
    let answers: Vec<&str> = targets.iter().map(|target| train[oracle(target)]).collect();
    let scores = profile.table(&answers, &alone(&test)).unwrap().scores();
    // One in the third decimal: ties between reports were broken in another order.
    assert_row(&scores, [0.794, 0.754, 0.725, 0.701, 0.817, 6.30], 0.002, "oracle");
}

#[test]
fn flickr8k_constant_and_human() {
    let Some(set) = read("flickr8k/dataset_flickr8k.json") else { return };
    let part = |name: &str| -> Vec<Vec<&str>> {
        let images = set["images"].as_array().unwrap().iter().filter(|image| image["split"] == name);
        let sentences = images.map(|image| image["sentences"].as_array().unwrap().iter());
        sentences.map(|all| all.map(|sentence| sentence["raw"].as_str().unwrap()).collect()).collect()
    };
    let profile = Profile::CocoWords;
    let test = part("test");
    if test.len() != 492 {
        return;
    }
    // Of all training captions this one scores best on the validation part.
    let best = part("train").concat()[10516];
    let five = constant(profile, best, &test);
    assert_row(&five, [0.404, 0.240, 0.142, 0.090, 0.331, 0.087], 0.0, "constant, 5 references");
    // Leave one out: caption k answers, the other four are references.
    let others =
        |k: usize| -> Vec<Vec<&str>> { test.iter().map(|all| [&all[..k], &all[k + 1..]].concat()).collect() };
    let four: Vec<Scores> = (0..5).map(|k| constant(profile, best, &others(k))).collect();
    assert_row(&mean(&four), [0.377, 0.218, 0.126, 0.079, 0.317, 0.092], 0.0, "constant, 4 references");
    let human: Vec<Scores> = (0..5)
        .map(|k| {
            let answers: Vec<&str> = test.iter().map(|all| all[k]).collect();
            profile.table(&answers, &others(k)).unwrap().scores()
        })
        .collect();
    assert_row(&mean(&human), [0.643, 0.452, 0.311, 0.212, 0.491, 0.826], 0.0, "human, 4 references");
}

#[test]
fn covid_and_vqa_med_constants() {
    let profile = Profile::CocoWords;
    if let Some(set) =
        read("covid-cxr/reports.json").filter(|set| set["test"].as_array().unwrap().len() == 30)
    {
        let scores = constant(profile, reports(&set, "train")[8], &alone(&reports(&set, "test")));
        assert_row(&scores, [0.195, 0.082, 0.029, 0.011, 0.137, 0.032], 0.0, "covid");
    }
    if let Some(set) = read("vqa-med-2021/questions.json") {
        let references: Vec<Vec<&str>> =
            set["images"].as_array().unwrap().iter().map(|image| strings(&image["questions"])).collect();
        // Chosen on the test itself, as published.
        let tried: BTreeSet<&str> = references.iter().flatten().copied().collect();
        let rows = tried.into_iter().map(|text| constant(profile, text, &references));
        let best = rows.reduce(|best, next| if next.bleu[3] > best.bleu[3] { next } else { best }).unwrap();
        assert_row(&best, [0.598, 0.357, 0.237, 0.165, 0.423, 0.134], 0.0, "vqa-med");
    }
}
