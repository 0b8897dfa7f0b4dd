//! A connection's socket: reads into a buffer, hands it to the session, sends what comes of it to the core in one piece,
//! and writes what the session has. One task; nothing in it is done per message.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use leveret_broker::{ChanId, ConnectionInfo, Input, Op, RefusalKind, ReqId};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, Sleep};
use tracing::{debug, info, warn};

use super::half_sent::Share;
use super::outbox::Outbox;
use super::session::{End, Ids, Session, SessionSettings};
use crate::auth::{Auth, Login, Refused};
use crate::bodies::NoBodies;
use crate::held::{Held, Ready};
use crate::hub::{Caller, Connection, Hub, Lane, Outputs};
use crate::stage::{self, Stage};

/// Room for reading at first, so that a connection that says nothing costs little.
const READ_BYTES_FIRST: usize = 512;
/// Room for reading on a connection that has much to say.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Slices handed to the kernel at once.
const SLICES_MAX: usize = 64;
/// A client is told when its publishes wait longer.
const BLOCKED_AFTER: Duration = Duration::from_secs(1);
/// How long the last bytes of a connection may take.
const LINGER: Duration = Duration::from_secs(2);

/// Serves one connection until it ends.
pub(super) async fn run(
    mut stream: TcpStream,
    addr: SocketAddr,
    hub: Hub,
    auth: Auth,
    settings: Arc<SessionSettings>,
    share: Share,
    stage: stage::Receiver,
) {
    let session = Session::new(settings, Box::new(HubIds(hub.clone())), addr.to_string(), 0);
    let started = Instant::now();
    let (reader, writer) = stream.split();
    let mut connection = Socket {
        held: Held::new(hub.clone()),
        told: false,
        over: false,
        hub,
        auth,
        from: addr.ip(),
        session,
        started,
        reader,
        writer,
        input: BytesMut::with_capacity(READ_BYTES_FIRST),
        read_bytes: READ_BYTES_FIRST,
        fresh: false,
        begun: started,
        share: Some(share),
        core: None,
        asking: None,
        login_at: 0,
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
    };
    let ended = connection.serve(stage).await;
    let inputs = connection.abandon();
    if let Some(core) = &connection.core
        && !inputs.is_empty()
    {
        core.lane.send(inputs, None);
    }
    tell(addr, connection.session.outcome(), ended.err());
}

/// Ids from the hub.
struct HubIds(Hub);

impl Ids for HubIds {
    fn channel(&mut self) -> ChanId {
        self.0.new_channel_id()
    }

    fn request(&mut self) -> ReqId {
        self.0.new_request_id()
    }
}

/// What a connection has in the core. Dropping it ends it there, the lane first.
struct Core {
    lane: Lane,
    outputs: Outputs,
    _connection: Connection,
}

/// What the session waits for before there is a connection in the core.
enum Answer {
    Login(Result<Arc<str>, Refused>),
    Vhost(Result<(), RefusalKind>),
}

struct Socket<'a> {
    hub: Hub,
    auth: Auth,
    from: IpAddr,
    session: Session,
    started: Instant,
    reader: ReadHalf<'a>,
    writer: WriteHalf<'a>,
    input: BytesMut,
    read_bytes: usize,
    /// There may be whole frames in `input`.
    fresh: bool,
    /// When what is at the head of `input` came.
    begun: Instant,
    /// Its part of what is half-sent over all connections; None once that was taken from it.
    share: Option<Share>,
    core: Option<Core>,
    asking: Option<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    /// See [`ConnectionInfo`].
    login_at: u64,
    /// What waits for room, or for large bodies; nothing overtakes it.
    held: Held,
    /// The client knows that its publishes wait.
    told: bool,
    /// The client sends nothing more.
    over: bool,
    timer: Pin<Box<Sleep>>,
}

impl Socket<'_> {
    async fn serve(&mut self, mut stage: stage::Receiver) -> io::Result<()> {
        let mut stage_seen = Stage::Serving;
        loop {
            let now_ms = self.now_ms();
            self.session.at(now_ms);
            let stage_now = *stage.borrow_and_update();
            if stage_now > stage_seen {
                stage_seen = stage_now;
                match stage_now {
                    Stage::Serving => {}
                    Stage::Draining => self.session.drain(),
                    Stage::Ending => self.session.shut_down(),
                }
            }
            self.work();
            self.count_half_sent();
            if self.session.ended().is_some() {
                return self.finish().await;
            }
            if self.over && self.all_entered() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.wait(&mut stage).await?;
        }
    }

    /// Everything that can be done without waiting.
    fn work(&mut self) {
        loop {
            // First, or a client that always has more to say would never be seen to leave its answers unread.
            self.take_outputs();
            self.session.fill();
            self.ask();
            if let Some(info) = self.session.wants_connection() {
                let info = ConnectionInfo { login_at: Some(self.login_at), ..info };
                let (connection, lane, outputs) = self.hub.open_connection(info);
                self.session.connected(connection.id());
                self.core = Some(Core { lane, outputs, _connection: connection });
            }
            self.forward();
            if !self.fresh || !self.held.accepts() || !self.session.reads() {
                return;
            }
            let used = self.session.receive(&self.input);
            self.input.advance(used);
            if used > 0 {
                self.begun = Instant::now();
            }
            // Where it has not stopped early, all whole frames are used.
            self.fresh = !self.session.reads();
        }
    }

    /// Nothing of what was read waits to enter.
    fn all_entered(&self) -> bool {
        !self.fresh && self.held.is_empty() && (self.core.is_none() || !self.session.has_for_core())
    }

    /// What is not whole counts, unless it is the broker that lets it wait.
    fn count_half_sent(&mut self) {
        let Some(share) = &mut self.share else { return };
        if !self.held.accepts() {
            return share.hold(self.begun, 0);
        }
        let (bytes, since_ms) = self.session.half_sent().unwrap_or((0, u64::MAX));
        let bodies = self.started.checked_add(Duration::from_millis(since_ms)).unwrap_or(self.begun);
        share.hold(bodies.min(self.begun), bytes + self.input.len() as u64);
    }

    /// Asks what the session wants to know of its user.
    fn ask(&mut self) {
        if self.asking.is_some() {
            return;
        }
        if let Some(credentials) = self.session.wants_login() {
            let login = Login { user: &credentials.user, password: &credentials.password };
            self.login_at = self.hub.access_generation();
            if let Some(known) = self.auth.known(login, self.from) {
                return self.session.login_checked(known);
            }
            let (auth, from, credentials) = (self.auth.clone(), self.from, credentials.clone());
            self.asking = Some(Box::pin(async move {
                let login = Login { user: &credentials.user, password: &credentials.password };
                Answer::Login(auth.check(login, from).await)
            }));
        } else if let Some((user, vhost)) = self.session.wants_vhost() {
            let hub = self.hub.clone();
            let op = Op::EnterVhost { user, vhost };
            self.asking = Some(Box::pin(async move {
                let entered = hub.request(Caller::default(), "/".into(), op).await;
                Answer::Vhost(entered.map(drop).map_err(|refusal| refusal.kind))
            }));
        }
    }

    /// Sends to the core what there is for it, unless it has to wait for room.
    fn forward(&mut self) {
        let Some(core) = &self.core else { return };
        let credit = self.session.take_credit_due();
        if !credit.is_empty() {
            core.lane.send(credit, None);
        }
        if !self.held.accepts() || !self.session.has_for_core() {
            return;
        }
        let for_core = self.session.take_for_core();
        if let Some(Ready { inputs, permit }) = self.held.push(for_core.inputs, for_core.publish_bytes) {
            core.lane.send(inputs, permit);
        }
    }

    /// Waits for the next thing to happen, and takes it in.
    async fn wait(&mut self, stage: &mut stage::Receiver) -> io::Result<()> {
        let reads = self.session.reads() && self.held.accepts() && !self.fresh && !self.over;
        if reads {
            let frame_bytes = self.session.frame_bytes(&self.input);
            make_room(&mut self.input, &mut self.read_bytes, frame_bytes);
        }
        let deadline = self.deadline();
        if let Some(deadline) = deadline
            && self.timer.deadline() != deadline
        {
            self.timer.as_mut().reset(deadline);
        }
        let Self { session, reader, writer, input, core, asking, held, timer, share, .. } = self;
        let evicted = async {
            match share {
                Some(share) => {
                    share.evicted().await;
                    share.bytes_max()
                }
                None => std::future::pending().await,
            }
        };
        let answer = async {
            match asking {
                Some(asking) => asking.as_mut().await,
                None => std::future::pending().await,
            }
        };
        let outputs = async {
            match core {
                Some(core) => core.outputs.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            written = write(writer, session.out()), if !session.out().is_empty() => {
                session.written(written?);
            }
            // Before reading, or who always has more to say would wait for ever.
            ready = held.next(), if !held.is_empty() => self.let_in(ready),
            read = reader.read_buf(input), if reads => match read? {
                // What came before enters all the same.
                0 => self.over = true,
                _ => {
                    session.heard();
                    self.fresh = true;
                }
            },
            batch = outputs => match batch {
                Some(batch) => {
                    session.output(batch);
                    self.take_outputs();
                }
                // The core is gone.
                None => {
                    session.shut_down();
                    *core = None;
                }
            },
            bytes_max = evicted => {
                session.evict_half_sent(bytes_max);
                self.share = None;
            }
            answer = answer => {
                self.asking = None;
                match answer {
                    Answer::Login(user) => self.session.login_checked(user),
                    Answer::Vhost(result) => self.session.entered(result),
                }
            }
            changed = stage.changed() => {
                changed.map_err(|_| io::ErrorKind::BrokenPipe)?;
            }
            () = timer, if deadline.is_some() => self.tick(),
        }
        Ok(())
    }

    /// Takes what else has come from the core meanwhile. Until this task waits, what comes does not wake it: it looks again
    /// before it waits. A task that is woken while it runs is run once more, and a second thread is woken for that: the core
    /// may make its turn in the very call that sends to it, and with one message at a time two threads took turns.
    fn take_outputs(&mut self) {
        let mut nobody = Context::from_waker(Waker::noop());
        while let Some(core) = &mut self.core
            && let Poll::Ready(Some(batch)) = core.outputs.poll_recv(&mut nobody)
        {
            self.session.output(batch);
        }
    }

    /// There is room, or the broker is gone, or the disk does not take the bodies.
    fn let_in(&mut self, ready: Result<Ready, NoBodies>) {
        self.told = false;
        match (ready, &self.core) {
            (Ok(Ready { inputs, permit }), Some(core)) => {
                core.lane.send(inputs, permit);
                self.session.set_blocked(false);
            }
            (Err(NoBodies::NotWritten(why)), Some(core)) => {
                let closed = self.held.clear();
                if !closed.is_empty() {
                    core.lane.send(closed, None);
                }
                self.session.not_stored(&why.to_string());
            }
            _ => {
                self.held.clear();
                self.session.shut_down();
            }
        }
    }

    fn tick(&mut self) {
        self.session.at(self.now_ms());
        if !self.told && self.held.waits_since().is_some_and(|since| since.elapsed() >= BLOCKED_AFTER) {
            self.told = true;
            self.session.set_blocked(true);
        }
        self.session.tick();
        // An idle connection needs no large buffer.
        if self.input.is_empty() {
            self.input = BytesMut::new();
            self.read_bytes = READ_BYTES_FIRST;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let tick = self.session.next_tick_ms().map(|ms| self.started + Duration::from_millis(ms));
        let blocked = self.held.waits_since().filter(|_| !self.told).map(|since| since + BLOCKED_AFTER);
        match (tick, blocked) {
            (Some(tick), Some(blocked)) => Some(tick.min(blocked)),
            (tick, blocked) => tick.or(blocked),
        }
    }

    /// Writes what is left and closes the socket in an order in which the other side can read it all.
    async fn finish(&mut self) -> io::Result<()> {
        let Self { session, reader, writer, input, held, core, .. } = self;
        // What came before a mistake was taken before it.
        let entering = async {
            while let Some(core) = core
                && !held.is_empty()
                && let Ok(Ready { inputs, permit }) = held.next().await
            {
                core.lane.send(inputs, permit);
            }
        };
        let last = async {
            while !session.out().is_empty() {
                let count = write(writer, session.out()).await?;
                session.written(count);
            }
            tokio::io::AsyncWriteExt::shutdown(writer).await?;
            // A socket that is closed with bytes unread takes back what the other side has not read yet.
            loop {
                input.clear();
                input.reserve(READ_BYTES_FIRST);
                if reader.read_buf(input).await? == 0 {
                    return Ok(());
                }
            }
        };
        let ended = async { tokio::join!(last, entering).0 };
        tokio::time::timeout(LINGER, ended).await.unwrap_or(Ok(()))
    }

    /// What the core is to hear of a connection that is over. What waited for room was not accepted.
    fn abandon(&mut self) -> Vec<Input> {
        let mut inputs = self.held.clear();
        inputs.extend(self.session.abandon());
        inputs
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Hands to the kernel what it takes.
async fn write(writer: &mut WriteHalf<'_>, out: &Outbox) -> io::Result<usize> {
    loop {
        writer.writable().await?;
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = out.slices(&mut slices);
        match writer.try_write_vectored(&slices[..filled]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return written,
        }
    }
}

/// Makes room for the frame that is coming in; for more, the more the client has to say.
fn make_room(input: &mut BytesMut, read_bytes: &mut usize, frame_bytes: usize) {
    if input.capacity() == input.len() {
        *read_bytes = (*read_bytes * 4).min(READ_BYTES_MAX);
    }
    let missing = frame_bytes.saturating_sub(input.len());
    if input.capacity() - input.len() < missing.max(READ_BYTES_FIRST) {
        input.reserve(missing.max(*read_bytes));
    }
}

/// One line about the end of a connection; louder where an operator may have to do something.
fn tell(addr: SocketAddr, end: Option<&End>, error: Option<io::Error>) {
    match end {
        Some(End::ByClient) => debug!(peer = %addr, "AMQP connection closed"),
        Some(End::OtherProtocol(what)) => {
            warn!(peer = %addr, "{what} came to the AMQP port; it speaks AMQP 0-9-1, without TLS");
        }
        Some(End::HandshakeTimeout) => debug!(peer = %addr, "AMQP handshake took too long"),
        Some(End::MissedHeartbeats) => {
            warn!(peer = %addr, "AMQP connection closed: no sign of life for two heartbeats");
        }
        Some(End::LoginRefused(user)) => {
            debug!(peer = %addr, user, "AMQP connection ended after its login was refused");
        }
        Some(End::ByServer(failure)) => {
            info!(peer = %addr, code = failure.code.number(), "AMQP connection closed: {}", failure.text);
        }
        None => match error {
            Some(error) => debug!(peer = %addr, %error, "AMQP connection lost"),
            None => debug!(peer = %addr, "AMQP connection ended"),
        },
    }
}
