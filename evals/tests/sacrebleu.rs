//! chrF, TER, intervals and paired tests against the real sacreBLEU: `goldens/sacrebleu.json.gz`, written by
//! `goldens/make_sacrebleu.py` on the texts of `goldens/bleu.json.gz`.

use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value;
use swinseek_evals::bleu::{Bleu, Smoothing};
use swinseek_evals::chrf::Chrf;
use swinseek_evals::metric::{
    Metric, Resampling, ResamplingKind, Segment, Signature, references_per_segment, rows,
};
use swinseek_evals::resample::Bootstrap;
use swinseek_evals::significance::{Sample, paired_bootstrap, paired_randomization};
use swinseek_evals::ter::Ter;
use swinseek_evals::tokenize::{Tercom, Tokenizer};

#[path = "goldens/stored.rs"]
mod stored;

/// Both sides do the same f64 operations; `exp` and `ln` of two C libraries may differ in the last place.
const TOLERANCE: f64 = 1e-9;

static GOLDEN: LazyLock<Value> = LazyLock::new(|| stored::read("sacrebleu"));

/// Hypotheses with their references.
static PAIRS: LazyLock<Vec<(String, Vec<String>)>> = LazyLock::new(|| {
    let pairs = stored::read("bleu")["pairs"].take();
    let pair = |pair: &Value| serde_json::from_value(serde_json::json!([pair[0], pair[1]])).unwrap();
    pairs.as_array().unwrap().iter().map(pair).collect()
});

/// The references of each pair as slices of text.
static REFERENCES: LazyLock<Vec<Vec<&'static str>>> =
    LazyLock::new(|| PAIRS.iter().map(|(_, r)| r.iter().map(String::as_str).collect()).collect());

fn segments(begin: usize, end: usize) -> Vec<Segment<'static>> {
    let segment = |i: usize| Segment { hypothesis: &PAIRS[i].0, references: &REFERENCES[i] };
    (begin..end).map(segment).collect()
}

fn count(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn chrf(settings: &Value) -> Box<dyn Metric> {
    let order = |name: &str, default| settings[name].as_u64().map_or(default, |order| order as usize);
    Box::new(Chrf {
        char_order: order("char_order", 6),
        word_order: order("word_order", 0),
        beta: settings["beta"].as_u64().unwrap_or(2) as u32,
        lowercase: settings["lowercase"] == true,
        whitespace: settings["whitespace"] == true,
        eps_smoothing: settings["eps_smoothing"] == true,
    })
}

fn ter(settings: &Value) -> Box<dyn Metric> {
    Box::new(Ter(Tercom {
        normalized: settings["normalized"] == true,
        no_punct: settings["no_punct"] == true,
        asian_support: settings["asian_support"] == true,
        case_sensitive: settings["case_sensitive"] == true,
    }))
}

fn bleu(settings: &Value) -> Box<dyn Metric> {
    Box::new(Bleu {
        tokenizer: settings["tokenize"].as_str().map_or(Tokenizer::V13a, |name| name.parse().unwrap()),
        smoothing: Smoothing::from_name(settings["smooth_method"].as_str().unwrap_or("exp"), None).unwrap(),
        ..Bleu::default()
    })
}

fn close(found: f64, expected: &Value, tolerance: f64, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= tolerance, "{what}: {found}, expected {expected}");
}

/// The signature without the version, which is ours.
fn without_version(signature: &str, key: &str) -> String {
    let own = format!("|{key}:swinseek-{}", env!("CARGO_PKG_VERSION"));
    signature.strip_suffix(&own).unwrap_or_else(|| panic!("no version in {signature}")).to_owned()
}

fn check_grid(rows_of: &Value, metric_of: fn(&Value) -> Box<dyn Metric>) {
    for case in rows_of.as_array().unwrap() {
        let metric = metric_of(&case["settings"]);
        let what = format!("{} {}", metric.name(), case["settings"]);
        assert_eq!(metric.name(), case["name"], "{what}");
        let expected = case["statistics"].as_array().unwrap();
        let found = rows(&*metric, &segments(0, PAIRS.len())).unwrap();
        assert_eq!((expected.len(), found.len()), (2000, 2000 * metric.width()));
        for (number, (found, expected)) in found.chunks(metric.width()).zip(expected).enumerate() {
            let expected: Vec<f64> = serde_json::from_value(expected.clone()).unwrap();
            assert_eq!(found, expected, "{what}: pair {number}: {:?}", PAIRS[number]);
        }
        for corpus in case["corpora"].as_array().unwrap() {
            let cut = segments(count(&corpus[0]), count(&corpus[1]));
            let sample = Sample::of_metric(&*metric, &cut).unwrap();
            close(sample.score(), &corpus[2], TOLERANCE, &what);
            let signature = Signature::new(&*metric, references_per_segment(&cut), None);
            assert_eq!(without_version(&signature.to_string(), "version"), corpus[3]);
            assert_eq!(without_version(&signature.short(), "v"), corpus[4]);
        }
    }
}

#[test]
fn chrf_equals_sacrebleu() {
    check_grid(&GOLDEN["chrf"], chrf);
}

#[test]
fn ter_equals_sacrebleu() {
    check_grid(&GOLDEN["ter"], ter);
}

#[test]
fn long_texts_hit_the_limits_of_ter_alike() {
    for (number, case) in GOLDEN["shuffled"].as_array().unwrap().iter().enumerate() {
        let references = [case[1].as_str().unwrap()];
        let segment = Segment { hypothesis: case[0].as_str().unwrap(), references: &references };
        assert_eq!(rows(&Ter::default(), &[segment]).unwrap()[0], case[2].as_f64().unwrap(), "text {number}");
    }
}

#[test]
fn intervals_and_paired_tests_equal_sacrebleu() {
    for case in GOLDEN["significance"].as_array().unwrap() {
        let metric = match case["metric"].as_str().unwrap() {
            "BLEU" => bleu(&case["settings"]),
            "CHRF" => chrf(&case["settings"]),
            _ => ter(&case["settings"]),
        };
        let mut hypotheses = segments(count(&case["begin"]), count(&case["end"]));
        for segment in &mut hypotheses {
            segment.references = &segment.references[..segment.references.len().min(2)];
        }
        let others: Vec<Segment<'_>> =
            hypotheses.iter().enumerate().map(|(n, segment)| other(n, segment)).collect();
        let (first, second) = (
            Sample::of_metric(&*metric, &hypotheses).unwrap(),
            Sample::of_metric(&*metric, &others).unwrap(),
        );
        let what = format!("{} {}", case["metric"], case["settings"]);
        // sacreBLEU's resamples are scored in f32, with about seven digits.
        let single = 5e-5;
        let interval = first.interval(Bootstrap { resamples: 400, seed: 12345 }).unwrap();
        close(interval.mean, &case["interval"][0], single, &what);
        close(interval.half_width(), &case["interval"][1], single, &what);
        let resamples = count(&case["bs"]["count"]);
        let found = paired_bootstrap(&first, &second, Bootstrap { resamples, seed: 12345 }).unwrap();
        close(found.score, &case["bs"]["scores"][1], TOLERANCE, &what);
        close(found.p_value, &case["bs"]["p_value"], 0.0, &what);
        let trials = count(&case["ar"]["count"]);
        let found = paired_randomization(&first, &second, trials, 12345).unwrap();
        close(found.p_value, &case["ar"]["p_value"], 0.0, &what);
        for (key, kind) in [("bs", ResamplingKind::Bootstrap), ("ar", ResamplingKind::Randomization)] {
            let resampling =
                Resampling { kind, count: count(&case[key]["count"]), seed: 12345, groups: None };
            let signature =
                Signature::new(&*metric, references_per_segment(&hypotheses), Some(resampling)).to_string();
            assert_eq!(without_version(&signature, "version"), case[key]["signature"]);
        }
    }
}

/// The second system of the goldens: the reference, the same text, or its first half.
fn other<'a>(number: usize, segment: &Segment<'a>) -> Segment<'a> {
    let text = segment.hypothesis;
    let half = text.char_indices().nth(text.chars().count() / 2).map_or(text.len(), |(at, _)| at);
    let hypothesis = match number % 3 {
        0 => segment.references[0],
        1 => text,
        _ => &text[..half],
    };
    Segment { hypothesis, ..*segment }
}

#[test]
fn published_chrf_and_ter_numbers_are_reproduced() {
    let score = |metric: &dyn Metric, hypothesis: &str, reference: &str| {
        metric.score_sum(&rows(metric, &[Segment { hypothesis, references: &[reference] }]).unwrap())
    };
    let eps = Chrf { beta: 3, eps_smoothing: true, ..Chrf::default() };
    for (hypothesis, reference, expected) in [
        ("abcdefg", "hijklmnop", 0.0),
        ("", "reference", 0.0),
        ("aa", "ab", 8.3333),
        ("a", "a", 16.6667),
        ("a b c", "abc", 50.0),
        (
            " Die    Beziehung zwischen  Obama und Netanjahu ist nicht gerade  freundlich. ",
            "Das Verhältnis zwischen Obama und Netanyahu ist nicht gerade freundschaftlich.",
            64.1302698,
        ),
    ] {
        let found = score(&eps, hypothesis, reference);
        assert!((found - expected).abs() < 1e-4, "{hypothesis}: {found}");
    }
    assert_eq!(score(&Chrf::default(), "a b c", "abc"), 100.0);
    let default = Ter::default();
    assert_eq!(score(&default, "dddd eeee ffff", "aaaa bbbb cccc"), 100.0);
    assert_eq!(score(&default, "", "a"), 100.0);
    assert_eq!(score(&default, "d e f g h a b c", "a b c d e f g h"), 12.5);
    assert_eq!(score(&default, "", ""), 0.0);
    assert_eq!(score(&default, "x y", ""), 100.0);
}

#[test]
fn tercom_has_the_words_of_the_python_tests() {
    let tercom = |change: fn(&mut Tercom)| {
        let mut tokenizer = Tercom::default();
        change(&mut tokenizer);
        tokenizer
    };
    let plain = tercom(|_| ());
    let dropped = tercom(|t| t.no_punct = true);
    let normalized = tercom(|t| t.normalized = true);
    let asian = tercom(|t| (t.normalized, t.asian_support) = (true, true));
    for (tokenizer, line, expected) in [
        (plain, "", ""),
        (plain, "A B C D.", "a b c d."),
        (dropped, "A ; B ) C : D.", "a b c d"),
        (normalized, "a b (c) d.", "a b ( c ) d ."),
        (normalized, "Jim's car.", "jim 's car ."),
        (normalized, "4.2", "4.2"),
        (normalized, "美众院", "美众院"),
        (asian, "美众院公布对特", "美 众 院 公 布 对 特"),
        (asian, "りの拳銃を持", "りの 拳 銃 を 持"),
    ] {
        assert_eq!(tokenizer.tokenize(line), expected);
    }
}

#[test]
fn groups_are_drawn_whole() {
    let values = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0];
    let patients = ["p", "p", "q", "q", "r", "r", "s", "s"];
    let plain = Sample::of_means(&values).unwrap();
    let score = plain.score();
    let bootstrap = Bootstrap { resamples: 500, seed: 3 };
    let narrow = plain.interval(bootstrap).unwrap();
    let grouped = plain.grouped(&patients).unwrap();
    assert_eq!((grouped.len(), grouped.score()), (4, score), "grouping leaves the score alone");
    // Means of the groups: 1/2, 1, 0, 1.
    assert_eq!([0, 1, 2, 3].map(|group| grouped.score_of(&[group])), [0.5, 1.0, 0.0, 1.0]);
    assert!(grouped.interval(bootstrap).unwrap().half_width() > narrow.half_width());
    let message = Sample::of_means(&values).unwrap().grouped(&[1, 2]).err().unwrap().to_string();
    assert!(message.contains("2 groups, but 8 segments"), "{message}");
}

#[test]
fn a_system_does_not_differ_from_itself() {
    let values: Vec<f64> = (0..50).map(|i| f64::from(i % 7)).collect();
    let (one, same) = (Sample::of_means(&values).unwrap(), Sample::of_means(&values).unwrap());
    let bootstrap = Bootstrap { resamples: 99, seed: 1 };
    assert_eq!(paired_bootstrap(&one, &same, bootstrap).unwrap().p_value, 0.01);
    assert_eq!(paired_randomization(&one, &same, 99, 1).unwrap().p_value, 0.01);
    let short = Sample::of_means(&values[1..]).unwrap();
    assert!(paired_bootstrap(&one, &short, bootstrap).is_err());
    assert!(paired_randomization(&one, &same, 0, 1).unwrap_err().to_string().contains("trials: 0"));
    assert!(Sample::of_means(&[]).is_err() && Sample::new(3, vec![0.0; 4], |_| 0.0).is_err());
}

/// Real systems of WMT17, when the folder of external data is there (`SWINSEEK_DATA`).
#[test]
fn wmt17_systems_have_their_published_chrf_and_ter() {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let data = std::env::var_os("SWINSEEK_DATA").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let folder = data.join("wmt17");
    if !folder.is_dir() {
        return;
    }
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let golden: Value = serde_json::from_str(&read("golden.json")).unwrap();
    let reference_text = read("reference.de.txt");
    let references: Vec<[&str; 1]> = reference_text.trim_end_matches('\n').split('\n').map(|r| [r]).collect();
    for system in golden["systems"].as_object().unwrap().values() {
        let text = read(system["file"].as_str().unwrap());
        let lines = text.trim_end_matches('\n').split('\n').zip(&references);
        let segments: Vec<Segment<'_>> =
            lines.map(|(hypothesis, references)| Segment { hypothesis, references }).collect();
        let score = |metric: &dyn Metric, expected: &Value| {
            let sample = Sample::of_metric(metric, &segments).unwrap();
            close(sample.score(), &expected["score"], TOLERANCE, &metric.name());
        };
        let chrf = |word_order, beta, lowercase| Chrf { word_order, beta, lowercase, ..Chrf::default() };
        score(&chrf(0, 2, false), &system["chrf"]["chrF2"]);
        score(&chrf(2, 2, false), &system["chrf"]["chrF2++"]);
        score(&chrf(0, 2, true), &system["chrf"]["chrF2_lowercase"]);
        score(&chrf(0, 1, false), &system["chrf"]["chrF1"]);
        let ter = |change: fn(&mut Tercom)| {
            let mut tokenizer = Tercom::default();
            change(&mut tokenizer);
            Ter(tokenizer)
        };
        score(&ter(|_| ()), &system["ter"]["default"]);
        score(&ter(|t| t.normalized = true), &system["ter"]["normalized"]);
        score(&ter(|t| t.no_punct = true), &system["ter"]["no_punct"]);
        score(&ter(|t| t.case_sensitive = true), &system["ter"]["case_sensitive"]);
        for (key, metric) in [
            ("bleu_13a", &Bleu::default() as &dyn Metric),
            ("bleu_none", &Bleu { tokenizer: Tokenizer::None, ..Bleu::default() }),
            ("chrF2", &Chrf::default()),
        ] {
            let expected = &system["bootstrap_ci"][key];
            let interval =
                Sample::of_metric(metric, &segments).unwrap().interval(Bootstrap::default()).unwrap();
            // Scores of resamples in f32, as above.
            close(interval.mean, &expected["mean"], 5e-5, key);
            close(interval.half_width(), &expected["ci_half_width"], 5e-5, key);
        }
    }
}

proptest! {
    #[test]
    fn any_text_has_a_chrf_and_a_ter(hypothesis in any::<String>(), reference in any::<String>()) {
        let tercom = Tercom { normalized: true, no_punct: true, asian_support: true, case_sensitive: false };
        let chrf = Chrf { word_order: 2, ..Chrf::default() };
        for metric in [&chrf as &dyn Metric, &Ter(tercom), &Ter::default()] {
            let score = |hypothesis: &str, reference: &str| {
                metric.score_sum(&rows(metric, &[Segment { hypothesis, references: &[reference] }]).unwrap())
            };
            let found = score(&hypothesis, &reference);
            prop_assert!(found >= 0.0 && found.is_finite(), "{found}");
            let own = score(&hypothesis, &hypothesis);
            // Nothing has no n-gram to find, and no edit to make.
            let perfect = own == 0.0 || metric.name() != "TER" && own > 100.0 - TOLERANCE;
            prop_assert!(perfect, "{own}");
        }
    }

    /// Shifts never make it worse than plain edits, and never better than the difference in length.
    #[test]
    fn edits_are_bounded(hypothesis in "([abc] ){0,30}", reference in "([abcd] ){1,30}") {
        let row = rows(&Ter::default(), &[Segment { hypothesis: &hypothesis, references: &[&reference] }]).unwrap();
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
        let (hypothesis, reference) = (words(&hypothesis), words(&reference));
        let mut line: Vec<usize> = (0..=reference.len()).collect();
        for (index, word) in hypothesis.iter().enumerate() {
            let mut corner = std::mem::replace(&mut line[0], index + 1);
            for (column, other) in reference.iter().enumerate() {
                let substituted = corner + usize::from(word != other);
                corner = line[column + 1];
                line[column + 1] = substituted.min(corner + 1).min(line[column] + 1);
            }
        }
        prop_assert!(row[0] as usize <= line[reference.len()]);
        prop_assert!(row[0] as usize >= hypothesis.len().abs_diff(reference.len()));
    }
}
