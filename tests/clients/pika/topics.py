"""Tutorial 5, topics: patterns with * and #."""

import pika

from broker import parameters


def emit_log_topic(routing_key, message):
    connection = pika.BlockingConnection(parameters())
    channel = connection.channel()
    channel.exchange_declare(exchange="topic_logs", exchange_type="topic")
    channel.basic_publish(exchange="topic_logs", routing_key=routing_key, body=message)
    connection.close()


class ReceiveLogsTopic:
    def __init__(self, binding_keys):
        self.connection = pika.BlockingConnection(parameters())
        self.channel = self.connection.channel()
        self.channel.exchange_declare(exchange="topic_logs", exchange_type="topic")
        result = self.channel.queue_declare("", exclusive=True)
        queue_name = result.method.queue
        for binding_key in binding_keys:
            self.channel.queue_bind(exchange="topic_logs", queue=queue_name, routing_key=binding_key)
        self.received = []
        self.channel.basic_consume(queue=queue_name, on_message_callback=self.callback, auto_ack=True)

    def callback(self, ch, method, properties, body):
        self.received.append(method.routing_key)
        if body == b"last":
            ch.stop_consuming()

    def receive(self):
        self.channel.start_consuming()
        self.connection.close()
        return self.received


# The animals of the tutorial; "lazy.last" ends them all.
q1 = ReceiveLogsTopic(["*.orange.*", "lazy.last"])
q2 = ReceiveLogsTopic(["*.*.rabbit", "lazy.#"])
everything = ReceiveLogsTopic(["#"])
keys = [
    "quick.orange.rabbit",
    "lazy.orange.elephant",
    "quick.orange.fox",
    "lazy.brown.fox",
    "lazy.pink.rabbit",
    "quick.brown.fox",
    "orange",
    "quick.orange.new.rabbit",
    "lazy.orange.new.rabbit",
    "",
    "lazy",
]
for key in keys:
    emit_log_topic(key, "an animal")
emit_log_topic("lazy.last", "last")

received = q1.receive()
assert received == ["quick.orange.rabbit", "lazy.orange.elephant", "quick.orange.fox", "lazy.last"], received
received = q2.receive()
assert received == [
    "quick.orange.rabbit",
    "lazy.orange.elephant",
    "lazy.brown.fox",
    "lazy.pink.rabbit",  # matches two bindings, comes once
    "lazy.orange.new.rabbit",
    "lazy",
    "lazy.last",
], received
received = everything.receive()
assert received == [*keys, "lazy.last"], received
with pika.BlockingConnection(parameters()) as connection:
    connection.channel().exchange_delete("topic_logs")
