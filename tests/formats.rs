//! The forms in which a report leaves, against stored files that other programs have checked
//! (`goldens_formats/check.py`: the FHIR R4 models of fhir.resources, pydicom, highdicom, dciodvfy), and read back.

use std::path::Path;

use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileDicomObject, InMemDicomObject};
use image::RgbImage;
use serde_json::Value;
use swinseek::formats::{
    Instance, NOTICE, Report, ReportImage, Section, Sentence, SentenceRegion, Study, fhir, overlay, sections,
    sr, text,
};
use swinseek_vision::preprocess::{Channels, DecodeOptions, Image, Samples, decode};

const GOLDENS: &str = "tests/goldens_formats";

fn sentence(text: &str, section: Section, confidence: f64, bbox: Option<[i64; 4]>) -> Sentence {
    let region = bbox.map(|bbox| SentenceRegion { image: 0, bbox });
    Sentence { text: text.to_owned(), section, confidence, region }
}

fn study() -> Study {
    Study {
        uid: Some("1.2.826.0.1.3680043.8.498.1".to_owned()),
        date: "20261121".to_owned(),
        time: "120102.5".to_owned(),
        id: "S1".to_owned(),
        accession_number: "A-17".to_owned(),
        referring_physician: "Größe^Änne".to_owned(),
        patient_name: "Doe^Jane^^Dr".to_owned(),
        patient_id: "P-4711".to_owned(),
        patient_birth_date: "19700101".to_owned(),
        patient_sex: "F".to_owned(),
    }
}

fn picture(instance: Option<Instance>) -> ReportImage {
    ReportImage {
        digest: "04992df5ddb9b6b51629a1e80c8e7f72b03bcdba947a6b1f9a16d8f4e02e40c8".to_owned(),
        width: 512,
        height: 400,
        preview: None,
        overlay: None,
        instance,
    }
}

fn report() -> Report {
    let findings =
        ["There is a large consolidation in the right upper lung.", "Heart size < 50 % & normal; “naïve”."];
    let impression = "Right upper lung consolidation.";
    let instance = Instance {
        sop_class: uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION.to_owned(),
        sop_instance: "1.2.826.0.1.3680043.8.498.1.1.1".to_owned(),
        series: "1.2.826.0.1.3680043.8.498.1.1".to_owned(),
        study: "1.2.826.0.1.3680043.8.498.1".to_owned(),
        frame: None,
    };
    let second = Instance {
        // Multi-frame Grayscale Word Secondary Capture.
        sop_class: "1.2.840.10008.5.1.4.1.1.7.3".to_owned(),
        sop_instance: "1.2.826.0.1.3680043.8.498.1.1.2".to_owned(),
        frame: Some(3),
        ..instance.clone()
    };
    let mut sentences = vec![
        sentence(findings[0], Section::Findings, 0.75127, Some([384, 171, 427, 384])),
        sentence(findings[1], Section::Findings, 0.5, None),
        sentence(impression, Section::Impression, 0.911, Some([0, 0, 512, 400])),
    ];
    sentences[2].region = Some(SentenceRegion { image: 1, bbox: [0, 0, 512, 400] });
    Report {
        findings: findings.join(" "),
        impression: impression.to_owned(),
        sentences,
        model: "fae5364fd82433eaced0f6ce9220e80a559353f0ba8ff5916099466410487e92".to_owned(),
        images: vec![picture(Some(instance)), picture(Some(second))],
        seed: 7,
        notice: NOTICE.to_owned(),
        created: 1_795_309_323,
        study: Some(study()),
    }
}

/// A report of pictures that are no DICOM files, cut off before the impression.
fn plain_report() -> Report {
    let mut report = report();
    report.sentences.truncate(1);
    report.findings = report.sentences[0].text.clone();
    report.impression.clear();
    report.images = vec![picture(None)];
    report.study = None;
    report
}

/// Compares with a stored file; what was made is left in the target folder, to replace it after a look and `check.py`.
fn assert_golden(name: &str, made: &[u8]) {
    let left = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&left, made).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDENS).join(name);
    let same = std::fs::read(&golden).is_ok_and(|stored| stored == made);
    assert!(same, "{} differs from {GOLDENS}/{name}", left.display());
}

#[test]
fn forms_equal_the_stored_ones() {
    for (name, report) in [("dicom", report()), ("plain", plain_report())] {
        assert_golden(&format!("{name}.txt"), text::render(&report).as_bytes());
        let resource = serde_json::to_string_pretty(&fhir::render(&report)).unwrap() + "\n";
        assert_golden(&format!("{name}.fhir.json"), resource.as_bytes());
        assert_golden(
            &format!("{name}.json"),
            (serde_json::to_string_pretty(&report).unwrap() + "\n").as_bytes(),
        );
        assert_golden(&format!("{name}.sr.dcm"), &sr::render(&report).unwrap());
    }
}

#[test]
fn json_has_no_identity_and_every_origin() {
    let value = serde_json::to_value(report()).unwrap();
    let written = value.to_string();
    for secret in ["Doe", "P-4711", "A-17", "1.2.826", "19700101"] {
        assert!(!written.contains(secret), "{secret}");
        assert!(!format!("{:?}", report()).contains(secret), "{secret} in Debug");
    }
    for field in ["findings", "impression", "sentences", "model", "images", "seed", "notice"] {
        assert!(!value[field].is_null(), "{field}");
    }
    assert_eq!(
        value["sentences"][0]["region"],
        serde_json::json!({"image": 0, "bbox": [384, 171, 427, 384]})
    );
}

/// FHIR knows no empty text, list or object, and no `null`.
fn assert_nothing_empty(value: &Value, at: &str) {
    match value {
        Value::Null => panic!("{at} is null"),
        Value::String(text) => assert!(!text.trim().is_empty(), "{at} is empty"),
        Value::Array(items) => {
            assert!(!items.is_empty(), "{at} is empty");
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| assert_nothing_empty(item, &format!("{at}[{index}]")));
        }
        Value::Object(object) => {
            assert!(!object.is_empty(), "{at} is empty");
            object.iter().for_each(|(name, item)| assert_nothing_empty(item, &format!("{at}.{name}")));
        }
        _ => {}
    }
}

#[test]
fn fhir_is_preliminary_and_whole_for_any_report() {
    let mut bare = plain_report();
    bare.sentences.clear();
    bare.findings.clear();
    bare.images.clear();
    bare.study = Some(Study {
        patient_name: "^^=x".to_owned(),
        patient_id: "  ".to_owned(),
        date: "2026".to_owned(),
        ..Study::default()
    });
    for report in [report(), plain_report(), bare] {
        let resource = fhir::render(&report);
        assert_nothing_empty(&resource, "DiagnosticReport");
        assert_eq!(resource["status"], "preliminary");
        for result in resource["result"].as_array().into_iter().flatten() {
            let id = result["reference"].as_str().unwrap().trim_start_matches('#');
            let found =
                resource["contained"].as_array().unwrap().iter().find(|item| item["id"] == id).unwrap();
            assert_eq!(
                (&found["resourceType"], &found["status"]),
                (&"Observation".into(), &"preliminary".into())
            );
        }
        assert!(resource["conclusion"].as_str().unwrap().contains(NOTICE));
        assert!(resource["text"]["div"].as_str().unwrap().contains(NOTICE));
    }
}

type Item = InMemDicomObject;

fn read_back(bytes: &[u8]) -> FileDicomObject<Item> {
    dicom_object::from_reader(std::io::Cursor::new(bytes)).unwrap()
}

fn string(item: &Item, tag: dicom_core::Tag) -> String {
    item.element(tag).unwrap().to_str().unwrap().trim_end_matches(['\0', ' ']).to_owned()
}

fn items(item: &Item, tag: dicom_core::Tag) -> &[Item] {
    item.element(tag).ok().and_then(|element| element.items()).unwrap_or_default()
}

/// Value type, meaning of the concept and text of every content item, in order.
fn tree(item: &Item, found: &mut Vec<(String, String, String)>) {
    let concept = items(item, tags::CONCEPT_NAME_CODE_SEQUENCE).first();
    let meaning = concept.map_or(String::new(), |concept| string(concept, tags::CODE_MEANING));
    let text = item.element(tags::TEXT_VALUE).map_or(String::new(), |_| string(item, tags::TEXT_VALUE));
    found.push((string(item, tags::VALUE_TYPE), meaning, text));
    for child in items(item, tags::CONTENT_SEQUENCE) {
        tree(child, found);
    }
}

#[test]
fn the_sr_reads_back_as_a_draft_of_the_same_study() {
    let report = report();
    let file = read_back(&sr::render(&report).unwrap());
    assert_eq!(file.meta().media_storage_sop_class_uid.trim_end_matches('\0'), uids::BASIC_TEXT_SR_STORAGE);
    for (tag, expected) in [
        (tags::COMPLETION_FLAG, "PARTIAL"),
        (tags::VERIFICATION_FLAG, "UNVERIFIED"),
        (tags::PRELIMINARY_FLAG, "PRELIMINARY"),
        (tags::MODALITY, "SR"),
        (tags::STUDY_INSTANCE_UID, "1.2.826.0.1.3680043.8.498.1"),
        (tags::PATIENT_ID, "P-4711"),
        (tags::PATIENT_NAME, "Doe^Jane^^Dr"),
        (tags::REFERRING_PHYSICIAN_NAME, "Größe^Änne"),
        (tags::CONTENT_DATE, "20261122"),
        (tags::DEVICE_SERIAL_NUMBER, report.model.as_str()),
    ] {
        assert_eq!(string(&file, tag), expected);
    }
    let evidence = &items(&file, tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE)[0];
    let series = &items(evidence, tags::REFERENCED_SERIES_SEQUENCE)[0];
    let instances: Vec<String> = items(series, tags::REFERENCED_SOP_SEQUENCE)
        .iter()
        .map(|instance| string(instance, tags::REFERENCED_SOP_INSTANCE_UID))
        .collect();
    assert_eq!(instances, ["1.2.826.0.1.3680043.8.498.1.1.1", "1.2.826.0.1.3680043.8.498.1.1.2"]);

    let mut found = Vec::new();
    tree(&file, &mut found);
    let text_of = |meaning: &str| -> Vec<&str> {
        found.iter().filter(|(_, m, _)| m == meaning).map(|(_, _, text)| text.as_str()).collect()
    };
    assert_eq!(text_of("Finding"), [report.sentences[0].text.as_str(), &report.sentences[1].text]);
    assert_eq!(text_of("Impression"), [report.impression.as_str()]);
    assert_eq!(text_of("Comment")[0], NOTICE);
    assert!(text_of("Comment")[1].contains(&report.images[0].digest));
    assert_eq!(found.iter().filter(|(kind, _, _)| kind == "IMAGE").count(), 2, "two sentences have a region");
}

#[test]
fn an_sr_without_a_source_stands_alone() {
    let file = read_back(&sr::render(&plain_report()).unwrap());
    assert!(string(&file, tags::STUDY_INSTANCE_UID).starts_with("2.25."));
    assert_eq!(string(&file, tags::PATIENT_ID), "");
    assert!(file.element(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE).is_err());
}

#[test]
fn values_of_the_source_cannot_break_the_file() {
    let mut report = report();
    let hostile = "A\\B\u{0}\n\u{1b}$B".repeat(40);
    let mut study = study();
    for value in [&mut study.patient_name, &mut study.patient_id, &mut study.id, &mut study.accession_number]
    {
        value.clone_from(&hostile);
    }
    study.patient_sex = "FEMALE".to_owned();
    study.date = "2026-11-21".to_owned();
    report.study = Some(study);
    let file = read_back(&sr::render(&report).unwrap());
    let id = string(&file, tags::PATIENT_ID);
    assert!(id.len() <= 64 && !id.contains(['\\', '\u{0}', '\n', '\u{1b}']), "{id:?}");
    assert_eq!(
        (string(&file, tags::PATIENT_SEX), string(&file, tags::STUDY_DATE)),
        (String::new(), String::new())
    );
}

#[test]
fn one_report_has_one_set_of_uids() {
    let uid = |report: &Report| string(&read_back(&sr::render(report).unwrap()), tags::SOP_INSTANCE_UID);
    let first = report();
    assert_eq!(uid(&first), uid(&report()));
    let changes: [fn(&mut Report); 4] =
        [|r| r.seed += 1, |r| r.created += 1, |r| r.findings.push('.'), |r| r.images[0].digest.push('0')];
    for change in changes {
        let mut other = report();
        change(&mut other);
        assert_ne!(uid(&first), uid(&other));
    }
}

#[test]
fn facts_of_a_file_become_its_study_and_instance() {
    let bytes =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/images/phantom.dcm")).unwrap();
    let image = decode(&bytes, &DecodeOptions::default()).unwrap();
    let facts = image.source().dicom.as_deref().unwrap();
    let (study, instance) = (Study::from_facts(facts), Instance::from_facts(facts, 0, 1).unwrap());
    assert_eq!(study.uid.as_deref(), Some(instance.study.as_str()));
    assert!(study.patient_name.starts_with("PHANTOM^"), "the name of the file");
    assert_eq!(study.date, "20000101");
    assert_eq!(instance.frame, None);
    assert_eq!(Instance::from_facts(facts, 4, 9).unwrap().frame, Some(5));
}

fn open(png: &[u8]) -> RgbImage {
    image::load_from_memory(png).unwrap().to_rgb8()
}

#[test]
fn an_overlay_shows_each_region_and_every_sentence() {
    let gray = Image::new(512, 400, Channels::Luma, Samples::F32(vec![0.5; 512 * 400])).unwrap();
    let report = report();
    let drawn = open(&overlay::overlay(&report, 0, &gray).unwrap());
    assert_eq!(drawn.width(), 512);
    assert!(drawn.height() > 400 + 4 * 15, "the legend stands below");
    // The frame of the first sentence is in its colour, the inside is the picture.
    assert_eq!(drawn.get_pixel(385, 300).0, [0xE6, 0x9F, 0x00]);
    assert_eq!(drawn.get_pixel(400, 300).0, [128; 3]);
    assert_eq!(drawn.get_pixel(200, 200).0, [128; 3], "the region of the other picture is not drawn");
    let other = open(&overlay::overlay(&report, 1, &gray).unwrap());
    assert_eq!(other.get_pixel(1, 200).0, [0x00, 0xC0, 0x8A]);
}

#[test]
fn pictures_of_any_shape_can_be_drawn() {
    for (width, height) in [(1, 1), (1, 3000), (3000, 1), (64, 48), (2500, 1500)] {
        let rgb =
            Image::new(width, height, Channels::Rgb, Samples::U8(vec![200; width * height * 3])).unwrap();
        let mut report = report();
        report.sentences[0].region = Some(SentenceRegion { image: 0, bbox: [-50, -50, i64::MAX, 9] });
        let drawn = open(&overlay::overlay(&report, 0, &rgb).unwrap());
        assert!(drawn.width() >= 512);
        let shown = open(&overlay::preview(&rgb).unwrap());
        assert!(shown.width().max(shown.height()) <= overlay::MAX_SIDE);
        assert_eq!(shown.get_pixel(0, 0).0, [200; 3]);
    }
}

#[test]
fn answers_fall_into_sections() {
    assert_eq!(sections("FINDINGS: A. B. IMPRESSION: C."), ("A. B.", "C."));
    assert_eq!(sections(" FINDINGS: A."), ("A.", ""));
    assert_eq!(sections("A."), ("A.", ""));
}
