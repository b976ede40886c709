//! A study as a DICOM file: Digital X-Ray Image Storage, for presentation (PS3.3 A.26).

use crate::rng::Rng;
use crate::study::{Study, WINDOW};
use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

/// Name of this writer in the file's header; at most 16 characters.
const WRITER: &str = "SWINSEEK_PHANTOM";
/// Identifier of this writer: an arbitrary but fixed UUID under 2.25 (PS3.5 B.2).
const WRITER_UID: &str = "2.25.267450146128904337918232613842098765431";
/// All phantoms were taken on this day; a real date would make files differ from run to run.
const DATE: &str = "20000101";
const TIME: &str = "000000";

/// Encodes a study; odd indices are stored inverted, as MONOCHROME1.
pub(super) fn encode(study: &Study, seed: u64, index: u64) -> Result<Vec<u8>, String> {
    let mut names = Rng::new(seed, index, 10);
    let uids = [uid(&mut names), uid(&mut names), uid(&mut names)];
    let inverted = index % 2 == 1;
    let mut object = InMemDicomObject::new_empty();
    identity(&mut object, seed, index, &uids);
    acquisition(&mut object, study);
    pixels(&mut object, study, inverted);
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION)
        .media_storage_sop_instance_uid(uids[2].as_str())
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .implementation_class_uid(WRITER_UID)
        .implementation_version_name(WRITER);
    let file = object.with_meta(meta).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    file.write_all(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// A UUID (version 4 in form, drawn from the study's own stream) as a UID.
fn uid(rng: &mut Rng) -> String {
    let bits = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    format!("2.25.{bits}")
}

fn text(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: &str) {
    object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
}

fn number(object: &mut InMemDicomObject, tag: Tag, value: u16) {
    object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
}

/// Decimal strings hold at most 16 characters.
fn decimal(value: f32) -> String {
    format!("{value:.6}")
}

fn identity(object: &mut InMemDicomObject, seed: u64, index: u64, [study, series, instance]: &[String; 3]) {
    let id = format!("PHANTOM-{seed}-{index:06}");
    let name = format!("PHANTOM^{:04}", index + 1);
    for (tag, vr, value) in [
        (tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"),
        (tags::SOP_CLASS_UID, VR::UI, uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION),
        (tags::SOP_INSTANCE_UID, VR::UI, instance.as_str()),
        (tags::STUDY_INSTANCE_UID, VR::UI, study.as_str()),
        (tags::SERIES_INSTANCE_UID, VR::UI, series.as_str()),
        (tags::STUDY_DATE, VR::DA, DATE),
        (tags::SERIES_DATE, VR::DA, DATE),
        (tags::CONTENT_DATE, VR::DA, DATE),
        (tags::ACQUISITION_DATE, VR::DA, DATE),
        (tags::STUDY_TIME, VR::TM, TIME),
        (tags::SERIES_TIME, VR::TM, TIME),
        (tags::CONTENT_TIME, VR::TM, TIME),
        (tags::ACQUISITION_TIME, VR::TM, TIME),
        (tags::ACCESSION_NUMBER, VR::SH, ""),
        (tags::REFERRING_PHYSICIAN_NAME, VR::PN, ""),
        (tags::STUDY_ID, VR::SH, "PHANTOM"),
        (tags::SERIES_NUMBER, VR::IS, "1"),
        (tags::INSTANCE_NUMBER, VR::IS, "1"),
        (tags::MANUFACTURER, VR::LO, "swinseek phantom (synthetic)"),
        (tags::STUDY_DESCRIPTION, VR::LO, "Synthetic chest radiograph"),
        (tags::PATIENT_NAME, VR::PN, name.as_str()),
        (tags::PATIENT_ID, VR::LO, id.as_str()),
        (tags::PATIENT_BIRTH_DATE, VR::DA, ""),
        (tags::PATIENT_SEX, VR::CS, ""),
        (tags::PATIENT_IDENTITY_REMOVED, VR::CS, "YES"),
        (tags::DEIDENTIFICATION_METHOD, VR::LO, "Synthetic picture, no person"),
    ] {
        text(object, tag, vr, value);
    }
}

fn acquisition(object: &mut InMemDicomObject, study: &Study) {
    let spacing = decimal(study.description.mm_per_pixel);
    let spacing = format!("{spacing}\\{spacing}");
    for (tag, vr, value) in [
        (tags::IMAGE_TYPE, VR::CS, "DERIVED\\PRIMARY"),
        (tags::DERIVATION_DESCRIPTION, VR::ST, "Computed projection of a synthetic body"),
        (tags::MODALITY, VR::CS, "DX"),
        (tags::PRESENTATION_INTENT_TYPE, VR::CS, "FOR PRESENTATION"),
        (tags::BODY_PART_EXAMINED, VR::CS, "CHEST"),
        (tags::VIEW_POSITION, VR::CS, study.description.facts.view.code()),
        (tags::IMAGE_LATERALITY, VR::CS, "U"),
        (tags::PATIENT_ORIENTATION, VR::CS, "L\\F"),
        (tags::DETECTOR_TYPE, VR::CS, "DIRECT"),
        (tags::IMAGER_PIXEL_SPACING, VR::DS, spacing.as_str()),
        // The same numbers as at the detector: no correction for magnification was made (PS3.3 10.7.1.3).
        (tags::PIXEL_SPACING, VR::DS, spacing.as_str()),
        (tags::BURNED_IN_ANNOTATION, VR::CS, "NO"),
        (tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "00"),
    ] {
        text(object, tag, vr, value);
    }
    let mut chest = InMemDicomObject::new_empty();
    text(&mut chest, tags::CODE_VALUE, VR::SH, "51185008");
    text(&mut chest, tags::CODING_SCHEME_DESIGNATOR, VR::SH, "SCT");
    text(&mut chest, tags::CODE_MEANING, VR::LO, "Chest");
    sequence(object, tags::ANATOMIC_REGION_SEQUENCE, vec![chest]);
    sequence(object, tags::ACQUISITION_CONTEXT_SEQUENCE, Vec::new());
}

fn sequence(object: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    object.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
}

fn pixels(object: &mut InMemDicomObject, study: &Study, inverted: bool) {
    let (centre, width) = WINDOW;
    // Inverting 0..=4095 mirrors the window about 2047.5; the standard's centre sits half a step above that of the ramp.
    let centre = if inverted { 4096.0 - centre } else { centre };
    let (photometric, shape) =
        if inverted { ("MONOCHROME1", "INVERSE") } else { ("MONOCHROME2", "IDENTITY") };
    for (tag, vr, value) in [
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric),
        (tags::PRESENTATION_LUT_SHAPE, VR::CS, shape),
        (tags::PIXEL_INTENSITY_RELATIONSHIP, VR::CS, "LOG"),
        (tags::RESCALE_INTERCEPT, VR::DS, "0"),
        (tags::RESCALE_SLOPE, VR::DS, "1"),
        (tags::RESCALE_TYPE, VR::LO, "US"),
        (tags::WINDOW_CENTER, VR::DS, &format!("{centre}")),
        (tags::WINDOW_WIDTH, VR::DS, &format!("{width}")),
    ] {
        text(object, tag, vr, value);
    }
    // Darker is more X-ray: stored numbers fall with the light, or rise with it when inverted.
    let sign: i16 = if inverted { 1 } else { -1 };
    object.put(DataElement::new(tags::PIXEL_INTENSITY_RELATIONSHIP_SIGN, VR::SS, PrimitiveValue::from(sign)));
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, study.height as u16),
        (tags::COLUMNS, study.width as u16),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 12),
        (tags::HIGH_BIT, 11),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        number(object, tag, value);
    }
    let stored: Vec<u16> = study.pixels.iter().map(|v| if inverted { 4095 - v } else { *v }).collect();
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(stored.into())));
}
