//! Things by numbers that rise, most of which go in about the order in which they came: what is out on a channel, or of a
//! queue. A map would sort what comes sorted, at several times the cost of the whole rest of a delivery.

use std::collections::{BTreeMap, VecDeque};

#[cfg(test)]
mod tests;

/// An ordered map for such numbers.
///
/// What is there takes memory, and not what was: where most of a stretch has gone, the rest of it moves into a map. One in
/// which nothing ever was is a word.
#[derive(Debug)]
pub(crate) struct Track<T>(Option<Box<Places<T>>>);

#[derive(Debug)]
struct Places<T> {
    /// Below all of `recent`: what stayed, and what came back behind the others.
    old: BTreeMap<u64, T>,
    /// Number of the first of `recent`.
    from: u64,
    /// One place for each number, the first and the last of them taken.
    recent: VecDeque<Option<T>>,
    /// So many of those places are taken.
    there: usize,
}

/// From so many places on, one in [`SPARSE`] has to be taken.
const PLACES_FREE: usize = 64;
const SPARSE: usize = 4;

impl<T> Default for Track<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Track<T> {
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |places| places.len())
    }

    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        self.0.as_ref()?.get(number)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        self.0.as_mut()?.get_mut(number)
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    /// Adds or replaces one.
    pub(crate) fn insert(&mut self, number: u64, value: T) {
        self.0.get_or_insert_default().insert(number, value);
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        self.0.as_mut()?.remove(number)
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.0.iter().flat_map(|places| places.iter())
    }

    /// Takes out all up to this number, in order.
    pub(crate) fn take_upto(&mut self, number: u64) -> Vec<(u64, T)> {
        self.0.as_mut().map_or_else(Vec::new, |places| places.take_upto(number))
    }
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { old: BTreeMap::new(), from: 0, recent: VecDeque::new(), there: 0 }
    }
}

impl<T> Places<T> {
    fn len(&self) -> usize {
        self.old.len() + self.there
    }

    fn get(&self, number: u64) -> Option<&T> {
        match self.place(number) {
            Some(place) => self.recent[place].as_ref(),
            None => self.old.get(&number),
        }
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        match self.place(number) {
            Some(place) => self.recent[place].as_mut(),
            None => self.old.get_mut(&number),
        }
    }

    fn insert(&mut self, number: u64, value: T) {
        if let Some(place) = self.place(number) {
            self.there += usize::from(self.recent[place].replace(value).is_none());
            return;
        }
        if self.recent.is_empty() {
            self.from = number;
        }
        if number < self.from || self.old.last_key_value().is_some_and(|(last, _)| *last >= number) {
            self.old.insert(number, value);
            return;
        }
        let behind = number - self.from;
        if behind >= (PLACES_FREE + SPARSE * self.there) as u64 {
            self.retire(self.recent.len());
            self.from = number;
        }
        self.recent.resize_with((number - self.from) as usize, || None);
        self.recent.push_back(Some(value));
        self.there += 1;
    }

    fn remove(&mut self, number: u64) -> Option<T> {
        let Some(place) = self.place(number) else { return self.old.remove(&number) };
        let value = self.recent[place].take()?;
        self.there -= 1;
        self.tidy();
        Some(value)
    }

    fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let recent = (self.from..).zip(&self.recent);
        let recent = recent.filter_map(|(number, value)| Some((number, value.as_ref()?)));
        self.old.iter().map(|(number, value)| (*number, value)).chain(recent)
    }

    fn take_upto(&mut self, number: u64) -> Vec<(u64, T)> {
        let later = number.checked_add(1).map_or_else(BTreeMap::new, |next| self.old.split_off(&next));
        let mut taken: Vec<_> = std::mem::replace(&mut self.old, later).into_iter().collect();
        while self.from <= number
            && let Some(first) = self.recent.pop_front()
        {
            self.there -= usize::from(first.is_some());
            taken.extend(first.map(|value| (self.from, value)));
            self.from += 1;
        }
        self.tidy();
        taken
    }

    /// Where in `recent` a number has its place, if it has one.
    fn place(&self, number: u64) -> Option<usize> {
        let place = number.checked_sub(self.from)?;
        (place < self.recent.len() as u64).then_some(place as usize)
    }

    /// Gives back what is free, as far as it is too much.
    fn tidy(&mut self) {
        self.trim();
        while self.recent.len() >= PLACES_FREE && self.there * SPARSE < self.recent.len() {
            self.retire(self.recent.len() / 2);
        }
    }

    /// Gives free places at both ends back.
    fn trim(&mut self) {
        while let Some(None) = self.recent.front() {
            self.recent.pop_front();
            self.from += 1;
        }
        while let Some(None) = self.recent.back() {
            self.recent.pop_back();
        }
        if self.recent.is_empty() && self.recent.capacity() > PLACES_FREE {
            self.recent = VecDeque::new();
        }
    }

    /// Moves what is left in the first places into the map.
    fn retire(&mut self, places: usize) {
        let retired: Vec<_> = self.recent.drain(..places).collect();
        for (number, value) in (self.from..).zip(retired) {
            if let Some(value) = value {
                self.old.insert(number, value);
                self.there -= 1;
            }
        }
        self.from += places as u64;
        self.trim();
        self.recent.shrink_to(2 * self.recent.len());
    }
}

impl<T> IntoIterator for Track<T> {
    type Item = (u64, T);
    type IntoIter = std::vec::IntoIter<(u64, T)>;

    fn into_iter(mut self) -> Self::IntoIter {
        self.take_upto(u64::MAX).into_iter()
    }
}
