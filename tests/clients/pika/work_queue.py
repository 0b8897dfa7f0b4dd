"""Tutorial 2, work queues: a durable queue, persistent tasks, manual acks, prefetch 1."""

import os
import threading
import time

import pika

from broker import connect, eventually, parameters

QUEUE = "task_queue"
TASKS = ["First.....", "Second.", "Third.", "Fourth.", "Fifth.", "Sixth."]
done = []
done_by = {}


def new_task(message):
    connection = pika.BlockingConnection(parameters())
    channel = connection.channel()
    channel.queue_declare(queue=QUEUE, durable=True)
    channel.basic_publish(
        exchange="",
        routing_key=QUEUE,
        body=message,
        properties=pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent),
    )
    connection.close()


def worker(name):
    connection = pika.BlockingConnection(parameters())
    channel = connection.channel()
    channel.queue_declare(queue=QUEUE, durable=True)

    def callback(ch, method, properties, body):
        if body == b"stop":
            ch.basic_ack(delivery_tag=method.delivery_tag)
            ch.stop_consuming()
            return
        time.sleep(body.count(b".") * 0.05)
        done.append(body.decode())
        done_by.setdefault(name, []).append(body.decode())
        ch.basic_ack(delivery_tag=method.delivery_tag)

    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(queue=QUEUE, on_message_callback=callback)
    channel.start_consuming()
    connection.close()


def forgetful_worker():
    """Takes a task and dies, without an ack or a goodbye."""
    if (pid := os.fork()) != 0:
        assert os.waitpid(pid, 0)[1] == 0, "the worker took its task"
        return
    connection = pika.BlockingConnection(parameters())
    channel = connection.channel()
    method, _, body = channel.basic_get(QUEUE)
    assert body == b"First....." and not method.redelivered, (method, body)
    os._exit(0)


with connect() as connection:
    connection.channel().queue_delete(QUEUE)
for task in TASKS:
    new_task(task)
forgetful_worker()
with connect() as connection:
    channel = connection.channel()
    back = eventually(lambda: channel.queue_declare(QUEUE, passive=True).method.message_count == len(TASKS))
    assert back, "the task of the worker that died comes back"

workers = [threading.Thread(target=worker, args=(name,)) for name in ("one", "two")]
for thread in workers:
    thread.start()
assert eventually(lambda: len(done) == len(TASKS)), done
new_task("stop")
new_task("stop")
for thread in workers:
    thread.join(10)
    assert not thread.is_alive()

assert sorted(done) == sorted(TASKS), done
# Fair dispatch: who has the long task does not get the short ones as well.
busy = next(tasks for tasks in done_by.values() if TASKS[0] in tasks)
assert len(busy) <= 3, done_by
with connect() as connection:
    assert connection.channel().queue_delete(QUEUE).method.message_count == 0
