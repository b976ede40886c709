//! The page of a run: what it says, that foreign text stays text, and that it can be read.

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use swinseek_evals::bleu::Bleu;
use swinseek_evals::report::{Case, Group, ImageData, Page, choose, html};

const STYLE: &str = include_str!("../src/report/report.css");

fn result() -> Value {
    json!({
        "version": 1,
        "data": {"name": "chest", "layout": "r2gen", "split": "test", "n": 3, "skipped": 2, "hash": "blake3:00112233445566778899aabbccddeeff"},
        "model": {"name": "default", "digest": "blake3:ffeeddccbbaa99887766554433221100"},
        "scores": {
            "bleu": {"score": 38.867, "interval": {"low": 34.4, "high": 43.6, "mean": 38.9}, "signature": "nrefs:1|tok:13a",
                     "precisions": [67.125, 52.4, 41.8, 34.4], "brevity_penalty": 0.8196, "hyp_len": 5816, "ref_len": 6973},
            "rouge_l": {"score": 0.6123},
            "accuracy": 0.5
        },
        "floors": {"constant": {"bleu": 31.83, "rouge_l": {"score": 0.4}, "text": "No acute disease."}, "random": {"bleu": 24.45}},
        "verbatim_share": 0.544, "distinct_outputs": 23, "speed": {"images_per_second": 6.774312}, "seed": 7,
        "brand_new": {"inner": [1, 2.5, "x"], "deep": {"er": true}, "nothing": null}
    })
}

/// The page of one case, with the rest as given.
fn page(result: &Value, title: &str, hypothesis: &str, reference: &str) -> String {
    let bleu = Bleu { effective_order: true, ..Bleu::default() };
    let references = [reference.to_owned()];
    let image = Some(ImageData { mime: "image/png".into(), bytes: vec![1, 2, 3] });
    let case = Case {
        group: Group::Worst,
        id: title,
        question: Some(title),
        references: &references,
        hypothesis,
        score: 12.34,
        image,
    };
    html(&Page {
        title,
        notice: Some("A draft."),
        result,
        bleu: &bleu,
        scores: &[0.0, 12.34, 100.0],
        lengths: &[(10, 12), (9, 9), (40, 12)],
        cases: vec![case],
    })
}

/// Tags of the page by a scanner that knows nothing of how it was written. Panics unless they nest, attributes are
/// quoted and ids are unique.
fn elements(page: &str) -> Vec<(String, Vec<(String, String)>)> {
    const VOID: [&str; 3] = ["meta", "img", "!DOCTYPE"];
    let mut found = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once('<') {
        assert!(
            !before.contains('>') || open.last().is_some_and(|tag| tag == "style"),
            "stray > in {before:?}"
        );
        let (tag, tail) = after.split_once('>').expect("the tag ends");
        rest = tail;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "nesting");
            continue;
        }
        let closed = tag.ends_with('/');
        let (name, attributes) = tag.trim_end_matches('/').split_once(' ').unwrap_or((tag, ""));
        if !closed && !VOID.contains(&name) {
            open.push(name.to_owned());
        }
        found.push((name.to_owned(), parse_attributes(attributes)));
    }
    assert!(open.is_empty(), "left open: {open:?}");
    let ids: Vec<&String> =
        found.iter().flat_map(|(_, a)| a).filter(|(n, _)| n == "id").map(|(_, v)| v).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "ids repeat: {ids:?}");
    found
}

fn parse_attributes(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((name, after)) = text.split_once("=\"") {
        let (value, tail) = after.split_once('"').expect("the value ends");
        found.push((name.trim().to_owned(), value.to_owned()));
        text = tail;
    }
    assert!(text.trim().is_empty() || text.trim() == "html", "unquoted: {text:?}");
    found
}

/// Nothing runs, nothing is fetched, and no character that the eye cannot see rearranges the page.
fn is_inert(page: &str) -> bool {
    let safe_attribute = |name: &str, value: &str| match name {
        "href" => value.starts_with('#'),
        "src" => value.starts_with("data:image/"),
        _ => !name.starts_with("on") && !name.contains("action"),
    };
    let forbidden = ["script", "link", "iframe", "object", "embed", "base", "form", "a:href"];
    let elements = elements(page);
    let inert = elements.iter().all(|(name, attributes)| {
        !forbidden.contains(&name.as_str())
            && attributes.iter().all(|(name, value)| safe_attribute(name, value))
    });
    let hidden =
        |c: char| (c.is_control() && c != '\n' && c != '\t') || ('\u{202a}'..='\u{202e}').contains(&c);
    inert && !page.contains(hidden) && !STYLE.contains("url(") && !STYLE.contains("@import")
}

#[test]
fn hostile_text_stays_text() {
    let hostile = "</script><script>alert(1)</script>\u{0}\u{1b}[31m\u{202e}evil\u{2066}\" onload='x' <!-- ]]> &lt; \u{85}";
    let mut result = result();
    result["scores"][hostile] = json!({"score": 1.0, hostile: hostile, "signature": hostile});
    result["floors"][hostile] = json!({"bleu": 40.0, "text": hostile, "other": hostile});
    result["model"]["digest"] = json!(hostile);
    result[hostile] = json!([hostile, {hostile: hostile}]);
    let page = page(&result, hostile, hostile, hostile);
    assert!(is_inert(&page));
    assert!(
        page.contains("&lt;script&gt;alert(1)&lt;/script&gt;\u{2400}\u{241b}[31m\u{27e8}U+202E\u{27e9}evil")
    );
    // The scanner sees what it should see.
    assert!(!is_inert("<p><script>x</script></p>"));
    assert!(!is_inert("<img src=\"https://example.org/x.png\">"));
    assert!(!is_inert("<p onclick=\"x\"></p>"));
    assert!(!is_inert("<p>\u{202e}</p>"));
}

#[test]
fn the_page_says_what_the_result_says() {
    let page = page(&result(), "Chest", "no effusion", "no effusion");
    let shown = [
        "<span class=\"number\">38.87</span> <span class=\"unit\">BLEU</span>",
        "95\u{202f}% interval 34.40 to 43.60",
        "nrefs:1|tok:13a",
        "<code title=\"blake3:ffeeddccbbaa99887766554433221100\">blake3:ffeeddccbbaa</code>",
        "Better than every floor over the whole interval.",
        "A constant text, the same for every picture, scores 31.83: <q dir=\"auto\">No acute disease.</q>",
        "2 records were skipped.",
        "54.4\u{202f}% of the hypotheses stand word for word",
        "brevity penalty 0.8196; hyp len 5816; ref len 6973",
        // A row on the scale to 1 has four decimals; a floor without this metric a dash.
        "ROUGE-L</th><td>0.6123</td><td class=\"none\">\u{2013}</td><td>0.4000</td><td class=\"none\">\u{2013}</td>",
        "Accuracy</th><td>0.5000</td>",
        "<dt>Distinct hypotheses</dt><dd class=\"copy\">23</dd>",
        "<dt>Speed: images per second</dt><dd class=\"copy\">6.774</dd>",
        "<dt>Brand new: inner</dt><dd class=\"copy\">1, 2.5, x</dd>",
        "<dt>Brand new: deep: er</dt><dd class=\"copy\">yes</dd>",
        "Against the reference nearest in length: 1 shorter, 1 as long, 1 longer.",
        "Cases: 3; median 12.3, mean 37.4; 1 at 0, 1 at 100",
    ];
    for text in shown {
        assert!(page.contains(text), "not on the page: {text}");
    }
    assert!(!page.contains("Brand new: nothing") && !page.contains("null</dd>"));
}

#[test]
fn the_verdict_follows_the_interval() {
    let verdict = |low: f64, floor: Option<f64>| {
        let mut result = result();
        result["scores"]["bleu"]["interval"]["low"] = json!(low);
        result["floors"] = floor.map_or(json!({}), |floor| json!({"blind": {"bleu": floor}}));
        page(&result, "t", "a", "a")
    };
    assert!(verdict(30.0, Some(29.9)).contains("Better than every floor over the whole interval."));
    assert!(verdict(30.0, Some(30.1)).contains("but the interval reaches the blind floor."));
    assert!(verdict(30.0, Some(38.9)).contains("Not better than the blind floor."));
    assert!(verdict(30.0, None).contains("No floor was computed"));
    // An edit rate is better when it is lower.
    let ter = |floor: f64| {
        let scores = json!({"ter": {"score": 60.0, "interval": [58.0, 63.0]}});
        page(&json!({"scores": scores, "floors": {"random": {"ter": floor}}}), "t", "a", "a")
    };
    assert!(ter(64.0).contains("Better than every floor over the whole interval."));
    assert!(ter(62.0).contains("but the interval reaches the random floor."));
    assert!(ter(50.0).contains("Not better than the random floor."));
}

#[test]
fn a_case_shows_picture_matches_and_counts() {
    let page = page(
        &result(),
        "c1",
        "No pleural effusion. No mass.",
        "There is no pleural effusion. No mass is seen.",
    );
    let shown = [
        "<img src=\"data:image/png;base64,AQID\" alt=\"Picture of case c1\"",
        "<mark class=\"m1\">No</mark> <mark class=\"m4\">pleural effusion. No mass</mark><mark class=\"m1\">.</mark>",
        "is seen<mark class=\"m1\">.</mark>",
        // "No" stands once in the reference, and counts once.
        "<dt>1-gram</dt><dd>6/7</dd>",
        "<dt>4-gram</dt><dd>2/4</dd>",
        "<dt>Length</dt><dd>7, reference 11</dd>",
    ];
    for text in shown {
        assert!(page.contains(text), "not on the page: {text}");
    }
    // Groups without cases are not there.
    assert!(
        page.contains("id=\"worst\"") && !page.contains("id=\"best\"") && !page.contains("href=\"#random\"")
    );
}

#[test]
fn nothing_to_show_is_a_page_too() {
    let bleu = Bleu::default();
    for result in
        [json!({}), json!(null), json!([1]), json!({"scores": {}, "floors": 3, "data": "x", "model": null})]
    {
        let page = html(&Page {
            title: "t",
            notice: None,
            result: &result,
            bleu: &bleu,
            scores: &[],
            lengths: &[],
            cases: vec![],
        });
        assert!(is_inert(&page));
        assert!(page.contains("This run has no score.") && !page.contains("<svg"));
    }
    let empty = html(&Page {
        title: "",
        notice: None,
        result: &json!({}),
        bleu: &bleu,
        scores: &[f64::NAN],
        lengths: &[(0, 0)],
        cases: vec![Case {
            group: Group::Best,
            id: "",
            question: None,
            references: &[],
            hypothesis: "",
            score: f64::NAN,
            image: None,
        }],
    });
    assert!(is_inert(&empty) && empty.contains("<em>nothing</em>") && !empty.contains("NaN"));
}

#[test]
fn landmarks_headings_and_names_are_there() {
    let page = page(&result(), "t", "a", "b");
    let elements = elements(&page);
    let count = |tag: &str| elements.iter().filter(|(name, _)| name == tag).count();
    assert_eq!((count("main"), count("h1"), count("footer")), (1, 1, 1));
    let has = |attributes: &[(String, String)], key: &str| {
        attributes.iter().any(|(n, v)| n == key && !v.is_empty())
    };
    for (name, attributes) in &elements {
        match name.as_str() {
            "svg" => assert!(has(attributes, "aria-label"), "a drawing without words"),
            "img" => assert!(has(attributes, "alt")),
            "section" => assert!(has(attributes, "aria-labelledby"), "{attributes:?}"),
            _ => {}
        }
    }
    // Every link leads somewhere.
    let values = |key: &'static str| {
        elements.iter().flat_map(|(_, a)| a).filter(move |(n, _)| n == key).map(|(_, v)| v)
    };
    let ids: HashSet<&str> = values("id").map(String::as_str).collect();
    for href in values("href") {
        assert!(ids.contains(&href[1..]), "{href} leads nowhere");
    }
}

#[test]
fn drawings_have_no_needless_digits() {
    let page = page(&result(), "t", "a", "b");
    for (name, attributes) in elements(&page) {
        if matches!(name.as_str(), "line" | "rect" | "circle" | "text" | "svg") {
            for (key, value) in
                attributes.iter().filter(|(key, _)| !matches!(key.as_str(), "class" | "aria-label"))
            {
                let decimals =
                    value.split_once('.').map_or(0, |(_, decimals)| decimals.trim_end_matches('%').len());
                assert!(decimals <= 2, "{name} {key}={value}");
            }
        }
    }
}

/// Relative luminance and contrast ratio as WCAG 2.2 defines them.
fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
    let linear = |c: f64| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
    let luminance = |c: [f64; 3]| 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

fn colour(scheme: &str, name: &str) -> [f64; 3] {
    let (_, after) = scheme.split_once(&format!("--{name}: #")).unwrap_or_else(|| panic!("no colour {name}"));
    [0, 2, 4].map(|at| f64::from(u8::from_str_radix(&after[at..at + 2], 16).expect("two hex digits")) / 255.0)
}

#[test]
fn colours_can_be_told_apart_in_both_schemes() {
    assert_eq!((contrast([0.0; 3], [1.0; 3]) * 10.0).round(), 210.0);
    let (light, rest) =
        STYLE.split_once("@media screen and (prefers-color-scheme: dark)").expect("two schemes");
    let (dark, _) = rest.split_once("\n}\n").expect("the dark scheme ends");
    for scheme in [light, dark] {
        let ratio = |a: &str, b: &str| contrast(colour(scheme, a), colour(scheme, b));
        let texts = [
            ("ink", "page"),
            ("ink", "card"),
            ("muted", "page"),
            ("muted", "card"),
            ("accent", "page"),
            ("accent", "card"),
            ("notice-ink", "notice"),
            ("mark-ink", "m1"),
            ("mark-ink", "m2"),
            ("mark-ink", "m3"),
            ("mark-ink", "m4"),
        ];
        for (text, ground) in texts {
            assert!(ratio(text, ground) >= 4.5, "{text} on {ground}: {:.2}", ratio(text, ground));
        }
        // Marks of drawings, WCAG 1.4.11.
        assert!(ratio("accent", "card") >= 3.0 && ratio("floor", "card") >= 3.0);
        // Each shade stands out more from the card than the one before.
        let shades = ["m1", "m2", "m3", "m4"].map(|shade| ratio(shade, "card"));
        assert!(shades[0] > 1.1 && shades.windows(2).all(|pair| pair[1] > 1.15 * pair[0]), "{shades:?}");
    }
}

#[test]
fn choice_of_cases() {
    let scores = [50.0, f64::NAN, 90.0, 10.0, 70.0, 30.0, 60.0, 20.0];
    let selection = choose(&scores, 2, 1);
    assert_eq!((&selection.best[..], &selection.worst[..]), (&[2, 4][..], &[1, 3][..]));
    assert_eq!(selection.random.len(), 2);
    let groups: Vec<Group> = selection.iter().map(|(group, _)| group).collect();
    assert_eq!(groups, [Group::Best, Group::Best, Group::Worst, Group::Worst, Group::Random, Group::Random]);
    // The seed decides between equals, so that they are not always the beginning of the file.
    let equals = [100.0; 100];
    assert_ne!(choose(&equals, 5, 1).best, choose(&equals, 5, 2).best);
    assert!(choose(&[], 5, 1).iter().next().is_none());
}

/// Any JSON value, a few levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let key =
        prop_oneof![Just("bleu".to_owned()), Just("interval".into()), Just("text".into()), any::<String>()];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_result_and_any_text_give_a_sound_page(
        scores in any_json(), floors in any_json(), data in any_json(), other in any_json(),
        name in any::<String>(), hypothesis in any::<String>(), reference in any::<String>(),
    ) {
        let result = json!({"scores": scores, "floors": floors, "data": data, "other": other, name.as_str(): 1});
        let first = page(&result, &name, &hypothesis, &reference);
        prop_assert!(is_inert(&first));
        prop_assert_eq!(first, page(&result, &name, &hypothesis, &reference));
    }

    #[test]
    fn a_choice_is_ranked_and_repeats_nothing(
        scores in prop::collection::vec(0_u8..20, 0..40), each in 0_usize..12, seed in any::<u64>(),
    ) {
        let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
        let selection = choose(&scores, each, seed);
        let all: Vec<usize> = selection.iter().map(|(_, index)| index).collect();
        prop_assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        prop_assert_eq!(all.len(), scores.len().min(3 * each));
        let of = |indices: &[usize]| -> Vec<f64> { indices.iter().map(|&index| scores[index]).collect() };
        let mut sorted = scores.clone();
        sorted.sort_by(f64::total_cmp);
        prop_assert_eq!(of(&selection.worst), sorted[..selection.worst.len()].to_vec());
        sorted.reverse();
        prop_assert_eq!(of(&selection.best), sorted[..selection.best.len()].to_vec());
        prop_assert_eq!(selection, choose(&scores, each, seed));
    }
}
