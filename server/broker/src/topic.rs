//! Topic bindings: a trie of words, matched as a small automaton.
//!
//! Words are split on '.'; the empty key has none, "a..b" has an empty one. In a binding key '*' stands for exactly
//! one word and '#' for any number. A match visits each (node, word) pair at most once, so its cost is bounded by
//! nodes x words whatever the number of '#'.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

/// Binding keys and what they lead to.
#[derive(Debug)]
pub(crate) struct Trie<T> {
    /// The root is node 0. Freed nodes are listed in `free` and used again.
    nodes: Vec<Node<T>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Node<T> {
    /// This node is the '#' child of its parent: it may swallow words and stay.
    swallows: bool,
    words: BTreeMap<Box<str>, usize>,
    star: Option<usize>,
    hash: Option<usize>,
    targets: Vec<T>,
}

impl<T> Node<T> {
    fn new(swallows: bool) -> Self {
        Self { swallows, words: BTreeMap::new(), star: None, hash: None, targets: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.words.is_empty() && self.star.is_none() && self.hash.is_none()
    }

    fn child(&self, word: &str) -> Option<usize> {
        match word {
            "*" => self.star,
            "#" => self.hash,
            _ => self.words.get(word).copied(),
        }
    }
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self { nodes: vec![Node::new(false)], free: Vec::new() }
    }
}

impl<T: PartialEq> Trie<T> {
    /// Adds a target. The same one may stand several times and is then removed as often.
    pub(crate) fn insert(&mut self, key: &str, target: T) {
        let mut at = 0;
        for word in words(key) {
            at = match self.nodes[at].child(word) {
                Some(child) => child,
                None => self.add_child(at, word),
            };
        }
        self.nodes[at].targets.push(target);
    }

    /// Removes a target once, and the nodes that nothing needs any more.
    pub(crate) fn remove(&mut self, key: &str, target: &T) {
        let mut path = vec![0];
        for word in words(key) {
            let Some(child) = self.nodes[path[path.len() - 1]].child(word) else { return };
            path.push(child);
        }
        let targets = &mut self.nodes[path[path.len() - 1]].targets;
        let Some(place) = targets.iter().position(|t| t == target) else { return };
        targets.swap_remove(place);

        let keys: Vec<&str> = words(key).collect();
        for depth in (1..path.len()).rev() {
            if !self.nodes[path[depth]].is_empty() {
                break;
            }
            let parent = &mut self.nodes[path[depth - 1]];
            match keys[depth - 1] {
                "*" => parent.star = None,
                "#" => parent.hash = None,
                word => drop(parent.words.remove(word)),
            }
            self.free.push(path[depth]);
        }
    }

    /// Calls `found` for the targets of every binding key that matches; for one target perhaps several times.
    pub(crate) fn matches<'a>(&'a self, key: &str, mut found: impl FnMut(&'a T)) {
        let words: Vec<&str> = words(key).collect();
        let mut seen = BTreeSet::new();
        let mut waiting = vec![(0, 0)];
        while let Some((at, index)) = waiting.pop() {
            if !seen.insert((at, index)) {
                continue;
            }
            let node = &self.nodes[at];
            if let Some(hash) = node.hash {
                waiting.push((hash, index));
            }
            let Some(word) = words.get(index) else {
                node.targets.iter().for_each(&mut found);
                continue;
            };
            if node.swallows {
                waiting.push((at, index + 1));
            }
            if let Some(star) = node.star {
                waiting.push((star, index + 1));
            }
            if let Some(&child) = node.words.get(*word) {
                waiting.push((child, index + 1));
            }
        }
    }

    fn add_child(&mut self, parent: usize, word: &str) -> usize {
        let node = Node::new(word == "#");
        let child = match self.free.pop() {
            Some(free) => {
                self.nodes[free] = node;
                free
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        match word {
            "*" => self.nodes[parent].star = Some(child),
            "#" => self.nodes[parent].hash = Some(child),
            _ => drop(self.nodes[parent].words.insert(word.into(), child)),
        }
        child
    }
}

/// The words of a key: none for the empty key.
fn words(key: &str) -> impl Iterator<Item = &str> {
    let none = key.is_empty();
    key.split('.').skip(usize::from(none))
}
