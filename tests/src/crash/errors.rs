//! Lives in which system calls fail: at a chosen call the file system answers with an error, or takes half of a write, or has
//! no room left. The server ends with a message or goes on, as the case may be; then the power goes, and what it confirmed
//! must be there. A confirm that followed a failed sync would be missing then, as no later sync covers what that one was for.

use std::fmt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::io::Errno;

use crate::client::{Client, to_queue};
use crate::faultfs::{Call, Disk, Fault, How};
use crate::server::{Home, Options, Server, tail};

/// How long the load goes on until an error is met. Some calls come rarely.
const HIT_PATIENCE: Duration = Duration::from_millis(1500);
/// How long a server has to end after an error that it cannot live with.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take until publishing goes on after the trouble is over.
const RESUME_PATIENCE: Duration = Duration::from_secs(15);
/// How long a full disk stays full.
const FULL: Duration = Duration::from_millis(400);
/// A queue that the harness makes to see that publishing goes on.
const PROBE: &str = "probe";

/// What went wrong in a run, and what came of it.
#[derive(Debug, Default, Clone, Copy)]
pub struct Errors {
    /// Lives with an error that was met.
    pub met: u64,
    /// Calls that failed in them.
    pub calls: u64,
    /// Times that the disk was full.
    pub full: u64,
    /// Lives that ended by themselves with a message.
    pub ended: u64,
    /// Lives in which publishing went on.
    pub went_on: u64,
    /// Starts that met an error.
    pub starts: u64,
    /// Those of them that ended with a message.
    pub starts_ended: u64,
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { met, calls, full, ended, went_on, starts, starts_ended } = self;
        writeln!(
            f,
            "lives with an error         {met} ({calls} calls failed, the disk was full {full} times)"
        )?;
        writeln!(f, "  that ended with a message {ended}")?;
        writeln!(f, "  that went on              {went_on}")?;
        write!(f, "starts that met an error    {starts} ({starts_ended} ended with a message)")
    }
}

/// What must come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The process ends and says why: nothing is known about the log any more.
    Ends,
    /// It goes on, and publishing resumes by itself.
    GoesOn,
    /// Either: ending is always sound, going on where the call was not the log's.
    Either,
}

/// One trouble.
#[derive(Debug, Clone)]
enum Trouble {
    Fault(Fault, Then),
    /// No more room than that, for a while.
    Full(u64, Errno),
}

fn draw(rng: &mut Rng) -> Trouble {
    let full = [Errno::NOSPC, Errno::DQUOT][rng.usize(..2)];
    let io = Errno::IO;
    let skip = rng.u64(..4);
    let some = |call, names, error| Fault { times: 20, ..Fault::once(call, names, error) };
    let (fault, then) = match rng.u8(..25) {
        0..3 => (Fault::once(Call::Sync, "log-", io), Then::Ends),
        3 => (Fault::once(Call::Sync, "log-", full), Then::Ends),
        4 | 5 => (Fault::once(Call::Write, "log-", io), Then::Ends),
        6 => (Fault { how: How::Short, times: 10, ..Fault::once(Call::Write, "", io) }, Then::GoesOn),
        // Its room was allocated: that there is none nevertheless is an error like any other.
        7 => (Fault::once(Call::Write, "log-", full), Then::Either),
        8 => (Fault::once(Call::Sync, "MANIFEST", io), Then::Ends),
        9 => (Fault::once(Call::Write, "MANIFEST", io), Then::Ends),
        10 => (Fault::once(Call::Write, "MANIFEST", full), Then::GoesOn),
        11 => (some(Call::Allocate, "", full), Then::GoesOn),
        12 => (some(Call::Create, "", full), Then::GoesOn),
        13 => (some(Call::Write, "checkpoint", full), Then::GoesOn),
        14 => (some(Call::Write, "settled", full), Then::GoesOn),
        15 => (some(Call::Write, "blob-", full), Then::GoesOn),
        16 => (Fault::once(Call::Sync, ["checkpoint", "settled", "blob-"][rng.usize(..3)], io), Then::Either),
        17 => {
            (Fault::once(Call::Write, ["checkpoint", "settled", "blob-"][rng.usize(..3)], io), Then::Either)
        }
        18 => (Fault::once(Call::SyncDir, "", io), Then::Either),
        // Segments are made ahead of need, and at need.
        19 => (Fault::once([Call::Fill, Call::SyncFill][rng.usize(..2)], "log-", io), Then::Either),
        20 => (Fault::once([Call::Create, Call::Rename, Call::Remove][rng.usize(..3)], "", io), Then::Either),
        _ => return Trouble::Full([0, 64 << 10, 1 << 20][rng.usize(..3)], full),
    };
    Trouble::Fault(fault.after(skip), then)
}

/// The log's syncs fail from now on and say that they went well: the control. What is confirmed then is not there after a
/// power loss, and the checker has to see it.
fn unsaid() -> Trouble {
    let fault = Fault { how: How::Unsaid, ..Fault::always(Call::Sync, "log-", Errno::IO) };
    Trouble::Fault(fault, Then::GoesOn)
}

/// Makes one trouble for a server under load and sees what comes of it. The server still runs where it went on.
pub(super) async fn make_trouble(
    disk: &Disk,
    home: &Home,
    server: &mut Server,
    rng: &mut Rng,
    errors: &mut Errors,
    control: bool,
) -> Result<(), String> {
    let trouble = if control { unsaid() } else { draw(rng) };
    home.note(&format!("{trouble:?}"));
    let said_before = home.stderr_bytes();
    let then = match &trouble {
        Trouble::Fault(fault, then) => {
            disk.mend();
            disk.fault(fault.clone());
            let met = until(HIT_PATIENCE, || disk.hits() > 0 || server.ended().is_some()).await;
            if met && *then != Then::Ends {
                // What else it does about it, it may do with the error still there.
                tokio::time::sleep(Duration::from_millis(rng.u64(..100))).await;
            }
            *then
        }
        Trouble::Full(room, error) => {
            disk.leave_room(*room, *error);
            tokio::time::sleep(FULL).await;
            disk.leave_room(1 << 30, *error);
            errors.full += 1;
            Then::GoesOn
        }
    };
    if then == Then::Ends && disk.hits() > 0 {
        until(END_PATIENCE, || server.ended().is_some()).await;
    }
    let hits = disk.mend();
    let full = matches!(trouble, Trouble::Full(..));
    errors.met += u64::from(hits > 0 || full);
    errors.calls += hits;
    let said = home.stderr_from(said_before);
    let judged = match server.ended() {
        Some(status) => ended_well(status, &said, then, hits).map(|()| errors.ended += 1),
        None if then == Then::Ends && hits > 0 => Err("the server runs on".into()),
        None => match (resumes(server).await, server.ended()) {
            (Ok(()), _) => {
                errors.went_on += u64::from(hits > 0 || full);
                Ok(())
            }
            // It took its time.
            (Err(_), Some(status)) => {
                ended_well(status, &home.stderr_from(said_before), then, hits).map(|()| errors.ended += 1)
            }
            (Err(why), None) => Err(why),
        },
    };
    judged.map_err(|why| format!("{trouble:?}: {why}\n{}", tail(&said)))
}

/// What a start may meet.
fn draw_for_a_start(rng: &mut Rng) -> Fault {
    let files = ["", "log-", "MANIFEST", "checkpoint", "settled", "blob", "reserve"];
    let full = [Errno::NOSPC, Errno::DQUOT][rng.usize(..2)];
    let changes = [
        Call::Write,
        Call::Fill,
        Call::Sync,
        Call::SyncFill,
        Call::Allocate,
        Call::Create,
        Call::Rename,
        Call::Remove,
    ];
    let change = changes[rng.usize(..changes.len())];
    let fault = match rng.u8(..8) {
        0..3 => Fault::always(Call::Read, files[rng.usize(..files.len())], Errno::IO),
        3..5 => Fault::once(change, files[rng.usize(..files.len())], Errno::IO),
        5 => Fault::once(Call::SyncDir, "", Errno::IO),
        6 => Fault::always(change, "", full),
        _ => Fault { how: How::Short, times: 10, ..Fault::once(Call::Write, "", Errno::IO) },
    };
    let skip = if rng.bool() { 0 } else { rng.u64(..6) };
    fault.after(skip)
}

/// Starts a server that meets an error on its way, or soon after. It serves, or ends with a message; what it does to the
/// data meanwhile, the next starts show.
pub(super) async fn trouble_a_start(
    disk: &Disk,
    home: &Home,
    options: &Options,
    rng: &mut Rng,
    errors: &mut Errors,
) -> Result<Server, String> {
    let fault = draw_for_a_start(rng);
    home.note(&format!("a start: {fault:?}"));
    let said_before = home.stderr_bytes();
    disk.mend();
    disk.fault(fault.clone());
    let mut server = Server::spawn(home, options.clone());
    // However it comes out: what it says is judged below.
    let serves = server.wait_serving().await.is_ok();
    let hits = disk.mend();
    errors.starts += u64::from(hits > 0);
    let said = home.stderr_from(said_before);
    match server.ended() {
        // Another process took its port.
        Some(_) if hits == 0 && said.contains("in use by another") => Ok(server),
        Some(status) => {
            errors.starts_ended += 1;
            let judged = ended_well(status, &said, Then::Either, hits);
            judged.map(|()| server).map_err(|why| format!("{fault:?}: {why}\n{}", tail(&said)))
        }
        None if serves => Ok(server),
        None => Err(format!("{fault:?}: it neither serves nor ends\n{}", tail(&said))),
    }
}

/// Whether it ended as it may: with a failure that its last words explain.
fn ended_well(status: ExitStatus, said: &str, then: Then, hits: u64) -> Result<(), String> {
    if then == Then::GoesOn || hits == 0 {
        return Err(format!("the server ended with {status}"));
    }
    let explains = said.lines().any(|line| line.contains("cannot ") && line.contains("os error"));
    match (status.success() || status.code().is_none(), explains) {
        (false, true) => Ok(()),
        (true, _) => Err(format!("the server ended with {status}")),
        (_, false) => Err(format!("the server ended with {status} and did not say why")),
    }
}

/// Whether a client that comes now can publish, before long.
async fn resumes(server: &Server) -> Result<(), String> {
    let end = Instant::now() + RESUME_PATIENCE;
    loop {
        match probe(server).await {
            Ok(()) => return Ok(()),
            Err(why) if Instant::now() > end => {
                return Err(format!("publishing has not resumed in {RESUME_PATIENCE:?}: {why}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn probe(server: &Server) -> Result<(), String> {
    let steps = async {
        let mut client = Client::try_connect(server.grpc_port()).await.map_err(|error| error.to_string())?;
        let failed = |status: tonic::Status| format!("{status:?}");
        client.rpc.declare_queue(crate::client::queue(PROBE)).await.map_err(failed)?;
        let messages = vec![to_queue(PROBE, "goes on")];
        let publish = leveret_proto::v1::PublishRequest { vhost: String::new(), messages };
        client.rpc.publish(publish).await.map_err(failed)?;
        let delete = leveret_proto::v1::DeleteQueueRequest { name: PROBE.into(), ..Default::default() };
        client.rpc.delete_queue(delete).await.map_err(failed)?;
        Ok(())
    };
    match tokio::time::timeout(RESUME_PATIENCE / 3, steps).await {
        Ok(done) => done,
        Err(_) => Err("a call was not answered".into()),
    }
}

async fn until(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    while !done() {
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    true
}
