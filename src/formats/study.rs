//! Whose pictures a report is about: what DICOM files say of patient, study and instance.

use std::fmt;

use swinseek_vision::preprocess::dicom::DicomFacts;

/// A study and its patient, as the source files name them; what they leave out is empty.
///
/// `Debug` shows nothing of it: identities do not belong in logs.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Study {
    /// StudyInstanceUID.
    pub uid: Option<String>,
    /// StudyDate, `YYYYMMDD`.
    pub date: String,
    /// StudyTime, `HHMMSS`.
    pub time: String,
    /// StudyID.
    pub id: String,
    /// AccessionNumber.
    pub accession_number: String,
    /// ReferringPhysicianName.
    pub referring_physician: String,
    /// PatientName, parts separated by `^`.
    pub patient_name: String,
    /// PatientID.
    pub patient_id: String,
    /// PatientBirthDate, `YYYYMMDD`.
    pub patient_birth_date: String,
    /// PatientSex: `M`, `F`, `O` or empty.
    pub patient_sex: String,
}

impl fmt::Debug for Study {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Study").finish_non_exhaustive()
    }
}

impl Study {
    /// What a decoded file says of its study.
    pub fn from_facts(facts: &DicomFacts) -> Self {
        let identity = &facts.identity;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Self {
            uid: facts.study_instance_uid.clone().filter(|uid| is_uid(uid)),
            date: text(&identity.study_date),
            time: text(&identity.study_time),
            id: text(&identity.study_id),
            accession_number: text(&identity.accession_number),
            referring_physician: text(&identity.referring_physician),
            patient_name: text(&identity.patient_name),
            patient_id: text(&identity.patient_id),
            patient_birth_date: text(&identity.patient_birth_date),
            patient_sex: text(&identity.patient_sex),
        }
    }

    /// Whether two files are of one study of one patient: where both name a study or a patient, they name the same.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let same = |a: &str, b: &str| a.is_empty() || b.is_empty() || a == b;
        let uid = |study: &Self| study.uid.clone().unwrap_or_default();
        same(&uid(self), &uid(other)) && same(&self.patient_id, &other.patient_id)
    }
}

/// A DICOM instance that a picture came from.
#[derive(Clone, PartialEq, Eq)]
pub struct Instance {
    /// SOPClassUID.
    pub sop_class: String,
    /// SOPInstanceUID.
    pub sop_instance: String,
    /// SeriesInstanceUID.
    pub series: String,
    /// StudyInstanceUID.
    pub study: String,
    /// Frame that was read, counted from 1, of a file with several.
    pub frame: Option<usize>,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("frame", &self.frame).finish_non_exhaustive()
    }
}

impl Instance {
    /// The instance of a decoded file; nothing when the file does not name itself completely, for then it cannot be
    /// referred to. `frame` is counted from 0, `frames` is how many the file has.
    pub fn from_facts(facts: &DicomFacts, frame: usize, frames: usize) -> Option<Self> {
        let uid = |value: &Option<String>| value.clone().filter(|uid| is_uid(uid));
        Some(Self {
            sop_class: uid(&facts.sop_class_uid)?,
            sop_instance: uid(&facts.sop_instance_uid)?,
            series: uid(&facts.series_instance_uid)?,
            study: uid(&facts.study_instance_uid)?,
            frame: (frames > 1).then_some(frame + 1),
        })
    }
}

/// PS3.5 chapter 9: at most 64 characters, numbers joined by dots, without leading zeros.
fn is_uid(text: &str) -> bool {
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    text.len() <= 64 && text.contains('.') && text.split('.').all(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_have_the_form_of_the_standard() {
        for good in ["1.2", "2.25.0", "1.2.840.10008.5.1.4.1.1.88.11"] {
            assert!(is_uid(good), "{good}");
        }
        let long = format!("1.{}", "2".repeat(63));
        for bad in ["", "1", "1.", ".1", "1..2", "1.02", "1.2a", "1.2 ", long.as_str()] {
            assert!(!is_uid(bad), "{bad}");
        }
    }

    #[test]
    fn studies_of_two_patients_do_not_agree() {
        let study = |uid: &str, patient: &str| Study {
            uid: Some(uid.to_owned()),
            patient_id: patient.to_owned(),
            ..Study::default()
        };
        assert!(study("1.2", "A").agrees_with(&study("1.2", "A")));
        assert!(study("1.2", "A").agrees_with(&Study::default()));
        assert!(!study("1.2", "A").agrees_with(&study("1.2", "B")));
        assert!(!study("1.2", "A").agrees_with(&study("1.3", "A")));
    }
}
