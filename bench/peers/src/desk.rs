//! Group commit for a log that one thread drives: writers lay their records down, the log's owner takes all that lie
//! there, makes them durable together and lets their writers go on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Error;
use crate::peer::{Append, Log};
use crate::sync::{Bell, Gate};

/// Records that are made durable together.
#[derive(Debug, Default)]
pub(crate) struct Group {
    bytes: Vec<u8>,
    /// Of each record its writer and its end.
    ends: Vec<(usize, usize)>,
}

impl Group {
    pub(crate) fn push(&mut self, writer: usize, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push((writer, self.bytes.len()));
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Of each record its writer, its begin and its end.
    pub(crate) fn places(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let mut begin = 0;
        self.ends.iter().map(move |&(writer, end)| (writer, std::mem::replace(&mut begin, end), end))
    }

    /// Each record with its writer.
    pub(crate) fn records(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.places().map(|(writer, begin, end)| (writer, &self.bytes[begin..end]))
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

#[derive(Default)]
struct Waiting {
    group: Group,
    gate: Arc<Gate>,
    owner_sleeps: bool,
    closing: bool,
    /// Why the owner has ended.
    failed: Option<String>,
}

#[derive(Default)]
struct Table {
    waiting: Mutex<Waiting>,
    bell: Bell,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that holds it panics.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log with its owner's thread. Its end is the log's.
pub(crate) struct Desk {
    table: Arc<Table>,
    owner: Option<JoinHandle<()>>,
}

impl Desk {
    pub(crate) fn new(mut log: Box<dyn Log>) -> Result<Self, Error> {
        let table = Arc::new(Table::default());
        let owned = Arc::clone(&table);
        let own = move || {
            if let Err(error) = own(&owned, log.as_mut()) {
                owned.lock().failed = Some(error.to_string());
            }
        };
        let owner = thread::Builder::new().name("owner".into()).spawn(own)?;
        Ok(Self { table, owner: Some(owner) })
    }

    pub(crate) fn writer(&self, index: usize) -> Box<dyn Append> {
        Box::new(Writer { table: Arc::clone(&self.table), index })
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.table.lock().closing = true;
        self.table.bell.ring();
        if let Some(owner) = self.owner.take() {
            // It panics nowhere; if it did, it has said so.
            drop(owner.join());
        }
    }
}

/// So long the owner lets others run before it writes, from the last record that this has brought: a thread that sleeps
/// needs about as long to come back.
const LINGER: Duration = Duration::from_micros(20);

fn own(table: &Table, log: &mut dyn Log) -> Result<(), Error> {
    let mut group = Group::default();
    loop {
        linger(table, group.len());
        group.clear();
        let gate = {
            let mut waiting = table.lock();
            if waiting.group.len() == 0 {
                if waiting.closing {
                    return Ok(());
                }
                waiting.owner_sleeps = true;
                drop(waiting);
                table.bell.wait();
                continue;
            }
            std::mem::swap(&mut waiting.group, &mut group);
            std::mem::take(&mut waiting.gate)
        };
        let outcome = log.commit(&group);
        gate.open(outcome.is_ok());
        outcome?;
    }
}

/// Those who were let go on come back with their next record: to write with them saves a sync.
fn linger(table: &Table, expected: usize) {
    let mut seen = table.lock().group.len();
    let mut since = Instant::now();
    while seen < expected && since.elapsed() < LINGER {
        thread::yield_now();
        let now = table.lock().group.len();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
}

struct Writer {
    table: Arc<Table>,
    index: usize,
}

impl Append for Writer {
    fn append(&mut self, record: &[u8]) -> Result<(), Error> {
        let mut waiting = self.table.lock();
        if let Some(failed) = &waiting.failed {
            return Err(failed.clone().into());
        }
        waiting.group.push(self.index, record);
        let gate = Arc::clone(&waiting.gate);
        let wake = std::mem::take(&mut waiting.owner_sleeps);
        drop(waiting);
        if wake {
            self.table.bell.ring();
        }
        if gate.wait() { Ok(()) } else { Err("the group was not made durable".into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Records = Arc<Mutex<Vec<(usize, Vec<u8>)>>>;

    /// Keeps what it is given; fails from a group on.
    struct Kept(Records, usize);

    impl Log for Kept {
        fn commit(&mut self, group: &Group) -> Result<(), Error> {
            if self.1 == 0 {
                return Err("full".into());
            }
            self.1 -= 1;
            self.0.lock().unwrap().extend(group.records().map(|(writer, record)| (writer, record.to_vec())));
            Ok(())
        }
    }

    #[test]
    fn each_writer_goes_on_when_its_record_is_kept_and_in_order() {
        let kept = Records::default();
        let desk = Desk::new(Box::new(Kept(Arc::clone(&kept), usize::MAX))).unwrap();
        let writer = |index: usize| {
            let (mut writer, kept) = (desk.writer(index), Arc::clone(&kept));
            thread::spawn(move || {
                for number in 0..200u8 {
                    writer.append(&[number]).unwrap();
                    let kept = kept.lock().unwrap();
                    let last = kept.iter().rfind(|(of, _)| *of == index);
                    assert_eq!(last, Some(&(index, vec![number])));
                }
            })
        };
        let threads: Vec<_> = (0..8).map(writer).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(kept.lock().unwrap().len(), 8 * 200);
    }

    #[test]
    fn what_fails_is_told_to_those_who_wait_and_those_who_come() {
        let desk = Desk::new(Box::new(Kept(Arc::default(), 1))).unwrap();
        let mut writer = desk.writer(0);
        writer.append(b"a").unwrap();
        assert!(writer.append(b"b").is_err());
        assert!(writer.append(b"c").is_err());
    }

    #[test]
    fn a_group_has_its_records_one_by_one() {
        let mut group = Group::default();
        group.push(3, b"abc");
        group.push(1, b"");
        group.push(2, b"de");
        assert_eq!(group.records().collect::<Vec<_>>(), [(3, &b"abc"[..]), (1, b""), (2, b"de")]);
        assert_eq!((group.len(), group.bytes()), (3, &b"abcde"[..]));
        group.clear();
        assert_eq!(group.records().count(), 0);
    }
}
