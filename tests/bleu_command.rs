//! `swinseek bleu` as a person or a script meets it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const REFERENCE: &str = "The dog bit the man.\nIt was not unexpected.\nThe man bit him first.\n";
const SECOND: &str = "The dog had bit the man.\nNo one was surprised.\nThe man had bitten the dog.\n";
const SYSTEM: &str = "The dog bit the man.\nIt wasn't surprising.\nThe man had just bitten him.\n";
const OTHER: &str = "A dog bit a man.\nThat was expected.\nHe bit him first.\n";

/// A folder with texts, and the command run inside it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        for (name, text) in [("ref", REFERENCE), ("ref2", SECOND), ("sys", SYSTEM), ("other", OTHER)] {
            folder.write(name, text.as_bytes());
        }
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.path().join(name), bytes).expect("written");
    }

    /// Runs with `input` on standard input; arguments are split at blanks.
    fn run_with(&self, arguments: &str, input: &[u8]) -> Output {
        run_in(self.0.path(), arguments, input)
    }

    #[track_caller]
    fn text(&self, arguments: &str) -> String {
        let output = self.run_with(arguments, b"");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    #[track_caller]
    fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.text(arguments)).expect("JSON")
    }

    /// The command fails with code 1 and this line.
    #[track_caller]
    fn fails(&self, arguments: &str, line: &str) {
        let output = self.run_with(arguments, b"");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), error.lines().count()), (Some(1), 1), "{arguments}: {error}");
        assert_eq!(error.trim_end(), format!("swinseek: {line}"), "{arguments}");
        assert!(output.stdout.is_empty(), "{arguments}");
    }
}

fn run_in(folder: &Path, arguments: &str, input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swinseek"));
    command.arg("bleu").args(arguments.split(' ')).current_dir(folder);
    command.env_remove("SACREBLEU_SEED").env_remove("SACREBLEU_FORMAT");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    // A command that failed before has closed its end.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("it ends")
}

#[test]
fn the_bare_number_and_the_whole_line_are_sacrebleus() {
    let folder = Folder::new();
    assert_eq!(folder.text("ref ref2 -i sys -b -w 4"), "48.5308\n");
    assert_eq!(folder.text("ref ref2 -i sys -b -w 4 -tok none"), "49.1920\n");
    assert_eq!(folder.text("ref ref2 -b -w 4 -tok=intl --input sys"), "43.9162\n");
    let own = concat!("version:swinseek-", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        folder.text("ref ref2 -i sys -f text -w 2"),
        format!(
            "BLEU|nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|{own} = 48.53 82.4/50.0/45.5/37.5 \
             (BP = 0.943 ratio = 0.944 hyp_len = 17 ref_len = 18)\n"
        ),
    );
    let json = folder.json("ref ref2 -i sys -lc -s add-k -sv 2");
    let keys: Vec<&str> = json.as_object().expect("an object").keys().map(String::as_str).collect();
    let known =
        ["name", "score", "signature", "verbose_score", "nrefs", "case", "eff", "tok", "smooth", "version"];
    assert_eq!(keys, known);
    assert_eq!((&json["case"], &json["smooth"]), (&Value::from("lc"), &Value::from("add-k[2.00]")));
    assert!(json["version"].as_str().expect("text").starts_with("swinseek-"));
}

#[test]
fn several_metrics_stand_below_each_other() {
    let folder = Folder::new();
    let text = folder.text("ref -i sys -m ter bleu chrf -f text -sh -cw 2");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    let place = lines[0].find(" = ");
    assert!(place.is_some() && lines.iter().all(|line| line.find(" = ") == place), "{text}");
    assert!(lines[0].trim_start().starts_with("BLEU|#:1|c:mixed|e:no|tok:13a|s:exp|v:swinseek-"), "{text}");
    assert!(lines[1].trim_start().starts_with("chrF2++|#:1|c:mixed|e:yes|nc:6|nw:2|s:no|v:"), "{text}");
    assert!(lines[2].trim_start().starts_with("TER|#:1|c:lc|t:tercom|nr:no|pn:yes|as:no|v:"), "{text}");
    let list = folder.json("ref -i sys -m ter bleu --confidence");
    assert_eq!((&list[0]["name"], &list[1]["name"]), (&Value::from("BLEU"), &Value::from("TER")));
    assert_eq!((&list[1]["bs"], &list[1]["seed"]), (&Value::from("1000"), &Value::from("12345")));
    assert!(list[1]["confidence"].as_str().expect("text").starts_with("μ = "));
    assert_eq!(folder.text("ref -i sys -m bleu chrf -b"), "[\n45.1,\n50.0\n]\n");
}

#[test]
fn hypotheses_come_from_files_of_every_kind_and_from_standard_input() {
    let folder = Folder::new();
    let expected = folder.text("ref ref2 -i sys -b -w 6");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(SYSTEM.as_bytes()).expect("written");
    let gzip = gzip.finish().expect("finished");
    folder.write("sys.gz", &gzip);
    folder.write("crlf", SYSTEM.replace('\n', "\r\n").as_bytes());
    folder.write("open", SYSTEM.trim_end().as_bytes());
    for name in ["sys.gz", "crlf", "open"] {
        assert_eq!(folder.text(&format!("ref ref2 -i {name} -b -w 6")), expected, "{name}");
    }
    for (arguments, input) in [("ref ref2 -b -w 6", SYSTEM.as_bytes()), ("ref ref2 -i - -b -w 6", &gzip)] {
        let output = folder.run_with(arguments, input);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{arguments}");
    }
    let pasted: Vec<String> =
        REFERENCE.lines().zip(SECOND.lines()).map(|(one, two)| format!("{one}\t{two}")).collect();
    folder.write("both", pasted.join("\n").as_bytes());
    assert_eq!(folder.text("both -nr 2 -i sys -b -w 6"), expected);
    // Systems between tabs.
    let systems: Vec<String> =
        SYSTEM.lines().zip(OTHER.lines()).map(|(one, two)| format!("{one}\t{two}")).collect();
    let output = folder.run_with("ref ref2 -w 6", systems.join("\n").as_bytes());
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&list[0]["system"], &list[0]["BLEU"]),
        (&Value::from("System 1"), &Value::from(expected.trim()))
    );
}

#[test]
fn sentences_are_scored_one_by_one() {
    let folder = Folder::new();
    let text = folder.text("ref -i sys -sl -b -w 3");
    assert_eq!(text.lines().count(), 3);
    assert!(text.starts_with("100.000\n"), "{text}");
    let line = folder.text("ref -i sys --sentence-level");
    assert!(line.starts_with("BLEU|nrefs:1|case:mixed|eff:yes|tok:13a|"), "{line}");
}

#[test]
fn systems_are_compared_side_by_side() {
    let folder = Folder::new();
    let table = folder.text("ref ref2 -i sys other -f text -w 2 -m bleu chrf");
    let expected = "\
╒══════════╤════════╤═════════╕
│   System │  BLEU  │  chrF2  │
╞══════════╪════════╪═════════╡
│      sys │ 48.53  │  59.73  │
├──────────┼────────┼─────────┤
";
    assert!(table.starts_with(expected), "{table}");
    assert!(table.contains(" - chrF2      nrefs:2|case:mixed|"), "{table}");
    let latex = folder.text("ref ref2 -i sys other -f latex");
    assert!(
        latex.starts_with("\\begin{tabular}{rc}\n\\toprule\n   System &  BLEU  \\\\\n\\midrule\n"),
        "{latex}"
    );
    let list = folder.json("ref ref2 -i sys other --paired-bs -pbsn 200");
    assert_eq!(
        (&list[0]["system"], &list[0]["BLEU"]["p_value"]),
        (&Value::from("Baseline: sys"), &Value::Null)
    );
    let p_value = list[1]["BLEU"]["p_value"].as_f64().expect("a number");
    assert!(p_value > 0.0 && p_value <= 1.0 && list[1]["BLEU"]["ci"].is_f64());
    let signature = list[1]["signatures"]["BLEU"].as_str().expect("text");
    assert!(signature.starts_with("nrefs:2|bs:200|seed:12345|case:mixed|"), "{signature}");
    assert_eq!(
        list,
        folder.json("ref ref2 -i sys sys other --paired-bs -pbsn 200"),
        "a baseline named twice"
    );
    folder.write("patients", b"p\np\nq\n");
    let text = folder.text("ref ref2 -i sys other -par -parn 50 --groups patients -f text");
    assert!(text.contains("Paired approximate randomization test with 50 trials"), "{text}");
    assert!(text.contains("nrefs:2|ar:50|seed:12345|groups:2|"), "{text}");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = Folder::new();
    let run = |threads: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_swinseek"));
        command.args(["bleu", "ref", "-i", "sys", "-m", "bleu", "chrf", "ter", "--confidence", "-w", "12"]);
        command.current_dir(folder.0.path()).env("RAYON_NUM_THREADS", threads);
        command.output().expect("the binary runs").stdout
    };
    assert_eq!(run("1"), run("3"));
}

#[test]
fn bad_input_is_one_line_that_names_it() {
    let folder = Folder::new();
    folder.write("empty", b"");
    folder.write("short", b"one\n");
    folder.write("bytes", b"fine\nalso fine\nbad \xff\n");
    folder.write("tabs", b"a\tb\nc\nd\te\n");
    let expected = "expected a segment on each line";
    folder.fails("ref -i short", "line counts differ: ref has 3, short has 1");
    folder.fails("ref short -i sys", "line counts differ: ref has 3, short has 1, sys has 3");
    folder.fails("ref -i empty", &format!("empty: empty, {expected}"));
    folder.fails("empty -i sys", &format!("empty: empty, {expected}"));
    folder.fails("empty -i empty", &format!("empty: empty, {expected}"));
    folder.fails("ref -i bytes", "bytes:3: byte 5 is 0xff, expected UTF-8");
    folder.fails("tabs -nr 2 -i sys", "tabs:2: 1 columns between tabs, expected 2 references (--num-refs)");
    folder.fails("ref -i sys -tok moses", "tokenizer: `moses`, expected one of 13a, none, char, intl, zh");
    folder.fails("ref -i sys -s nist", "smoothing: `nist`, expected one of exp, floor, add-k, none");
    folder.fails("ref -i sys -m meteor", "--metrics: `meteor`, expected one of bleu, chrf, ter");
    folder.fails("ref -i sys -f xml", "--format: `xml`, expected one of json, text, latex");
    folder.fails(
        "ref -i sys -e latin-1",
        "--encoding: `latin-1`, expected utf-8; convert the files, as with iconv",
    );
    folder.fails("-i sys", "no reference file: they stand before -i, as in `swinseek bleu REF... -i HYP...`");
    folder.fails("ref -i sys sys", "sys: given as two systems");
    folder.fails("ref -i sys -pbs", "a paired test needs two systems or more, found one");
    folder.fails("ref -i sys -ci -cin 0", "resamples: 0, but no resample has a value");
    folder.fails("ref -i sys -m bleu ter -sl", "--sentence-level takes one metric and no test");
    folder.fails("ref -i sys -ci --groups short", "--groups: 1 groups, but 3 segments");
    folder.fails(
        "ref -i sys -t wmt17",
        "--test-set wmt17: no test set is downloaded; give the reference files",
    );
    let missing = folder.run_with("ref -i no/such", b"");
    assert!(String::from_utf8_lossy(&missing.stderr).starts_with("swinseek: no/such: cannot be opened"));
    assert_eq!(missing.status.code(), Some(1));
    let uneven = folder.run_with("ref", b"a\tb\nc\td\ne\n");
    assert_eq!(
        String::from_utf8_lossy(&uneven.stderr).trim_end(),
        "swinseek: standard input:3: 1 columns between tabs, expected 2 systems, as on the first line",
    );
    assert_eq!(folder.run_with("ref -i sys --no-such-flag", b"").status.code(), Some(2));
}

#[test]
fn text_that_looks_tokenised_is_warned_of() {
    let folder = Folder::new();
    folder.write("tokenised", "a b .\n".repeat(100).as_bytes());
    let warning = |arguments: &str| {
        let output = folder.run_with(arguments, b"");
        assert!(output.status.success());
        !output.stderr.is_empty()
    };
    assert!(warning("tokenised -i tokenised"));
    assert!(!warning("tokenised -i tokenised --force") && !warning("tokenised -i tokenised -q"));
}
