//! Compiles the echo service's .proto with protox.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=../proto/proto");
    let mut descriptors = protox::compile(["leveret/bench/v1/echo.proto"], ["proto", "../proto/proto"])?;
    // The broker's own messages are those of its crate.
    descriptors.file.retain(|file| file.package() == "leveret.bench.v1");
    tonic_prost_build::configure()
        .bytes(".")
        .extern_path(".leveret.v1", "::leveret_proto::v1")
        .compile_fds(descriptors)?;
    Ok(())
}
