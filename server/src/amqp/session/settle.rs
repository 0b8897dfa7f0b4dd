//! Acks, nacks and rejects.

use leveret_broker::{Input, Settle};

use super::Session;
use crate::amqp::method::Method;
use crate::amqp::reply_code::Failure;

impl Session {
    pub(super) fn settle(&mut self, number: u16, method: &Method<'_>) -> Result<(), Failure> {
        let refuse = |requeue| if requeue { Settle::Requeue } else { Settle::Drop };
        let (tag, multiple, how) = match *method {
            Method::BasicAck { delivery_tag, multiple } => (delivery_tag, multiple, Settle::Ack),
            Method::BasicNack { delivery_tag, multiple, requeue } => {
                (delivery_tag, multiple, refuse(requeue))
            }
            Method::BasicReject { delivery_tag, requeue } => (delivery_tag, false, refuse(requeue)),
            _ => return Ok(()),
        };
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        if how != Settle::Ack {
            channel.refused_by = method.ids();
        }
        self.for_core.inputs.push(Input::Settle { chan: channel.chan, tag, multiple, how });
        Ok(())
    }
}
