//! The content tree of the SR, after template TID 2000 "Basic Diagnostic Imaging Report".
//!
//! ```text
//! CONTAINER Diagnostic imaging report
//!   language, observer (the model as a device)
//!   CONTAINER Findings | Impressions
//!     TEXT a sentence
//!       inferred from IMAGE the instance that it looked at
//!       TEXT confidence, TEXT region
//!   CONTAINER Summary: the draft notice and the origin
//! ```

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::sr::{MANUFACTURER, put, put_sequence, reference};
use super::{Report, Section, Sentence, text};

type Item = InMemDicomObject;
type Concept = (&'static str, &'static str, &'static str);

const PRIVATE: &str = "99SWINSEEK";

/// Value, scheme, meaning.
pub(super) fn code(value: &str, scheme: &str, meaning: &str) -> Item {
    let mut item = Item::new_empty();
    put(&mut item, tags::CODE_VALUE, VR::SH, value);
    put(&mut item, tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme);
    put(&mut item, tags::CODE_MEANING, VR::LO, meaning);
    item
}

/// Adds the root container to the document.
pub(super) fn root(object: &mut Item, report: &Report) {
    let mut children = vec![language()];
    children.extend(observer(report));
    for (section, heading, finding) in [
        (Section::Findings, ("121070", "DCM", "Findings"), ("121071", "DCM", "Finding")),
        (Section::Impression, ("121072", "DCM", "Impressions"), ("121073", "DCM", "Impression")),
    ] {
        let sentences: Vec<Item> = report.section(section).map(|s| sentence(report, s, finding)).collect();
        if !sentences.is_empty() {
            children.push(container(heading, sentences));
        }
    }
    let notice = [&report.notice, &text::origin(report)]
        .map(|words| text_item("CONTAINS", ("121106", "DCM", "Comment"), words));
    children.push(container(("121111", "DCM", "Summary"), notice.to_vec()));
    put(object, tags::VALUE_TYPE, VR::CS, "CONTAINER");
    concept(object, ("18748-4", "LN", "Diagnostic imaging report"));
    put(object, tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE");
    let mut template = Item::new_empty();
    put(&mut template, tags::MAPPING_RESOURCE, VR::CS, "DCMR");
    put(&mut template, tags::TEMPLATE_IDENTIFIER, VR::CS, "2000");
    put_sequence(object, tags::CONTENT_TEMPLATE_SEQUENCE, vec![template]);
    put_sequence(object, tags::CONTENT_SEQUENCE, children);
}

fn concept(item: &mut Item, (value, scheme, meaning): Concept) {
    put_sequence(item, tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code(value, scheme, meaning)]);
}

fn node(relationship: &str, value_type: &str, name: Concept) -> Item {
    let mut item = Item::new_empty();
    put(&mut item, tags::RELATIONSHIP_TYPE, VR::CS, relationship);
    put(&mut item, tags::VALUE_TYPE, VR::CS, value_type);
    concept(&mut item, name);
    item
}

fn container(name: Concept, children: Vec<Item>) -> Item {
    let mut item = node("CONTAINS", "CONTAINER", name);
    put(&mut item, tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE");
    put_sequence(&mut item, tags::CONTENT_SEQUENCE, children);
    item
}

fn text_item(relationship: &str, name: Concept, words: &str) -> Item {
    let mut item = node(relationship, "TEXT", name);
    put(&mut item, tags::TEXT_VALUE, VR::UT, words);
    item
}

fn code_item(relationship: &str, name: Concept, value: Concept) -> Item {
    let mut item = node(relationship, "CODE", name);
    put_sequence(&mut item, tags::CONCEPT_CODE_SEQUENCE, vec![code(value.0, value.1, value.2)]);
    item
}

/// TID 1204.
fn language() -> Item {
    let name = ("121049", "DCM", "Language of Content Item and Descendants");
    code_item("HAS CONCEPT MOD", name, ("en", "RFC5646", "English"))
}

/// TID 1002 and 1004: a device observed, not a person.
fn observer(report: &Report) -> Vec<Item> {
    const CONTEXT: &str = "HAS OBS CONTEXT";
    let mut uid = node(CONTEXT, "UIDREF", ("121012", "DCM", "Device Observer UID"));
    put(&mut uid, tags::UID, VR::UI, &report.model_uid());
    let version = env!("CARGO_PKG_VERSION");
    vec![
        code_item(CONTEXT, ("121005", "DCM", "Observer Type"), ("121007", "DCM", "Device")),
        uid,
        text_item(CONTEXT, ("121013", "DCM", "Device Observer Name"), "swinseek"),
        text_item(CONTEXT, ("121014", "DCM", "Device Observer Manufacturer"), MANUFACTURER),
        text_item(CONTEXT, ("121015", "DCM", "Device Observer Model Name"), &format!("swinseek {version}")),
        text_item(CONTEXT, ("121016", "DCM", "Device Observer Serial Number"), &report.model),
    ]
}

fn sentence(report: &Report, sentence: &Sentence, name: Concept) -> Item {
    let mut item = text_item("CONTAINS", name, &sentence.text);
    let percent = sentence.confidence.clamp(0.0, 1.0) * 100.0;
    let confidence = format!("{percent:.0} % mean probability of the words under the model");
    let mut children =
        vec![text_item("HAS PROPERTIES", ("CONFIDENCE", PRIVATE, "Confidence in the wording"), &confidence)];
    if let Some(region) = sentence.region {
        let [left, top, right, bottom] = region.bbox;
        let words =
            format!("image {}: left {left}, top {top}, right {right}, bottom {bottom} pixels", region.image);
        children.push(text_item("HAS PROPERTIES", ("REGION", PRIVATE, "Attended region"), &words));
        let instance = report.images.get(region.image).and_then(|image| image.instance.as_ref());
        children.extend(instance.map(|instance| {
            let mut image = Item::new_empty();
            put(&mut image, tags::RELATIONSHIP_TYPE, VR::CS, "INFERRED FROM");
            put(&mut image, tags::VALUE_TYPE, VR::CS, "IMAGE");
            let mut target = reference(instance);
            if let Some(frame) = instance.frame {
                let frame = PrimitiveValue::from(frame.to_string());
                target.put(DataElement::new(tags::REFERENCED_FRAME_NUMBER, VR::IS, frame));
            }
            put_sequence(&mut image, tags::REFERENCED_SOP_SEQUENCE, vec![target]);
            image
        }));
    }
    put_sequence(&mut item, tags::CONTENT_SEQUENCE, children);
    item
}
