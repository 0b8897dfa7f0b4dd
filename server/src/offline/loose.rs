//! What damage left without what it speaks of: a binding to a queue whose declaration is lost, a queue whose deletion
//! is lost though its name was used again. The broker would refuse to start with them, so the broker is asked.

use leveret_broker::{Broker, NameKey, QueueId, RecoverError, Recovered, RecoveredQueue, Seq, Settings};
use leveret_engine::offline::{Checked, LeaveOut};

/// What must be left out so that the broker starts. What it would refuse for another reason stays, and is told then.
pub(super) fn loose_ends(checked: &Checked) -> LeaveOut {
    let mut left_out = LeaveOut::default();
    let mut facts = checked.facts.clone();
    let mut queues: Vec<QueueId> = checked.queues.iter().map(|queue| QueueId(queue.queue.0)).collect();
    loop {
        let recovered = Recovered {
            facts: facts.clone(),
            queues: queues.iter().map(|queue| empty(*queue)).collect(),
            ..Recovered::default()
        };
        let settings = Settings {
            memory_budget_bytes: 0,
            message_bytes_max: 0,
            append_bytes_max: 0,
            // It gives no names.
            name_key: NameKey::new([0; NameKey::BYTES]),
        };
        match Broker::new(settings, recovered, 0) {
            Err(RecoverError::Dangling { key, .. }) => {
                let Some(at) = facts.iter().position(|(fact, _)| fact.escape_ascii().to_string() == key)
                else {
                    return left_out;
                };
                left_out.facts.push(facts.remove(at).0);
            }
            Err(RecoverError::Nameless(queue)) => {
                queues.retain(|other| *other != queue);
                left_out.queues.push(leveret_engine::QueueId(queue.0));
            }
            Ok(_) | Err(_) => return left_out,
        }
    }
}

/// Its messages do not matter here.
fn empty(queue: QueueId) -> RecoveredQueue {
    let first = Seq(1);
    RecoveredQueue { queue, next: first, head: first, redelivered_below: first, ..RecoveredQueue::default() }
}
