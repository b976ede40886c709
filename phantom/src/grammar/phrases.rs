//! The wordings, each with its weight. One wording of a statement leads, as readers of one department have habits; the
//! others are what colleagues say. `{slot}` is filled in.

/// Wordings of one statement and their weights.
pub(crate) type Phrases = &'static [(f32, &'static str)];

pub(crate) const VIEW_AP: Phrases = &[
    (5.0, "AP portable view of the chest."),
    (2.0, "Portable AP view of the chest."),
    (2.0, "Single AP portable view of the chest."),
    (1.0, "AP portable chest radiograph."),
];
pub(crate) const ROTATED: Phrases = &[
    (5.0, "The patient is rotated to the {side}."),
    (2.0, "The patient is slightly rotated to the {side}."),
    (1.5, "There is patient rotation to the {side}."),
    (1.0, "Rotated to the {side}."),
];
pub(crate) const LOW_VOLUMES: Phrases = &[
    (5.0, "Lung volumes are low."),
    (2.5, "There are low lung volumes."),
    (1.5, "Low lung volumes are present."),
    (1.0, "The lung volumes are low."),
];

pub(crate) const HEART_NORMAL: Phrases = &[
    (5.0, "The heart is normal in size."),
    (1.5, "The cardiac silhouette is normal in size."),
    (1.5, "The heart size is normal."),
    (1.0, "Heart size is within normal limits."),
    (0.7, "The cardiac silhouette is within normal limits."),
];
pub(crate) const HEART_LARGE: Phrases = &[
    (5.0, "The heart is {degreely} enlarged."),
    (2.0, "The cardiac silhouette is {degreely} enlarged."),
    (1.5, "There is {degree} cardiomegaly."),
    (1.0, "The heart size is {degreely} enlarged."),
    (0.7, "There is {degree} enlargement of the cardiac silhouette."),
];
pub(crate) const HEART_OBSCURED: Phrases = &[
    (5.0, "The left heart border is obscured."),
    (2.0, "The left heart border is obscured by the effusion."),
    (1.5, "The heart border is obscured by the effusion."),
    (1.0, "Heart size cannot be assessed."),
];

pub(crate) const LUNGS_CLEAR: Phrases = &[
    (5.0, "The lungs are clear."),
    (2.0, "Both lungs are clear."),
    (1.2, "The lungs are clear without focal consolidation."),
    (1.0, "No focal consolidation is seen."),
    (0.7, "Lungs are clear."),
];

pub(crate) const NODULE: Phrases = &[
    (5.0, "There is a {size} nodule in the {side} {zone} lung."),
    (2.0, "There is a {size} pulmonary nodule in the {side} {zone} lung."),
    (1.5, "A {size} nodule is seen in the {side} {zone} lung."),
    (1.2, "There is a round {size} opacity in the {side} {zone} lung."),
    (0.8, "A {size} nodule projects over the {side} {zone} lung."),
];
pub(crate) const NODULE_MORE: Phrases = &[
    (5.0, "There is a {size} nodule in the {side} {zone} lung."),
    (2.0, "There is another {size} nodule in the {side} {zone} lung."),
    (1.2, "A further {size} nodule is seen in the {side} {zone} lung."),
    (0.8, "An additional {size} nodule projects over the {side} {zone} lung."),
];

pub(crate) const CONSOLIDATION_SMALL: Phrases = &[
    (5.0, "There is a small consolidation in the {side} {zone} lung."),
    (2.0, "There is a small area of consolidation in the {side} {zone} lung."),
    (1.5, "A small consolidation is seen in the {side} {zone} lung."),
    (1.0, "There is a small patchy opacity in the {side} {zone} lung."),
];
pub(crate) const CONSOLIDATION_LARGE: Phrases = &[
    (5.0, "There is a large consolidation in the {side} {zone} lung."),
    (2.0, "There is a large area of consolidation in the {side} {zone} lung."),
    (1.5, "A large consolidation is seen in the {side} {zone} lung."),
    (1.0, "There is a large airspace opacity in the {side} {zone} lung."),
];
pub(crate) const ATELECTASIS: Phrases = &[
    (5.0, "There is linear atelectasis at the {side} lung base."),
    (2.0, "Linear atelectasis is seen at the {side} lung base."),
    (1.5, "There is plate-like atelectasis at the {side} lung base."),
    (1.0, "There is a band of atelectasis at the {side} lung base."),
];

pub(crate) const EFFUSION: Phrases = &[
    (5.0, "There is a {size} {side} pleural effusion."),
    (2.0, "A {size} {side} pleural effusion is present."),
    (1.5, "There is a {size} pleural effusion on the {side}."),
    (1.0, "A {size} {side} pleural effusion is seen."),
];
pub(crate) const EFFUSION_SMALL: Phrases = &[
    (5.0, "There is a small {side} pleural effusion."),
    (2.0, "A small {side} pleural effusion is present."),
    (1.5, "There is blunting of the {side} costophrenic angle by a small pleural effusion."),
    (1.0, "A small {side} pleural effusion blunts the costophrenic angle."),
];
pub(crate) const EFFUSION_BOTH: Phrases = &[
    (5.0, "There are {size} bilateral pleural effusions."),
    (2.0, "There are bilateral {size} pleural effusions."),
    (1.5, "{Size} bilateral pleural effusions are present."),
    (1.0, "{Size} bilateral pleural effusions are seen."),
];
pub(crate) const EFFUSION_TWO: Phrases = &[
    (5.0, "There are bilateral pleural effusions, {right} on the right and {left} on the left."),
    (2.0, "Bilateral pleural effusions are present, {right} on the right and {left} on the left."),
    (1.0, "There is a {right} right pleural effusion and a {left} left pleural effusion."),
];
pub(crate) const PNEUMOTHORAX: Phrases = &[
    (5.0, "There is a {size} {side} pneumothorax."),
    (2.0, "A {size} {side} pneumothorax is present."),
    (1.5, "There is a {size} {side} pneumothorax with a visible pleural line."),
    (1.0, "There is a {size} pneumothorax on the {side}."),
];
pub(crate) const NO_PLEURAL: Phrases = &[
    (5.0, "There is no pleural effusion or pneumothorax."),
    (2.5, "No pleural effusion or pneumothorax is seen."),
    (1.5, "No pleural effusion or pneumothorax."),
    (0.8, "There is no effusion or pneumothorax."),
];
pub(crate) const NO_EFFUSION: Phrases = &[
    (5.0, "There is no pleural effusion."),
    (2.0, "No pleural effusion is seen."),
    (1.5, "No pleural effusion."),
];
pub(crate) const NO_PNEUMOTHORAX: Phrases =
    &[(5.0, "There is no pneumothorax."), (2.0, "No pneumothorax is seen."), (1.5, "No pneumothorax.")];

pub(crate) const TUBE_ABOVE: Phrases = &[
    (5.0, "The endotracheal tube tip is above the carina."),
    (2.0, "The endotracheal tube ends above the carina."),
    (1.5, "The tip of the endotracheal tube is above the carina."),
    (1.0, "The endotracheal tube tip projects above the carina."),
];
pub(crate) const TUBE_AT: Phrases = &[
    (5.0, "The endotracheal tube tip is low at the carina."),
    (2.0, "The endotracheal tube ends low at the carina."),
    (1.5, "The tip of the endotracheal tube is at the carina."),
    (1.0, "The endotracheal tube tip projects at the carina."),
];
pub(crate) const GASTRIC_IN: Phrases = &[
    (5.0, "The nasogastric tube tip is in the stomach."),
    (2.0, "The nasogastric tube ends in the stomach."),
    (1.5, "The tip of the nasogastric tube is in the stomach."),
    (1.0, "The nasogastric tube tip projects over the stomach."),
];
pub(crate) const GASTRIC_SHORT: Phrases = &[
    (5.0, "The nasogastric tube tip is in the distal esophagus."),
    (2.0, "The nasogastric tube ends in the distal esophagus."),
    (1.5, "The tip of the nasogastric tube is in the distal esophagus."),
    (1.0, "The nasogastric tube tip projects over the distal esophagus."),
];
pub(crate) const CATHETER: Phrases = &[
    (5.0, "A {side} central venous catheter ends in the {place}."),
    (2.0, "A {side} central venous catheter terminates in the {place}."),
    (1.5, "The tip of a {side} central venous catheter is in the {place}."),
    (1.0, "There is a {side} central venous catheter with its tip in the {place}."),
];
pub(crate) const PACEMAKER_ONE: Phrases = &[
    (5.0, "There is a {side} pacemaker with a single lead in the right ventricle."),
    (2.0, "A {side} pacemaker with a single lead in the right ventricle is present."),
    (1.5, "A {side} single lead pacemaker ends in the right ventricle."),
    (1.0, "A {side} chest wall pacemaker has a single lead in the right ventricle."),
];
pub(crate) const PACEMAKER_TWO: Phrases = &[
    (5.0, "There is a {side} pacemaker with leads in the right atrium and right ventricle."),
    (2.0, "A {side} pacemaker with leads in the right atrium and right ventricle is present."),
    (1.5, "A {side} dual lead pacemaker ends in the right atrium and right ventricle."),
    (1.0, "A {side} chest wall pacemaker has leads in the right atrium and right ventricle."),
];
pub(crate) const ELECTRODES: Phrases = &[
    (5.0, "ECG leads overlie the chest."),
    (2.0, "ECG leads project over the chest."),
    (1.5, "Monitoring leads overlie the chest."),
    (1.0, "There are ECG leads over the chest."),
];

/// Statements of the impression; the same slots.
pub(crate) mod impression {
    use super::Phrases;

    pub(crate) const NORMAL: Phrases = &[
        (5.0, "No acute cardiopulmonary abnormality."),
        (2.0, "No acute cardiopulmonary process."),
        (1.5, "No acute cardiopulmonary disease."),
        (1.0, "Normal chest radiograph."),
    ];
    pub(crate) const PNEUMOTHORAX: Phrases = &[
        (6.0, "{Size} {side} pneumothorax."),
        (1.5, "{Size} pneumothorax on the {side}."),
        (1.0, "{Side} pneumothorax, {size}."),
    ];
    pub(crate) const EFFUSION: Phrases = &[
        (6.0, "{Size} {side} pleural effusion."),
        (1.5, "{Size} pleural effusion on the {side}."),
        (1.0, "{Side} pleural effusion, {size}."),
    ];
    pub(crate) const EFFUSION_BOTH: Phrases =
        &[(6.0, "{Size} bilateral pleural effusions."), (2.0, "Bilateral {size} pleural effusions.")];
    pub(crate) const EFFUSION_TWO: Phrases = &[
        (6.0, "Bilateral pleural effusions, {right} on the right and {left} on the left."),
        (2.0, "{Right} right and {left} left pleural effusions."),
    ];
    pub(crate) const CONSOLIDATION: Phrases = &[
        (6.0, "{Side} {zone} lung consolidation."),
        (1.5, "Consolidation in the {side} {zone} lung."),
        (1.0, "{Side} {zone} lung consolidation, possibly pneumonia."),
    ];
    pub(crate) const NODULE: Phrases = &[
        (6.0, "{Side} {zone} lung nodule measuring {size}."),
        (2.0, "{Side} {zone} lung nodule of {size}."),
        (1.5, "Nodule in the {side} {zone} lung measuring {size}."),
    ];
    pub(crate) const NODULES: Phrases = &[
        (6.0, "{Count} pulmonary nodules, the largest measuring {size}."),
        (2.0, "{Count} lung nodules, the largest measuring {size}."),
        (1.0, "{Count} pulmonary nodules measuring up to {size}."),
    ];
    pub(crate) const ATELECTASIS: Phrases = &[
        (6.0, "{Side} basal atelectasis."),
        (2.0, "Linear {side} basal atelectasis."),
        (1.0, "Atelectasis at the {side} lung base."),
    ];
    pub(crate) const CARDIOMEGALY: Phrases = &[
        (6.0, "{Degree} cardiomegaly."),
        (1.5, "{Degree} enlargement of the heart."),
        (1.0, "{Degreely} enlarged heart."),
    ];
    pub(crate) const DEVICES: Phrases = &[
        (5.0, "Support devices as described."),
        (2.0, "Support devices as above."),
        (1.0, "Lines and tubes as described."),
    ];
    pub(crate) const TUBE_LOW: Phrases = &[
        (5.0, "Low endotracheal tube, retraction is suggested."),
        (2.0, "Low endotracheal tube."),
        (1.0, "Low position of the endotracheal tube."),
    ];
    pub(crate) const GASTRIC_SHORT: Phrases = &[
        (5.0, "Nasogastric tube short of the stomach."),
        (2.0, "Nasogastric tube short of the stomach, advancement is suggested."),
    ];
}
