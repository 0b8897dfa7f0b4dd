"""Tutorial 6, RPC: reply_to, correlation_id, an exclusive callback queue."""

import threading
import uuid

import pika

from broker import connect, parameters

QUEUE = "rpc_queue"


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def rpc_server(ready):
    connection = pika.BlockingConnection(parameters())
    channel = connection.channel()
    channel.queue_declare(queue=QUEUE)

    def on_request(ch, method, props, body):
        if body == b"stop":
            ch.basic_ack(delivery_tag=method.delivery_tag)
            ch.stop_consuming()
            return
        response = fib(int(body))
        ch.basic_publish(
            exchange="",
            routing_key=props.reply_to,
            properties=pika.BasicProperties(correlation_id=props.correlation_id),
            body=str(response),
        )
        ch.basic_ack(delivery_tag=method.delivery_tag)

    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(queue=QUEUE, on_message_callback=on_request)
    ready.set()
    channel.start_consuming()
    connection.close()


class FibonacciRpcClient:
    def __init__(self):
        self.connection = pika.BlockingConnection(parameters())
        self.channel = self.connection.channel()
        result = self.channel.queue_declare(queue="", exclusive=True)
        self.callback_queue = result.method.queue
        self.channel.basic_consume(
            queue=self.callback_queue, on_message_callback=self.on_response, auto_ack=True
        )
        self.response = None
        self.corr_id = None

    def on_response(self, ch, method, props, body):
        if self.corr_id == props.correlation_id:
            self.response = body

    def call(self, n):
        self.response = None
        self.corr_id = str(uuid.uuid4())
        self.channel.basic_publish(
            exchange="",
            routing_key=QUEUE,
            properties=pika.BasicProperties(reply_to=self.callback_queue, correlation_id=self.corr_id),
            body=str(n),
        )
        while self.response is None:
            self.connection.process_data_events(time_limit=10)
        return int(self.response)


ready = threading.Event()
server = threading.Thread(target=rpc_server, args=(ready,))
server.start()
assert ready.wait(10)
clients = [FibonacciRpcClient(), FibonacciRpcClient()]
answers = [client.call(n) for n in range(12) for client in clients]
assert answers == [fib(n) for n in range(12) for _ in clients], answers
clients[0].channel.basic_publish(exchange="", routing_key=QUEUE, body="stop")
server.join(10)
assert not server.is_alive()
for client in clients:
    client.connection.close()
with connect() as connection:
    connection.channel().queue_delete(QUEUE)
