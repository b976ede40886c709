//! Counts and rates.

use proptest::prelude::*;
use swinseek_evals::radiology::{Label, Labels, Observation, RadiologyStats, UncertainAs, label, score};
use swinseek_evals::resample::Bootstrap;

const LABELS: [Label; 4] = [Label::Positive, Label::Negative, Label::Uncertain, Label::Absent];

fn any_labels() -> impl Strategy<Value = Labels> {
    prop::collection::vec(prop::sample::select(LABELS.as_slice()), 14).prop_map(|list| {
        let mut labels = Labels::default();
        for (observation, label) in Observation::ALL.into_iter().zip(list) {
            labels[observation] = label;
        }
        labels
    })
}

#[test]
fn rates_are_those_of_scikit_learn() {
    // precision_recall_fscore_support(truth, found, average=..., zero_division=0) of scikit-learn 1.7 on the 14 columns
    // of these four pairs: micro 3/4, 3/5; macro over the columns with a positive here: see the sums.
    let pairs = [
        ("Small effusion. Cardiomegaly.", "Small effusion. No cardiomegaly."),
        ("Edema.", "Edema and small effusion."),
        ("The lungs are clear.", "A nodule."),
        ("No pneumothorax.", "Pneumothorax."),
    ];
    let stats: RadiologyStats =
        pairs.map(|(found, truth)| RadiologyStats::of_texts(found, truth)).into_iter().sum();
    let micro = stats.micro(UncertainAs::Negative, &Observation::ALL);
    // Found: effusion, cardiomegaly, edema, and no finding twice; true: effusion twice, edema, nodule, pneumothorax.
    assert_eq!((micro.precision, micro.recall, micro.f1), (2.0 / 5.0, 2.0 / 5.0, 2.0 / 5.0));
    let macro_ = stats.macro_average(UncertainAs::Negative, &Observation::ALL);
    // Effusion 1, 1/2, 2/3; edema 1, 1, 1; the other twelve 0.
    let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
    assert!(close(macro_.precision, 2.0 / 14.0) && close(macro_.recall, 1.5 / 14.0), "{macro_:?}");
    assert!(close(macro_.f1, (1.0 + 2.0 / 3.0) / 14.0));
    let five = stats.micro(UncertainAs::Negative, &Observation::FIVE);
    assert_eq!((five.precision, five.recall), (2.0 / 3.0, 2.0 / 3.0));
    // Cardiomegaly, pneumothorax flipped; effusion and edema agree. All four references are abnormal, two found normal.
    assert_eq!((stats.both_mention, stats.flipped, stats.abnormal, stats.false_normal), (4, 2, 4, 2));
    assert_eq!(stats.flip_rate().unwrap().value, 0.5);
    assert_eq!(stats.false_normal_rate().unwrap().value, 0.5);
}

#[test]
fn the_rule_for_uncertain_labels_matters() {
    let stats = RadiologyStats::of_texts("Pneumonia.", "Possible pneumonia.");
    let f1 = |rule| stats.micro(rule, &Observation::ALL).f1;
    assert_eq!((f1(UncertainAs::Positive), f1(UncertainAs::Negative)), (1.0, 0.0));
    // Doubt is no contradiction.
    assert_eq!((stats.both_mention, stats.flipped, stats.abnormal), (1, 0, 0));
    assert_eq!(RadiologyStats::default().flip_rate(), None);
}

#[test]
fn a_set_has_intervals_and_both_rules() {
    let stats: Vec<RadiologyStats> = (0..40)
        .map(|n| {
            RadiologyStats::of_texts("Small effusion.", if n % 4 == 0 { "Edema." } else { "Small effusion." })
        })
        .collect();
    let score = score(&stats, Bootstrap::default()).unwrap();
    assert_eq!(score.stats.reports, 40);
    let [_, negative] = score.labels;
    assert_eq!(negative.micro_14.f1, 0.75);
    let interval = negative.micro_14_f1.unwrap();
    // Binomial: 0.75 with a standard deviation of 0.068.
    assert!(
        interval.low > 0.55 && interval.low < 0.68 && interval.high > 0.82 && interval.high < 0.95,
        "{interval:?}"
    );
    assert!(swinseek_evals::radiology::score(&[], Bootstrap::default()).is_err());
    let json = serde_json::to_string(&score).unwrap();
    assert_eq!(serde_json::from_str::<swinseek_evals::radiology::RadiologyScore>(&json).unwrap(), score);
}

proptest! {
    #[test]
    fn counts_are_those_of_plain_counting(pairs in prop::collection::vec((any_labels(), any_labels()), 1..6)) {
        let stats: RadiologyStats = pairs.iter().map(|(found, truth)| RadiologyStats::new(found, truth)).sum();
        for rule in [UncertainAs::Positive, UncertainAs::Negative] {
            for observation in Observation::ALL {
                let counts = stats.confusions(rule)[observation as usize];
                let is = |label: Label| match rule {
                    UncertainAs::Positive => matches!(label, Label::Positive | Label::Uncertain),
                    UncertainAs::Negative => label == Label::Positive,
                };
                let count = |found: bool, truth: bool| {
                    let fits = |(f, t): &&(Labels, Labels)| is(f[observation]) == found && is(t[observation]) == truth;
                    pairs.iter().filter(fits).count() as u64
                };
                prop_assert_eq!(counts.true_positive, count(true, true));
                prop_assert_eq!(counts.false_positive, count(true, false));
                prop_assert_eq!(counts.false_negative, count(false, true));
                prop_assert_eq!(counts.true_negative, count(false, false));
            }
        }
        prop_assert_eq!(stats.reports, pairs.len() as u64);
        prop_assert!(stats.flipped <= stats.both_mention && stats.false_normal <= stats.abnormal);
    }

    #[test]
    fn a_report_agrees_with_itself(labels in any_labels()) {
        let stats = RadiologyStats::new(&labels, &labels);
        prop_assert_eq!(stats.flipped, 0);
        for rule in [UncertainAs::Positive, UncertainAs::Negative] {
            let f1 = stats.micro(rule, &Observation::ALL).f1;
            prop_assert!(f1 == 1.0 || stats.confusions(rule).iter().all(|counts| counts.true_positive == 0));
        }
    }
}

#[test]
fn labels_are_written_by_name() {
    let json = serde_json::to_value(label("No edema.")[Observation::Edema]).unwrap();
    assert_eq!(json, "negative");
    assert_eq!(serde_json::to_value(Observation::PleuralEffusion).unwrap(), "Pleural Effusion");
    for observation in Observation::ALL {
        assert_eq!(serde_json::to_value(observation).unwrap(), observation.name());
    }
}
