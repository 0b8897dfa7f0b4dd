//! A queue in which everybody has their turn: who puts much in waits for themselves, not the others for them.

use std::collections::{BTreeMap, VecDeque};

/// Jobs of type `J`, in turns of those who are named `K`. See the module.
#[derive(Debug)]
pub(super) struct Turns<K, J> {
    jobs: BTreeMap<K, VecDeque<J>>,
    /// Who has jobs, the next one first.
    order: VecDeque<K>,
    /// Jobs that one may have waiting.
    most: usize,
}

impl<K: Ord + Clone, J> Turns<K, J> {
    /// Nobody has any; each may have `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { jobs: BTreeMap::new(), order: VecDeque::new(), most }
    }

    /// Puts a job in; gives it back where its owner has too many.
    pub(super) fn push(&mut self, of: K, job: J) -> Result<(), J> {
        match self.jobs.get_mut(&of) {
            Some(jobs) if jobs.len() >= self.most => return Err(job),
            Some(jobs) => jobs.push_back(job),
            None => {
                self.order.push_back(of.clone());
                self.jobs.insert(of, VecDeque::from([job]));
            }
        }
        Ok(())
    }

    /// The next job.
    pub(super) fn pop(&mut self) -> Option<J> {
        let of = self.order.pop_front()?;
        let jobs = self.jobs.get_mut(&of)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.jobs.remove(&of);
        } else {
            self.order.push_back(of);
        }
        job
    }
}
