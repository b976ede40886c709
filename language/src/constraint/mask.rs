//! A set of token ids.

use std::sync::Arc;

use llguidance::toktrie::SimpleVob;

/// Token ids that may come next: one bit an id. Cloning shares the bits.
#[derive(Clone, Debug)]
pub struct TokenMask(Arc<SimpleVob>);

impl TokenMask {
    pub(super) fn new(bits: SimpleVob) -> Self {
        Self(Arc::new(bits))
    }

    /// A mask over `vocab_size` ids that allows `ids`; those outside are left out.
    pub fn of(vocab_size: usize, ids: &[u32]) -> Self {
        let mut bits = SimpleVob::alloc(vocab_size);
        ids.iter().filter(|&&id| (id as usize) < vocab_size).for_each(|&id| bits.allow_token(id));
        Self::new(bits)
    }

    /// Whether `id` may come next; ids outside the vocabulary may not.
    pub fn allows(&self, id: u32) -> bool {
        (id as usize) < self.0.len() && self.0.is_allowed(id)
    }

    /// The allowed ids in ascending order.
    pub fn ids(&self) -> Vec<u32> {
        self.0.to_list()
    }

    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_zero()
    }
}
