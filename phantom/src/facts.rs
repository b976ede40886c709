//! Everything that can be said of a picture, and nothing else: reports, questions and captions are functions of this.

use crate::finding::{Device, Kind, Severity, Side, Tip, View, Zone};
use serde::Serialize;

/// One nodule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NoduleFact {
    /// The side.
    pub side: Side,
    /// The third of the lung.
    pub zone: Zone,
    /// The diameter as a report states it, in whole millimetres.
    pub size_mm: u32,
}

/// An area of one lung, a consolidation or a plate of collapse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AreaFact {
    /// The side.
    pub side: Side,
    /// The third of the lung.
    pub zone: Zone,
    /// Its extent.
    pub severity: Severity,
}

/// What is to be said of the heart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeartFact {
    /// A cardiothoracic ratio under one half.
    Normal,
    /// A ratio above one half.
    Enlarged(Severity),
    /// Its border is hidden by an effusion.
    Obscured,
}

/// One device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DeviceFact {
    /// Which.
    pub device: Device,
    /// The side it comes from, where it has one.
    pub side: Option<Side>,
    /// Where it ends, where it does.
    pub tip: Option<Tip>,
}

/// The facts of one study.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Facts {
    /// The view.
    pub view: View,
    /// The side that a clearly rotated patient is turned to.
    pub rotated: Option<Side>,
    /// Whether the breath was clearly shallow.
    pub low_volumes: bool,
    /// The heart.
    pub heart: HeartFact,
    /// The nodules, largest first.
    pub nodules: Vec<NoduleFact>,
    /// Effusions of the right and the left side.
    pub effusions: [Option<Severity>; 2],
    /// The pneumothorax.
    pub pneumothorax: Option<(Side, Severity)>,
    /// The consolidation.
    pub consolidation: Option<AreaFact>,
    /// The plate of collapsed lung.
    pub atelectasis: Option<AreaFact>,
    /// The devices in the order of [`Device::ALL`].
    pub devices: Vec<DeviceFact>,
}

impl Facts {
    /// A study of which there is nothing to say.
    pub const fn normal(view: View) -> Self {
        Self {
            view,
            rotated: None,
            low_volumes: false,
            heart: HeartFact::Normal,
            nodules: Vec::new(),
            effusions: [None, None],
            pneumothorax: None,
            consolidation: None,
            atelectasis: None,
            devices: Vec::new(),
        }
    }

    /// Whether a finding of this kind is in the picture.
    pub fn has(&self, kind: Kind) -> bool {
        match kind {
            Kind::Nodule => !self.nodules.is_empty(),
            Kind::PleuralEffusion => self.effusions.iter().any(Option::is_some),
            Kind::Pneumothorax => self.pneumothorax.is_some(),
            Kind::Consolidation => self.consolidation.is_some(),
            Kind::Cardiomegaly => matches!(self.heart, HeartFact::Enlarged(_)),
            Kind::Atelectasis => self.atelectasis.is_some(),
            Kind::Device => !self.devices.is_empty(),
        }
    }

    /// Whether there is nothing wrong in the picture; devices are not wrong.
    pub fn is_normal(&self) -> bool {
        Kind::ALL.iter().all(|kind| *kind == Kind::Device || !self.has(*kind))
    }

    /// The labels of the CheXpert set that hold, `No Finding` among them.
    pub fn labels(&self) -> Vec<&'static str> {
        let mut labels: Vec<&str> = Vec::new();
        if self.is_normal() {
            labels.push("No Finding");
        }
        if self.has(Kind::Nodule) || self.has(Kind::Consolidation) || self.has(Kind::Atelectasis) {
            labels.push("Lung Opacity");
        }
        labels.extend(Kind::ALL.iter().filter(|kind| self.has(**kind)).map(|kind| kind.chexpert()));
        labels
    }
}
