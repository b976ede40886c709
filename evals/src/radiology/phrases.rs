//! How radiologists name the observations. `word*` is a beginning, `~` up to three words.

use super::observation::Observation::{
    self, Atelectasis, Cardiomegaly, Consolidation, Edema, EnlargedCardiomediastinum, Fracture, LungLesion,
    LungOpacity, PleuralEffusion, PleuralOther, Pneumonia, Pneumothorax, SupportDevices,
};

/// Mentions and what they mention; an empty list shadows a shorter phrase that would mislead.
#[rustfmt::skip]
pub(super) const MENTIONS: [(&[Observation], &[&str]); 17] = [
    (
        &[],
        &[
            "pericardial effusion*", "joint effusion*", "bony lesion*", "osseous lesion*", "bone lesion*",
            "rib lesion*", "subcutaneous edema", "soft tissue edema", "mass effect", "pleural line*",
            "nipple shadow*", "vascular density", "bone density", "breast density", "granulomatous infection*",
            "prior ~ infection*", "old ~ infection*", "previous ~ infection*", "tuberculosis infection*",
        ],
    ),
    (
        &[Cardiomegaly],
        &[
            "cardiomegaly", "megalocardia", "cardiac enlargement", "heart enlargement",
            "enlargement of the heart", "enlargement of the cardiac ~", "cardiac silhouette enlargement",
        ],
    ),
    (
        &[EnlargedCardiomediastinum],
        &[
            "mediastinal widening", "mediastinal enlargement", "widening of the mediastin*",
            "enlargement of the mediastin*", "enlargement of the cardiomediastin*",
            "cardiomediastinal enlargement",
        ],
    ),
    (
        &[LungLesion],
        &[
            "nodule*", "nodularity", "mass", "masses", "lesion*", "tumor*", "tumour*", "neoplasm*",
            "carcinoma*", "metasta*", "malignan*", "nodular densit*",
        ],
    ),
    (
        &[LungLesion, LungOpacity],
        &["nodular opacit*", "round* opacit*", "round* ~ opacit*", "mass like opacit*", "nodular opacif*"],
    ),
    (
        &[LungOpacity],
        &[
            "opacit*", "opacif*", "infiltrat*", "airspace disease*", "air space disease*",
            "interstitial disease", "interstitial lung disease", "interstitial thickening",
            "interstitial prominence", "reticular*", "prominent interstitial ~",
            "prominence of the interstiti*", "increased interstitial ~", "hazy", "haziness",
            "parenchymal disease", "parenchymal densit*", "patchy densit*", "airspace densit*",
            "basilar densit*", "focal densit*",
        ],
    ),
    (
        &[Edema],
        &[
            "edema", "oedema", "vascular congestion", "venous congestion", "pulmonary congestion",
            "heart failure", "chf", "kerley", "cephalization", "vascular engorgement", "fluid overload",
            "volume overload", "congestive changes",
        ],
    ),
    (&[Consolidation], &["consolidat*"]),
    (&[LungOpacity, Consolidation], &["consolidative opacit*"]),
    (
        &[Pneumonia],
        &[
            "pneumonia*", "bronchopneumonia*", "infection*", "infectious process*", "infectious etiolog*",
            "infectious",
        ],
    ),
    (
        &[Atelectasis],
        &[
            "atelect*", "collapse of the ~ lobe", "collapse of the ~ lung", "lobar collapse",
            "lobe collapse", "lung collapse", "collapsed ~ lobe", "collapsed ~ lung", "volume loss",
            "loss of volume",
        ],
    ),
    (&[Pneumothorax], &["pneumothora*", "ptx", "pneumothoraces"]),
    (&[Pneumothorax, PleuralEffusion], &["hydropneumothora*", "hemopneumothora*"]),
    (
        &[PleuralEffusion],
        &["effusion*", "pleural fluid", "hydrothora*", "hemothora*", "empyema*", "pleural effusion*"],
    ),
    (
        &[PleuralOther],
        &[
            "pleural thickening", "thickening of the ~ pleura", "pleural plaque*", "pleural scar*",
            "pleural calcif*", "fibrothorax", "pleural based", "apical cap*", "pleural parenchymal scar*",
            "pleural fibrosis",
        ],
    ),
    (&[Fracture], &["fractur*"]),
    (
        &[SupportDevices],
        &[
            "endotracheal", "ett", "et tube*", "tracheostomy", "nasogastric", "orogastric", "ng tube*",
            "og tube*", "enteric tube*", "feeding tube*", "gastric tube*", "dobbhoff", "dobhoff",
            "chest tube*", "pigtail", "drain", "drains", "tube", "tubes", "catheter*", "picc*",
            "central line*", "central venous line*", "lines and tubes", "support line*", "venous line*",
            "jugular line*", "subclavian line*", "port a cath*", "portacath", "mediport", "infusion port",
            "swan ganz", "balloon pump", "iabp", "pacemaker*", "pacer*", "pacing", "icd", "aicd",
            "defibrillator*", "leads", "electrode*", "sternotomy wire*", "sternal wire*",
            "median sternotomy", "surgical clip*", "clips", "prosthetic valve*", "valve replacement",
            "mitral valve prosthes*", "aortic valve prosthes*", "stent", "stents", "hardware", "device",
            "devices", "vp shunt",
        ],
    ),
];

/// A part of the body, with the words that make it an observation or rule it out. `finding` words count as a mention,
/// `doubtful` ones as an uncertain one, `normal` ones as a denial.
pub(super) struct Structure {
    pub(super) observation: Observation,
    pub(super) names: &'static [&'static str],
    pub(super) finding: &'static [&'static str],
    pub(super) doubtful: &'static [&'static str],
    pub(super) normal: &'static [&'static str],
}

#[rustfmt::skip]
pub(super) const STRUCTURES: [Structure; 5] = [
    Structure {
        observation: Cardiomegaly,
        names: &[
            "heart", "heart size", "cardiac size", "cardiac silhouette", "cardiac shadow",
            "cardiac contour*", "cardiac and mediastinal ~", "cardiac", "size of the heart",
            "heart and mediastin*",
        ],
        finding: &["enlarged", "large", "larger", "enlarging", "prominent", "increased"],
        doubtful: &["borderline", "top normal", "upper limits of normal", "upper limit of normal"],
        normal: &["normal", "unremarkable", "within normal", "not enlarged", "not large"],
    },
    Structure {
        observation: EnlargedCardiomediastinum,
        names: &[
            "mediastinum", "mediastinal silhouette*", "mediastinal contour*", "mediastinal outline",
            "cardiomediastinum", "cardiomediastinal ~", "cardio mediastinal ~", "cardiac and mediastinal ~",
            "superior mediastinum",
        ],
        finding: &["enlarged", "widened", "wide", "prominent", "enlarging"],
        doubtful: &["borderline", "top normal", "upper limits of normal", "upper limit of normal"],
        normal: &["normal", "unremarkable", "not widened", "not enlarged", "not wide"],
    },
    Structure {
        observation: LungOpacity,
        names: &["lungs", "lung fields", "lung zones", "both lungs", "lung"],
        finding: &[],
        doubtful: &[],
        normal: &["clear", "well aerated"],
    },
    Structure {
        observation: PleuralEffusion,
        names: &["costophrenic angle*", "costophrenic sulc*", "cp angle*"],
        finding: &[],
        doubtful: &[
            "blunted", "blunting", "obscured", "blunting of", "blunting of the", "blunting of the left",
            "blunting of the right", "blunting of both",
        ],
        normal: &["clear", "sharp"],
    },
    Structure {
        observation: Fracture,
        names: &[
            "bony structures", "osseous structures", "bones", "ribs", "bony thorax", "skeleton", "clavicle*",
        ],
        finding: &["broken"],
        doubtful: &[],
        normal: &["intact"],
    },
];
