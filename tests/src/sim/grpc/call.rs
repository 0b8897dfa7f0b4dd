//! A call as HTTP/2 carries it: a request's body that comes in pieces, a response's that is read in pieces.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use fastrand::Rng;
use http_body::{Body as _, Frame};
use leveret_server::grpc::{self, InProcess, Socket};
use prost::Message;
use tonic::Code;
use tonic::body::Body;

/// `flag u8 | length u32 big-endian`, before each message.
const HEADER_BYTES: usize = 5;

/// The part of a request that has reached the server.
#[derive(Debug, Clone, Default)]
struct Pipe(Arc<Mutex<Arrived>>);

#[derive(Debug, Default)]
struct Arrived {
    bytes: VecDeque<Bytes>,
    ended: bool,
    waker: Option<Waker>,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrive(&self, bytes: Bytes, ended: bool) {
        let mut arrived = self.lock();
        if !bytes.is_empty() {
            arrived.bytes.push_back(bytes);
        }
        arrived.ended |= ended;
        let waker = arrived.waker.take();
        drop(arrived);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl http_body::Body for Pipe {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let mut arrived = self.lock();
        match arrived.bytes.pop_front() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None if arrived.ended => Poll::Ready(None),
            None => {
                arrived.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// What comes of a call.
#[derive(Debug)]
pub(super) enum Heard<T> {
    Message(T),
    /// It is over.
    Ended(Code),
}

/// One call, both of its ends.
pub(super) struct Call {
    /// Sent by the client, and not with the server yet.
    to_server: VecDeque<u8>,
    /// The client says no more.
    closed: bool,
    pipe: Pipe,
    state: State,
    /// Read by the client, and not a whole message yet.
    heard: BytesMut,
}

enum State {
    Made(grpc::Call),
    Answered(Body),
    Over,
}

impl Call {
    /// Makes a call of a method of the service.
    pub(super) fn new(server: &mut InProcess, socket: &Socket, method: &str) -> Self {
        let pipe = Pipe::default();
        let request = http::Request::post(format!("/leveret.v1.Broker/{method}"))
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .header(http::header::TE, "trailers")
            .body(Body::new(pipe.clone()))
            .expect("a sound request");
        let state = State::Made(server.call(socket, request));
        Self { to_server: VecDeque::new(), closed: false, pipe, state, heard: BytesMut::new() }
    }

    /// Makes a call with one message.
    pub(super) fn unary(
        server: &mut InProcess,
        socket: &Socket,
        method: &str,
        message: &impl Message,
    ) -> Self {
        let mut call = Self::new(server, socket, method);
        call.send(message);
        call.closed = true;
        call
    }

    /// The client sends a message.
    pub(super) fn send(&mut self, message: &impl Message) {
        let bytes = message.encode_to_vec();
        let length = u32::try_from(bytes.len()).expect("a small message");
        self.to_server.push_back(0);
        self.to_server.extend(length.to_be_bytes());
        self.to_server.extend(bytes);
    }

    /// Nothing more leaves the client, and not all that has left it comes.
    pub(super) fn cut(&mut self, rng: &mut Rng) {
        let count = rng.usize(0..=self.to_server.len());
        self.to_server.truncate(count);
        self.closed = false;
    }

    /// Some of what was sent reaches the server.
    pub(super) fn carry(&mut self, rng: &mut Rng) {
        let count = rng.usize(0..=self.to_server.len());
        let bytes: Vec<u8> = self.to_server.drain(..count).collect();
        self.pipe.arrive(bytes.into(), self.closed && self.to_server.is_empty());
    }

    /// The server's end goes on as far as it can without a reader of its response. Within the runtime.
    pub(super) fn serve(&mut self) {
        if let State::Made(call) = &mut self.state
            && let Poll::Ready(response) = call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            let response = response.unwrap_or_else(|never| match never {});
            self.state = match status(response.headers()) {
                // Refused before anything of a body.
                Some(code) => State::Answered(Body::new(Refused(code))),
                None => State::Answered(response.into_body()),
            };
        }
    }

    /// The client reads what the server has for it, up to so many pieces. Within the runtime.
    pub(super) fn read<T: Message + Default>(&mut self, pieces: usize) -> Vec<Heard<T>> {
        let mut heard = Vec::new();
        for _ in 0..pieces {
            let State::Answered(body) = &mut self.state else { break };
            let mut cx = Context::from_waker(Waker::noop());
            let Poll::Ready(frame) = Pin::new(body).poll_frame(&mut cx) else { break };
            let frame = frame.map(|frame| frame.unwrap_or_else(|status| panic!("a broken body: {status}")));
            let code = match frame.map(Frame::into_data) {
                Some(Ok(bytes)) => {
                    self.heard.extend_from_slice(&bytes);
                    heard.extend(std::iter::from_fn(|| self.message()).map(Heard::Message));
                    continue;
                }
                Some(Err(frame)) => frame.trailers_ref().and_then(status),
                None => None,
            };
            assert!(self.heard.is_empty(), "the server ended a call within a message");
            self.state = State::Over;
            heard.push(Heard::Ended(code.unwrap_or(Code::Unknown)));
        }
        heard
    }

    fn message<T: Message + Default>(&mut self) -> Option<T> {
        let header = self.heard.get(..HEADER_BYTES)?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if self.heard.len() < HEADER_BYTES + length {
            return None;
        }
        self.heard.advance(HEADER_BYTES);
        let message = self.heard.split_to(length);
        Some(T::decode(message).unwrap_or_else(|why| panic!("a client does not understand: {why}")))
    }
}

/// The status in headers or trailers.
fn status(headers: &http::HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

/// The body of a response that is a status alone.
struct Refused(Code);

impl http_body::Body for Refused {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", (self.0 as i32).into());
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}
