//! Guards against a result that hangs on how the network cuts the bytes, and against bytes that bring the session down.

use leveret_broker::{ConnId, Input};
use proptest::collection::vec;
use proptest::prelude::*;

use super::talk::{close_channel, declare, publish, show_frame, show_input};
use crate::amqp::frame::{self, Kind};
use crate::amqp::fuzz::{self, Counter, RobotCore, admit, handshake, settings};
use crate::amqp::method::Method;
use crate::amqp::session::Session;

/// One thing that a client does on a channel.
#[derive(Debug, Clone)]
enum Act {
    Open,
    Declare,
    DeclareMissing,
    Publish(usize),
    PublishMissing,
    Consume,
    Get,
    Ack(u64),
    Confirm,
    Close,
    CloseOk,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Open),
        3 => Just(Act::Declare),
        1 => Just(Act::DeclareMissing),
        6 => (0..20_000usize).prop_map(Act::Publish),
        1 => Just(Act::PublishMissing),
        2 => Just(Act::Consume),
        2 => Just(Act::Get),
        2 => (0..4u64).prop_map(Act::Ack),
        1 => Just(Act::Confirm),
        1 => Just(Act::Close),
        1 => Just(Act::CloseOk),
    ]
}

fn write(out: &mut Vec<u8>, number: u16, method: &Method<'_>) {
    frame::write(out, Kind::Method, number, |out| method.encode(out));
}

fn write_publish(out: &mut Vec<u8>, number: u16, exchange: &str, body: &[u8]) {
    write(out, number, &publish(exchange, "q"));
    frame::write(out, Kind::Header, number, |out| {
        out.extend_from_slice(&[0, 60, 0, 0]);
        out.extend_from_slice(&(body.len() as u64).to_be_bytes());
        out.extend_from_slice(&[0, 0]);
    });
    for part in body.chunks(4000) {
        frame::write(out, Kind::Body, number, |out| out.extend_from_slice(part));
    }
}

fn script(acts: &[(u16, Act)]) -> Vec<u8> {
    let mut out = handshake();
    for (number, act) in acts {
        let number = *number;
        match act {
            Act::Open => write(&mut out, number, &Method::ChannelOpen { reserved_1: "" }),
            Act::Declare => write(&mut out, number, &declare("q")),
            Act::DeclareMissing => write(&mut out, number, &declare("missing")),
            Act::Publish(bytes) => write_publish(&mut out, number, "", &vec![b'x'; *bytes]),
            Act::PublishMissing => write_publish(&mut out, number, "missing", b"x"),
            Act::Consume => write(
                &mut out,
                number,
                &Method::BasicConsume {
                    reserved_1: 0,
                    queue: "q",
                    consumer_tag: "t",
                    no_local: false,
                    no_ack: false,
                    exclusive: false,
                    nowait: false,
                    arguments: Default::default(),
                },
            ),
            Act::Get => {
                write(&mut out, number, &Method::BasicGet { reserved_1: 0, queue: "q", no_ack: false });
            }
            Act::Ack(tag) => {
                write(&mut out, number, &Method::BasicAck { delivery_tag: *tag, multiple: true });
            }
            Act::Confirm => write(&mut out, number, &Method::ConfirmSelect { nowait: false }),
            Act::Close => write(&mut out, number, &close_channel()),
            Act::CloseOk => write(&mut out, number, &Method::ChannelCloseOk {}),
        }
    }
    out
}

/// What the core and the client heard, as lines.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    core: Vec<String>,
    client: Vec<String>,
}

/// A connection that is given `bytes` cut at `cuts`. The core answers in the end only, as no answer may come between
/// different things.
fn heard(bytes: &[u8], cuts: &[usize]) -> Heard {
    let mut session = Session::new(settings(), Box::new(Counter(100)), "peer".into(), 0);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([bytes.len()]).collect();
    cuts.sort_unstable();
    let (mut buffer, mut given, mut inputs, mut out) = (Vec::new(), 0, Vec::new(), Vec::new());
    for cut in cuts {
        buffer.extend_from_slice(&bytes[given..cut]);
        given = cut;
        feed(&mut session, &mut buffer, &mut inputs);
        take(&mut session, &mut out);
    }
    let (mut core, mut lines, mut at) = (RobotCore::default(), Vec::new(), 0);
    while at < inputs.len() {
        let mut answers = Vec::new();
        lines.push(show_input(&inputs[at]));
        core.answer(inputs.swap_remove_at(at), &mut answers);
        at += 1;
        session.output(answers);
        session.fill();
        feed(&mut session, &mut buffer, &mut inputs);
        take(&mut session, &mut out);
    }
    let mut rest = out.as_slice();
    let mut client = Vec::new();
    while let Ok(Some((frame, length))) = frame::split(rest, u32::MAX) {
        client.push(show_frame(frame));
        rest = &rest[length..];
    }
    assert!(rest.is_empty(), "whole frames");
    Heard { core: lines, client }
}

fn feed(session: &mut Session, buffer: &mut Vec<u8>, inputs: &mut Vec<Input>) {
    loop {
        let used = session.receive(buffer);
        buffer.drain(..used);
        let admitted = admit(session);
        let connects = session.wants_connection().is_some();
        if connects {
            session.connected(ConnId(7));
        }
        // Credit comes with whatever goes to the core next, which may differ.
        let taken = session.take_for_core().inputs;
        inputs.extend(taken.into_iter().filter(|input| !matches!(input, Input::Writable { .. })));
        if used == 0 && !admitted && !connects {
            return;
        }
    }
}

fn take(session: &mut Session, out: &mut Vec<u8>) {
    loop {
        session.fill();
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let filled = session.out().slices(&mut slices);
        let before = out.len();
        slices[..filled].iter().for_each(|slice| out.extend_from_slice(slice));
        let count = out.len() - before;
        if count == 0 {
            return;
        }
        session.written(count);
    }
}

/// Takes an input out and leaves something in its place, so that the others keep theirs.
trait SwapRemoveAt {
    fn swap_remove_at(&mut self, at: usize) -> Input;
}

impl SwapRemoveAt for Vec<Input> {
    fn swap_remove_at(&mut self, at: usize) -> Input {
        std::mem::replace(&mut self[at], Input::StopDeliveries)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_split_of_the_bytes_gives_the_same(
        acts in vec((1..4u16, act()), 0..30),
        cuts in vec(any::<usize>(), 0..40),
    ) {
        let bytes = script(&acts);
        prop_assert_eq!(heard(&bytes, &cuts), heard(&bytes, &[]));
    }

    #[test]
    fn a_damaged_script_is_survived_whatever_the_split(
        acts in vec((1..4u16, act()), 0..20),
        damage in vec((any::<usize>(), any::<u8>()), 1..5),
        cuts in vec(any::<usize>(), 0..20),
    ) {
        let mut bytes = script(&acts);
        for (at, octet) in damage {
            // Behind the protocol header, whose answer is no frame.
            let at = 8 + at % (bytes.len() - 8);
            bytes[at] = octet;
        }
        prop_assert_eq!(heard(&bytes, &cuts), heard(&bytes, &[]));
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..400)) {
        fuzz::session(&bytes);
    }

    #[test]
    fn frames_with_any_payload_are_survived(
        frames in vec((1..4u8, 0..4u16, vec(any::<u8>(), 0..40)), 0..30),
    ) {
        let mut bytes = handshake();
        write(&mut bytes, 1, &Method::ChannelOpen { reserved_1: "" });
        for (kind, number, payload) in frames {
            bytes.push(kind);
            bytes.extend_from_slice(&number.to_be_bytes());
            bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&payload);
            bytes.push(0xce);
        }
        heard(&bytes, &[]);
    }
}
