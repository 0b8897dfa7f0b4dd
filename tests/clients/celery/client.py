"""kombu and py-amqp by themselves: what an application does with them, and the errors that it sees."""

import os
import socket
import unittest

import amqp
from amqp import exceptions
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.exceptions import OperationalError

from story import eventually, restart_broker

URL = f"amqp://guest:guest@127.0.0.1:{os.environ['AMQP_PORT']}//"


class Client(unittest.TestCase):
    def setUp(self):
        self.connection = Connection(URL, transport_options={"confirm_publish": True, "confirm_timeout": 10})
        self.addCleanup(self.connection.release)
        self.channel = self.connection.channel()
        self.exchange = Exchange(f"{self._testMethodName}.x", "topic")
        self.queue = self.declare("q", routing_key="a.#")

    def declare(self, suffix, **options):
        """A durable queue of this test, bound to its exchange."""
        queue = Queue(f"{self._testMethodName}.{suffix}", self.exchange, **options).bind(self.channel)
        queue.declare()
        queue.purge()
        return queue

    def publish(self, *bodies, routing_key="a.b", **options):
        producer = Producer(self.connection, exchange=self.exchange, serializer="json")
        for body in bodies:
            producer.publish(body, routing_key=routing_key, **options)

    def get(self, queue=None):
        return eventually(lambda: (queue or self.queue).get(), "a message", 10)

    def bodies(self, queue=None):
        bodies = []
        while (message := (queue or self.queue).get()) is not None:
            bodies.append(message.payload)
            message.ack()
        return bodies

    def test_publish_and_consume_with_prefetch(self):
        self.publish(*range(10))
        taken = []
        with Consumer(self.channel, [self.queue], on_message=taken.append, prefetch_count=3):
            eventually(lambda: (self.drain(), len(taken) >= 3)[1], "three messages")
            self.drain(0.2)
            self.assertEqual(len(taken), 3, "no more than the prefetch")
            for n in range(7):
                taken[n].ack()
                eventually(lambda: (self.drain(), len(taken) == n + 4)[1], "the next one")
            for message in taken[7:]:
                message.ack()
        self.assertEqual([message.payload for message in taken], list(range(10)))
        self.assertFalse(any(message.delivery_info["redelivered"] for message in taken))
        self.assertEqual(self.bodies(), [])

    def drain(self, seconds=0.05):
        try:
            self.connection.drain_events(timeout=seconds)
            return True
        except socket.timeout:
            return False

    def test_headers_of_all_types_pass_through(self):
        headers = {
            "small": -1, "int": 2**31 - 1, "long": 2**40, "negative": -(2**62), "text": "grüße", "yes": True,
            "float": 1.5, "none": None, "list": [1, 2**40, "a", {"b": [True]}], "table": {"x": {"y": 2**33}},
        }
        self.publish("x", headers=headers, priority=5, correlation_id="c", reply_to="r", expiration=60)
        message = self.get()
        self.assertEqual(message.headers, headers)
        self.assertEqual(message.properties["expiration"], "60000")
        self.assertEqual((message.properties["priority"], message.properties["correlation_id"]), (5, "c"))
        message.ack()

    def test_arguments_of_64_bit(self):
        queue = self.declare("long", expires=2**32 / 1000, message_ttl=2**33 / 1000, max_length_bytes=2**40)
        queue.declare()
        with self.assertRaisesRegex(exceptions.PreconditionFailed, r"^Queue.declare: \(406\) PRECONDITION_FAILED - "):
            self.declare("long", expires=2**34 / 1000)

    def test_a_mandatory_message_comes_back(self):
        returned = []
        channel = self.connection.channel()
        producer = Producer(channel, exchange=self.exchange, on_return=lambda *what: returned.append(what))
        producer.publish("lost", routing_key="b", mandatory=True)
        eventually(lambda: returned or self.drain(), "the return", 10)
        error, exchange, key, message = returned[0]
        self.assertEqual((error.reply_code, error.reply_text), (312, "NO_ROUTE"))
        self.assertEqual((exchange, key, message.body), (self.exchange.name, "b", "lost"))

    def test_reject_and_requeue(self):
        self.publish("one", "two")
        first = self.get()
        self.assertFalse(first.delivery_info["redelivered"])
        first.requeue()
        again = self.get()
        self.assertEqual((again.payload, again.delivery_info["redelivered"]), ("one", True))
        again.reject()
        self.assertEqual(self.bodies(), ["two"])

    def test_dead_letters(self):
        dead = self.declare("dead", routing_key="dead")
        arguments = {"x-dead-letter-exchange": self.exchange.name, "x-dead-letter-routing-key": "dead"}
        work = self.declare("work", routing_key="work", queue_arguments=arguments)
        self.publish("rejected", routing_key="work")
        self.get(work).reject()
        message = self.get(dead)
        (death,) = message.headers["x-death"]
        self.assertEqual((death["reason"], death["queue"], death["count"]), ("rejected", work.name, 1))
        message.ack()
        self.publish("expired", routing_key="work", expiration=0.05)
        message = self.get(dead)
        (death,) = message.headers["x-death"]
        self.assertEqual((death["reason"], death["original-expiration"]), ("expired", "50"))
        message.ack()

    def test_a_large_message(self):
        body = os.urandom(200_000).hex()
        self.publish(body)
        message = self.get()
        self.assertEqual(message.payload, body)
        message.ack()

    def test_a_reject_by_a_full_queue_is_seen(self):
        self.declare("full", routing_key="full", max_length=1, queue_arguments={"x-overflow": "reject-publish"})
        self.publish("fits", routing_key="full")
        with self.assertRaises((exceptions.MessageNacked, OperationalError)):
            self.publish("does not", routing_key="full")

    def test_errors_of_a_channel(self):
        channel = self.connection.channel()
        with self.assertRaises(exceptions.NotFound) as raised:
            channel.queue_declare("nowhere", passive=True)
        self.assertEqual((raised.exception.code, raised.exception.method_name), (404, "Queue.declare"))
        self.assertEqual(raised.exception.reply_text, "NOT_FOUND - no queue 'nowhere' in vhost '/'")
        with self.assertRaises(exceptions.PreconditionFailed):
            self.connection.channel().queue_declare(self.queue.name, durable=False)
        with self.assertRaises(exceptions.AccessRefused):
            self.connection.channel().queue_declare("amq.mine")
        with Connection(URL) as other:
            other.channel().queue_declare("errors.exclusive", exclusive=True)
            with self.assertRaises(exceptions.ResourceLocked):
                self.connection.channel().queue_declare("errors.exclusive", passive=True)
        self.assertTrue(self.connection.connected)

    def test_errors_of_a_connection(self):
        with Connection(URL) as other:
            channel = other.channel()
            channel.basic_consume(self.queue.name, consumer_tag="t")
            with self.assertRaises(exceptions.NotAllowed) as raised:
                channel.basic_consume(self.queue.name, consumer_tag="t")
            self.assertEqual(raised.exception.code, 530)
            self.assertFalse(other.connected)
        with self.assertRaises(exceptions.NotAllowed):
            Connection(URL[:-1] + "nowhere").connect()
        with self.assertRaises(exceptions.AccessRefused):
            Connection(URL.replace("guest:guest", "guest:wrong")).connect()

    def test_heartbeats_are_negotiated(self):
        with amqp.Connection(f"127.0.0.1:{os.environ['AMQP_PORT']}", heartbeat=2) as connection:
            connection.connect()
            self.assertEqual(connection.heartbeat, 2)
            for _ in range(8):
                connection.heartbeat_tick(rate=2)
                try:
                    connection.drain_events(timeout=0.5)
                except socket.timeout:
                    pass
            # Four seconds of silence but for heartbeats, and both sides are content.
            self.assertTrue(connection.channel().is_open)
            self.assertGreater(connection.bytes_recv, 0)


@unittest.skipUnless(os.environ.get("GRPC_PORT"), "the broker is not ours to kill")
class Reconnect(Client):
    """Named apart, since it is left out where the broker is not ours."""

    def test_after_kill_9_nothing_is_lost(self):
        self.publish(*range(200))
        acked = [self.get() for _ in range(50)]
        for message in acked:
            message.ack()
        held = [self.get() for _ in range(10)]
        # What is answered here came after the acks.
        self.publish("last")
        self.drain(0.2)
        restart_broker()
        self.publish("new", retry=True, retry_policy={"max_retries": 20, "interval_start": 0.1})
        self.channel = self.connection.channel()
        self.queue = Queue(self.queue.name, self.exchange, routing_key="a.#").bind(self.channel)
        found = []
        while (message := self.queue.get()) is not None:
            found.append((message.payload, message.delivery_info["redelivered"]))
            message.ack()
        expected = [*range(50, 200), "last"]
        self.assertEqual([body for body, _ in found], [*expected, "new"])
        self.assertTrue(all(flag for _, flag in found[: len(held)]))


def load_tests(loader, _tests, _pattern):
    suite = loader.loadTestsFromTestCase(Client)
    suite.addTests(loader.loadTestsFromName(f"{__name__}.Reconnect.test_after_kill_9_nothing_is_lost"))
    return suite
