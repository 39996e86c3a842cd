//! Phrases as paths through a trie, to find all that a sentence has.

use super::quick_hash::QuickMap;

/// The end of a phrase, or of the beginning of one, in a [`PhraseTrie`]: from 1 to the number of nodes.
pub(super) type Node = u32;

const ROOT: Node = 0;

/// Phrases of numbered words, each with a node.
#[derive(Debug, Default)]
pub(super) struct PhraseTrie {
    /// Where a node goes with a word.
    next: QuickMap<(Node, u32), Node>,
}

impl PhraseTrie {
    /// The node of a phrase, which is added if need be.
    pub(super) fn insert(&mut self, phrase: &[u32]) -> Node {
        phrase.iter().fold(ROOT, |node, &word| {
            let new = self.next.len() as Node + 1;
            *self.next.entry((node, word)).or_insert(new)
        })
    }

    /// The nodes on the path of `words`, to where the trie ends.
    pub(super) fn walk(&self, words: &[u32]) -> impl Iterator<Item = Node> {
        words.iter().scan(ROOT, |node, &word| {
            *node = *self.next.get(&(*node, word))?;
            Some(*node)
        })
    }

    /// Releases the memory that was reserved for more phrases.
    pub(super) fn shrink_to_fit(&mut self) {
        self.next.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_walked_to_the_end_of_the_longest_phrase() {
        let mut trie = PhraseTrie::default();
        let long = trie.insert(&[7, 8, 7]);
        let short = trie.insert(&[7, 8]);
        let other = trie.insert(&[7, 9]);
        assert_eq!(trie.insert(&[7, 8, 7]), long, "a phrase has one node");
        let sentence = [7, 8, 7, 9, 6];
        let path: Vec<Node> = trie.walk(&sentence).collect();
        assert_eq!(path[1..], [short, long]);
        assert_eq!(trie.walk(&sentence[2..]).collect::<Vec<_>>(), [path[0], other]);
        assert_eq!(trie.walk(&sentence[1..]).count(), 0, "no phrase begins with 8");
        assert_eq!(trie.walk(&[]).count(), 0);
    }
}
