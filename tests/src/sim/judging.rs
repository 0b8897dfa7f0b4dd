//! What is judged of a world, and when.

use std::sync::Arc;

use leveret_broker::Effect;

use super::grpc::Grpc;
use super::wire::Wires;
use super::world::{Life, World};
use crate::checker::{Invariant, Violation};
use crate::history::Event;

impl World {
    /// Everything that exists, listed before any client is at work.
    pub(super) fn inspect(&mut self, life: &mut Life) -> Result<(), Violation> {
        // What waits for room is answered.
        self.disk.resize(u64::MAX);
        self.clients.ask_listings(life);
        self.settle_down(life);
        let (queues, bindings) = self.clients.take_listings();
        self.recorder.record(Event::Listing { queues, bindings });
        self.judge()
    }

    /// Takes everything out of every queue, and judges what was there.
    pub(super) fn drain(&mut self, life: &mut Life) -> Result<(), Violation> {
        let mut queues = self.clients.queues_to_drain();
        queues.extend(self.wires.iter().flat_map(Wires::queues_to_drain));
        queues.extend(self.grpc.iter().flat_map(Grpc::queues_to_drain));
        // What expires in one queue goes on to another that was empty before.
        let mut found = true;
        while found {
            found = false;
            for (queue, name) in &queues {
                for _ in 0..5_000 {
                    self.clients.drain_some(life, queue, Arc::clone(name));
                    self.settle_down(life);
                    self.judge()?;
                    if self.clients.drained_dry() {
                        break;
                    }
                    found = true;
                }
            }
        }
        self.recorder.record_all(queues.into_iter().map(|(queue, _)| Event::Drained { queue }));
        self.recorder.record(Event::AllDrained);
        self.judge()
    }

    pub(super) fn judge(&mut self) -> Result<(), Violation> {
        let events = self.recorder.take();
        if std::env::var_os("LEVERET_SIM_TRACE").is_some() {
            events.iter().for_each(|event| eprintln!("{event:?}"));
        }
        if let Some(found) = &mut self.found {
            let found_now = |event: &&Event| matches!(event, Event::Listing { .. } | Event::Delivered { .. });
            found.extend(events.iter().filter(found_now).cloned());
        }
        self.checker.apply_all(&events)
    }

    /// What the core has to pass over is lost, be it in the log or spilled.
    pub(super) fn note_losses(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Warn { text } = effect
                && text.contains("passed over")
                && !self.disk.crashed()
            {
                self.lost.get_or_insert_with(|| text.clone());
            }
        }
    }

    /// On a disk that fails nothing, every message that lives can be read.
    pub(super) fn all_is_readable(&self, life: &Life) -> Result<(), Violation> {
        if let Some(text) = &self.lost {
            return Err(Violation { invariant: Invariant::I1, text: text.clone() });
        }
        let (unreadable, damage) = (life.host.store().unreadable(), life.host.store().damage_found());
        if (unreadable == 0 && damage == 0) || self.disk.crashed() {
            return Ok(());
        }
        let text = format!(
            "{unreadable} messages that live could not be read, {damage} places are damaged: {:?}",
            life.host.store().findings()
        );
        Err(Violation { invariant: Invariant::I1, text })
    }
}

/// A store that does not open, though nobody damaged it, serves none of what it confirmed.
pub(super) fn refused(why: &str) -> Violation {
    Violation { invariant: Invariant::I1, text: format!("the store does not open: {why}") }
}
