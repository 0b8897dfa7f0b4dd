//! What is sent and not confirmed, with the times; one entry for each write, none for a message.

use std::collections::VecDeque;

use crate::Error;

/// Messages of one connection in flight. Their numbers begin with 1, as AMQP's delivery tags do.
#[derive(Debug)]
pub(crate) struct Flight {
    sent: u64,
    /// All up to it are confirmed.
    base: u64,
    /// Confirmed beyond it: a ring of bits, by number.
    early: Vec<u64>,
    early_count: u64,
    writes: VecDeque<Write>,
}

/// Messages that were sent together.
#[derive(Debug, Clone, Copy)]
struct Write {
    /// The last one.
    upto: u64,
    at: u64,
}

/// Confirmed messages that were sent together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Confirmed {
    /// The first one's number, from 1.
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// When they were sent.
    pub(crate) at: u64,
}

impl Flight {
    /// For so many messages in flight, counted from the oldest.
    pub(crate) fn new(most: u64) -> Self {
        let bits = most.next_power_of_two().max(64);
        Self {
            sent: 0,
            base: 0,
            early: vec![0; (bits / 64) as usize],
            early_count: 0,
            writes: VecDeque::with_capacity(1024),
        }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn confirmed(&self) -> u64 {
        self.base + self.early_count
    }

    pub(crate) fn outstanding(&self) -> u64 {
        self.sent - self.confirmed()
    }

    /// How many more there is room for.
    pub(crate) fn room(&self) -> u64 {
        self.early.len() as u64 * 64 - (self.sent - self.base)
    }

    /// So many go out now.
    pub(crate) fn send(&mut self, count: u64, at: u64) {
        debug_assert!(count <= self.room());
        self.sent += count;
        self.writes.push_back(Write { upto: self.sent, at });
    }

    /// Takes a confirm, and tells of all messages that it is the first to confirm.
    pub(crate) fn confirm(
        &mut self,
        tag: u64,
        multiple: bool,
        mut each: impl FnMut(Confirmed),
    ) -> Result<(), Error> {
        if tag > self.sent || tag == 0 {
            return Err(format!("publish {tag} was confirmed, {} were sent", self.sent).into());
        }
        if tag <= self.base {
            return Ok(());
        }
        if multiple && self.early_count == 0 {
            self.advance(tag, &mut each);
        } else if multiple {
            for number in self.base + 1..=tag {
                self.single(number, &mut each);
            }
        } else {
            self.single(tag, &mut each);
        }
        Ok(())
    }

    /// All up to it, none of which was confirmed.
    fn advance(&mut self, tag: u64, each: &mut impl FnMut(Confirmed)) {
        while self.base < tag
            && let Some(Write { upto, at }) = self.writes.front().copied()
        {
            let last = upto.min(tag);
            if last > self.base {
                each(Confirmed { first: self.base + 1, count: last - self.base, at });
            }
            self.base = last;
            if upto <= self.base {
                self.writes.pop_front();
            }
        }
    }

    fn single(&mut self, number: u64, each: &mut impl FnMut(Confirmed)) {
        if number <= self.base {
            return;
        }
        if number == self.base + 1 && !self.is_early(number) {
            self.advance(number, each);
        } else if !self.is_early(number) {
            let write = self.writes.partition_point(|write| write.upto < number);
            each(Confirmed { first: number, count: 1, at: self.writes[write].at });
            self.flip(number);
            self.early_count += 1;
        }
        while self.early_count > 0 && self.is_early(self.base + 1) {
            self.base += 1;
            self.flip(self.base);
            self.early_count -= 1;
        }
        while self.writes.front().is_some_and(|write| write.upto <= self.base) {
            self.writes.pop_front();
        }
    }

    fn place(&self, number: u64) -> (usize, u64) {
        let bit = number % (self.early.len() as u64 * 64);
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn is_early(&self, number: u64) -> bool {
        let (word, bit) = self.place(number);
        self.early[word] & bit != 0
    }

    fn flip(&mut self, number: u64) {
        let (word, bit) = self.place(number);
        self.early[word] ^= bit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(flight: &mut Flight, tag: u64, multiple: bool) -> Vec<Confirmed> {
        let mut told = Vec::new();
        flight.confirm(tag, multiple, |confirmed| told.push(confirmed)).unwrap();
        told
    }

    #[test]
    fn a_confirm_of_many_tells_of_each_write_once() {
        let mut flight = Flight::new(100);
        flight.send(10, 5);
        flight.send(10, 7);
        assert_eq!(
            told(&mut flight, 15, true),
            [Confirmed { first: 1, count: 10, at: 5 }, Confirmed { first: 11, count: 5, at: 7 }]
        );
        assert_eq!((flight.confirmed(), flight.outstanding()), (15, 5));
        assert_eq!(told(&mut flight, 15, true), []);
        assert_eq!(told(&mut flight, 20, true), [Confirmed { first: 16, count: 5, at: 7 }]);
        assert_eq!(flight.outstanding(), 0);
    }

    #[test]
    fn confirms_out_of_turn_are_told_when_they_come_and_once() {
        let mut flight = Flight::new(64);
        for round in 0..10 {
            let first = round * 60 + 1;
            flight.send(30, round);
            flight.send(30, round + 100);
            assert_eq!(
                told(&mut flight, first + 40, false),
                [Confirmed { first: first + 40, count: 1, at: round + 100 }]
            );
            assert_eq!(told(&mut flight, first + 40, false), []);
            assert_eq!(flight.outstanding(), 59);
            let all: u64 = told(&mut flight, first + 59, true).iter().map(|one| one.count).sum();
            assert_eq!(all, 59);
            assert_eq!((flight.outstanding(), flight.room()), (0, 64));
        }
    }

    #[test]
    fn room_is_counted_from_the_oldest() {
        let mut flight = Flight::new(64);
        flight.send(64, 0);
        assert_eq!(told(&mut flight, 64, false).len(), 1);
        assert_eq!((flight.outstanding(), flight.room()), (63, 0));
        for number in (1..64).rev() {
            assert_eq!(told(&mut flight, number, false).len(), 1);
        }
        assert_eq!((flight.outstanding(), flight.room()), (0, 64));
    }

    #[test]
    fn a_confirm_of_what_was_not_sent_is_an_error() {
        let mut flight = Flight::new(64);
        flight.send(1, 0);
        assert!(flight.confirm(2, true, |_| ()).is_err());
        assert!(flight.confirm(0, true, |_| ()).is_err());
    }
}
