//! Requests that no generated client would send: the bytes of a message by hand.

use bytes::{Buf, BufMut};
use leveret_tests::server::Server;
use prost::encoding::{WireType, encode_key, encode_varint};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

/// Passes bytes through as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; src.remaining()];
        src.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}

async fn call(server: &Server, method: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut grpc = tonic::client::Grpc::new(server.client().await.channel());
    grpc.ready().await.expect("a connection");
    let path = PathAndQuery::try_from(format!("/leveret.v1.Broker/{method}")).expect("a path");
    grpc.unary(Request::new(bytes), path, Raw).await.map(tonic::Response::into_inner)
}

fn field(tag: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(tag, WireType::LengthDelimited, &mut bytes);
    encode_varint(value.len() as u64, &mut bytes);
    bytes.extend_from_slice(value);
    bytes
}

#[tokio::test]
async fn names_that_are_not_utf_8() {
    let server = Server::start().await;
    for method in ["DeclareQueue", "DeclareExchange", "DeleteQueue", "PurgeQueue", "Get"] {
        let status = call(&server, method, field(2, &[b'q', 0xff, 0xfe])).await.expect_err("not UTF-8");
        // tonic answers before a handler of ours sees it.
        assert!(matches!(status.code(), Code::InvalidArgument | Code::Internal), "{method}: {status:?}");
    }
    let mut client = server.client().await;
    assert!(client.queue_names().await.is_empty());
    client.declare_queue("fine").await;
}

#[tokio::test]
async fn bytes_that_are_no_message() {
    let server = Server::start().await;
    let mut rng = fastrand::Rng::with_seed(1);
    for method in ["DeclareQueue", "Publish", "Ack", "Bind", "Get"] {
        for length in [1usize, 5, 100, 5000] {
            let mut noise = vec![0u8; length];
            rng.fill(&mut noise);
            // By chance it may be a message, and then any answer is fine; the server's end is not.
            if let Err(status) = call(&server, method, noise).await {
                assert_ne!(status.code(), Code::Unavailable, "{method}: {status:?}");
                assert_ne!(status.code(), Code::Unknown, "{method}: {status:?}");
            }
        }
    }
    server.client().await.declare_queue("fine").await;
}

#[tokio::test]
async fn fields_of_a_later_version_are_ignored() {
    let server = Server::start().await;
    let mut bytes = field(2, b"jobs");
    bytes.extend(field(1999, b"from the future"));
    call(&server, "DeclareQueue", bytes).await.expect("unknown fields are no error");
    assert_eq!(server.client().await.queue_names().await, ["jobs"]);
}

#[tokio::test]
async fn a_method_that_does_not_exist() {
    let server = Server::start().await;
    let status = call(&server, "Fly", Vec::new()).await.expect_err("no such method");
    assert_eq!(status.code(), Code::Unimplemented);
    server.client().await.declare_queue("fine").await;
}

#[tokio::test]
async fn noise_on_the_ports_harms_nobody() {
    use std::io::Write;
    let server = Server::start().await;
    for port in [server.grpc_port(), server.http_port()] {
        for noise in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], b"AMQP\x00\x00\x09\x01", b"\x16\x03\x01\x02\x00", &[0xff; 4096]]
        {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connect");
            // The server may close while we write.
            let _ = stream.write_all(noise);
        }
    }
    server.client().await.declare_queue("fine").await;
}
