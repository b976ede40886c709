//! A report as a DICOM Basic Text SR (PS3.3 A.35.1): PARTIAL, UNVERIFIED, in the study of its pictures.

use anyhow::{Context, Result};
use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

use super::calendar::Moment;
use super::sr_content;
use super::{Instance, Report, Study};

/// Media type of [`render`].
pub const MEDIA_TYPE: &str = "application/dicom";

/// Identifier of this writer: an arbitrary but fixed UUID under 2.25 (PS3.5 B.2).
const WRITER_UID: &str = "2.25.267450146128904337918232613842098765432";
const WRITER: &str = "SWINSEEK";
pub(super) const MANUFACTURER: &str = "swinseek";

/// The file, Explicit VR Little Endian. Without a source study (pictures that are no DICOM files) it opens a study of
/// its own, without a patient.
pub fn render(report: &Report) -> Result<Vec<u8>> {
    let mut object = InMemDicomObject::new_empty();
    let instance = report.uid("instance");
    let unknown = Study::default();
    let study = report.study.as_ref().unwrap_or(&unknown);
    let study_uid = study.uid.clone().unwrap_or_else(|| report.uid("study"));
    identity(&mut object, report, study, &study_uid, &instance);
    document(&mut object, report);
    evidence(&mut object, report);
    sr_content::root(&mut object, report);
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(uids::BASIC_TEXT_SR_STORAGE)
        .media_storage_sop_instance_uid(instance)
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .implementation_class_uid(WRITER_UID)
        .implementation_version_name(WRITER);
    let file = object.with_meta(meta).context("DICOM SR header")?;
    let mut bytes = Vec::new();
    file.write_all(&mut bytes).context("DICOM SR")?;
    Ok(bytes)
}

/// Puts text; values are cut to the length that the VR allows and hold no control characters or backslashes.
pub(super) fn put(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: &str) {
    let limit = match vr {
        VR::SH | VR::CS => 16,
        VR::LO | VR::UI => 64,
        VR::PN => 3 * 64,
        _ => usize::MAX,
    };
    let long_text = matches!(vr, VR::UT | VR::LT | VR::ST);
    let fits = |c: &char| (long_text && matches!(c, '\n' | '\\')) || (!c.is_control() && *c != '\\');
    let clean: String = value.chars().filter(fits).take(limit).collect();
    object.put(DataElement::new(tag, vr, PrimitiveValue::from(clean)));
}

pub(super) fn put_sequence(object: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    object.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
}

/// Patient, study, series, equipment.
fn identity(object: &mut InMemDicomObject, report: &Report, study: &Study, study_uid: &str, instance: &str) {
    let now = Moment::from_unix(report.created);
    let (date, time) = (now.dicom_date(), now.dicom_time());
    let sex = if matches!(study.patient_sex.as_str(), "M" | "F" | "O") { &study.patient_sex } else { "" };
    let digits = |text: &str, least: usize| {
        let plain = text.len() >= least && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if plain { text.to_owned() } else { String::new() }
    };
    for (tag, vr, value) in [
        (tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"),
        (tags::INSTANCE_CREATION_DATE, VR::DA, date.as_str()),
        (tags::INSTANCE_CREATION_TIME, VR::TM, time.as_str()),
        (tags::SOP_CLASS_UID, VR::UI, uids::BASIC_TEXT_SR_STORAGE),
        (tags::SOP_INSTANCE_UID, VR::UI, instance),
        (tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH, "+0000"),
        (tags::STUDY_INSTANCE_UID, VR::UI, study_uid),
        (tags::STUDY_DATE, VR::DA, &digits(&study.date, 8)),
        (tags::STUDY_TIME, VR::TM, &digits(&study.time, 2)),
        (tags::STUDY_ID, VR::SH, &study.id),
        (tags::ACCESSION_NUMBER, VR::SH, &study.accession_number),
        (tags::REFERRING_PHYSICIAN_NAME, VR::PN, &study.referring_physician),
        (tags::PATIENT_NAME, VR::PN, &study.patient_name),
        (tags::PATIENT_ID, VR::LO, &study.patient_id),
        (tags::PATIENT_BIRTH_DATE, VR::DA, &digits(&study.patient_birth_date, 8)),
        (tags::PATIENT_SEX, VR::CS, sex),
        (tags::MODALITY, VR::CS, "SR"),
        (tags::SERIES_INSTANCE_UID, VR::UI, &report.uid("series")),
        (tags::SERIES_NUMBER, VR::IS, "1"),
        (tags::SERIES_DESCRIPTION, VR::LO, "DRAFT, written by a machine, not verified"),
        (tags::MANUFACTURER, VR::LO, MANUFACTURER),
        (tags::MANUFACTURER_MODEL_NAME, VR::LO, "swinseek"),
        (tags::DEVICE_SERIAL_NUMBER, VR::LO, &report.model),
        (tags::SOFTWARE_VERSIONS, VR::LO, env!("CARGO_PKG_VERSION")),
    ] {
        put(object, tag, vr, value);
    }
    put_sequence(object, tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Vec::new());
}

/// What the document is: a draft by a machine.
fn document(object: &mut InMemDicomObject, report: &Report) {
    let now = Moment::from_unix(report.created);
    for (tag, vr, value) in [
        (tags::INSTANCE_NUMBER, VR::IS, "1"),
        (tags::CONTENT_DATE, VR::DA, now.dicom_date().as_str()),
        (tags::CONTENT_TIME, VR::TM, now.dicom_time().as_str()),
        (tags::COMPLETION_FLAG, VR::CS, "PARTIAL"),
        (tags::COMPLETION_FLAG_DESCRIPTION, VR::LO, &report.notice),
        (tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED"),
        (tags::PRELIMINARY_FLAG, VR::CS, "PRELIMINARY"),
    ] {
        put(object, tag, vr, value);
    }
    put_sequence(object, tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, Vec::new());
    let mut equipment = InMemDicomObject::new_empty();
    put_sequence(
        &mut equipment,
        tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE,
        vec![sr_content::code("109102", "DCM", "Processing Equipment")],
    );
    for (tag, vr, value) in [
        (tags::MANUFACTURER, VR::LO, MANUFACTURER),
        (tags::MANUFACTURER_MODEL_NAME, VR::LO, "swinseek"),
        (tags::DEVICE_SERIAL_NUMBER, VR::LO, report.model.as_str()),
        (tags::SOFTWARE_VERSIONS, VR::LO, env!("CARGO_PKG_VERSION")),
        (tags::CONTRIBUTION_DESCRIPTION, VR::ST, &format!("Wrote the draft, seed {}", report.seed)),
    ] {
        put(&mut equipment, tag, vr, value);
    }
    put_sequence(object, tags::CONTRIBUTING_EQUIPMENT_SEQUENCE, vec![equipment]);
}

/// Instances by the UID of their series.
type Series<'a> = Vec<(&'a str, Vec<&'a Instance>)>;

/// Every instance that the content refers to, by study and series (type 1C).
fn evidence(object: &mut InMemDicomObject, report: &Report) {
    let mut studies: Vec<(&str, Series)> = Vec::new();
    for instance in report.images.iter().filter_map(|image| image.instance.as_ref()) {
        let series = entry(&mut studies, &instance.study);
        let instances = entry(series, &instance.series);
        if !instances.iter().any(|known| known.sop_instance == instance.sop_instance) {
            instances.push(instance);
        }
    }
    let items = studies.iter().map(|(study, series)| {
        let series = series.iter().map(|(series, instances)| {
            let instances = instances.iter().map(|instance| reference(instance)).collect();
            let mut item = InMemDicomObject::new_empty();
            put(&mut item, tags::SERIES_INSTANCE_UID, VR::UI, series);
            put_sequence(&mut item, tags::REFERENCED_SOP_SEQUENCE, instances);
            item
        });
        let mut item = InMemDicomObject::new_empty();
        put_sequence(&mut item, tags::REFERENCED_SERIES_SEQUENCE, series.collect());
        put(&mut item, tags::STUDY_INSTANCE_UID, VR::UI, study);
        item
    });
    let items: Vec<InMemDicomObject> = items.collect();
    if !items.is_empty() {
        put_sequence(object, tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, items);
    }
}

/// The list under `key`, added when it is new; few enough to look through.
fn entry<'a, 'k, T>(map: &'a mut Vec<(&'k str, Vec<T>)>, key: &'k str) -> &'a mut Vec<T> {
    let at = map.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
        map.push((key, Vec::new()));
        map.len() - 1
    });
    &mut map[at].1
}

/// SOP class and instance.
pub(super) fn reference(instance: &Instance) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::REFERENCED_SOP_CLASS_UID, VR::UI, &instance.sop_class);
    put(&mut item, tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &instance.sop_instance);
    item
}
