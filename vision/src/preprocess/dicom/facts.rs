//! What a DICOM file says beside its pixels.

use std::fmt;

use dicom_dictionary_std::tags;

use super::attributes::Attributes;
use super::values::{DataSet, text};

/// BurnedInAnnotation (0028,0301): whether the pixels may name the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BurnedInAnnotation {
    /// The file says that there is text that identifies the patient.
    Yes,
    /// The file says that there is none.
    No,
    /// The file does not say; that does not mean that the pixels are clean.
    Unstated,
}

/// VOI LUT Function (0028,1056) of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowFunction {
    /// C.11.2.1.2.1; the default.
    Linear,
    /// C.11.2.1.3.2.
    LinearExact,
    /// C.11.2.1.3.1.
    Sigmoid,
}

/// How stored values became gray values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grayscale {
    /// A Modality LUT Sequence was applied, not slope and intercept.
    pub modality_lut: bool,
    /// The contrast step.
    pub contrast: Contrast,
    /// The result was inverted: MONOCHROME1 or PresentationLUTShape INVERSE.
    pub inverted: bool,
}

/// The contrast step of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Contrast {
    /// VOI LUT Sequence.
    Lut,
    /// The first window of the file.
    Window {
        /// WindowCenter.
        center: f64,
        /// WindowWidth.
        width: f64,
        /// VOI LUT Function.
        function: WindowFunction,
    },
    /// The file has neither: lowest to highest value of the frame, padding left out.
    Range {
        /// Value shown black (before inversion).
        low: f64,
        /// Value shown white (before inversion).
        high: f64,
    },
}

/// Facts of a DICOM file for what comes after the model: egress, privacy, provenance.
///
/// `Debug` shows no UID and no text that came from the file; print single fields on purpose.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct DicomFacts {
    /// Transfer syntax UID.
    pub transfer_syntax: String,
    /// SOPClassUID.
    pub sop_class_uid: Option<String>,
    /// SOPInstanceUID.
    pub sop_instance_uid: Option<String>,
    /// SeriesInstanceUID.
    pub series_instance_uid: Option<String>,
    /// StudyInstanceUID.
    pub study_instance_uid: Option<String>,
    /// Modality, such as `CR`.
    pub modality: Option<String>,
    /// BodyPartExamined.
    pub body_part: Option<String>,
    /// ViewPosition, such as `PA`.
    pub view_position: Option<String>,
    /// PhotometricInterpretation of the file.
    pub photometric: String,
    /// BitsStored of the file.
    pub bits_stored: u32,
    /// BurnedInAnnotation.
    pub burned_in_annotation: BurnedInAnnotation,
    /// How gray values were made; `None` for colour.
    pub grayscale: Option<Grayscale>,
    /// Whose picture it is.
    pub identity: Identity,
}

/// What a file says of patient and study, for documents that are filed beside it. Never for logs.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Identity {
    /// PatientName.
    pub patient_name: Option<String>,
    /// PatientID.
    pub patient_id: Option<String>,
    /// PatientBirthDate.
    pub patient_birth_date: Option<String>,
    /// PatientSex.
    pub patient_sex: Option<String>,
    /// StudyDate.
    pub study_date: Option<String>,
    /// StudyTime.
    pub study_time: Option<String>,
    /// StudyID.
    pub study_id: Option<String>,
    /// AccessionNumber.
    pub accession_number: Option<String>,
    /// ReferringPhysicianName.
    pub referring_physician: Option<String>,
}

impl Identity {
    fn read(set: &DataSet) -> Self {
        let get = |tag| text(set.root(), tag);
        Self {
            patient_name: get(tags::PATIENT_NAME),
            patient_id: get(tags::PATIENT_ID),
            patient_birth_date: get(tags::PATIENT_BIRTH_DATE),
            patient_sex: get(tags::PATIENT_SEX),
            study_date: get(tags::STUDY_DATE),
            study_time: get(tags::STUDY_TIME),
            study_id: get(tags::STUDY_ID),
            accession_number: get(tags::ACCESSION_NUMBER),
            referring_physician: get(tags::REFERRING_PHYSICIAN_NAME),
        }
    }
}

impl DicomFacts {
    pub(super) fn read(set: &DataSet, transfer_syntax: &str, attributes: &Attributes) -> Self {
        let get = |tag| text(set.root(), tag);
        let burned_in_annotation = match get(tags::BURNED_IN_ANNOTATION).as_deref() {
            Some("YES") => BurnedInAnnotation::Yes,
            Some("NO") => BurnedInAnnotation::No,
            _ => BurnedInAnnotation::Unstated,
        };
        Self {
            transfer_syntax: transfer_syntax.to_string(),
            sop_class_uid: get(tags::SOP_CLASS_UID),
            sop_instance_uid: get(tags::SOP_INSTANCE_UID),
            series_instance_uid: get(tags::SERIES_INSTANCE_UID),
            study_instance_uid: get(tags::STUDY_INSTANCE_UID),
            modality: get(tags::MODALITY),
            body_part: get(tags::BODY_PART_EXAMINED),
            view_position: get(tags::VIEW_POSITION),
            photometric: attributes.photometric_name.clone(),
            bits_stored: attributes.bits_stored,
            burned_in_annotation,
            grayscale: None,
            identity: Identity::read(set),
        }
    }
}

impl fmt::Debug for DicomFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DicomFacts")
            .field("bits_stored", &self.bits_stored)
            .field("burned_in_annotation", &self.burned_in_annotation)
            .field("grayscale", &self.grayscale)
            .finish_non_exhaustive()
    }
}
