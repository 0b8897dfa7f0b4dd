"""Tutorial 4, routing: a direct exchange, several bindings of one queue."""

import pika

from broker import parameters


def emit_log_direct(severity, message):
    connection = pika.BlockingConnection(parameters())
    channel = connection.channel()
    channel.exchange_declare(exchange="direct_logs", exchange_type="direct")
    channel.basic_publish(exchange="direct_logs", routing_key=severity, body=message)
    connection.close()


class ReceiveLogsDirect:
    def __init__(self, severities):
        self.connection = pika.BlockingConnection(parameters())
        self.channel = self.connection.channel()
        self.channel.exchange_declare(exchange="direct_logs", exchange_type="direct")
        result = self.channel.queue_declare(queue="", exclusive=True)
        queue_name = result.method.queue
        for severity in severities:
            self.channel.queue_bind(exchange="direct_logs", queue=queue_name, routing_key=severity)
        self.received = []
        self.channel.basic_consume(queue=queue_name, on_message_callback=self.callback, auto_ack=True)

    def callback(self, ch, method, properties, body):
        self.received.append(f"{method.routing_key}:{body.decode()}")
        if body == b"last":
            ch.stop_consuming()

    def receive(self):
        self.channel.start_consuming()
        self.connection.close()
        return self.received


file = ReceiveLogsDirect(["warning", "error"])
screen = ReceiveLogsDirect(["info", "warning", "error"])
for severity, message in [
    ("info", "all is well"),
    ("debug", "nobody wants this"),
    ("warning", "it gets warm"),
    ("error", "Run. Run. Or it will explode."),
    ("error", "last"),
]:
    emit_log_direct(severity, message)
errors = ["warning:it gets warm", "error:Run. Run. Or it will explode.", "error:last"]
received = file.receive()
assert received == errors, received
received = screen.receive()
assert received == ["info:all is well", *errors], received
with pika.BlockingConnection(parameters()) as connection:
    connection.channel().exchange_delete("direct_logs")
