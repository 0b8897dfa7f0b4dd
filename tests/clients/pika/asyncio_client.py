"""Publisher and consumer on AsyncioConnection, as in pika's asynchronous examples: confirms counted by callbacks, a
consumer with prefetch, and an orderly end of consumer, channel and connection."""

import asyncio

import pika
from pika.adapters.asyncio_connection import AsyncioConnection

from broker import parameters

MESSAGES = 500
EXCHANGE, QUEUE, KEY = "asyncio.message", "asyncio.text", "example.text"


class Example:
    """One connection with a channel that publishes and a channel that consumes."""

    def __init__(self, loop):
        self.loop = loop
        self.closed = loop.create_future()
        self.steps = []
        self.sent, self.unconfirmed, self.nacked = 0, set(), 0
        self.received = []
        self.connection = AsyncioConnection(
            parameters(),
            on_open_callback=self.on_connection_open,
            on_open_error_callback=lambda _connection, error: self.closed.set_exception(error),
            on_close_callback=self.on_connection_closed,
            custom_ioloop=loop,
        )

    def on_connection_open(self, connection):
        self.steps.append("connection")
        connection.channel(on_open_callback=self.on_channel_open)

    def on_channel_open(self, channel):
        self.publisher = channel
        channel.exchange_declare(EXCHANGE, "topic", durable=True, callback=self.on_exchange_declared)

    def on_exchange_declared(self, _frame):
        self.publisher.queue_declare(QUEUE, durable=True, callback=self.on_queue_declared)

    def on_queue_declared(self, frame):
        assert frame.method.queue == QUEUE, frame
        self.publisher.queue_bind(QUEUE, EXCHANGE, routing_key="example.*", callback=self.on_bound)

    def on_bound(self, _frame):
        self.steps.append("topology")
        self.publisher.confirm_delivery(self.on_confirmation, callback=self.on_confirm_select)

    def on_confirm_select(self, _frame):
        self.connection.channel(on_open_callback=self.on_second_channel_open)
        self.publish()

    def publish(self):
        for _ in range(50):
            properties = pika.BasicProperties(
                app_id="example-publisher", content_type="application/json", delivery_mode=2
            )
            self.publisher.basic_publish(EXCHANGE, KEY, f'{{"number": {self.sent}}}', properties)
            self.sent += 1
            self.unconfirmed.add(self.sent)
        if self.sent < MESSAGES:
            self.connection.ioloop.call_soon(self.publish)

    def on_confirmation(self, frame):
        tag = frame.method.delivery_tag
        confirmed = {t for t in self.unconfirmed if t == tag or (frame.method.multiple and t < tag)}
        assert tag in confirmed, f"{frame} confirms again, or what was never sent"
        self.unconfirmed -= confirmed
        if isinstance(frame.method, pika.spec.Basic.Nack):
            self.nacked += len(confirmed)
        self.maybe_stop()

    def on_second_channel_open(self, channel):
        self.steps.append("second channel")
        self.consumer = channel
        channel.basic_qos(prefetch_count=10, callback=self.on_qos)

    def on_qos(self, _frame):
        self.tag = self.consumer.basic_consume(QUEUE, self.on_message, callback=self.on_consume_ok)

    def on_consume_ok(self, frame):
        assert frame.method.consumer_tag == self.tag and not self.received
        self.steps.append("consumer")

    def on_message(self, channel, method, properties, body):
        assert properties.app_id == "example-publisher" and method.delivery_tag == len(self.received) + 1
        self.received.append(body.decode())
        channel.basic_ack(method.delivery_tag)
        self.maybe_stop()

    def maybe_stop(self):
        if self.sent == MESSAGES and not self.unconfirmed and len(self.received) == MESSAGES:
            self.consumer.basic_cancel(self.tag, callback=self.on_cancel_ok)

    def on_cancel_ok(self, _frame):
        self.steps.append("cancelled")
        self.consumer.add_on_close_callback(self.on_channel_closed)
        self.consumer.close()

    def on_channel_closed(self, _channel, reason):
        self.steps.append("channel closed")
        self.publisher.queue_delete(QUEUE, callback=self.on_queue_deleted)

    def on_queue_deleted(self, frame):
        assert frame.method.message_count == 0, frame
        self.publisher.exchange_delete(EXCHANGE, callback=lambda _frame: self.connection.close())

    def on_connection_closed(self, _connection, reason):
        self.steps.append("connection closed")
        self.closed.set_result(reason)


async def main():
    example = Example(asyncio.get_running_loop())
    reason = await asyncio.wait_for(example.closed, 30)
    assert isinstance(reason, pika.exceptions.ConnectionClosedByClient), reason
    assert example.nacked == 0
    assert example.received == [f'{{"number": {number}}}' for number in range(MESSAGES)]
    assert example.steps == [
        "connection", "topology", "second channel", "consumer", "cancelled", "channel closed", "connection closed",
    ], example.steps


asyncio.run(main())
