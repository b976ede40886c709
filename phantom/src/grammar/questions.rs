//! Questions with short answers.

use super::fill;
use super::report::count_word;
use crate::facts::{Facts, HeartFact};
use crate::finding::{Device, Kind, Severity, Side, Tip, Zone};
use crate::rng::Rng;
use serde::{Deserialize, Serialize};

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionType {
    /// Yes or no.
    Presence,
    /// Left, right or both.
    Side,
    /// A third of a lung.
    Location,
    /// How many.
    Count,
    /// A grade.
    Severity,
    /// Millimetres.
    Size,
    /// Where a device ends.
    Tip,
    /// PA or AP.
    View,
}

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The question, a sentence.
    pub question: String,
    /// The answer, a few words in lower case, without a full stop.
    pub answer: String,
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: QuestionType,
}

/// Most questions of one study.
const MOST: usize = 12;
/// Fewest questions of one study.
const FEWEST: usize = 6;

/// Questions about these facts, six to twelve, in an order drawn by `seed`.
///
/// Presence of a kind is asked where it is present, and where it is absent as often as makes `yes` and `no` balance over
/// many studies, so that the question alone does not give the answer away.
pub fn questions(facts: &Facts, seed: u64) -> Vec<Question> {
    let rng = &mut Rng::new(seed, 0, 0x5155_4553);
    let mut asked = Asked { rng, questions: Vec::new() };
    asked.presence(facts);
    asked.pleural(facts);
    asked.lungs(facts);
    if facts.has(Kind::Cardiomegaly) {
        asked.heart(facts);
    }
    asked.devices(facts);
    asked.sided(facts);
    if asked.rng.chance(0.35) {
        asked.view(facts);
    }
    asked.fill_up(facts);
    let Asked { rng, mut questions } = asked;
    rng.shuffle(&mut questions);
    questions.truncate(MOST);
    questions
}

struct Asked<'a> {
    rng: &'a mut Rng,
    questions: Vec<Question>,
}

/// How the presence of each kind is asked, and the odds of its presence over many studies.
const PRESENCE: [(Kind, f32, &str); 7] = [
    (Kind::Pneumothorax, 0.27, "pneumothorax"),
    (Kind::PleuralEffusion, 0.43, "pleural effusion"),
    (Kind::Consolidation, 0.36, "consolidation"),
    (Kind::Nodule, 0.54, "nodule"),
    (Kind::Atelectasis, 0.16, "atelectasis"),
    (Kind::Cardiomegaly, 0.36, "cardiomegaly"),
    (Kind::Device, 0.41, "support device"),
];

impl Asked<'_> {
    fn ask(&mut self, kind: QuestionType, wordings: &[&str], slots: &[(&str, &str)], answer: &str) {
        let question = fill(wordings[self.rng.below(wordings.len())], slots);
        self.questions.push(Question { question, answer: answer.to_owned(), kind });
    }

    fn ask_presence(&mut self, kind: Kind, name: &str, present: bool) {
        let named = match kind {
            Kind::Consolidation | Kind::Atelectasis | Kind::Cardiomegaly => name.to_owned(),
            _ => format!("a {name}"),
        };
        let wordings: &[&str] = match kind {
            Kind::Cardiomegaly => {
                &["Is there cardiomegaly?", "Is the heart enlarged?", "Does the image show cardiomegaly?"]
            }
            _ => &[
                "Is there {named}?",
                "Is {named} present?",
                "Does the image show {named}?",
                "Can you see {named}?",
            ],
        };
        self.ask(QuestionType::Presence, wordings, &[("named", &named)], if present { "yes" } else { "no" });
    }

    fn presence(&mut self, facts: &Facts) {
        for (kind, odds, name) in PRESENCE {
            // A heart that cannot be judged is not asked about.
            let open = kind == Kind::Cardiomegaly && facts.heart == HeartFact::Obscured;
            let present = facts.has(kind);
            if !open && (present || self.rng.chance(odds)) {
                self.ask_presence(kind, name, present);
            }
        }
    }

    fn pleural(&mut self, facts: &Facts) {
        const SIDE: [&str; 3] = [
            "Which side is the {name} on?",
            "On which side is the {name}?",
            "Is the {name} on the left or on the right?",
        ];
        const GRADE: [&str; 3] = [
            "How large is the {name}?",
            "What is the size of the {name}?",
            "Is the {name} small, moderate or large?",
        ];
        if let Some((side, severity)) = facts.pneumothorax {
            self.ask(QuestionType::Side, &SIDE, &[("name", "pneumothorax")], side.word());
            self.ask(QuestionType::Severity, &GRADE, &[("name", "pneumothorax")], severity.size_word());
        }
        match facts.effusions {
            [None, None] => {}
            [Some(_), Some(_)] => {
                self.ask(QuestionType::Side, &SIDE[..2], &[("name", "pleural effusion")], "both");
            }
            [right, left] => {
                let side = if right.is_some() { Side::Right } else { Side::Left };
                let grade = right.or(left).map_or("", Severity::size_word);
                self.ask(QuestionType::Side, &SIDE, &[("name", "pleural effusion")], side.word());
                self.ask(QuestionType::Severity, &GRADE, &[("name", "pleural effusion")], grade);
            }
        }
    }

    fn lungs(&mut self, facts: &Facts) {
        const PLACE: [&str; 3] = [
            "Where is the {name}?",
            "In which part of the lung is the {name}?",
            "What is the location of the {name}?",
        ];
        if let Some(area) = facts.consolidation {
            let place = place(area.side, area.zone);
            self.ask(QuestionType::Location, &PLACE, &[("name", "consolidation")], &place);
        }
        if let Some(area) = facts.atelectasis {
            let wordings = ["Which side is the atelectasis on?", "On which side is the atelectasis?"];
            self.ask(QuestionType::Side, &wordings, &[], area.side.word());
        }
        if let [nodule] = facts.nodules.as_slice() {
            self.ask(QuestionType::Location, &PLACE, &[("name", "nodule")], &place(nodule.side, nodule.zone));
            let wordings = [
                "How large is the nodule?",
                "What is the diameter of the nodule?",
                "What size is the nodule?",
            ];
            self.ask(QuestionType::Size, &wordings, &[], &format!("{} mm", nodule.size_mm));
        } else if !facts.nodules.is_empty() {
            let nodule = &facts.nodules[0];
            self.ask(
                QuestionType::Location,
                &["Where is the largest nodule?"],
                &[],
                &place(nodule.side, nodule.zone),
            );
        }
        if !facts.nodules.is_empty() {
            self.count(facts);
        }
    }

    fn count(&mut self, facts: &Facts) {
        let count = if facts.nodules.is_empty() { "none" } else { count_word(facts.nodules.len()) };
        let wordings = [
            "How many nodules are there?",
            "How many lung nodules do you see?",
            "What is the number of nodules?",
        ];
        self.ask(QuestionType::Count, &wordings, &[], count);
    }

    fn heart(&mut self, facts: &Facts) {
        let size = match facts.heart {
            HeartFact::Obscured => return,
            HeartFact::Normal => "normal",
            HeartFact::Enlarged(Severity::Mild) => "mildly enlarged",
            HeartFact::Enlarged(Severity::Moderate) => "moderately enlarged",
            HeartFact::Enlarged(Severity::Severe) => "markedly enlarged",
        };
        let wordings =
            ["What is the size of the heart?", "How large is the heart?", "What is the heart size?"];
        self.ask(QuestionType::Severity, &wordings, &[], size);
    }

    fn devices(&mut self, facts: &Facts) {
        for device in Device::ALL {
            let placed = facts.devices.iter().find(|fact| fact.device == device);
            if placed.is_some() || self.rng.chance(0.09) {
                let (verb, name) = match device {
                    Device::EcgLeads => ("Are there", "ECG leads".to_owned()),
                    Device::EndotrachealTube => ("Is there", format!("an {}", device.word())),
                    _ => ("Is there", format!("a {}", device.word())),
                };
                let slots = [("verb", verb), ("name", name.as_str())];
                self.ask(
                    QuestionType::Presence,
                    &["{verb} {name}?"],
                    &slots,
                    if placed.is_some() { "yes" } else { "no" },
                );
            }
            if let Some(tip) = placed.and_then(|fact| fact.tip).filter(|_| device != Device::Pacemaker) {
                let wordings = ["Where does the {name} end?", "Where is the tip of the {name}?"];
                self.ask(QuestionType::Tip, &wordings, &[("name", device.word())], tip_words(tip));
            }
        }
    }

    fn view(&mut self, facts: &Facts) {
        let wordings = [
            "Is this a PA or an AP view?",
            "What is the projection of this radiograph?",
            "Which view is this?",
        ];
        self.ask(QuestionType::View, &wordings, &[], facts.view.code());
    }

    /// Presence on one side or of the whole, as balanced as [`Asked::presence`].
    fn sided(&mut self, facts: &Facts) {
        let mut ask = |question: String, present: bool, odds: f32| {
            if self.rng.chance(if present { 0.5 } else { 0.5 * odds }) {
                self.yes_or_no(question, present);
            }
        };
        for side in Side::BOTH {
            let word = side.word();
            let air = facts.pneumothorax.is_some_and(|(at, _)| at == side);
            let nodule = facts.nodules.iter().any(|nodule| nodule.side == side);
            ask(
                format!("Is there a {word} pleural effusion?"),
                facts.effusions[side as usize].is_some(),
                0.22,
            );
            ask(format!("Is there a {word} pneumothorax?"), air, 0.12);
            ask(format!("Is there a nodule in the {word} lung?"), nodule, 0.2);
        }
        ask("Is the patient rotated?".to_owned(), facts.rotated.is_some(), 0.11);
        ask("Are the lung volumes low?".to_owned(), facts.low_volumes, 0.15);
        ask("Is there any abnormality?".to_owned(), !facts.is_normal(), 2.6);
    }

    fn yes_or_no(&mut self, question: String, present: bool) {
        let answer = if present { "yes" } else { "no" }.to_owned();
        self.questions.push(Question { question, answer, kind: QuestionType::Presence });
    }

    /// Plain questions until there are enough: a picture in which nothing is wrong has few others.
    fn fill_up(&mut self, facts: &Facts) {
        let mut spare = [QuestionType::View, QuestionType::Count, QuestionType::Severity];
        self.rng.shuffle(&mut spare);
        for kind in spare {
            if self.questions.len() < FEWEST && self.questions.iter().all(|asked| asked.kind != kind) {
                match kind {
                    QuestionType::View => self.view(facts),
                    QuestionType::Count => self.count(facts),
                    _ => self.heart(facts),
                }
            }
        }
        let mut absent: Vec<&str> = PRESENCE
            .iter()
            .filter(|(kind, _, _)| !facts.has(*kind) && !matches!(kind, Kind::Cardiomegaly | Kind::Device))
            .map(|(_, _, name)| *name)
            .collect();
        self.rng.shuffle(&mut absent);
        for name in absent {
            if self.questions.len() < FEWEST {
                self.yes_or_no(format!("Do you see any {name}?"), false);
            }
        }
    }
}

pub(super) fn place(side: Side, zone: Zone) -> String {
    format!("{} {} lung", side.word(), zone.word())
}

fn tip_words(tip: Tip) -> &'static str {
    match tip {
        Tip::AboveCarina => "above the carina",
        Tip::AtCarina => "at the carina",
        Tip::SuperiorVenaCava => "superior vena cava",
        Tip::RightAtrium => "right atrium",
        Tip::Stomach => "stomach",
        Tip::DistalEsophagus => "distal esophagus",
        Tip::RightVentricle => "right ventricle",
        Tip::AtriumAndVentricle => "right atrium and right ventricle",
    }
}
