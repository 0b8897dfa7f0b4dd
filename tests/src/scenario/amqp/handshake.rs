//! Connections and channels: opened by hand, tuned, closed.

use bytes::Buf;
use tokio::time::Instant;

use super::{Open, Run, told};
use crate::amqp::codec::{PROTOCOL_HEADER, Reader, Writer};
use crate::amqp::{Connection, Tune, method};
use crate::scenario::step::{At, ChannelClose, Connect, Offered};
use crate::scenario::value::{Table, Value, unhex};
use crate::scenario::wire::{Event, PATIENCE, Wire};

/// What every client here can do, unless a scenario says otherwise.
const CAPABILITIES: [&str; 3] = ["consumer_cancel_notify", "authentication_failure_close", "basic.nack"];

impl Run {
    /// A connection as guest.
    pub(super) async fn open(&self, tune: Tune) -> Result<Wire, String> {
        let connect = Connect {
            channel_max: Some(tune.channel_max),
            frame_max: Some(tune.frame_max),
            heartbeat: Some(tune.heartbeat),
            ..Connect::default()
        };
        let (wire, event) = self.shake_hands(&connect).await?;
        event.map_or(Ok(wire), |event| Err(format!("no connection: {}", told(&event))))
    }

    pub(super) async fn connect(&mut self, step: &Connect) -> Result<(), String> {
        let (wire, event) = self.shake_hands(step).await?;
        let frame_max = step.frame_max.filter(|max| *max > 0).unwrap_or(131_072) as usize;
        let open = Open { wire, channels: Default::default(), frame_max };
        self.connections.insert(step.at.connection.clone(), open);
        match (event, &step.error) {
            (None, None) => Ok(()),
            (Some(event), Some(fault)) => {
                let at = At { channel: 0, ..step.at.clone() };
                // A failed handshake is the failure of no method, but for connection.open.
                let failed = match &event {
                    Event::Closed { failing: method::CONNECTION_OPEN, .. } => method::CONNECTION_OPEN,
                    _ => (0, 0),
                };
                let fault = fault.clone();
                let event = match event {
                    Event::Closed { channel, code, text, failing } if failing.0 == 10 => {
                        let failing = if failing == method::CONNECTION_OPEN { failing } else { (0, 0) };
                        Event::Closed { channel, code, text, failing }
                    }
                    other => other,
                };
                self.refused(&at, event, &fault, failed).await
            }
            (Some(event), None) => Err(format!("no connection: {}", told(&event))),
            (None, Some(fault)) => Err(format!("the connection was to be refused with {}", fault.code)),
        }
    }

    /// As far as the step says; or to the event that ends it.
    async fn shake_hands(&self, step: &Connect) -> Result<(Wire, Option<Event>), String> {
        let connection = Connection::raw(self.port).await.map_err(|error| format!("no socket: {error}"))?;
        let mut wire = Wire::new(connection);
        let header = step.header.as_deref().map(unhex).transpose()?;
        wire.send(header.as_deref().unwrap_or(&PROTOCOL_HEADER)).await?;
        if step.until.as_deref() == Some("header") {
            return Ok((wire, None));
        }
        let event = wire.answer(0, &[method::CONNECTION_START]).await?;
        let Event::Method { arguments: start, .. } = event else { return Ok((wire, Some(event))) };
        if let Some(offered) = &step.offered {
            offers(start, offered)?;
        }
        if step.until.as_deref() == Some("start") {
            return Ok((wire, None));
        }
        let names = step.capabilities.clone();
        let names = names.unwrap_or_else(|| CAPABILITIES.map(String::from).to_vec());
        let capabilities = Table(names.into_iter().map(|name| (name, Value::Bool(true))).collect());
        let properties = Table(vec![
            ("product".into(), Value::Text("leveret-scenarios".into())),
            ("capabilities".into(), Value::Table(capabilities)),
        ]);
        let mechanism = step.mechanism.as_deref().unwrap_or("PLAIN");
        let user = step.user.as_deref().unwrap_or("guest");
        let password = match step.password_bytes {
            Some(count) => "x".repeat(count),
            None => step.password.clone().unwrap_or_else(|| self.access.password(user).into()),
        };
        let user = self.access.user(user);
        let response = match (&step.response, mechanism) {
            (Some(hex), _) => unhex(hex)?,
            (None, "AMQPLAIN") => {
                let login = Table(vec![
                    ("LOGIN".into(), Value::Text(user)),
                    ("PASSWORD".into(), Value::Text(password)),
                ]);
                login.write(Writer::new()).0.split_off(4)
            }
            (None, _) => format!("\0{user}\0{password}").into_bytes(),
        };
        let arguments =
            properties.write(Writer::new()).shortstr(mechanism).longstr(&response).shortstr("en_US");
        wire.method(0, method::CONNECTION_START_OK, &arguments).await?;

        if step.until.as_deref() == Some("login") {
            return Ok((wire, None));
        }
        let event = wire.answer(0, &[method::CONNECTION_TUNE]).await?;
        let Event::Method { arguments: mut tune, .. } = event else { return Ok((wire, Some(event))) };
        let tuned = (tune.short(), tune.long(), tune.short());
        if let Some(wanted) = step.tuned.filter(|wanted| *wanted != tuned) {
            return Err(format!("connection.tune says {tuned:?}, not {wanted:?}"));
        }
        if step.until.as_deref() == Some("tune") {
            return Ok((wire, None));
        }
        let arguments = Writer::new()
            .short(step.channel_max.unwrap_or(tuned.0))
            .long(step.frame_max.unwrap_or(tuned.1))
            .short(step.heartbeat.unwrap_or(0));
        wire.method(0, method::CONNECTION_TUNE_OK, &arguments).await?;

        let vhost = self.access.vhost(step.vhost.as_deref());
        let arguments = Writer::new().shortstr(&vhost).shortstr("").octet(0);
        wire.method(0, method::CONNECTION_OPEN, &arguments).await?;
        if step.until.as_deref() == Some("open") {
            return Ok((wire, None));
        }
        match wire.answer(0, &[method::CONNECTION_OPEN_OK]).await? {
            Event::Method { .. } => Ok((wire, None)),
            event => Ok((wire, Some(event))),
        }
    }

    pub(super) async fn disconnect(&mut self, at: At, abrupt: bool) -> Result<(), String> {
        let Some(mut open) = self.connections.remove(&at.connection) else {
            return Err(format!("there is no connection {}", at.connection));
        };
        if abrupt {
            return Ok(());
        }
        let close = Writer::new().short(200).shortstr("bye").short(0).short(0);
        open.wire.method(0, method::CONNECTION_CLOSE, &close).await?;
        match open.wire.answer(0, &[method::CONNECTION_CLOSE_OK]).await? {
            Event::Method { .. } => Ok(()),
            other => Err(format!("not close-ok, but {}", told(&other))),
        }
    }

    pub(super) async fn channel_close(&mut self, step: &ChannelClose) -> Result<(), String> {
        let at = &step.at;
        let open = self.wire(at).await?;
        let close = Writer::new().short(200).shortstr("bye").short(0).short(0);
        open.wire.method(at.channel, method::CHANNEL_CLOSE, &close).await?;
        if step.no_wait {
            return Ok(());
        }
        open.channels.remove(&at.channel);
        // What was on its way before close-ok is the client's to drop.
        let until = Instant::now() + PATIENCE;
        loop {
            match open.wire.next(at.channel, until).await? {
                Some(Event::Method { id: method::CHANNEL_CLOSE_OK, .. }) => break,
                Some(Event::Closed { channel: 0, code, text, .. }) => {
                    return Err(format!("not close-ok, but {code} {text}"));
                }
                Some(Event::Ended) | None => return Err("no close-ok".into()),
                Some(_) => {}
            }
        }
        open.wire.forget(at.channel);
        Ok(())
    }
}

fn offers(mut start: Reader, wanted: &Offered) -> Result<(), String> {
    let version = (start.octet(), start.octet());
    let mut table = Writer::new().longstr(&start.longstr()).0;
    let mut bytes = bytes::Bytes::from(std::mem::take(&mut table));
    let properties = Table::read(&mut bytes).ok_or("server properties that cannot be read")?;
    let words = |text: bytes::Bytes| {
        String::from_utf8_lossy(text.chunk()).split_whitespace().map(String::from).collect::<Vec<_>>()
    };
    let (mechanisms, locales) = (words(start.longstr()), words(start.longstr()));
    if wanted.version.is_some_and(|wanted| wanted != version) {
        return Err(format!("connection.start says version {version:?}"));
    }
    for (wanted, offered) in [(&wanted.mechanisms, mechanisms), (&wanted.locales, locales)] {
        if let Some(missing) = wanted.iter().find(|name| !offered.contains(name)) {
            return Err(format!("connection.start offers {offered:?} without {missing}"));
        }
    }
    for (name, value) in &wanted.properties.0 {
        match properties.get(name) {
            Some(theirs) if value.matches(theirs) => {}
            theirs => return Err(format!("the server's property {name} is {theirs:?}, not {value:?}")),
        }
    }
    let capabilities = match properties.get("capabilities") {
        Some(Value::Table(table)) => table.clone(),
        _ => Table::default(),
    };
    for name in &wanted.capabilities {
        if capabilities.get(name) != Some(&Value::Bool(true)) {
            return Err(format!("the server has no capability {name}: {capabilities:?}"));
        }
    }
    Ok(())
}
