//! A small vocabulary, and a model whose logits are noise.

use swinseek_language::constraint::{Constraint, Constraints};
use swinseek_language::sampler::{Sampler, SamplingParams};
use swinseek_language::tokenizer::Tokenizer;

const TEXTS: [&str; 8] = [
    "FINDINGS: The heart is normal in size. The lungs are clear. IMPRESSION: No acute abnormality.",
    "FINDINGS: There is a large right pleural effusion. IMPRESSION: Right pleural effusion.",
    "FINDINGS: A 3.5 cm nodule (T2/T3) is seen in the left upper lobe. IMPRESSION: Left lung nodule.",
    "{\"name\": \"chest\", \"count\": 12, \"normal\": true, \"list\": [1, 2, 3]}",
    "{\"findings\":[\"effusion\",\"nodule\"],\"size\":{\"cm\":3.5}}",
    "the heart the lungs the pleural the effusion the nodule",
    "2026-11-22 normal abnormal right left no yes",
    "Größe “naïve” 心",
];

/// Ids 0, 1, 2 are `<bos>`, `<eos>`, `<image>`.
pub(crate) fn tokenizer() -> Tokenizer {
    Tokenizer::train_bpe(TEXTS.iter().cycle().take(24), 420, &["<bos>", "<eos>", "<image>"]).unwrap()
}

pub(crate) const EOS: u32 = 1;

pub(crate) fn constraints() -> (Tokenizer, Constraints) {
    let tokenizer = tokenizer();
    let constraints = Constraints::new(&tokenizer, &[EOS]).unwrap();
    (tokenizer, constraints)
}

/// Splitmix64: noise that depends on `seed` alone.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A logit in -3..3.
    fn logit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32 * 6.0 - 3.0
    }
}

/// What a noisy model writes under `constraint`: it gets ever more eager for what closes and ends, in turn. More logits
/// than ids, as in models with padded vocabularies. `None` when it was not done after 600 tokens.
pub(crate) fn write(tokenizer: &Tokenizer, constraint: &mut dyn Constraint, seed: u64) -> Option<String> {
    let mut noise = Noise(seed);
    let mut sampler =
        Sampler::new(SamplingParams { temperature: 1.0, seed, ..SamplingParams::default() }).unwrap();
    let vocab_size = tokenizer.vocab_size() + 13;
    let closing: Vec<u32> = [".", "ĠIMPRESSION", ":", "\"", "}", "]", "\"}", ")", "."]
        .iter()
        .filter_map(|token| tokenizer.id(token))
        .chain([EOS])
        .collect();
    let mut ids = Vec::new();
    for step in 0..600 {
        if constraint.is_done() {
            break;
        }
        let mut logits: Vec<f32> = (0..vocab_size).map(|_| noise.logit()).collect();
        logits[closing[step % closing.len()] as usize] += step as f32 * 0.1;
        let mask = constraint.allowed().unwrap();
        let sampled = sampler.sample_allowed(&logits, &[], &mask).unwrap();
        constraint.accept(sampled.id).unwrap();
        if sampled.id != EOS {
            ids.push(sampled.id);
        }
    }
    constraint.is_done().then(|| tokenizer.decode(&ids).unwrap())
}

/// `allowed` says of every id what `accept` says, after a random start of `steps` tokens.
pub(crate) fn masks_agree(new: &dyn Fn() -> Box<dyn Constraint>, vocab_size: u32, seed: u64, steps: usize) {
    let mut noise = Noise(seed);
    let mut constraint = new();
    let mut prefix = Vec::new();
    for _ in 0..steps {
        let ids = constraint.allowed().unwrap().ids();
        let open: Vec<u32> = ids.into_iter().filter(|&id| id != EOS).collect();
        if constraint.is_done() || open.is_empty() {
            break;
        }
        let id = open[(noise.next() % open.len() as u64) as usize];
        constraint.accept(id).unwrap();
        prefix.push(id);
    }
    let mask = constraint.allowed().unwrap();
    for id in 0..vocab_size + 3 {
        let mut other = new();
        for &id in &prefix {
            other.accept(id).unwrap();
        }
        assert_eq!(other.accept(id).is_ok(), mask.contains(id), "id {id} after {prefix:?}");
    }
}
