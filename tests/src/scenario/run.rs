//! Runs cases: several at once, each on a broker that no other case uses meanwhile, or in a virtual host of its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::access::Admin;
use super::amqp;
use super::case::{Case, FrontEnd};
use super::grpc;
use super::rabbitmq::Node;
use super::step::{At, Fault, Only, Step};
use crate::server::{Options, Server};

/// Between the last answer of RabbitMQ and its kill.
const METADATA_PAUSE: Duration = Duration::from_secs(1);

/// How long a case may take.
const CASE_TIMEOUT: Duration = Duration::from_secs(90);
/// Cases at once, on Leveret and on RabbitMQ.
const WORKERS: [usize; 2] = [4, 8];

/// Whom the cases are asked of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The broker under test, over AMQP.
    Amqp,
    /// The broker under test, over gRPC.
    Grpc,
    /// RabbitMQ.
    RabbitMq,
}

impl Target {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amqp => "amqp",
            Self::Grpc => "grpc",
            Self::RabbitMq => "rabbitmq",
        }
    }

    fn does(self, step: &Step) -> bool {
        match step.only() {
            None => true,
            Some(Only::Leveret) => self != Self::RabbitMq,
            Some(Only::Rabbitmq) => self == Self::RabbitMq,
            Some(Only::Amqp) => self != Self::Grpc,
            Some(Only::Grpc) => self == Self::Grpc,
        }
    }

    /// Whether a case is for it at all.
    pub fn takes(self, case: &Case) -> bool {
        case.on.contains(if self == Self::Grpc { &FrontEnd::Grpc } else { &FrontEnd::Amqp })
    }
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Passed,
    /// File, line and what was not as it should be.
    Failed(String),
    /// Not asked of this target, for the reason that the case gives.
    Skipped(String),
}

/// A case with its verdict.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Section, file and name.
    pub case: String,
    /// What became of it.
    pub verdict: Verdict,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.verdict {
            Verdict::Passed => write!(out, "{}: ok", self.case),
            Verdict::Failed(why) => write!(out, "{}: FAILED\n    {why}", self.case),
            Verdict::Skipped(why) => write!(out, "{}: not asked, {why}", self.case),
        }
    }
}

/// Runs those of the cases that are for the target; their outcomes in the order of the cases.
///
/// # Errors
/// When RabbitMQ does not start.
pub async fn run(target: Target, cases: &[Case]) -> Result<Vec<Outcome>, String> {
    let cases: Vec<Arc<Case>> =
        cases.iter().filter(|case| target.takes(case)).cloned().map(Arc::new).collect();
    let verdicts = match target {
        Target::RabbitMq => run_on_rabbitmq(&cases).await?,
        _ => run_on_leveret(target, &cases).await,
    };
    let named = |(case, verdict): (Arc<Case>, Verdict)| {
        let file = case.file.file_stem().unwrap_or_default().to_string_lossy();
        let case = format!("{} {}/{file}: {}", target.name(), case.section, case.name);
        Outcome { case, verdict }
    };
    Ok(cases.into_iter().zip(verdicts).map(named).collect())
}

/// Cases that wait, with their places.
type Waiting = Arc<Mutex<VecDeque<(usize, Arc<Case>)>>>;

fn next(waiting: &Waiting) -> Option<(usize, Arc<Case>)> {
    waiting.lock().expect("no holder panics").pop_front()
}

async fn run_on_leveret(target: Target, cases: &[Arc<Case>]) -> Vec<Verdict> {
    let waiting: Waiting = Arc::new(Mutex::new(cases.iter().cloned().enumerate().collect()));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS[0].min(cases.len()) {
        let waiting = waiting.clone();
        workers.spawn(async move {
            let mut done = Vec::new();
            let mut server: Option<(Server, Vec<String>)> = None;
            while let Some((place, case)) = next(&waiting) {
                let kept = server.take().filter(|(_, flags)| *flags == case.flags);
                let flags = case.flags.clone();
                let task = on_leveret(target, case, kept.map(|(server, _)| server));
                // What panics is the case's failure, not that of the run.
                let (verdict, kept) = tokio::spawn(task)
                    .await
                    .unwrap_or_else(|error| (Verdict::Failed(format!("it panicked: {error}")), None));
                server = kept.map(|server| (server, flags));
                done.push((place, verdict));
            }
            done
        });
    }
    in_order(cases.len(), workers).await
}

async fn in_order(count: usize, mut workers: JoinSet<Vec<(usize, Verdict)>>) -> Vec<Verdict> {
    let mut all = vec![Verdict::Failed("it was not run".into()); count];
    while let Some(done) = workers.join_next().await {
        match done {
            Ok(done) => done.into_iter().for_each(|(place, verdict)| all[place] = verdict),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    all
}

/// Runs a case; gives the server back when it is as good as new.
async fn on_leveret(target: Target, case: Arc<Case>, server: Option<Server>) -> (Verdict, Option<Server>) {
    let mut server = match server {
        Some(server) => server,
        None => Server::start_with(Options { flags: case.flags.clone(), ..Options::default() }).await,
    };
    let mut running = Running::new(target, case, Peer::of(target, &server));
    let verdict = loop {
        match running.go().await {
            Ok(Stop::Done) => break Verdict::Passed,
            Err(why) => break Verdict::Failed(why),
            Ok(Stop::Kill) => {
                server = server.kill_and_restart().await;
                running.peer.restarted(&server);
            }
            Ok(Stop::Restart(told)) => {
                let (stopped, told) = tokio::join!(server.stop(), running.peer.left(told));
                let (home, options) = stopped;
                server = Server::start_on(&home, options).await;
                running.peer.restarted(&server);
                if let Err(why) = told {
                    break Verdict::Failed(running.before(&why));
                }
            }
        }
    };
    match (&verdict, running.peer.clean_up().await) {
        (Verdict::Passed, Ok(())) => (verdict, Some(server)),
        (Verdict::Passed, Err(why)) => (Verdict::Failed(running.at(&format!("cleaning up: {why}"))), None),
        _ => (verdict, None),
    }
}

async fn run_on_rabbitmq(cases: &[Arc<Case>]) -> Result<Vec<Verdict>, String> {
    let mut verdicts: Vec<Verdict> = cases
        .iter()
        .map(|case| match &case.no_rabbitmq {
            Some(why) => Verdict::Skipped(why.clone()),
            None => Verdict::Failed("it was not run".into()),
        })
        .collect();
    let asked = || cases.iter().cloned().enumerate().filter(|(_, case)| case.no_rabbitmq.is_none());
    let mut groups: BTreeMap<Vec<&str>, Vec<(usize, Arc<Case>)>> = BTreeMap::new();
    for (place, case) in asked().filter(|(_, case)| case.restarts()) {
        let stops = case.steps.iter().map(|(_, step)| step.name());
        let stops = stops.filter(|name| matches!(*name, "restart" | "kill")).collect();
        groups.entry(stops).or_default().push((place, case));
    }
    let most = groups.values().map(Vec::len).max().unwrap_or(0).max(WORKERS[1]);
    let vhosts: Vec<String> = (0..most).map(|number| format!("w{number}")).collect();
    let mut node = Node::start(&vhosts).await?;

    let waiting: Waiting = Arc::new(Mutex::new(asked().filter(|(_, case)| !case.restarts()).collect()));
    let mut workers = JoinSet::new();
    for vhost in vhosts.iter().take(WORKERS[1]) {
        let (waiting, (port, http_port), vhost) =
            (waiting.clone(), (node.port, node.http_port), vhost.clone());
        workers.spawn(async move {
            let mut done = Vec::new();
            while let Some((place, case)) = next(&waiting) {
                let peer = Peer::Amqp(amqp::Run::new(port, &vhost, Admin::RabbitMq(http_port)));
                let mut running = Running::new(Target::RabbitMq, case, peer);
                let verdict = running.go().await.map_or_else(Verdict::Failed, |_| Verdict::Passed);
                done.push((place, after(verdict, &mut running).await));
            }
            done
        });
    }
    while let Some(done) = workers.join_next().await {
        let done = done.map_err(|error| error.to_string())?;
        done.into_iter().for_each(|(place, verdict)| verdicts[place] = verdict);
    }
    for group in groups.values() {
        for (place, verdict) in together(&mut node, &vhosts, group).await? {
            verdicts[place] = verdict;
        }
    }
    Ok(verdicts)
}

/// Runs cases that restart the broker at the same points, each in its virtual host: all at once up to each restart.
async fn together(
    node: &mut Node,
    vhosts: &[String],
    group: &[(usize, Arc<Case>)],
) -> Result<Vec<(usize, Verdict)>, String> {
    let mut running = Vec::new();
    for ((place, case), vhost) in group.iter().zip(vhosts) {
        let peer = Peer::Amqp(amqp::Run::new(node.port, vhost, Admin::RabbitMq(node.http_port)));
        running.push((*place, Running::new(Target::RabbitMq, case.clone(), peer)));
    }
    let mut done = Vec::new();
    while !running.is_empty() {
        let mut signal = Signal::TERM;
        let mut waiting = Vec::new();
        let mut going = JoinSet::new();
        for (place, mut case) in running {
            going.spawn(async move { (place, case.go().await, case) });
        }
        while let Some(went) = going.join_next().await {
            let (place, went, mut case) = went.map_err(|error| error.to_string())?;
            match went {
                Ok(Stop::Done) => done.push((place, after(Verdict::Passed, &mut case).await)),
                Err(why) => done.push((place, after(Verdict::Failed(why), &mut case).await)),
                Ok(stop) => {
                    if matches!(stop, Stop::Kill) {
                        signal = Signal::KILL;
                    }
                    waiting.push((place, case));
                }
            }
        }
        running = waiting;
        if !running.is_empty() {
            if signal == Signal::KILL {
                // What RabbitMQ answers of its metadata is with the system only a moment later.
                tokio::time::sleep(METADATA_PAUSE).await;
            }
            node.restart(signal).await?;
            running.iter_mut().for_each(|(_, case)| case.peer.restarted_at(node));
        }
    }
    Ok(done)
}

async fn after(verdict: Verdict, running: &mut Running) -> Verdict {
    match (verdict, running.peer.clean_up().await) {
        (Verdict::Passed, Err(why)) => Verdict::Failed(running.at(&format!("cleaning up: {why}"))),
        (verdict, _) => verdict,
    }
}

/// The client of a case.
enum Peer {
    Amqp(amqp::Run),
    Grpc(grpc::Run),
}

impl Peer {
    fn of(target: Target, server: &Server) -> Self {
        match target {
            Target::Grpc => Self::Grpc(grpc::Run::new(server.grpc_port())),
            _ => {
                let admin = Admin::Leveret(server.grpc_port());
                Self::Amqp(amqp::Run::new(server.amqp_port(), "/", admin))
            }
        }
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match self {
            Self::Amqp(run) => run.step(step).await,
            Self::Grpc(run) => run.step(step).await,
        }
    }

    async fn finish(&mut self) -> Result<(), String> {
        match self {
            Self::Amqp(run) => run.finish().await,
            Self::Grpc(run) => run.finish().await,
        }
    }

    async fn clean_up(&mut self) -> Result<(), String> {
        match self {
            Self::Amqp(run) => run.clean_up().await,
            Self::Grpc(run) => run.clean_up().await,
        }
    }

    /// The broker stops now. What it has to say of that is compared where the scenario says it.
    async fn left(&mut self, told: Option<(At, Fault)>) -> Result<(), String> {
        match self {
            Self::Amqp(run) => run.left(told).await,
            Self::Grpc(run) => {
                run.left();
                Ok(())
            }
        }
    }

    fn restarted(&mut self, server: &Server) {
        match self {
            Self::Amqp(run) => run.restarted(server.amqp_port(), Admin::Leveret(server.grpc_port())),
            Self::Grpc(run) => run.restarted(server.grpc_port()),
        }
    }

    fn restarted_at(&mut self, node: &Node) {
        if let Self::Amqp(run) = self {
            run.restarted(node.port, Admin::RabbitMq(node.http_port));
        }
    }
}

/// A case on its way.
struct Running {
    target: Target,
    case: Arc<Case>,
    peer: Peer,
    /// The step that is done next.
    next: usize,
}

/// Where a case stopped.
enum Stop {
    /// With what a connection is to be told.
    Restart(Option<(At, Fault)>),
    Kill,
    Done,
}

impl Running {
    fn new(target: Target, case: Arc<Case>, peer: Peer) -> Self {
        Self { target, case, peer, next: 0 }
    }

    /// Does steps up to the next restart or the end.
    async fn go(&mut self) -> Result<Stop, String> {
        let case = self.case.clone();
        while let Some((_, step)) = case.steps.get(self.next) {
            if self.target.does(step) {
                let stop = match step {
                    Step::Restart(step) => {
                        Some(Stop::Restart(step.error.clone().map(|fault| (step.at.clone(), fault))))
                    }
                    Step::Kill(_) => Some(Stop::Kill),
                    _ => None,
                };
                if let Some(stop) = stop {
                    self.next += 1;
                    return Ok(stop);
                }
                let done = timeout(CASE_TIMEOUT, self.peer.step(step)).await;
                let done = done.unwrap_or_else(|_| Err(format!("it is not done in {CASE_TIMEOUT:?}")));
                done.map_err(|why| self.at(&why))?;
            }
            self.next += 1;
        }
        self.peer.finish().await.map_err(|why| self.at(&why))?;
        Ok(Stop::Done)
    }

    /// The same of the step before.
    fn before(&mut self, why: &str) -> String {
        self.next -= 1;
        self.at(why)
    }

    /// Where it is, and what is wrong.
    fn at(&self, why: &str) -> String {
        let file = self.case.file.display();
        match self.case.steps.get(self.next) {
            Some((line, step)) => format!("{file}:{line}: {}: {why}", step.name()),
            None => format!("{file}:{}: {why}", self.case.line),
        }
    }
}
