//! Guards against a connection that the core does not take in and nobody hears of it.

use std::collections::VecDeque;
use std::time::Duration;

use super::*;

#[test]
fn a_connection_can_be_told_at_once_that_it_was_not_taken_in() {
    let inbox = Arc::new(Inbox::default());
    let hub = Hub::new(Arc::clone(&inbox), 1, 1);
    let (connection, lane, _outputs) = hub.open_connection(ConnectionInfo::default());
    let mut envelopes = VecDeque::new();
    inbox.take(&mut envelopes, Duration::ZERO);
    let said: Vec<_> = envelopes
        .iter()
        .map(|envelope| match envelope {
            Envelope::OpenLane { lane: opened, conn, .. } if *opened == lane.id => ("lane", *conn),
            Envelope::Input(Input::ConnectionOpened { conn, .. }) => ("connection", *conn),
            other => unreachable!("{other:?}"),
        })
        .collect();
    assert_eq!(said, [("lane", connection.id), ("connection", connection.id)]);
}
