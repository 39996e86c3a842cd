//! Values by keys that are known in ascending order, in half the memory of a hash table.

use std::ops::Index;

/// Values by ascending keys.
#[derive(Clone, Debug)]
pub struct SortedMap<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self { keys: Vec::new(), values: Vec::new() }
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// An empty one with room for `count` values.
    pub fn with_capacity(count: usize) -> Self {
        Self { keys: Vec::with_capacity(count), values: Vec::with_capacity(count) }
    }

    /// Adds the value of a key that comes after all others; panics where it does not.
    pub fn push(&mut self, key: K, value: V) {
        assert!(self.keys.last().is_none_or(|last| *last < key), "keys come in ascending order, each once");
        self.keys.push(key);
        self.values.push(value);
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.keys.binary_search(key).ok().map(|place| &self.values[place])
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        self.keys.iter().zip(&self.values)
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl<K: Ord, V> Index<&K> for SortedMap<K, V> {
    type Output = V;

    /// Panics where the key has no value.
    fn index(&self, key: &K) -> &V {
        self.get(key).expect("the key has a value")
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SortedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        let mut map = Self::with_capacity(pairs.size_hint().0);
        pairs.for_each(|(key, value)| map.push(key, value));
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_finds_its_value_and_no_other_key_does() {
        let map: SortedMap<u32, String> = (0..100).map(|key| (3 * key, key.to_string())).collect();
        for key in 0..300 {
            let expected = (key % 3 == 0).then(|| (key / 3).to_string());
            assert_eq!(map.get(&key), expected.as_ref());
        }
        assert_eq!((map[&9].as_str(), map.len(), map.is_empty()), ("3", 100, false));
    }

    #[test]
    #[should_panic(expected = "ascending")]
    fn a_key_that_is_out_of_order_is_refused() {
        SortedMap::from_iter([(1, 'a'), (1, 'b')]);
    }
}
