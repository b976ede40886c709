//! What can be wrong in a picture, and the words for it.

use serde::{Deserialize, Serialize};

/// The kinds of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A round opacity of 6 to 35 mm.
    Nodule,
    /// Fluid in the pleural space.
    PleuralEffusion,
    /// Air in the pleural space.
    Pneumothorax,
    /// An area of lung filled with something denser than air.
    Consolidation,
    /// A heart wider than half of the chest.
    Cardiomegaly,
    /// A plate of collapsed lung.
    Atelectasis,
    /// A tube, line or implant.
    Device,
}

impl Kind {
    /// All kinds, in the order of the impression.
    pub const ALL: [Self; 7] = [
        Self::Pneumothorax,
        Self::PleuralEffusion,
        Self::Consolidation,
        Self::Nodule,
        Self::Atelectasis,
        Self::Cardiomegaly,
        Self::Device,
    ];

    /// The label of the CheXpert set that this kind falls under (Irvin et al., 2019).
    pub const fn chexpert(self) -> &'static str {
        match self {
            Self::Nodule => "Lung Lesion",
            Self::PleuralEffusion => "Pleural Effusion",
            Self::Pneumothorax => "Pneumothorax",
            Self::Consolidation => "Consolidation",
            Self::Cardiomegaly => "Cardiomegaly",
            Self::Atelectasis => "Atelectasis",
            Self::Device => "Support Devices",
        }
    }
}

/// The patient's side; the patient's right is on the left of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The patient's right.
    Right,
    /// The patient's left.
    Left,
}

impl Side {
    /// Both sides; `side as usize` indexes pairs in this order.
    pub const BOTH: [Self; 2] = [Self::Right, Self::Left];

    /// `right` or `left`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Left => "left",
        }
    }

    /// The other side.
    pub const fn other(self) -> Self {
        match self {
            Self::Right => Self::Left,
            Self::Left => Self::Right,
        }
    }

    /// The sign of picture x on this side.
    pub(crate) const fn sign(self) -> f32 {
        match self {
            Self::Right => -1.0,
            Self::Left => 1.0,
        }
    }
}

/// A third of a lung, by height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Zone {
    /// Upper third.
    Upper,
    /// Middle third.
    Mid,
    /// Lower third.
    Lower,
}

impl Zone {
    /// All zones from the top.
    pub const ALL: [Self; 3] = [Self::Upper, Self::Mid, Self::Lower];

    /// `upper`, `mid` or `lower`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Upper => "upper",
            Self::Mid => "mid",
            Self::Lower => "lower",
        }
    }
}

/// Three grades; `small`/`moderate`/`large` of an effusion or a pneumothorax, `mild`/`moderate`/`marked` of a heart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The least grade.
    Mild,
    /// The middle grade.
    Moderate,
    /// The highest grade.
    Severe,
}

impl Severity {
    /// All grades, rising.
    pub const ALL: [Self; 3] = [Self::Mild, Self::Moderate, Self::Severe];

    /// The grade as a size: `small`, `moderate`, `large`.
    pub const fn size_word(self) -> &'static str {
        match self {
            Self::Mild => "small",
            Self::Moderate => "moderate",
            Self::Severe => "large",
        }
    }

    /// The grade as a degree: `mild`, `moderate`, `marked`.
    pub const fn degree_word(self) -> &'static str {
        match self {
            Self::Mild => "mild",
            Self::Moderate => "moderate",
            Self::Severe => "marked",
        }
    }
}

/// The devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// A tube in the trachea.
    EndotrachealTube,
    /// A catheter in the superior vena cava.
    CentralVenousCatheter,
    /// A generator in the chest wall with one or two leads.
    Pacemaker,
    /// A tube through the oesophagus.
    NasogastricTube,
    /// Wires and electrodes on the skin.
    EcgLeads,
}

impl Device {
    /// All devices, in the order of a report.
    pub const ALL: [Self; 5] = [
        Self::EndotrachealTube,
        Self::NasogastricTube,
        Self::CentralVenousCatheter,
        Self::Pacemaker,
        Self::EcgLeads,
    ];

    /// The usual name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::EndotrachealTube => "endotracheal tube",
            Self::CentralVenousCatheter => "central venous catheter",
            Self::Pacemaker => "pacemaker",
            Self::NasogastricTube => "nasogastric tube",
            Self::EcgLeads => "ECG leads",
        }
    }
}

/// Where a tube, catheter or the leads of a pacemaker end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tip {
    /// Endotracheal tube, 4 cm above the carina.
    AboveCarina,
    /// Endotracheal tube, down at the carina.
    AtCarina,
    /// Catheter, in the superior vena cava.
    SuperiorVenaCava,
    /// Catheter, in the right atrium.
    RightAtrium,
    /// Gastric tube, in the stomach.
    Stomach,
    /// Gastric tube, short of the stomach.
    DistalEsophagus,
    /// Pacemaker with one lead, in the right ventricle.
    RightVentricle,
    /// Pacemaker with two leads, in the right atrium and the right ventricle.
    AtriumAndVentricle,
}

/// The direction of the beam.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum View {
    /// From the back to a detector at the front.
    #[serde(rename = "PA")]
    Pa,
    /// From the front to a detector at the back, as at a bedside.
    #[serde(rename = "AP")]
    Ap,
}

impl View {
    /// `PA` or `AP`, DICOM's View Position (0018,5101).
    pub const fn code(self) -> &'static str {
        match self {
            Self::Pa => "PA",
            Self::Ap => "AP",
        }
    }
}

/// One finding of a study, placed in its picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// The side it is on; none for the heart and for devices of the midline.
    pub side: Option<Side>,
    /// The third of the lung, for a nodule, a consolidation or a collapse.
    pub zone: Option<Zone>,
    /// Millimetres: the diameter of a nodule; none for other kinds.
    pub size_mm: Option<f32>,
    /// The grade.
    pub severity: Option<Severity>,
    /// Which device, for [`Kind::Device`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device: Option<Device>,
    /// Where the device ends.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tip: Option<Tip>,
    /// `[x0, y0, x1, y1]` in pixels of the picture, the last two exclusive.
    pub bbox: [u32; 4],
}

impl Finding {
    /// A finding of which only the kind is known yet.
    pub(crate) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            side: None,
            zone: None,
            size_mm: None,
            severity: None,
            device: None,
            tip: None,
            bbox: [0; 4],
        }
    }
}
