//! The default model over phantom studies.

use std::process::Stdio;

use serde_json::json;

use super::*;

/// Short answers keep the tests short; they are no worse to compare.
const SHORT: [&str; 2] = ["--max-tokens", "12"];

#[test]
fn phantom_reports_are_scored_against_their_four_references() {
    let folder = Folder::with_phantoms(10, &["--split", "train:0.3,val:0.1,test:0.6"]);
    let arguments = ["--data", "data", "--split", "test", "--metric", "bleu", "--json", "--blind"];
    let result = folder.result(&[&arguments[..], &SHORT].concat());
    assert_eq!((&result["data"]["n"], &result["data"]["layout"]), (&json!(6), &json!("r2gen")));
    let bleu = &result["scores"]["bleu"];
    let score = bleu["score"].as_f64().expect("a score");
    let bounds =
        [&bleu["interval"]["low"], &bleu["interval"]["high"]].map(|value| value.as_f64().expect("a bound"));
    assert!((0.0..=100.0).contains(&score) && bounds[0] <= bounds[1], "{bleu}");
    let signature = bleu["signature"].as_str().expect("a signature");
    assert!(
        signature.starts_with("nrefs:4|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|"),
        "{signature}"
    );
    for floor in ["constant", "random", "blind"] {
        assert!(result["floors"][floor]["bleu"]["score"].is_number(), "{floor}: {}", result["floors"]);
    }
    assert_eq!(result["model"]["name"], "model");
    assert!(result["speed"]["images_per_second"].is_number() && result["hardware"]["cpu"].is_string());
    // The directory: named after the run, and what was printed is what it holds.
    let made: Vec<_> = std::fs::read_dir(folder.path("eval-results")).expect("a folder").flatten().collect();
    assert_eq!(made.len(), 1);
    let name = format!("eval-results/{}", made[0].file_name().to_str().expect("UTF-8"));
    assert!(name.starts_with("eval-results/data-test-model-"), "{name}");
    assert_eq!(folder.json(&format!("{name}/result.json")), result);
    let lines = folder.read(&format!("{name}/hypotheses.jsonl"));
    let first: Value =
        serde_json::from_slice(lines.split(|&byte| byte == b'\n').next().expect("a line")).expect("JSON");
    assert_eq!((&first["index"], &first["images"]), (&json!(0), &json!(["images/000004.png"])));
    let page = String::from_utf8(folder.read(&format!("{name}/report.html"))).expect("UTF-8");
    assert!(page.contains("data:image/jpeg;base64,") && page.contains("phantom-77-000004"));
    assert_eq!(first["references"].as_array().expect("references").len(), 4);
}

#[test]
fn a_run_killed_in_the_middle_ends_in_the_same_bytes() {
    let folder = Folder::with_phantoms(8, &[]);
    let base = ["--data", "data", "--json", "--max-tokens", "40"];
    let whole = folder.result(&[&base[..], &["--out", "whole"]].concat());
    let mut child = folder
        .command(&[&base[..], &["--out", "killed"]].concat())
        .env("RAYON_NUM_THREADS", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let path = folder.path("killed/hypotheses.jsonl");
    let lines = || std::fs::read(&path).map_or(0, |bytes| bytes.split(|&byte| byte == b'\n').count() - 1);
    while lines() < 2 && child.try_wait().expect("a child").is_none() {
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("a child");
    let kept = lines();
    assert!((2..8).contains(&kept), "killed with {kept} lines: in the middle is what is tested");
    // A kill can tear the line that is being written.
    let mut torn = folder.read("killed/hypotheses.jsonl");
    torn.extend_from_slice(b"{\"index\":7,\"id\":\"phan");
    std::fs::write(&path, torn).expect("written");
    let resumed = folder.result(&[&base[..], &["--out", "killed"]].concat());
    assert_eq!(resumed["speed"]["items"], json!(8 - kept), "answers that were kept are not asked for again");
    assert_eq!(folder.read("killed/hypotheses.jsonl"), folder.read("whole/hypotheses.jsonl"));
    assert_eq!(folder.read("killed/shard.json"), folder.read("whole/shard.json"));
    assert_eq!(reproducible(resumed), reproducible(whole));
}

#[test]
fn merged_shards_are_the_undivided_run() {
    let folder = Folder::with_phantoms(5, &[]);
    let base = [&["--data", "data", "--metric", "bleu,chrf", "--blind", "--json"][..], &SHORT].concat();
    folder.result(&[&base[..], &["--out", "whole"]].concat());
    for index in 1..=3 {
        let (shard, out) = (format!("{index}/3"), format!("part{index}"));
        let printed = folder.result(&[&base[..], &["--shard", &shard, "--out", &out]].concat());
        assert_eq!(printed["shard"], json!(shard));
    }
    folder.result(&["merge", "part2", "part1", "part3", "--out", "merged", "--json"]);
    for file in ["run.json", "hypotheses.jsonl", "blind.jsonl", "shard.json"] {
        assert_eq!(folder.read(&format!("merged/{file}")), folder.read(&format!("whole/{file}")), "{file}");
    }
    let result = |dir: &str| reproducible(folder.json(&format!("{dir}/result.json")));
    assert_eq!(result("merged"), result("whole"));
    folder.fails(1, &["merge", "part1", "part3", "--out", "none"], &["shard 2/3 is missing"]);
}

#[test]
fn two_runs_are_compared_and_a_table_is_for_people() {
    let folder = Folder::with_phantoms(4, &[]);
    let table = folder.eval(&[&["--data", "data", "--out", "a"][..], &SHORT].concat());
    let table = String::from_utf8(table.stdout).expect("UTF-8");
    for part in ["data, test, n = 4", "model", "constant", "not available: ", "nrefs:4"] {
        assert!(table.contains(part), "no `{part}` in\n{table}");
    }
    folder.result(&["--data", "data", "--out", "b", "--max-tokens", "6", "--json"]);
    let compared = folder.result(&["compare", "a", "b", "--resamples", "100", "--trials", "100", "--json"]);
    let row = &compared["metrics"][0];
    assert_eq!(row["metric"], "bleu");
    for p in ["p_bootstrap", "p_randomization"] {
        assert!((0.0..=1.0).contains(&row[p].as_f64().expect("a number")), "{row}");
    }
    folder.fails(1, &["compare", "a", "nowhere"], &["nowhere/shard.json"]);
}

#[test]
fn questions_of_a_study_are_answered() {
    let folder = Folder::with_phantoms(4, &["--split", "train:0.5,test:0.5"]);
    let result = folder.result(&[
        "--data",
        "data",
        "--task",
        "question",
        "--limit",
        "5",
        "--max-tokens",
        "8",
        "--json",
    ]);
    assert_eq!((&result["data"]["task"], &result["data"]["n"]), (&json!("question"), &json!(5)));
    let accuracy = result["scores"]["accuracy"]["score"].as_f64().expect("a share");
    assert!((0.0..=1.0).contains(&accuracy));
    for floor in ["majority", "question_only", "random"] {
        assert!(result["floors"][floor]["accuracy"]["score"].is_number(), "{}", result["floors"]);
    }
    let captions = folder.result(&["--data", "data", "--task", "caption", "--max-tokens", "8", "--json"]);
    let signature = captions["scores"]["bleu"]["signature"].as_str().expect("a signature");
    assert!(signature.starts_with("nrefs:1|"), "{signature}");
}

#[test]
fn bad_input_is_one_line() {
    let folder = Folder::with_phantoms(2, &[]);
    std::fs::create_dir(folder.path("empty")).expect("a folder");
    folder.fails(1, &["--data", "empty"], &["empty"]);
    folder.fails(1, &["--data", "nowhere"], &["nowhere"]);
    folder.fails(1, &["--data", "data", "--split", "val"], &["`val`"]);
    folder.fails(1, &["--data", "data", "--model", "nowhere"], &["nowhere", "config.json"]);
    for (flag, value, listed) in [
        ("--layout", "nope", "r2gen, "),
        ("--metric", "nope", "bleu, chrf"),
        ("--split", "nope", "train, val, test"),
        ("--profile", "nope", "sacrebleu"),
        ("--task", "nope", "report, caption, question"),
        ("--shard", "0/3", "I/N"),
        ("--shard", "4/3", "I/N"),
        ("--limit", "0", "at least 1"),
    ] {
        folder.fails(2, &["--data", "data", flag, value], &[value, listed]);
    }
    folder.fails(2, &[], &["--data DIR is missing"]);
}

#[test]
fn an_item_that_fails_is_named_and_the_others_are_scored() {
    let folder = Folder::with_phantoms(3, &[]);
    std::fs::remove_file(folder.path("data/images/000001.png")).expect("removed");
    let arguments = [&["--data", "data", "--out", "out", "--json"][..], &SHORT].concat();
    let output = folder.eval(&arguments);
    assert_eq!(output.status.code(), Some(1));
    let error = errors(&output);
    assert!(error.contains("phantom-77-000001: ") && error.contains("000001.png"), "{error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&result["errors"], &result["data"]["n"]), (&json!(1), &json!(3)));
}

#[test]
fn another_model_or_other_pictures_do_not_go_on_with_a_run() {
    let folder = Folder::with_phantoms(2, &[]);
    let base = [&["--data", "data", "--out", "out", "--json"][..], &SHORT].concat();
    let first = folder.result(&base);
    let again = folder.result(&base);
    assert_eq!(again, first, "all answers are there, and speed is that of the run that wrote them");
    let other = folder.path("other");
    std::fs::create_dir(&other).expect("a folder");
    for file in std::fs::read_dir(model()).expect("a folder").flatten() {
        std::fs::copy(file.path(), Path::new(&other).join(file.file_name())).expect("a copy");
    }
    let config = format!("{other}/config.json");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    // Other bytes, the same model: the digest is of the files.
    std::fs::write(&config, text + "\n").expect("written");
    folder.fails(
        1,
        &[&base[..], &["--model", "other"]].concat(),
        &["holds another run", "`model.name`", "--fresh"],
    );
    folder.fails(1, &[&base[..], &["--seed", "5"]].concat(), &["`seed` is 12345 there and 5 now"]);
    std::fs::copy(folder.path("data/images/000001.png"), folder.path("data/images/000000.png"))
        .expect("a copy");
    folder.fails(1, &base, &["`data.images`"]);
    folder.result(&[&base[..], &["--fresh"]].concat());
}

#[test]
fn the_default_models_table_is_still_there() {
    let folder = Folder::with_phantoms(1, &[]);
    let table = folder.result(&["suite", "--studies", "1", "--json"]);
    assert!(table["rows"].as_array().is_some_and(|rows| rows.len() >= 5), "{table}");
}
