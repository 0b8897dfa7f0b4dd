//! Reading back, after an open and while all else goes on.

use super::*;

impl World {
    pub(super) fn fetch_all(&mut self, queue: QueueId, next: Seq) -> Option<BTreeMap<u64, Bytes>> {
        let mut live = BTreeMap::new();
        let mut from = Seq(1);
        while from < next {
            let (store, workers) = self.store.as_mut()?;
            store.fetch(Fetch {
                queue,
                generation: 7,
                from,
                upto: next,
                count_max: self.rng.u32(1..20),
                bytes_max: 4000,
                after: Ticket(0),
            });
            while workers.reader.step() == Step::Worked {}
            let mut answers = store.answers();
            if store.failure().is_some() || self.disk.crashed() {
                return None;
            }
            let answer = answers.pop().expect("one answer");
            assert!(answers.is_empty() && answer.generation == 7 && answer.lost.is_empty(), "{answer:?}");
            assert!(answer.upto > from, "an answer goes on");
            self.counts.fetched += answer.messages.len() as u64;
            for (seq, payload) in answer.messages {
                assert!(seq >= from && seq < answer.upto);
                assert!(live.insert(seq.0, payload).is_none());
            }
            from = answer.upto;
        }
        Some(live)
    }

    /// Asks for some messages while all else goes on.
    pub(super) fn fetch_some(&mut self) {
        let queues: Vec<(QueueId, u64)> =
            self.model().queues.iter().map(|(id, queue)| (*id, queue.next)).collect();
        let Some(&(queue, next)) = self.rng.choice(&queues) else { return };
        let from = Seq(self.rng.u64(1..=next));
        let (count_max, bytes_max) = (self.rng.u32(1..20), self.rng.u64(1..5_000));
        let (store, _) = self.store.as_ref().expect("open");
        store.fetch(Fetch {
            queue,
            generation: 1,
            from,
            upto: Seq(next),
            count_max,
            bytes_max,
            after: Ticket(0),
        });
    }

    /// Whatever else went on, what is read is what was put, and nothing is missing (I1 within the engine).
    pub(super) fn look_at_answers(&mut self) {
        let (store, _) = self.store.as_ref().expect("open");
        let answers = store.answers();
        // A read that the crash cut off is no lost message.
        if self.disk.crashed() {
            return;
        }
        for answer in answers {
            assert!(answer.lost.is_empty(), "{:?}", answer.lost);
            for (seq, payload) in answer.messages {
                let put = self.put.get(&(answer.queue, seq.0));
                assert_eq!(put, Some(&payload), "queue {} place {seq}", answer.queue);
                self.counts.fetched_under_way += 1;
                let blob = answer.blobs.iter().find(|(at, _)| *at == seq);
                self.keep_body(blob.map(|(_, blob)| blob.clone()), &payload);
            }
        }
    }
}
