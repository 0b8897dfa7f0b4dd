//! What fuzzing feeds to facts and messages as the store keeps them. The entry points panic where something that must hold
//! does not: any bytes can be read or refused, and what is accepted is written back as something that reads the same. They
//! say whether it was accepted.

use bytes::Bytes;

use crate::properties::{Properties, headers};
use crate::record::fact::Fact;
use crate::record::{decode_message, encode_message_header};

/// A fact: the length of its key in one byte, the key, the value.
pub fn fact(data: &[u8]) -> bool {
    let Some((length, rest)) = data.split_first() else { return false };
    let (key, value) = rest.split_at(rest.len().min(usize::from(*length)));
    let Ok(fact) = Fact::decode(key, value) else { return false };
    let again = Fact::decode(&fact.key(), &fact.value()).expect("what was written can be read");
    // As text: a NaN in a table is not equal to itself.
    assert_eq!(format!("{again:?}"), format!("{fact:?}"), "a fact that changes");
    if let Fact::Binding(binding) = &fact {
        drop(binding.binding());
    }
    true
}

/// A message: header, properties, body.
pub fn message(data: &[u8]) -> bool {
    let record = Bytes::copy_from_slice(data);
    let Ok(message) = decode_message(&record) else { return false };
    let mut back = Vec::new();
    encode_message_header(&message, &mut back);
    back.extend_from_slice(&message.body);
    assert_eq!(back, data, "a message that changes");
    drop(headers(&message.properties));
    if let Ok(properties) = Properties::decode(&message.properties)
        && let Ok(back) = properties.encode()
    {
        let again = Properties::decode(&back).expect("what was written can be read");
        assert_eq!(format!("{again:?}"), format!("{properties:?}"), "properties that change");
    }
    true
}
