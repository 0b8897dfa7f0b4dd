"""Tutorial 1, "Hello World!": one producer, one queue, one consumer."""

import pika

from broker import parameters

received = []


def send():
    connection = pika.BlockingConnection(parameters())
    channel = connection.channel()
    channel.queue_declare(queue="hello")
    channel.basic_publish(exchange="", routing_key="hello", body="Hello World!")
    print(" [x] Sent 'Hello World!'")
    connection.close()


def receive():
    connection = pika.BlockingConnection(parameters())
    channel = connection.channel()
    channel.queue_declare(queue="hello")

    def callback(ch, method, properties, body):
        print(f" [x] Received {body}")
        received.append(body)
        ch.stop_consuming()

    channel.basic_consume(queue="hello", on_message_callback=callback, auto_ack=True)
    print(" [*] Waiting for messages.")
    channel.start_consuming()
    connection.close()


send()
receive()
assert received == [b"Hello World!"], received

connection = pika.BlockingConnection(parameters())
left = connection.channel().queue_declare(queue="hello", passive=True).method
assert (left.message_count, left.consumer_count) == (0, 0), left
connection.channel().queue_delete("hello")
connection.close()
