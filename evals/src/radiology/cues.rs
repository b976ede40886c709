//! Words that deny or doubt what stands beside them, in the manner of NegEx (Chapman et al. 2001) and NegBio (Peng et al.
//! 2018). `word*` is a beginning, `~` up to three words. At each place the longest cue counts.

/// What a cue does to the mentions of its clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Denies what follows.
    DenyAfter,
    /// Denies what precedes.
    DenyBefore,
    /// Doubts what follows.
    DoubtAfter,
    /// Doubts what precedes.
    DoubtBefore,
    /// Doubts what follows, or what precedes when nothing follows.
    Doubt,
    /// Has the look of a cue, but says nothing of presence.
    Nothing,
    /// Begins a new clause.
    Clause,
}

#[rustfmt::skip]
pub(super) const CUES: [(Effect, &[&str]); 7] = [
    (
        Effect::DenyAfter,
        &[
            "no", "not", "nor", "neither", "without", "no evidence of", "no sign* of", "negative for",
            "free of", "free from", "clear of", "absence of", "absent", "lack of", "lacks", "denies",
            "exclud*", "excludes", "rules out", "ruled out", "rather than", "as opposed to", "instead of",
            "resolution of", "resolved", "clearing of", "removal of", "fail* to reveal", "fail* to show",
            "fail* to demonstrate", "not suggest*", "not likely", "unlikely to be", "unlikely to represent",
            "against", "has been extubated",
        ],
    ),
    (
        Effect::DenyBefore,
        &[
            "not seen", "not ~ seen", "not identified", "not ~ identified", "not present", "not evident",
            "not ~ evident", "not demonstrated", "not visuali*", "not ~ visuali*", "not appreciated",
            "not ~ appreciated", "not detected", "not noted", "not apparent", "not observed", "not visible",
            "not ~ visible", "not found", "not shown", "not there", "is absent", "are absent", "is excluded",
            "are excluded", "been excluded", "is ruled out", "are ruled out", "been ruled out",
            "has resolved", "have resolved", "has ~ resolved", "have ~ resolved", "resolved", "has cleared",
            "have cleared", "has disappeared", "have disappeared", "no longer seen", "no longer present",
            "no longer identified", "no longer visible", "no longer evident", "no longer ~ seen",
            "been removed", "was removed", "were removed", "is unlikely", "are unlikely", "seems unlikely",
            "appears unlikely", "unlikely", "is negative", "are negative", "nowhere",
        ],
    ),
    (
        Effect::DoubtAfter,
        &[
            "possibl* due to", "possibl* secondary to", "probabl* due to", "probabl* secondary to", "likely due to",
            "likely secondary to", "may be due to", "may be secondary to", "may", "may be", "may represent", "may reflect", "might", "could", "cannot exclude",
            "can not exclude", "cannot rule out", "can not rule out", "not exclude", "not ~ exclude",
            "not rule out", "to exclude", "rule out", "r o", "evaluate for", "assess for", "concern for",
            "concern* for", "concern of", "worrisome for", "suspicious for", "suspicion for", "suspicion of",
            "suspect", "suspicious of", "question of", "questioned", "suggest*", "suggestive of",
            "equivocal for", "presum*", "perhaps", "consider", "considerations include", "differential",
            "raises", "raise the possibility of", "possibility of", "not certain", "uncertain", "unclear",
            "whether", "versus", "vs", "less likely", "potential*", "favor*", "favour*", "felt to",
            "believed to",
        ],
    ),
    (
        Effect::DoubtBefore,
        &[
            "cannot be excluded", "cannot be ~ excluded", "can not be excluded", "can not be ~ excluded",
            "cannot be ruled out", "cannot be ~ ruled out", "can not be ruled out", "could not be excluded",
            "not excluded", "not ~ excluded", "not be excluded", "not ruled out", "not ~ ruled out",
            "should be considered", "to be considered", "is considered", "may be considered",
            "is a consideration", "is a possibility", "is a concern", "is of concern", "remains a concern",
            "may be present", "could be present", "might be present", "may be seen", "is not certain",
            "is uncertain", "is equivocal", "is questioned", "is in the differential", "may persist",
            "may remain", "may exist", "is less likely", "less likely",
        ],
    ),
    (
        Effect::Doubt,
        &[
            "possibl*", "probabl*", "likely", "suspected", "questionable", "question", "equivocal",
            "difficult to exclude", "hard to exclude", "borderline", "presumed",
        ],
    ),
    (
        Effect::Nothing,
        &[
            "not ~ seen on ~ prior*", "not ~ seen on ~ previous*", "not ~ present on ~ prior*", "not previously",
            "not ~ present on ~ previous*", "no change*", "no ~ change*", "no increase*", "no ~ increase*", "no decrease*", "no ~ decrease*",
            "no improvement", "no ~ improvement", "no worsening", "no ~ worsening", "no progression",
            "no ~ progression", "no different", "no difference", "no ~ difference", "no larger",
            "no smaller", "not change*", "not ~ changed", "not increased", "not decreased",
            "not ~ increased", "not ~ decreased", "not improved", "not ~ improved", "not resolved",
            "not ~ resolved", "not cleared", "not ~ cleared", "not only", "not necessarily",
            "without change", "without ~ change", "without improvement", "without ~ improvement",
            "partial resolution of", "incomplete resolution of", "near resolution of", "partially resolved",
            "incompletely resolved", "nearly resolved", "no doubt", "no longer enlarging", "not known",
            "no surgical change", "partial clearing of", "not large", "not small", "no further increase",
            "not as large", "not worse*", "no interval growth", "no growth", "no significant growth",
            "without growth",
        ],
    ),
    (
        Effect::Clause,
        &[
            "but", "however", "although", "though", "nevertheless", "yet", "except", "except for",
            "aside from", "apart from", "other than", "otherwise", "whereas", "while",
            "with the exception of", "secondary to", "due to", "because", "despite", "in spite of",
        ],
    ),
];

/// Words that make what precedes them a clause of its own.
#[rustfmt::skip]
pub(super) const VERBS: [&str; 26] = [
    "is", "are", "was", "were", "has", "have", "had", "there", "shows", "show", "demonstrates",
    "demonstrate", "appears", "appear", "remains", "remain", "persists", "persist", "overlies", "overlie",
    "terminates", "ends", "projects", "project", "reveals", "contains",
];

/// Words that begin a new statement after a comma or `and`.
#[rustfmt::skip]
pub(super) const OPENERS: [&str; 43] = [
    "a", "an", "the", "there", "this", "these", "it", "some", "small", "large", "moderate", "mild", "mildly",
    "minimal", "trace", "tiny", "severe", "marked", "stable", "unchanged", "persistent", "persisting",
    "bilateral", "left", "right", "increased", "increasing", "decreased", "improved", "improving",
    "worsening", "worsened", "slight", "chronic", "old", "healing", "healed", "new", "enlarged", "normal", "widened",
    "prominent", "borderline",
];
