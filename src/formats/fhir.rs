//! A report as a FHIR R4 `DiagnosticReport`, always `preliminary`.
//!
//! Each sentence is a contained `Observation` with its confidence and region, made by the contained `Device` that
//! stands for the model. The pictures' study is named by its UID; the patient by the identifier of the files.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use super::calendar::{Moment, fhir_date};
use super::{Report, Section, Sentence, Study, text};

/// Media type of [`render`].
pub const MEDIA_TYPE: &str = "application/fhir+json";

const LOINC: &str = "http://loinc.org";
const UCUM: &str = "http://unitsofmeasure.org";
const URI: &str = "urn:ietf:rfc:3986";

/// The resource. FHIR knows no empty arrays, objects or texts: what is not known is left out.
pub fn render(report: &Report) -> Value {
    let written = text::render(report);
    let mut resource = json!({
        "resourceType": "DiagnosticReport",
        "language": "en",
        "text": { "status": "generated", "div": narrative(&written) },
        "identifier": [{ "system": URI, "value": format!("urn:oid:{}", report.uid("fhir")) }],
        "status": "preliminary",
        "category": [{ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD", "display": "Radiology"
        }]}],
        "code": { "coding": [{ "system": LOINC, "code": "18748-4", "display": "Diagnostic imaging study" }] },
        "issued": Moment::from_unix(report.created).rfc3339(),
        "conclusion": conclusion(report),
        "presentedForm": [{
            "contentType": text::MEDIA_TYPE,
            "language": "en",
            "data": BASE64.encode(&written),
            "size": written.len(),
            "title": "Draft report",
        }],
    });
    let results: Vec<Value> =
        (1..=report.sentences.len()).map(|n| json!({ "reference": format!("#s{n}") })).collect();
    // Nothing contained may stay without a reference (dom-3): the device is named by the observations.
    if !results.is_empty() {
        resource["contained"] = contained(report);
        resource["result"] = Value::Array(results);
    }
    if let Some(study) = &report.study {
        add_study(&mut resource, study);
    }
    resource
}

fn conclusion(report: &Report) -> String {
    [report.impression.as_str(), &report.notice]
        .into_iter()
        .filter(|t| !t.is_empty())
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// The text as XHTML, one paragraph a block.
fn narrative(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    // Controls other than these three cannot stand in XML at all.
    let allowed = |c: &char| matches!(c, '\n' | '\t' | '\r') || *c >= ' ';
    let clean: String = escaped.chars().filter(allowed).collect();
    let paragraphs = clean.trim().replace("\n\n", "</p><p>").replace('\n', "<br/>");
    format!("<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>{paragraphs}</p></div>")
}

fn contained(report: &Report) -> Value {
    let observations = report.sentences.iter().enumerate().map(|(index, s)| observation(report, index, s));
    std::iter::once(device(report)).chain(observations).collect()
}

/// The model: digest, seed and pictures as properties.
fn device(report: &Report) -> Value {
    let property =
        |name: String, value: &str| json!({ "type": { "text": name }, "valueCode": [{ "text": value }] });
    let mut properties = vec![property("Seed".to_owned(), &report.seed.to_string())];
    properties.extend(
        report
            .images
            .iter()
            .enumerate()
            .map(|(i, image)| property(format!("BLAKE3 of image {i}"), &image.digest)),
    );
    json!({
        "resourceType": "Device",
        "id": "model",
        "manufacturer": "swinseek",
        "deviceName": [{ "name": "swinseek", "type": "model-name" }],
        "version": [
            { "type": { "text": "Software" }, "value": env!("CARGO_PKG_VERSION") },
            { "type": { "text": "BLAKE3 of configuration and weights" }, "value": report.model },
        ],
        "property": properties,
        "note": [{ "text": report.notice }],
    })
}

fn observation(report: &Report, index: usize, sentence: &Sentence) -> Value {
    let (code, display) = match sentence.section {
        Section::Findings => ("59776-5", "Procedure findings Narrative"),
        Section::Impression => ("19005-8", "Radiology Imaging study [Impression] (narrative)"),
    };
    let mut components = vec![json!({
        "code": { "text": "Mean probability of the words under the model" },
        "valueQuantity": { "value": rounded(sentence.confidence), "unit": "1", "system": UCUM, "code": "1" },
    })];
    if let Some(region) = sentence.region {
        let [left, top, right, bottom] = region.bbox;
        components.push(json!({
            "code": { "text": "Attended region: image, left, top, right, bottom in pixels" },
            "valueString": format!("{} {left} {top} {right} {bottom}", region.image),
        }));
    }
    let mut observation = json!({
        "resourceType": "Observation",
        "id": format!("s{}", index + 1),
        "status": "preliminary",
        "code": { "coding": [{ "system": LOINC, "code": code, "display": display }] },
        "valueString": sentence.text,
        "device": { "reference": "#model" },
        "component": components,
    });
    if let Some(subject) = report.study.as_ref().and_then(subject) {
        observation["subject"] = subject;
    }
    observation
}

/// Four decimals; FHIR decimals keep their precision, and more digits mean nothing here.
fn rounded(confidence: f64) -> f64 {
    (confidence.clamp(0.0, 1.0) * 1e4).round() / 1e4
}

fn add_study(resource: &mut Value, study: &Study) {
    let mut add = |name: &str, value: Option<Value>| {
        if let (Some(value), Some(object)) = (value, resource.as_object_mut()) {
            object.insert(name.to_owned(), value);
        }
    };
    add("subject", subject(study));
    add("effectiveDateTime", fhir_date(&study.date).map(Value::String));
    add(
        "imagingStudy",
        study.uid.as_ref().map(|uid| {
            json!([{ "type": "ImagingStudy",
                 "identifier": { "system": "urn:dicom:uid", "value": format!("urn:oid:{uid}") } }])
        }),
    );
    add("basedOn", stated(&study.accession_number).map(|number| {
        json!([{ "type": "ServiceRequest", "identifier": {
            "type": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN" }] },
            "value": number } }])
    }));
}

/// The patient by the files' identifier and name.
fn subject(study: &Study) -> Option<Value> {
    let mut reference = Map::new();
    if let Some(id) = stated(&study.patient_id) {
        reference.insert("identifier".to_owned(), json!({ "value": id }));
    }
    if let Some(name) = stated(&study.patient_name) {
        // Only the alphabetic group, its parts in the order of the file.
        let name = name.split('=').next().unwrap_or_default();
        let parts: Vec<&str> = name.split('^').filter(|part| !part.is_empty()).collect();
        if !parts.is_empty() {
            reference.insert("display".to_owned(), parts.join(" ").into());
        }
    }
    if reference.is_empty() {
        return None;
    }
    reference.insert("type".to_owned(), "Patient".into());
    Some(Value::Object(reference))
}

fn stated(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}
