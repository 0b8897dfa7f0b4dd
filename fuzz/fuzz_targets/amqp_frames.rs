#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| leveret_server::amqp::fuzz::frames(data));
