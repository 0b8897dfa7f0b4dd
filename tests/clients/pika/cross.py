"""One end of a message that crosses over to gRPC: `publish QUEUE` and `expect QUEUE`, and what a queue is to both."""

import datetime
import decimal
import sys

import pika
import pika.compat
import pika.exceptions

from broker import connect

TIME = datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.timezone.utc)

# Every type that pika can send.
SENT_HEADERS = {
    "text": "grüße",
    "bytes": b"\x00\xff\x80",
    "yes": True,
    "no": False,
    "int": -(2**31),
    "long": pika.compat.long(7),
    "large": 2**62,
    "decimal": decimal.Decimal("123.45"),
    "time": TIME,
    "void": None,
    "table": {"deep": {"deeper": True}, "n": -1},
    "array": ["a", 1, [True, None], {"in": "array"}],
    "empty": {},
    "none": [],
}

PROPERTIES = dict(
    content_type="text/plain",
    content_encoding="identity",
    delivery_mode=2,
    priority=9,
    correlation_id="c-1",
    reply_to="answers",
    expiration="3600000",
    message_id="m-1",
    timestamp=1_700_000_000,
    type="order",
    user_id="guest",
    app_id="shop",
    cluster_id="reserved",
)

# What the gRPC side sends, of every type that there is.
EXPECTED_HEADERS = {
    "text": "grüße",
    "int64": -(2**63),
    "bool": False,
    "double": 1.5e300,
    "bytes": b"\x00\xff\x80",
    "timestamp": TIME.replace(tzinfo=None),
    "table": {"deep": {"deeper": True}, "n": -1},
    "array": ["a", 1, None],
    "int8": -128,
    "uint8": 255,
    "int16": -32768,
    "uint16": 65535,
    "int32": -(2**31),
    "uint32": 2**32 - 1,
    "float": 2.0,
    "decimal": decimal.Decimal("123.45"),
    "byte_array": b"\x01\x02\x03",
    "void": None,
    "": "empty name",
}


def publish(channel, queue):
    channel.confirm_delivery()
    channel.basic_publish(
        "", queue, b"body\x00\xff", pika.BasicProperties(headers=SENT_HEADERS, **PROPERTIES), mandatory=True
    )


def expect(channel, queue):
    method, properties, body = channel.basic_get(queue, auto_ack=True)
    assert method is not None, "a message"
    assert body == b"body\x00\xff", body
    for name, value in PROPERTIES.items():
        assert getattr(properties, name) == value, (name, getattr(properties, name))
    assert set(properties.headers) == set(EXPECTED_HEADERS), properties.headers
    for name, value in EXPECTED_HEADERS.items():
        got = properties.headers[name]
        if isinstance(got, datetime.datetime):
            got = got.replace(tzinfo=None)
        # The two kinds of byte strings may both look like text to pika.
        if isinstance(value, bytes) and isinstance(got, str):
            got = got.encode("utf-8", "surrogateescape")
        assert got == value, (name, got, value)


def declare(channel, queue):
    """The same properties again are fine, others are not: the two protocols mean the same queue."""
    channel.queue_declare(queue, durable=True, arguments={"x-mine": "kept"})
    channel.queue_bind(queue, "amq.topic", "from.*")
    try:
        channel.connection.channel().queue_declare(queue, durable=False)
        raise AssertionError("not durable is another queue")
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 406, closed


def take(channel, queue):
    """Takes three messages of six and leaves the fourth out, unacked."""
    channel.basic_qos(prefetch_count=4)
    for method, _, body in channel.consume(queue, inactivity_timeout=10):
        assert method is not None and body == str(method.delivery_tag).encode(), (method, body)
        if method.delivery_tag == 4:
            break
        channel.basic_ack(method.delivery_tag)


with connect() as connection:
    commands = {"publish": publish, "expect": expect, "declare": declare, "take": take}
    commands[sys.argv[1]](connection.channel(), sys.argv[2])
