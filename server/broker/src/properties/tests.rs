//! Guards against properties that change on their way through, and against malformed headers that bring the
//! process down.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{Properties, PropertiesError, inspect, with_header, with_reply_to, without_header};
use crate::table_codec::{NESTING_MAX, TableError, decode_table, write_table};
use crate::value::{Table, Value};

fn short() -> impl Strategy<Value = Option<String>> {
    option::of("\\PC{0,60}")
}

fn some_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn value() -> impl Strategy<Value = Value> {
    // Floats by their bits, so that NaN does not spoil equality: it is compared as bytes below.
    let leaf = prop_oneof![
        Just(Value::Void),
        any::<bool>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::I8),
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u16>().prop_map(Value::U16),
        any::<i32>().prop_map(Value::I32),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        any::<f32>().prop_map(Value::F32),
        any::<f64>().prop_map(Value::F64),
        (any::<u8>(), any::<u32>()).prop_map(|(scale, number)| Value::Decimal { scale, number }),
        some_bytes().prop_map(Value::Bytes),
        some_bytes().prop_map(Value::ByteArray),
        any::<u64>().prop_map(Value::Timestamp),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec(("\\PC{0,10}", inner), 0..4).prop_map(|entries| Value::Table(Table(entries))),
        ]
    })
}

fn table() -> impl Strategy<Value = Table> {
    vec(("\\PC{0,20}", value()), 0..5).prop_map(Table)
}

prop_compose! {
    fn properties()(
        texts in proptest::array::uniform11(short()),
        headers in option::of(table()),
        delivery_mode in option::of(any::<u8>()),
        priority in option::of(any::<u8>()),
        timestamp in option::of(any::<u64>()),
    ) -> Properties {
        let [content_type, content_encoding, correlation_id, reply_to, expiration, message_id, kind, user_id,
            app_id, cluster_id, _] = texts;
        Properties {
            content_type, content_encoding, headers, delivery_mode, priority, correlation_id, reply_to, expiration,
            message_id, timestamp, kind, user_id, app_id, cluster_id,
        }
    }
}

proptest! {
    #[test]
    fn properties_come_back_as_they_were(properties in properties()) {
        let bytes = properties.encode().unwrap();
        let back = Properties::decode(&bytes).unwrap();
        prop_assert_eq!(inspect(&bytes).unwrap().delivery_mode, properties.delivery_mode);
        prop_assert_eq!(&back.encode().unwrap(), &bytes);
        // Through text, because NaN is not equal to itself.
        prop_assert_eq!(format!("{back:?}"), format!("{properties:?}"));
    }

    #[test]
    fn inspected_properties_are_those_that_decode(properties in properties()) {
        let bytes = properties.encode().unwrap();
        let inspected = inspect(&bytes).unwrap();
        let as_bytes = |text: &Option<String>| text.as_ref().map(|text| text.as_bytes().to_vec());
        prop_assert_eq!(inspected.priority, properties.priority);
        prop_assert_eq!(inspected.expiration.map(<[u8]>::to_vec), as_bytes(&properties.expiration));
        prop_assert_eq!(inspected.reply_to.map(<[u8]>::to_vec), as_bytes(&properties.reply_to));
        prop_assert_eq!(inspected.user_id.map(<[u8]>::to_vec), as_bytes(&properties.user_id));
    }

    #[test]
    fn one_property_changes_and_the_others_keep_their_bytes(properties in properties(), value in value()) {
        let bytes = properties.encode().unwrap();
        let headers = |entries: Vec<(String, Value)>| {
            Properties { headers: Some(Table(entries)), ..properties.clone() }.encode().unwrap()
        };
        let mut entries = properties.headers.clone().unwrap_or_default().0;
        entries.retain(|(name, _)| name != "x-new");
        prop_assert_eq!(without_header(&bytes, "x-new"), headers(entries.clone()));
        entries.push(("x-new".to_owned(), value.clone()));
        let added = headers(entries);
        prop_assert_eq!(&with_header(&bytes, "x-new", value.clone()), &added);
        prop_assert_eq!(&with_header(&added, "x-new", value), &added);
        let reply_to = Some("elsewhere".to_owned());
        let answered = Properties { reply_to, ..properties.clone() }.encode().unwrap();
        prop_assert_eq!(with_reply_to(&bytes, "elsewhere"), answered);
    }

    #[test]
    fn any_bytes_are_an_error_or_decode(bytes in vec(any::<u8>(), 0..200)) {
        let _ = inspect(&bytes);
        let _ = decode_table(&bytes);
        if let Ok(properties) = Properties::decode(&bytes) {
            properties.encode().unwrap();
            prop_assert!(inspect(&bytes).is_ok());
        }
        let bytes = Bytes::from(bytes);
        let changed = [
            without_header(&bytes, "CC"), with_header(&bytes, "CC", Value::Void), with_reply_to(&bytes, "x"),
        ];
        prop_assert!(inspect(&bytes).is_err() || changed.iter().all(|changed| inspect(changed).is_ok()));
    }

    #[test]
    fn damaged_properties_are_an_error_or_decode(properties in properties(), at: usize, to: u8, cut: usize) {
        let mut bytes = properties.encode().unwrap().to_vec();
        let at = at % bytes.len();
        bytes[at] = to;
        bytes.truncate(cut % (bytes.len() + 1));
        let _ = inspect(&bytes);
        let decoded = Properties::decode(&bytes);
        // What it accepts can be read by everybody else, but for text.
        if inspect(&bytes).is_ok() {
            prop_assert!(
                matches!(
                    decoded,
                    Ok(_) | Err(PropertiesError::NotUtf8(_) | PropertiesError::Headers(TableError::NameNotUtf8)),
                ),
                "{decoded:?}"
            );
        }
    }
}

#[test]
fn copies_are_found_where_they_stand() {
    let keys = Value::Array(vec![Value::Bytes("a".into()), Value::Bytes("b".into())]);
    let nested = Value::Table(Table(vec![("BCC".into(), keys.clone())]));
    let headers = Some(Table(vec![("t".into(), nested), ("CC".into(), keys)]));
    let bytes = Properties { headers, ..Properties::default() }.encode().unwrap();
    let inspected = inspect(&bytes).unwrap();
    assert!(inspected.has_cc && !inspected.has_bcc);
    assert_eq!(inspected.routing_keys("CC"), Some(vec!["a".into(), "b".into()]));
    assert_eq!(inspected.routing_keys("t"), None);
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let properties = Properties {
        content_type: Some("a".into()),
        headers: Some(Table(vec![("k".into(), Value::I32(1))])),
        delivery_mode: Some(2),
        ..Properties::default()
    };
    let bytes = [0b1011_0000, 0, 1, b'a', 0, 0, 0, 7, 1, b'k', b'I', 0, 0, 0, 1, 2];
    assert_eq!(properties.encode().unwrap().as_ref(), bytes);
    assert_eq!(Properties::decode(&bytes).unwrap(), properties);
}

#[test]
fn both_letters_of_a_signed_64_bit_number_are_read() {
    for letter in [b'l', b'L'] {
        let table = [&[0, 0, 0, 11, 1, b'k', letter][..], &(-2_i64).to_be_bytes()].concat();
        assert_eq!(decode_table(&table).unwrap(), Table(vec![("k".into(), Value::I64(-2))]));
        let properties = [&[0x20, 0][..], &table].concat();
        assert!(inspect(&properties).is_ok());
        assert_eq!(Properties::decode(&properties).unwrap().headers, Some(decode_table(&table).unwrap()));
    }
}

#[test]
fn errors_name_what_is_wrong() {
    assert_eq!(Properties::decode(&[]), Err(PropertiesError::Truncated("the property flags")));
    assert_eq!(Properties::decode(&[0, 1]), Err(PropertiesError::UnknownFlags(1)));
    assert_eq!(Properties::decode(&[0, 2]), Err(PropertiesError::UnknownFlags(2)));
    assert_eq!(Properties::decode(&[0x80, 0, 3, b'a']), Err(PropertiesError::Truncated("content_type")));
    assert_eq!(Properties::decode(&[0, 0, 9]), Err(PropertiesError::Trailing(1)));
    let long = Properties { app_id: Some("x".repeat(256)), ..Properties::default() };
    assert_eq!(long.encode(), Err(PropertiesError::TooLong { property: "app_id", bytes: 256 }));
    let unknown = decode_table(&[0, 0, 0, 3, 1, b'k', b'Z']).unwrap_err();
    assert_eq!(unknown.to_string(), "unknown field type 'Z' in a field table");
    let longer_than_all = decode_table(&[0xff, 0xff, 0xff, 0xff]).unwrap_err();
    assert!(matches!(longer_than_all, TableError::Truncated { have: 0, .. }));
}

#[test]
fn nesting_is_bounded_both_ways() {
    let nested = |levels: usize| {
        (1..levels).fold(Table::default(), |inner, _| Table(vec![("t".into(), Value::Table(inner))]))
    };
    let mut bytes = Vec::new();
    write_table(&nested(NESTING_MAX), &mut bytes).unwrap();
    assert_eq!(decode_table(&bytes).unwrap(), nested(NESTING_MAX));
    assert_eq!(write_table(&nested(NESTING_MAX + 1), &mut Vec::new()), Err(TableError::TooDeep));
    // One level more around bytes that are right.
    let mut deeper = Vec::new();
    deeper.extend_from_slice(&u32::try_from(bytes.len() + 3).unwrap().to_be_bytes());
    deeper.extend_from_slice(&[1, b't', b'F']);
    deeper.extend_from_slice(&bytes);
    assert_eq!(decode_table(&deeper), Err(TableError::TooDeep));
}
