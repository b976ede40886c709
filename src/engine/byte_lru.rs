//! A cache of bounded size in bytes; what was not used for the longest time goes first.

use std::collections::{BTreeMap, HashMap};

/// A digest of everything that a value depends on.
pub(super) type Key = [u8; 32];

/// Values by key.
pub(super) struct ByteLru<V> {
    entries: HashMap<Key, Entry<V>>,
    /// Keys by the time of their last use.
    order: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
    capacity: usize,
}

struct Entry<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<V> ByteLru<V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), clock: 0, bytes: 0, capacity }
    }

    /// The value of `key`, which is now the one used last.
    pub(super) fn get(&mut self, key: &Key) -> Option<&V> {
        let entry = self.entries.get_mut(key)?;
        self.clock += 1;
        self.order.remove(&entry.used);
        self.order.insert(self.clock, *key);
        entry.used = self.clock;
        Some(&entry.value)
    }

    /// Whether there is a value of `key`; it does not count as use.
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }

    /// Keeps a value of that size. One that is larger than all of the cache is not kept.
    pub(super) fn insert(&mut self, key: Key, value: V, bytes: usize) {
        self.remove(&key);
        if bytes > self.capacity {
            return;
        }
        while self.bytes + bytes > self.capacity
            && let Some((_, oldest)) = self.order.first_key_value().map(|(used, key)| (*used, *key))
        {
            self.remove(&oldest);
        }
        self.clock += 1;
        self.order.insert(self.clock, key);
        self.entries.insert(key, Entry { value, bytes, used: self.clock });
        self.bytes += bytes;
    }

    /// Whether anything can be kept at all.
    pub(super) fn is_on(&self) -> bool {
        self.capacity > 0
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
        self.bytes = 0;
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ByteLru;

    #[test]
    fn the_oldest_goes_first_and_the_bytes_stay_bounded() {
        let mut cache = ByteLru::new(100);
        let key = |n: u8| [n; 32];
        for n in 0..4 {
            cache.insert(key(n), n, 25);
        }
        assert_eq!(cache.get(&key(0)), Some(&0));
        cache.insert(key(4), 4, 30);
        assert_eq!(cache.bytes(), 80, "two of 25 had to go for one of 30");
        assert_eq!([0, 1, 2, 3, 4].map(|n| cache.get(&key(n)).is_some()), [true, false, false, true, true]);
        cache.insert(key(5), 5, 101);
        assert!(cache.get(&key(5)).is_none() && cache.bytes() == 80);
        cache.insert(key(4), 40, 10);
        assert_eq!(cache.get(&key(4)), Some(&40));
        assert_eq!(cache.bytes(), 60);
        cache.clear();
        assert_eq!(cache.bytes(), 0);
    }
}
