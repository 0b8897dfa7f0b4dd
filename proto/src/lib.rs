//! The gRPC interface of the Leveret broker, generated from `proto/leveret/v1/*.proto`.

/// Package leveret.v1: messages, clients and servers.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    tonic::include_proto!("leveret.v1");
}

/// The encoded file descriptor set of the whole interface, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/leveret.v1.bin"));
