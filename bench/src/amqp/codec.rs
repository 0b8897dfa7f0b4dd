//! The few frames that the load needs, as bytes.

/// Frame kinds.
pub(crate) const METHOD: u8 = 1;
pub(crate) const HEADER: u8 = 2;
pub(crate) const BODY: u8 = 3;
/// The last byte of a frame.
const END: u8 = 0xCE;

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

/// A persistent message to a queue: all of its frames.
pub(crate) fn publish(queue: &str, bytes: usize) -> Vec<u8> {
    let mut out = method(1, (60, 40), &[&[0, 0, 0][..], &shortstr(queue), &[0]].concat());
    // Class basic, weight 0, size, the flag of delivery-mode alone, 2.
    let header = [&[0, 60, 0, 0][..], &(bytes as u64).to_be_bytes(), &[0x10, 0, 2]].concat();
    out.extend(frame(HEADER, 1, &header));
    out.extend(frame(BODY, 1, &vec![7; bytes]));
    out
}

/// basic.ack of one delivery.
pub(crate) fn ack(tag: u64) -> [u8; 21] {
    let mut out = [0; 21];
    // Kind, channel 1, 13 bytes of payload, class, method.
    out[..11].copy_from_slice(&[METHOD, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80]);
    out[11..19].copy_from_slice(&tag.to_be_bytes());
    out[20] = END;
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_of_an_ack_is_the_long_one() {
        let arguments = [&77u64.to_be_bytes()[..], &[0]].concat();
        assert_eq!(ack(77)[..], method(1, ACK, &arguments));
    }
}
