//! `/v1/reports`: bodies of three kinds in, five forms out.

use serde_json::{Value, json};

use super::chat::{data_uri, png};
use super::client::Response;
use super::harness::{Harness, post_head};
use super::mock::{FINDINGS, IMPRESSION, report};

const PATH: &str = "/v1/reports";

fn dicom() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/samples/images/phantom.dcm")).expect("a sample")
}

fn ask(server: &Harness, accept: &str, more: &Value) -> Response {
    let mut body = json!({ "images": [{ "url": data_uri("application/dicom", &dicom()) }] });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    let body = body.to_string();
    let accept = if accept.is_empty() { String::new() } else { format!("accept: {accept}\r\n") };
    server.request(&post_head(PATH, body.len(), &accept), body.as_bytes())
}

fn form(parts: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, value) in parts {
        let file = if *name == "image" { "; filename=\"x.dcm\"" } else { "" };
        body.extend(
            format!("--line\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n").into_bytes(),
        );
        body.extend_from_slice(value);
        body.extend(b"\r\n");
    }
    body.extend(b"--line--\r\n");
    let head = format!(
        "POST {PATH} HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=line\r\ncontent-length: {}\r\n",
        body.len()
    );
    (head, body)
}

#[track_caller]
fn is_the_report(value: &Value) {
    assert_eq!(
        (value["findings"].as_str(), value["impression"].as_str()),
        (Some(FINDINGS), Some(IMPRESSION))
    );
    assert_eq!(value["object"], "report");
    assert_eq!(value["model"].as_str().map(str::len), Some(64), "the model's digest");
    assert_eq!(value["images"][0]["digest"], blake3::hash(&dicom()).to_hex().to_string());
    assert!(value["notice"].as_str().is_some_and(|notice| notice.contains("physician")), "{value}");
    assert!(value["seed"].is_u64() && value["sentences"].as_array().is_some_and(|s| s.len() >= 2), "{value}");
    assert!(value["sentences"][0]["confidence"].as_f64().is_some_and(|c| (0.0..=1.0).contains(&c)));
}

#[test]
fn json_forms_and_files_give_the_same_report() {
    let server = Harness::writing(&report());
    let from_json = ask(&server, "", &json!({ "indication": "cough", "prior_report": "Clear." }));
    assert_eq!(from_json.status, 200, "{}", from_json.text());
    is_the_report(&from_json.json());
    let (head, body) = form(&[("indication", b"cough"), ("image", &dicom()), ("seed", b"5")]);
    let from_form = server.request(&head, &body).json();
    is_the_report(&from_form);
    assert_eq!(from_form["seed"], 5);
    let file = dicom();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\ncontent-type: application/dicom\r\ncontent-length: {}\r\n",
        file.len()
    );
    is_the_report(&server.request(&head, &file).json());
}

#[test]
fn accept_chooses_the_form() {
    let server = Harness::writing(&report());
    let text = ask(&server, "text/plain", &json!({}));
    assert!(text.text().contains(FINDINGS) && text.text().contains("physician"), "{}", text.text());
    let fhir = ask(&server, "application/fhir+json", &json!({}));
    assert_eq!(fhir.header("content-type"), Some("application/fhir+json"));
    assert_eq!(
        (&fhir.json()["resourceType"], &fhir.json()["status"]),
        (&json!("DiagnosticReport"), &json!("preliminary"))
    );
    let sr = ask(&server, "application/dicom", &json!({}));
    assert_eq!(
        (sr.header("content-type"), sr.body.get(128..132)),
        (Some("application/dicom"), Some(&b"DICM"[..]))
    );
    let none = ask(&server, "image/png", &json!({}));
    assert_eq!((none.status, none.error().1.as_deref()), (406, Some("not_acceptable")));
}

#[test]
fn events_come_section_by_section_and_end_with_the_report() {
    let server = Harness::writing(&report());
    for response in
        [ask(&server, "text/event-stream", &json!({})), ask(&server, "", &json!({ "stream": true }))]
    {
        let mut events = response.events();
        assert_eq!(events.pop().as_deref(), Some("[DONE]"));
        let values: Vec<Value> =
            events.iter().map(|event| serde_json::from_str(event).expect("JSON")).collect();
        let (report, deltas) = values.split_last().expect("events");
        is_the_report(report);
        let of = |section: &str| -> String {
            deltas.iter().filter(|d| d["section"] == section).filter_map(|d| d["text"].as_str()).collect()
        };
        assert_eq!((of("findings").as_str(), of("impression").as_str()), (FINDINGS, IMPRESSION));
        let names: Vec<&str> =
            response.text().lines().filter_map(|line| line.strip_prefix("event: ")).collect();
        assert_eq!(names.last(), Some(&"report"));
        assert!(names.len() > 4 && names[..names.len() - 1].iter().all(|name| *name == "delta"));
    }
}

#[test]
fn pictures_go_with_a_report_on_request() {
    let server = Harness::writing(&report());
    let plain = ask(&server, "", &json!({})).json();
    assert!(plain["images"][0].get("preview").is_none() && plain["images"][0].get("overlay").is_none());
    let drawn = ask(&server, "", &json!({ "include": ["preview", "overlay"] })).json();
    for name in ["preview", "overlay"] {
        let uri = drawn["images"][0][name].as_str().expect("a picture");
        assert!(uri.starts_with("data:image/png;base64,iVBOR"), "{name}");
    }
}

#[test]
fn a_report_that_is_cut_off_says_so() {
    let server = Harness::writing(&report());
    let cut = ask(&server, "", &json!({ "max_tokens": 3 })).json();
    assert_eq!(cut["finish_reason"], "length");
    assert!(cut["notice"].as_str().is_some_and(|notice| notice.contains("incomplete")), "{cut}");
}

#[test]
fn requests_without_sense_are_refused_by_name() {
    let server = Harness::writing(&report());
    let images = |count: usize| json!(vec![json!({ "url": data_uri("image/png", &png(16, 16)) }); count]);
    for (name, more, status, param) in [
        ("no image", json!({ "images": [] }), 400, "images"),
        ("many", json!({ "images": images(9) }), 400, "images"),
        ("no url", json!({ "images": [{}] }), 400, "images.0.url"),
        ("no base64", json!({ "images": [{ "url": "@" }] }), 400, "images.0.url"),
        ("1x1", json!({ "images": [{ "url": data_uri("image/png", &png(1, 1)) }] }), 422, "images.0"),
        (
            "frame",
            json!({ "images": [{ "url": data_uri("image/png", &png(16, 16)), "frame": 3 }] }),
            400,
            "images.0",
        ),
        ("include", json!({ "include": ["preview", "film"] }), 400, "include.1"),
        ("lexicon", json!({ "lexicon": true }), 400, "lexicon"),
        ("hot", json!({ "temperature": 3 }), 400, "temperature"),
        ("long", json!({ "indication": "x".repeat(20_000) }), 400, "indication"),
        ("unknown", json!({ "n": 2 }), 400, "n"),
        ("model", json!({ "model": "other" }), 404, "model"),
    ] {
        let response = ask(&server, "", &more);
        assert_eq!(response.status, status, "{name}: {}", response.text());
        assert_eq!(response.error().0.as_deref(), Some(param), "{name}: {}", response.text());
    }
    for (parts, param) in [
        (vec![("image", &b""[..])], "images.0"),
        (vec![("image", &b"hello"[..])], "images.0"),
        (vec![("colour", &b"red"[..])], "colour"),
        (vec![("seed", &b"red"[..])], "seed"),
        (vec![("stream", &b"maybe"[..])], "stream"),
        (vec![], "images"),
    ] {
        let (head, body) = form(&parts);
        let response = server.request(&head, &body);
        assert_eq!(
            (response.status, response.error().0.as_deref()),
            (400, Some(param)),
            "{}",
            response.text()
        );
    }
    let broken = "POST /v1/reports HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=line\r\ncontent-length: 6\r\n";
    assert_eq!(server.request(broken, b"--line").error().1.as_deref(), Some("invalid_form"));
    let kind = "POST /v1/reports HTTP/1.1\r\ncontent-type: text/html\r\ncontent-length: 2\r\n";
    assert_eq!(server.request(kind, b"ab").status, 415);
}

/// The same file under another patient's name: the tag's value is replaced by one of the same length.
#[test]
fn images_of_two_patients_are_no_study() {
    let server = Harness::writing(&report());
    let mine = dicom();
    let mut other = mine.clone();
    let tag = [0x10, 0x00, 0x20, 0x00];
    let at = other.windows(6).position(|w| w[..4] == tag && w[4..] == *b"LO").expect("a PatientID") + 8;
    other[at] ^= 1;
    let images = json!([
        { "url": data_uri("application/dicom", &mine) },
        { "url": data_uri("application/dicom", &other) },
    ]);
    let response = ask(&server, "", &json!({ "images": images }));
    assert_eq!((response.status, response.error().1.as_deref()), (422, Some("mixed_studies")));
    let (param, _) = response.error();
    assert_eq!(param.as_deref(), Some("images.1"));
}
