//! Values that most of their owners never need: a word of memory until they are.

use std::ops::Deref;

/// A value that is its type's empty one for most of its owners, and takes no room then.
#[derive(Debug)]
pub(crate) struct Seldom<T>(Option<Box<T>>);

/// A type with an empty value that all share who have nothing else.
pub(crate) trait Empty: Default + PartialEq + 'static {
    /// Equal to the default.
    fn empty() -> &'static Self;
}

impl<T: Empty> Seldom<T> {
    pub(crate) fn new(value: T) -> Self {
        Self((value != *T::empty()).then(|| Box::new(value)))
    }

    /// To change it; room is made for it here.
    pub(crate) fn make(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }

    /// To take from it: none where nothing was ever put.
    pub(crate) fn there(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// Gives its room back if it is empty.
    pub(crate) fn tidy(&mut self) {
        self.0.take_if(|value| **value == *T::empty());
    }
}

impl<T: Empty> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Empty> Deref for Seldom<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => T::empty(),
        }
    }
}
