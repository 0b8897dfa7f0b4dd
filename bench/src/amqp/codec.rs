//! The few frames that the load needs, as bytes.

use crate::load::Message;

/// Frame kinds.
pub(crate) const METHOD: u8 = 1;
pub(crate) const HEADER: u8 = 2;
pub(crate) const BODY: u8 = 3;
/// The last byte of a frame.
pub(crate) const END: u8 = 0xCE;

/// Methods that are looked for.
pub(crate) const CONNECTION_CLOSE: (u16, u16) = (10, 50);
pub(crate) const CHANNEL_CLOSE: (u16, u16) = (20, 40);
pub(crate) const DELIVER: (u16, u16) = (60, 60);
pub(crate) const ACK: (u16, u16) = (60, 80);
pub(crate) const NACK: (u16, u16) = (60, 120);

/// A frame.
pub(crate) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(channel.to_be_bytes());
    out.extend((payload.len() as u32).to_be_bytes());
    out.extend(payload);
    out.push(END);
    out
}

/// A method's frame.
pub(crate) fn method(channel: u16, (class, method): (u16, u16), arguments: &[u8]) -> Vec<u8> {
    let mut payload = [class.to_be_bytes(), method.to_be_bytes()].concat();
    payload.extend(arguments);
    frame(METHOD, channel, &payload)
}

/// A string of at most 255 bytes.
pub(crate) fn shortstr(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

/// A string with its length in 32 bits; also a table from the bytes of its entries.
pub(crate) fn longstr(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

/// Payload of a body's frame at most; with its eight bytes around it, what all brokers take.
const PAYLOAD_BYTES_MAX: usize = 131_072 - 8;

/// A persistent message to a queue: all of its frames.
pub(crate) fn publish(queue: &str, bytes: usize) -> Vec<u8> {
    publish_to("", queue, bytes, true).bytes
}

/// A message to an exchange: all of its frames.
pub(crate) fn publish_to(exchange: &str, key: &str, bytes: usize, persistent: bool) -> Message {
    let arguments = [&[0, 0][..], &shortstr(exchange), &shortstr(key), &[0]].concat();
    let mut out = method(1, (60, 40), &arguments);
    // Class basic, weight 0, size, the flag of delivery-mode alone.
    let mode = if persistent { 2 } else { 1 };
    let header = [&[0, 60, 0, 0][..], &(bytes as u64).to_be_bytes(), &[0x10, 0, mode]].concat();
    out.extend(frame(HEADER, 1, &header));
    let body = out.len() + 7;
    for part in vec![7; bytes].chunks(PAYLOAD_BYTES_MAX) {
        out.extend(frame(BODY, 1, part));
    }
    Message { bytes: out, body }
}

/// basic.ack of one delivery, or of all up to it.
pub(crate) fn ack(tag: u64, multiple: bool) -> [u8; 21] {
    let mut out = [0; 21];
    // Kind, channel 1, 13 bytes of payload, class, method.
    out[..11].copy_from_slice(&[METHOD, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80]);
    out[11..19].copy_from_slice(&tag.to_be_bytes());
    out[19] = u8::from(multiple);
    out[20] = END;
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_of_an_ack_is_the_long_one() {
        for multiple in [false, true] {
            let arguments = [&77u64.to_be_bytes()[..], &[u8::from(multiple)]].concat();
            assert_eq!(ack(77, multiple)[..], method(1, ACK, &arguments));
        }
    }

    #[test]
    fn a_large_body_goes_into_frames_that_everybody_takes() {
        let message = publish_to("x", "key", 300_000, true);
        let (mut at, mut bodies) = (0, Vec::new());
        while at < message.bytes.len() {
            let size = u32::from_be_bytes(message.bytes[at + 3..at + 7].try_into().unwrap()) as usize;
            if message.bytes[at] == BODY {
                bodies.push(size);
            }
            assert_eq!(message.bytes[at + 7 + size], END);
            at += size + 8;
        }
        assert_eq!(bodies, [131_064, 131_064, 37_872]);
        assert_eq!(message.bytes[message.body..][..131_064], [7; 131_064]);
    }
}
