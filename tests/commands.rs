//! The binary as a person or a script meets it.

use std::path::Path;
use std::process::{Command, Output};

fn swinseek(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swinseek"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// The command fails with code 1 and one line that holds every part.
#[track_caller]
fn fails_naming(arguments: &[&str], parts: &[&str]) {
    let output = swinseek(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{arguments:?}: {error}");
    for part in parts {
        assert!(error.contains(part), "{arguments:?}: no `{part}` in {error}");
    }
}

#[test]
fn a_dicom_radiograph_becomes_a_report() {
    let output = swinseek(&["report", "samples/images/phantom.dcm", "--timing"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = stdout(&output);
    assert!(text.contains("FINDINGS:") && text.contains("IMPRESSION:"), "{text}");
    assert!(text.contains("A physician must verify it."), "{text}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("first token"));
}

#[test]
fn a_report_as_json_has_its_evidence() {
    let output = swinseek(&["report", "samples/images/phantom.dcm", "samples/images/cat.jpg", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<serde_json::Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2, "one object an image");
    for report in &lines {
        for field in
            ["findings", "impression", "model", "images", "seed", "timing", "notice", "finish_reason"]
        {
            assert!(!report[field].is_null(), "no `{field}` in {report}");
        }
        for sentence in report["sentences"].as_array().expect("sentences") {
            let confidence = sentence["confidence"].as_f64().expect("a number");
            assert!((0.0..=1.0).contains(&confidence), "{sentence}");
        }
    }
    assert!(lines[0]["sentences"][0]["region"]["bbox"].is_array(), "{}", lines[0]);
}

#[test]
fn every_kind_of_image_becomes_a_report() {
    let raster =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images/raster"));
    let mut images: Vec<String> = raster
        .expect("fixtures")
        .map(|entry| entry.expect("an entry").path().to_str().expect("UTF-8").to_owned())
        // Headers of 65535 x 65535 pixels, a text file named .png and palette TIFF: refused, and tested as such elsewhere.
        .filter(|path| !["huge.", "text.png", "palette.tiff"].iter().any(|name| path.contains(name)))
        .collect();
    let formats = ["png", "jpg", "gif", "webp", "bmp", "tiff"];
    assert!(formats.iter().all(|format| images.iter().any(|path| path.ends_with(format))), "{images:?}");
    // DICOM by transfer syntax: implicit, explicit, big endian, deflated, RLE, JPEG, JPEG 2000, JPEG-LS; a palette; a real
    // radiograph and a photograph.
    let dicom = [
        "made_bare_implicit",
        "CT_small",
        "MR_small_bigendian",
        "image_dfl",
        "SC_rgb_rle",
        "SC_rgb_jpeg",
        "JPEG2000",
        "MR_small_jpeg_ls_lossless",
        "OBXXXX1A_rle",
    ];
    images.extend(dicom.map(|name| format!("tests/fixtures/images/dicom/{name}.dcm")));
    images.extend(["radiograph_pa.jpg", "cat.jpg"].map(|name| format!("samples/images/{name}")));
    let mut arguments = vec!["report", "--json", "--max-tokens", "4"];
    arguments.extend(images.iter().map(String::as_str));
    let output = swinseek(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout(&output).lines().count(), images.len());
}

#[test]
fn the_same_report_at_one_thread_and_at_many() {
    let run = |threads: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_swinseek"));
        command.args(["report", "samples/images/phantom.dcm", "--temperature", "1", "--seed", "5"]);
        stdout(
            &command
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .env("RAYON_NUM_THREADS", threads)
                .output()
                .expect("runs"),
        )
    };
    assert_eq!(run("1"), run("3"));
}

#[test]
fn bad_input_is_one_line_and_code_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = folder.path().join("text.png");
    std::fs::write(&text, "not a picture").expect("written");
    fails_naming(&["report", text.to_str().expect("UTF-8")], &["text.png"]);
    fails_naming(&["report", "no/such.dcm"], &["no/such.dcm"]);
    fails_naming(&["inspect", "no/such/model"], &["no/such/model", "config.json"]);
    fails_naming(&["ask", "samples/images/cat.jpg", "-p", "What?", "--top-p", "3"], &["top_p", "3"]);
    fails_naming(&["train", "no.toml"], &["no.toml"]);
    let long = "word ".repeat(5000);
    fails_naming(&["ask", "samples/images/cat.jpg", "-p", &long], &["tokens", "context"]);
    let bad = folder.path().join("recipe.toml");
    std::fs::write(&bad, "output = \"x\"\nsurprise = 1\n").expect("written");
    fails_naming(&["train", bad.to_str().expect("UTF-8")], &["recipe.toml", "surprise"]);
    let usage = swinseek(&["report"]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn one_bad_file_does_not_lose_the_other_reports() {
    let output = swinseek(&["report", "no/such.png", "samples/images/phantom.dcm"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("IMPRESSION:"));
}

#[test]
fn a_golden_verifies_and_a_changed_one_does_not() {
    let case = "tests/goldens/deepseek_v3";
    let golden = format!("{case}/golden.safetensors");
    assert!(swinseek(&["verify", case, "--golden", &golden]).status.success());
    let strict = swinseek(&["verify", case, "--golden", &golden, "--tolerance", "1e-12"]);
    assert_eq!(strict.status.code(), Some(1), "no two summation orders agree to 1e-12");
    assert!(stdout(&strict).contains("FAIL"));
}

#[test]
fn phantoms_are_the_same_for_the_same_seed_and_read_as_they_were_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, extra: &[&str]| {
        let out = folder.path().join(name);
        let base =
            ["phantom", "--count", "3", "--seed", "9", "--size", "64", "--out", out.to_str().expect("UTF-8")];
        let output = swinseek(&[&base[..], extra].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        out
    };
    let (first, second, dicom) = (write("a", &[]), write("b", &[]), write("c", &["--dicom"]));
    let annotations = |dir: &Path| std::fs::read(dir.join("annotations.json")).expect("annotations");
    assert_eq!(annotations(&first), annotations(&second));
    let image = |dir: &Path, name: &str| std::fs::read(dir.join("images").join(name)).expect("an image");
    assert_eq!(image(&first, "000002.png"), image(&second, "000002.png"));
    assert!(image(&dicom, "000000.dcm").len() > 64 * 64 * 2);
}

#[test]
fn help_teaches() {
    let help = stdout(&swinseek(&["--help"]));
    for word in [
        "report", "ask", "caption", "eval", "phantom", "train", "compose", "import", "verify", "inspect",
        "bench", "Examples",
    ] {
        assert!(help.contains(word), "no `{word}` in --help");
    }
}

/// What llama.cpp wrote computes what transformers computes from the same file.
#[test]
fn a_gguf_file_becomes_a_model_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let goldens = "fusion/tests/goldens/gguf";
    let (file, golden) = (format!("{goldens}/llama.gguf"), format!("{goldens}/golden.safetensors"));
    let output = swinseek(&["import", &file, "--out", &path("exact"), "--dtype", "f32"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout(&output).trim_end(), path("exact"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--tokenizer"));
    // Logits are of O(10), and four matrices lie between.
    let verified = swinseek(&["verify", &path("exact"), "--golden", &golden, "--tolerance", "5e-5"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    assert!(!Path::new(&path("exact")).join("tokenizer.json").exists());

    // A tokenizer of another model is refused before anything is written.
    let other = "samples/model/tokenizer.json";
    fails_naming(&["import", &file, "--out", &path("misfit"), "--tokenizer", other], &[other, "vocab_size"]);
    assert!(!Path::new(&path("misfit")).exists());
    fails_naming(&["import", "README.md", "--out", &path("misfit")], &["README.md", "not a GGUF file"]);
}

#[test]
fn the_roofline_plot_has_a_point_for_each_row_with_operations() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("roofline.svg");
    let path = file.to_str().expect("UTF-8");
    let output = swinseek(&["bench", "--quick", "--json", "--filter", "swin-t", "--svg", path]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<serde_json::Value> =
        stdout(&output).lines().skip(1).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let known = rows.iter().filter(|row| row["flops"].is_number() && row["bytes"].is_number());
    let svg = std::fs::read_to_string(&file).expect("the plot");
    assert!(!rows.is_empty(), "no rows");
    assert_eq!(svg.matches("<circle").count(), known.count());
    // Before anything is measured.
    let missing = folder.path().join("none").join("roofline.svg");
    fails_naming(
        &["bench", "--filter", "swin-t", "--svg", missing.to_str().expect("UTF-8")],
        &["roofline.svg"],
    );
}

#[cfg(not(feature = "onnx"))]
#[test]
fn an_onnx_rival_needs_the_feature() {
    fails_naming(&["bench", "--onnx", "swin.onnx"], &["--onnx", "--features onnx"]);
}

#[cfg(feature = "onnx")]
#[test]
fn an_onnx_rival_has_a_row() {
    let model = "vision/tests/goldens/onnx_swin/model.onnx";
    let library = "--onnx-library";
    fails_naming(&["bench", "--filter", "onnx", "--onnx", "none.onnx"], &["none.onnx"]);
    fails_naming(
        &["bench", "--filter", "onnx", "--json", "--onnx", model, library, "none.so"],
        &["ONNX Runtime", "none.so"],
    );
    if std::env::var_os("ORT_DYLIB_PATH").is_none_or(|path| path.is_empty()) {
        println!("ORT_DYLIB_PATH is not set: ONNX Runtime is not tested");
        return;
    }
    let output = swinseek(&["bench", "--quick", "--json", "--filter", "onnx", "--onnx", model]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let row: serde_json::Value =
        serde_json::from_str(stdout(&output).lines().nth(1).expect("a row")).expect("JSON");
    assert_eq!(row["name"], "onnx: model.onnx");
    assert!(row["milliseconds"].as_f64().is_some_and(|time| time > 0.0), "{row}");
}
