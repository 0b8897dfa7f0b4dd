"""Tutorial 3, publish/subscribe: a fanout exchange and exclusive queues that the server names."""

import pika
import pika.exceptions

from broker import parameters


def emit_log(message):
    connection = pika.BlockingConnection(parameters())
    channel = connection.channel()
    channel.exchange_declare(exchange="logs", exchange_type="fanout")
    channel.basic_publish(exchange="logs", routing_key="", body=message)
    connection.close()


class ReceiveLogs:
    def __init__(self):
        self.connection = pika.BlockingConnection(parameters())
        self.channel = self.connection.channel()
        self.channel.exchange_declare(exchange="logs", exchange_type="fanout")
        result = self.channel.queue_declare(queue="", exclusive=True)
        self.queue_name = result.method.queue
        self.channel.queue_bind(exchange="logs", queue=self.queue_name)
        self.received = []
        self.channel.basic_consume(
            queue=self.queue_name, on_message_callback=self.callback, auto_ack=True
        )

    def callback(self, ch, method, properties, body):
        assert method.exchange == "logs" and method.routing_key == "", method
        self.received.append(body)
        if body == b"last":
            ch.stop_consuming()

    def receive(self):
        self.channel.start_consuming()
        return self.received


emit_log("nobody listens yet")
one, two = ReceiveLogs(), ReceiveLogs()
assert one.queue_name.startswith("amq.gen-") and one.queue_name != two.queue_name, one.queue_name
for message in ["info: Hello World!", "warning: it rains", "last"]:
    emit_log(message)
for receiver in (one, two):
    received = receiver.receive()
    assert received == [b"info: Hello World!", b"warning: it rains", b"last"], received

# The queue goes with its connection.
one.connection.close()
try:
    two.connection.channel().queue_declare(one.queue_name, passive=True)
    raise AssertionError("the exclusive queue outlives its connection")
except pika.exceptions.ChannelClosedByBroker as closed:
    assert closed.reply_code == 404, closed
two.connection.channel().exchange_delete("logs")
two.connection.close()
