//! Exact n-gram matches of a hypothesis and its references in linear time.
//!
//! Only n-grams of the hypothesis can match, so they alone get ids: order 1 by their text, order n by the id of their
//! first n-1 tokens and the id of the last. References look their n-grams up and drop a position at the first miss.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::tokenize::Tokens;

/// No such n-gram in the hypothesis.
const ABSENT: u32 = u32::MAX;

/// Ids of one order by open addressing; the caller compares, so that equal hashes do no harm.
#[derive(Debug, Default)]
struct Table {
    /// Id plus one; zero is free. A power of two, at most half full.
    slots: Vec<u32>,
    len: u32,
}

impl Table {
    fn reset(&mut self, capacity: usize) {
        self.slots.clear();
        self.slots.resize((2 * capacity).next_power_of_two().max(8), 0);
        self.len = 0;
    }

    /// The id under `hash` for which `equal` holds, or the free slot where it would go.
    fn find(&self, hash: u64, equal: impl Fn(usize) -> bool) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        // The upper half of a multiplicative hash is the good one.
        let mut slot = (hash >> 32) as usize & mask;
        loop {
            match self.slots[slot] {
                0 => return Err(slot),
                id if equal(id as usize - 1) => return Ok(id - 1),
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    fn insert(&mut self, slot: usize) -> u32 {
        self.len += 1;
        self.slots[slot] = self.len;
        self.len - 1
    }
}

/// The n-grams of one order of the hypothesis.
#[derive(Debug, Default)]
struct Order {
    table: Table,
    /// For each id the pair that makes it: prefix id and last token; for order 1 the position of the token.
    keys: Vec<(u32, u32)>,
    /// How often each occurs in the hypothesis.
    counts: Vec<u32>,
    /// The most that any reference has of it.
    most: Vec<u32>,
    /// How many the reference at hand has.
    current: Vec<u32>,
}

impl Order {
    fn reset(&mut self, capacity: usize) {
        self.table.reset(capacity);
        self.keys.clear();
        self.counts.clear();
    }

    fn add(&mut self, found: Result<u32, usize>, key: (u32, u32)) -> u32 {
        match found {
            Ok(id) => {
                self.counts[id as usize] += 1;
                id
            }
            Err(slot) => {
                self.keys.push(key);
                self.counts.push(1);
                self.table.insert(slot)
            }
        }
    }

    fn find(&self, key: (u32, u32)) -> Result<u32, usize> {
        let mixed = (u64::from(key.0) << 32 | u64::from(key.1)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.table.find(mixed, |id| self.keys[id] == key)
    }
}

/// Counts the n-grams of one segment after the other in buffers of its own.
#[derive(Debug)]
pub(crate) struct Matcher {
    orders: Vec<Order>,
    hypothesis: Tokens,
    reference: Tokens,
    /// Token ids of the text at hand, and for each position the id of the n-gram that begins there.
    tokens: Vec<u32>,
    prefixes: Vec<u32>,
    hasher: FixedState,
}

impl Matcher {
    pub(crate) fn new(max_order: usize) -> Self {
        Self {
            orders: (0..max_order).map(|_| Order::default()).collect(),
            hypothesis: Tokens::default(),
            reference: Tokens::default(),
            tokens: Vec::new(),
            prefixes: Vec::new(),
            hasher: FixedState::with_seed(0),
        }
    }

    /// Begins a segment; `fill` sets the tokens of the hypothesis.
    pub(crate) fn hypothesis(&mut self, fill: impl FnOnce(&mut Tokens)) {
        fill(&mut self.hypothesis);
        let len = self.hypothesis.len();
        self.tokens.clear();
        for (index, order) in self.orders.iter_mut().enumerate() {
            order.reset(len.saturating_sub(index));
        }
        let Some((words, longer)) = self.orders.split_first_mut() else { return };
        for position in 0..len {
            let token = self.hypothesis.get(position);
            let found = words.table.find(self.hasher.hash_one(token), |id| {
                self.hypothesis.get(words.keys[id].0 as usize) == token
            });
            let id = words.add(found, (position as u32, 0));
            self.tokens.push(id);
        }
        self.prefixes.clone_from(&self.tokens);
        for (index, order) in longer.iter_mut().enumerate() {
            for position in 0..len.saturating_sub(index + 1) {
                let key = (self.prefixes[position], self.tokens[position + index + 1]);
                self.prefixes[position] = order.add(order.find(key), key);
            }
        }
        for order in &mut self.orders {
            order.most.clear();
            order.most.resize(order.keys.len(), 0);
        }
    }

    /// Takes a reference of the segment begun last.
    pub(crate) fn reference(&mut self, fill: impl FnOnce(&mut Tokens)) {
        fill(&mut self.reference);
        let len = self.reference.len();
        let Some(words) = self.orders.first() else { return };
        self.tokens.clear();
        for token in self.reference.iter() {
            let found = words.table.find(self.hasher.hash_one(token), |id| {
                self.hypothesis.get(words.keys[id].0 as usize) == token
            });
            self.tokens.push(found.unwrap_or(ABSENT));
        }
        self.prefixes.clone_from(&self.tokens);
        for (index, order) in self.orders.iter_mut().enumerate() {
            order.current.clear();
            order.current.resize(order.keys.len(), 0);
            for position in 0..len.saturating_sub(index) {
                let prefix = &mut self.prefixes[position];
                if index > 0 && *prefix != ABSENT {
                    *prefix = order.find((*prefix, self.tokens[position + index])).unwrap_or(ABSENT);
                }
                if *prefix != ABSENT {
                    order.current[*prefix as usize] += 1;
                }
            }
        }
    }

    /// Raises what all references together allow by the one taken last.
    pub(crate) fn keep_most(&mut self) {
        for order in &mut self.orders {
            for (most, current) in order.most.iter_mut().zip(&order.current) {
                *most = (*most).max(*current);
            }
        }
    }

    /// Tokens of the hypothesis.
    pub(crate) fn hypothesis_len(&self) -> usize {
        self.hypothesis.len()
    }

    /// Tokens of the reference taken last.
    pub(crate) fn reference_len(&self) -> usize {
        self.reference.len()
    }

    /// Matches of each order with the reference taken last.
    pub(crate) fn matches(&self) -> impl Iterator<Item = u32> {
        self.orders.iter().map(|order| clipped(&order.counts, &order.current))
    }

    /// Matches of each order with all references kept by [`Matcher::keep_most`].
    pub(crate) fn matches_with_all(&self) -> impl Iterator<Item = u32> {
        self.orders.iter().map(|order| clipped(&order.counts, &order.most))
    }
}

fn clipped(counts: &[u32], limits: &[u32]) -> u32 {
    counts.iter().zip(limits).map(|(count, limit)| count.min(limit)).sum()
}
