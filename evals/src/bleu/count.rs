//! Exact n-gram matches of one segment in linear time.
//!
//! Only n-grams of the hypothesis can match, so they alone get ids: order 1 by their text, order n by the id of their
//! first n-1 tokens and the id of the last. References look their n-grams up and drop a position at the first miss.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::tokenize::{Tokenizer, Tokens};

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

/// Counts segments one after the other in buffers of its own.
#[derive(Debug)]
pub(super) struct Counter {
    orders: Vec<Order>,
    hypothesis: Tokens,
    reference: Tokens,
    /// Token ids of the text at hand, and for each position the id of the n-gram that begins there.
    tokens: Vec<u32>,
    prefixes: Vec<u32>,
    reference_len: Option<usize>,
    hasher: FixedState,
}

impl Counter {
    pub(super) fn new(max_order: usize) -> Self {
        Self {
            orders: (0..max_order).map(|_| Order::default()).collect(),
            hypothesis: Tokens::default(),
            reference: Tokens::default(),
            tokens: Vec::new(),
            prefixes: Vec::new(),
            reference_len: None,
            hasher: FixedState::with_seed(0),
        }
    }

    /// Begins a segment.
    pub(super) fn hypothesis(&mut self, tokenizer: Tokenizer, line: &str) {
        self.hypothesis.set(tokenizer, line);
        self.reference_len = None;
        let len = self.hypothesis.len();
        self.tokens.clear();
        for (index, order) in self.orders.iter_mut().enumerate() {
            order.reset(len.saturating_sub(index));
        }
        let words = &mut self.orders[0];
        for position in 0..len {
            let token = self.hypothesis.get(position);
            let found = words.table.find(self.hasher.hash_one(token), |id| {
                self.hypothesis.get(words.keys[id].0 as usize) == token
            });
            let id = words.add(found, (position as u32, 0));
            self.tokens.push(id);
        }
        self.prefixes.clone_from(&self.tokens);
        for (index, order) in self.orders.iter_mut().enumerate().skip(1) {
            for position in 0..len.saturating_sub(index) {
                let key = (self.prefixes[position], self.tokens[position + index]);
                self.prefixes[position] = order.add(order.find(key), key);
            }
        }
        for order in &mut self.orders {
            order.most.clear();
            order.most.resize(order.keys.len(), 0);
        }
    }

    /// Takes a reference of the segment begun last.
    pub(super) fn reference(&mut self, tokenizer: Tokenizer, line: &str) {
        self.reference.set(tokenizer, line);
        let len = self.reference.len();
        self.reference_len = Some(closest(self.hypothesis.len(), len, self.reference_len));
        let words = &self.orders[0];
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
            for (most, current) in order.most.iter_mut().zip(&order.current) {
                *most = (*most).max(*current);
            }
        }
    }

    /// Ends the segment: hypothesis length, reference length, matches per order, totals per order.
    pub(super) fn finish(&mut self, row: &mut Vec<u32>) {
        row.clear();
        let len = self.hypothesis.len();
        row.push(len as u32);
        row.push(self.reference_len.unwrap_or(0) as u32);
        for order in &self.orders {
            row.push(order.counts.iter().zip(&order.most).map(|(count, most)| count.min(most)).sum());
        }
        row.extend((0..self.orders.len()).map(|index| len.saturating_sub(index) as u32));
    }
}

/// The reference length nearest to the hypothesis; of equally near ones the shorter.
fn closest(hypothesis: usize, new: usize, best: Option<usize>) -> usize {
    match best {
        Some(best) if (best.abs_diff(hypothesis), best) <= (new.abs_diff(hypothesis), new) => best,
        _ => new,
    }
}
