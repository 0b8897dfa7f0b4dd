"""What the scripts share: where the broker is, and a base for test cases."""

import contextlib
import os
import time
import unittest

import pika
import pika.exceptions


def parameters(**changes):
    """Parameters of a connection to the broker under test."""
    return pika.ConnectionParameters(host="127.0.0.1", port=int(os.environ["AMQP_PORT"]), **changes)


def connect(**changes):
    return pika.BlockingConnection(parameters(**changes))


def eventually(condition, seconds=10.0):
    """Waits for a condition and gives what it gave last."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return value


class BrokerTest(unittest.TestCase):
    """A connection and a channel for each test, and names that no other test uses."""

    def setUp(self):
        self.connection = connect()
        self.channel = self.connection.channel()
        self.name = f"{type(self).__name__}.{self._testMethodName}"
        self.addCleanup(self.clean_up)
        self.declared = []

    def clean_up(self):
        with contextlib.suppress(pika.exceptions.AMQPError):
            self.connection.close()
        with connect() as connection:
            for kind, name in self.declared:
                channel = connection.channel()
                with contextlib.suppress(pika.exceptions.AMQPError):
                    if kind == "queue":
                        channel.queue_delete(name)
                    else:
                        channel.exchange_delete(name)

    def queue(self, suffix="q", channel=None, arguments=None, **properties):
        """Declares a durable queue of this test; its name."""
        name = f"{self.name}.{suffix}"
        properties.setdefault("durable", True)
        (channel or self.channel).queue_declare(name, arguments=arguments, **properties)
        self.declared.append(("queue", name))
        return name

    def exchange(self, kind, suffix="x", **properties):
        """Declares an exchange of this test; its name."""
        name = f"{self.name}.{suffix}"
        self.channel.exchange_declare(name, kind, **properties)
        self.declared.append(("exchange", name))
        return name

    def publish(self, queue, *bodies, channel=None, **properties):
        """Publishes persistent messages to a queue."""
        properties.setdefault("delivery_mode", 2)
        for body in bodies:
            (channel or self.channel).basic_publish("", queue, body, pika.BasicProperties(**properties))

    def get(self, queue, auto_ack=True):
        """The next message of a queue, waited for: (method, properties, body)."""
        got = eventually(lambda: self.get_now(queue, auto_ack))
        self.assertIsNotNone(got, f"{queue} stays empty")
        return got

    def get_now(self, queue, auto_ack=True):
        """The next message of a queue, or None."""
        method, properties, body = self.channel.basic_get(queue, auto_ack=auto_ack)
        return None if method is None else (method, properties, body)

    def drain(self, queue, count=None):
        """The bodies of all messages of a queue; waits for `count` of them."""
        bodies = []
        while count is None or len(bodies) < count:
            got = self.get_now(queue) if count is None else self.get(queue)
            if got is None:
                break
            bodies.append(got[2])
        if count is not None:
            self.assertIsNone(self.get_now(queue), f"more than {count} messages")
        return bodies

    def counts(self, queue):
        """Ready messages and consumers."""
        with connect() as connection:
            method = connection.channel().queue_declare(queue, passive=True).method
        return method.message_count, method.consumer_count

    def wait_ready(self, queue, count):
        last = eventually(lambda: self.counts(queue)[0] == count)
        self.assertTrue(last, f"{queue} never had {count} ready messages but {self.counts(queue)[0]}")

    def settle(self, channel=None):
        """A round trip: what was sent on the channel before has been seen by the broker."""
        (channel or self.channel).basic_qos(prefetch_count=0)

    def consumer(self, queue, prefetch=0, channel=None, **options):
        """Consumes into a list: (tag of the consumer, list of deliveries)."""
        channel = channel or self.channel
        if prefetch:
            channel.basic_qos(prefetch_count=prefetch)
        deliveries = []

        def on_message(_channel, method, properties, body):
            deliveries.append((method, properties, body))

        return channel.basic_consume(queue, on_message, **options), deliveries

    def wait_for(self, deliveries, count, connection=None):
        """Lets the connection work until so many deliveries are there, and then a little longer."""
        connection = connection or self.connection
        end = time.monotonic() + 10
        while len(deliveries) < count and time.monotonic() < end:
            connection.process_data_events(time_limit=0.05)
        self.work(0.1, connection)
        self.assertEqual(len(deliveries), count, [delivery[2] for delivery in deliveries])

    def work(self, seconds, connection=None):
        """Lets a connection take what comes, for as long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            (connection or self.connection).process_data_events(time_limit=left)

    @contextlib.contextmanager
    def channel_closed(self, code, text, connection=None):
        """What is within closes its channel, by this code and text, and the connection lives on."""
        connection = connection or self.connection
        with self.assertRaises(pika.exceptions.ChannelClosedByBroker) as raised:
            yield
        self.assertEqual((raised.exception.reply_code, raised.exception.reply_text), (code, text))
        self.assertTrue(connection.is_open)
        self.channel = connection.channel()

    @contextlib.contextmanager
    def connection_closed(self, code, text):
        """What is within closes its connection, by this code and text."""
        with self.assertRaises(pika.exceptions.ConnectionClosedByBroker) as raised:
            yield
        self.assertEqual((raised.exception.reply_code, raised.exception.reply_text), (code, text))
        self.connection = connect()
        self.channel = self.connection.channel()
