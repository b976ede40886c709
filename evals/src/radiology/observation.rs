//! The fourteen observations of CheXpert (Irvin et al. 2019) and what a report says of each.

use std::fmt;
use std::ops::{Index, IndexMut};

use serde::{Deserialize, Serialize};

/// One of CheXpert's fourteen observations, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Observation {
    /// Nothing of the others but support devices.
    #[serde(rename = "No Finding")]
    NoFinding,
    /// The outline of heart and mediastinum is too wide.
    #[serde(rename = "Enlarged Cardiomediastinum")]
    EnlargedCardiomediastinum,
    /// The heart is too large.
    Cardiomegaly,
    /// Nodule, mass or another lesion of the lung.
    #[serde(rename = "Lung Lesion")]
    LungLesion,
    /// Opacity, infiltrate, airspace or interstitial disease.
    #[serde(rename = "Lung Opacity")]
    LungOpacity,
    /// Edema, congestion, heart failure.
    Edema,
    /// Consolidation.
    Consolidation,
    /// Pneumonia, infection.
    Pneumonia,
    /// Atelectasis, collapse.
    Atelectasis,
    /// Pneumothorax.
    Pneumothorax,
    /// Pleural effusion.
    #[serde(rename = "Pleural Effusion")]
    PleuralEffusion,
    /// Thickening, plaques, scars of the pleura.
    #[serde(rename = "Pleural Other")]
    PleuralOther,
    /// Fracture.
    Fracture,
    /// Tubes, lines, pacemakers, hardware.
    #[serde(rename = "Support Devices")]
    SupportDevices,
}

impl Observation {
    /// All fourteen.
    pub const ALL: [Self; 14] = [
        Self::NoFinding,
        Self::EnlargedCardiomediastinum,
        Self::Cardiomegaly,
        Self::LungLesion,
        Self::LungOpacity,
        Self::Edema,
        Self::Consolidation,
        Self::Pneumonia,
        Self::Atelectasis,
        Self::Pneumothorax,
        Self::PleuralEffusion,
        Self::PleuralOther,
        Self::Fracture,
        Self::SupportDevices,
    ];

    /// The five that CheXpert's competition scored.
    pub const FIVE: [Self; 5] =
        [Self::Cardiomegaly, Self::Edema, Self::Consolidation, Self::Atelectasis, Self::PleuralEffusion];

    /// CheXpert's spelling.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoFinding => "No Finding",
            Self::EnlargedCardiomediastinum => "Enlarged Cardiomediastinum",
            Self::Cardiomegaly => "Cardiomegaly",
            Self::LungLesion => "Lung Lesion",
            Self::LungOpacity => "Lung Opacity",
            Self::Edema => "Edema",
            Self::Consolidation => "Consolidation",
            Self::Pneumonia => "Pneumonia",
            Self::Atelectasis => "Atelectasis",
            Self::Pneumothorax => "Pneumothorax",
            Self::PleuralEffusion => "Pleural Effusion",
            Self::PleuralOther => "Pleural Other",
            Self::Fracture => "Fracture",
            Self::SupportDevices => "Support Devices",
        }
    }

    /// Something wrong with the patient: neither [`Observation::NoFinding`] nor [`Observation::SupportDevices`].
    pub fn is_abnormality(self) -> bool {
        !matches!(self, Self::NoFinding | Self::SupportDevices)
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a report says of an observation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Label {
    /// It is there.
    Positive,
    /// It is not there.
    Negative,
    /// It may be there.
    Uncertain,
    /// Nothing is said of it.
    #[default]
    Absent,
}

/// The labels of one report, one for each of [`Observation::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Labels([Label; 14]);

impl Index<Observation> for Labels {
    type Output = Label;

    fn index(&self, observation: Observation) -> &Label {
        &self.0[observation as usize]
    }
}

impl IndexMut<Observation> for Labels {
    fn index_mut(&mut self, observation: Observation) -> &mut Label {
        &mut self.0[observation as usize]
    }
}

impl Labels {
    /// Observations with a label, in order.
    pub fn with(&self, label: Label) -> impl Iterator<Item = Observation> + '_ {
        Observation::ALL.into_iter().filter(move |&observation| self[observation] == label)
    }
}
