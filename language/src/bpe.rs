//! Learning of byte-level BPE merges (Sennrich et al. 2016, arXiv 1508.07909), deterministic.
//!
//! The `tokenizers` crate can train too, but it keeps several queue entries of one pair whose order depends on a
//! randomly seeded hash map, so that two runs may differ; a model and its tokenizer must be reproducible.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

/// Two neighbouring token ids.
type Pair = (u32, u32);

/// The learnt vocabulary: `tokens[id]`, and the merges in order of rank.
#[derive(Debug)]
pub(crate) struct Learnt {
    /// Text of each id in the byte-level alphabet; the caller's tokens come first.
    pub(crate) tokens: Vec<String>,
    /// Pairs of ids, most frequent first.
    pub(crate) merges: Vec<Pair>,
}

/// A word of the corpus as token ids, and how often it occurs.
struct Word {
    ids: Vec<u32>,
    count: i64,
}

/// Pair counts and the words they occur in, kept current while merges are applied.
#[derive(Default)]
struct Pairs {
    counts: HashMap<Pair, i64>,
    /// Indices of words; may repeat or be stale, never incomplete.
    places: HashMap<Pair, Vec<usize>>,
    /// Most frequent first, then the smaller ids; entries whose count is outdated are skipped.
    queue: BinaryHeap<(i64, Reverse<Pair>)>,
}

impl Pairs {
    fn count(words: &[Word]) -> Self {
        let mut pairs = Self::default();
        for (index, word) in words.iter().enumerate() {
            for pair in neighbours(&word.ids) {
                *pairs.counts.entry(pair).or_default() += word.count;
                pairs.places.entry(pair).or_default().push(index);
            }
        }
        pairs.queue = pairs.counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();
        pairs
    }

    /// The most frequent pair that occurs at least `min_count` times.
    fn pop(&mut self, min_count: i64) -> Option<Pair> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let current = self.counts.get(&pair).copied().unwrap_or(0);
            if count == current {
                return (count >= min_count).then_some(pair);
            }
            if current > 0 {
                self.queue.push((current, Reverse(pair)));
            }
        }
        None
    }

    /// Replaces `pair` by `merged` in every word that holds it.
    fn apply(&mut self, words: &mut [Word], pair: Pair, merged: u32) {
        let mut places = self.places.remove(&pair).unwrap_or_default();
        places.sort_unstable();
        places.dedup();
        let mut grown = Vec::new();
        for index in places {
            let word = &mut words[index];
            for old in neighbours(&word.ids) {
                *self.counts.entry(old).or_default() -= word.count;
            }
            merge(&mut word.ids, pair, merged);
            for new in neighbours(&word.ids) {
                *self.counts.entry(new).or_default() += word.count;
                if new.0 == merged || new.1 == merged {
                    self.places.entry(new).or_default().push(index);
                    grown.push(new);
                }
            }
        }
        grown.sort_unstable();
        grown.dedup();
        self.queue.extend(grown.into_iter().map(|pair| (self.counts[&pair], Reverse(pair))));
    }
}

fn neighbours(ids: &[u32]) -> impl Iterator<Item = Pair> {
    ids.windows(2).map(|pair| (pair[0], pair[1]))
}

/// Replaces `pair` from left to right.
fn merge(ids: &mut Vec<u32>, pair: Pair, merged: u32) {
    let (mut read, mut write) = (0, 0);
    while read < ids.len() {
        let hit = read + 1 < ids.len() && (ids[read], ids[read + 1]) == pair;
        ids[write] = if hit { merged } else { ids[read] };
        read += 1 + usize::from(hit);
        write += 1;
    }
    ids.truncate(write);
}

/// Learns merges until there are `vocab_size` tokens or no pair occurs twice.
///
/// `words` are counted pre-tokens in the byte-level alphabet; `first` are the tokens that exist from the start
/// (special tokens, then the alphabet, which holds every character of `words`).
pub(crate) fn learn(words: &BTreeMap<String, u64>, first: Vec<String>, vocab_size: usize) -> Learnt {
    /// A pair that occurs once says nothing about the language.
    const MIN_COUNT: i64 = 2;
    let mut tokens = first;
    let mut by_text: HashMap<String, u32> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as u32)).collect();
    let mut words: Vec<Word> = words
        .iter()
        .map(|(text, &count)| Word {
            ids: text
                .chars()
                .filter_map(|c| by_text.get(c.encode_utf8(&mut [0; 4]) as &str).copied())
                .collect(),
            count: count as i64,
        })
        .collect();
    let mut pairs = Pairs::count(&words);
    let mut merges = Vec::new();
    while tokens.len() < vocab_size
        && let Some(pair) = pairs.pop(MIN_COUNT)
    {
        let text = format!("{}{}", tokens[pair.0 as usize], tokens[pair.1 as usize]);
        // Two paths may lead to one text ("a"+"bc", "ab"+"c"): both merges count, the token is one.
        let merged = *by_text.entry(text).or_insert_with_key(|text| {
            tokens.push(text.clone());
            (tokens.len() - 1) as u32
        });
        merges.push(pair);
        pairs.apply(&mut words, pair, merged);
    }
    Learnt { tokens, merges }
}
