"""Publishes with confirms and consumes with acks, over AMQP with pika."""

import os

import pika

url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672")
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.queue_declare("jobs", durable=True)

channel.confirm_delivery()
jobs = ["one", "two", "three"]
for job in jobs:
    # Returns when the message is on the disk; raises when no queue takes it.
    channel.basic_publish("", "jobs", job.encode(), pika.BasicProperties(delivery_mode=2), mandatory=True)
print(len(jobs), "messages confirmed")

channel.basic_qos(prefetch_count=10)
done = 0
for method, properties, body in channel.consume("jobs"):
    print(body.decode())
    channel.basic_ack(method.delivery_tag)
    done += 1
    if done == len(jobs):
        break
channel.cancel()
connection.close()
