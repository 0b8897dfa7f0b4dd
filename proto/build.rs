//! Compiles the .proto files with protox, so that no protoc need be installed, and keeps the descriptor set for
//! reflection.

use std::{env, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["leveret/v1/broker.proto", "leveret/v1/admin.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("leveret.v1.bin"), descriptors.encode_to_vec())?;
    // Bodies are `Bytes`: they pass from the socket's buffer to the log without a copy.
    // Most messages have no properties, whose many fields would make every one larger and slower to move by 400 bytes.
    tonic_prost_build::configure()
        .bytes(".")
        .boxed(".leveret.v1.Message.properties")
        .compile_fds(descriptors)?;
    Ok(())
}
