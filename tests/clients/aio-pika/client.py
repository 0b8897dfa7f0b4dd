"""What users of aio-pika write."""

import asyncio
import os
import sys
import unittest

import aio_pika
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.exceptions import (
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    ProbableAuthenticationError,
    PublishError,
)
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource, ConnectionNotImplemented

URL = f"amqp://guest:guest@127.0.0.1:{os.environ['AMQP_PORT']}/"


def persistent(body, **properties):
    return Message(body.encode(), delivery_mode=DeliveryMode.PERSISTENT, **properties)


async def eventually(condition, what, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
    return what


class Client(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.connection = await aio_pika.connect_robust(URL, reconnect_interval=0.2)
        self.addAsyncCleanup(self.connection.close)
        self.channel = await self.connection.channel()
        self.exchange = await self.channel.declare_exchange(f"{self._testMethodName}.x", ExchangeType.TOPIC, durable=True)
        self.queue = await self.declare("q", "a.#")

    async def declare(self, suffix, key=None, **options):
        """A durable queue of this test, bound to its exchange."""
        queue = await self.channel.declare_queue(f"{self._testMethodName}.{suffix}", durable=True, **options)
        if key:
            await queue.bind(self.exchange, key)
        await queue.purge()
        return queue

    async def publish(self, *bodies, key="a.b", **properties):
        """Each returns when it is confirmed."""
        for body in bodies:
            confirm = await self.exchange.publish(persistent(body, **properties), key)
            self.assertEqual(confirm.name, "Basic.Ack")

    async def bodies(self, queue=None):
        found = []
        while (message := await (queue or self.queue).get(fail=False)) is not None:
            found.append((message.body.decode(), message.redelivered))
            await message.ack()
        return found

    async def test_publish_and_consume_with_prefetch(self):
        await self.publish(*map(str, range(10)))
        await self.channel.set_qos(prefetch_count=3)
        taken = []
        tag = await self.queue.consume(taken.append)
        for n in range(8):
            await eventually(lambda: len(taken) == n + 3, "the next one")
            await asyncio.sleep(0.02)
            self.assertEqual(len(taken), n + 3, "no more than the prefetch")
            await taken[n].ack()
        await taken[9].ack(multiple=True)
        await self.queue.cancel(tag)
        self.assertEqual([message.body.decode() for message in taken], [str(n) for n in range(10)])
        self.assertEqual(await self.bodies(), [])

    async def test_an_iterator_gives_back_what_failed(self):
        await self.publish("one", "two")
        seen = []
        async with self.queue.iterator() as messages:
            async for message in messages:
                try:
                    async with message.process(requeue=True):
                        seen.append((message.body.decode(), message.redelivered))
                        if len(seen) == 1:
                            raise RuntimeError("once")
                except RuntimeError:
                    continue
                if len(seen) == 3:
                    break
        self.assertEqual(sorted(seen), [("one", False), ("one", True), ("two", False)])
        self.assertEqual(await self.bodies(), [])

    async def test_properties(self):
        headers = {"text": "grüße", "int": 5, "long": 2**40, "yes": True, "list": [1, "a"], "table": {"deep": {"x": -1}}}
        await self.publish("x", headers=headers, priority=5, correlation_id="c", reply_to="r", expiration=60, user_id="guest")
        message = await self.queue.get()
        self.assertEqual(message.headers, headers)
        self.assertEqual((message.priority, message.correlation_id, message.reply_to, message.expiration), (5, "c", "r", 60))
        await message.ack()

    async def test_a_mandatory_message_comes_back(self):
        # Mandatory is this library's default.
        returned = await self.exchange.publish(persistent("lost"), "b")
        self.assertEqual((returned.delivery.reply_code, returned.delivery.reply_text), (312, "NO_ROUTE"))
        self.assertEqual(returned.body, b"lost")
        channel = await self.connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange(self.exchange.name)
        with self.assertRaises(PublishError):
            await exchange.publish(persistent("lost"), "b")

    async def test_a_refused_message_is_an_error(self):
        await self.declare("full", "full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        await self.publish("fits", key="full")
        with self.assertRaises(DeliveryError) as raised:
            await self.publish("does not", key="full")
        self.assertEqual(raised.exception.frame.name, "Basic.Nack")

    async def test_reject_and_requeue(self):
        await self.publish("one", "two")
        first = await self.queue.get()
        self.assertFalse(first.redelivered)
        await first.nack(requeue=True)
        again = await self.queue.get()
        self.assertEqual((again.body, again.redelivered), (b"one", True))
        await again.reject(requeue=False)
        self.assertEqual(await self.bodies(), [("two", False)])

    async def test_dead_letters(self):
        dead = await self.declare("dead", "dead")
        arguments = {"x-dead-letter-exchange": self.exchange.name, "x-dead-letter-routing-key": "dead"}
        work = await self.declare("work", "work", arguments=arguments)
        await self.publish("rejected", key="work")
        await (await work.get()).reject()
        await self.publish("expired", key="work", expiration=0.02)
        for reason in ("rejected", "expired"):
            message = await dead.get(timeout=10, fail=False)
            while message is None:
                await asyncio.sleep(0.01)
                message = await dead.get(timeout=10, fail=False)
            (death,) = message.headers["x-death"]
            self.assertEqual((message.body.decode(), death["reason"], death["queue"], death["count"]), (reason, reason, work.name, 1))
            await message.ack()

    async def test_a_large_message(self):
        body = os.urandom(200_000).hex()
        await self.publish(body)
        self.assertEqual(await self.bodies(), [(body, False)])

    async def test_errors_of_a_channel(self):
        with self.assertRaises(ChannelNotFoundEntity) as raised:
            await (await self.connection.channel()).get_queue("nowhere")
        self.assertIn("NOT_FOUND - no queue 'nowhere' in vhost '/'", str(raised.exception))
        with self.assertRaises(ChannelPreconditionFailed):
            await (await self.connection.channel()).declare_queue(self.queue.name, durable=False)
        with self.assertRaises(ChannelAccessRefused):
            await (await self.connection.channel()).declare_queue("amq.mine")
        async with await aio_pika.connect(URL) as other:
            await (await other.channel()).declare_queue("aio.exclusive", exclusive=True)
            with self.assertRaises(ChannelLockedResource):
                await (await self.connection.channel()).get_queue("aio.exclusive")
        self.assertEqual(await self.bodies(), [], "the connection lives")

    async def test_errors_of_a_connection(self):
        connection = await aio_pika.connect(URL)
        told = asyncio.get_running_loop().create_future()
        connection.close_callbacks.add(lambda _, error: told.done() or told.set_result(error))
        channel = await connection.channel()
        exchange = await channel.get_exchange(self.exchange.name)
        # Immediate is not there, as in RabbitMQ.
        with self.assertRaises(Exception):
            await exchange.publish(persistent("now"), "a.b", immediate=True)
        self.assertIsInstance(await asyncio.wait_for(told, 10), ConnectionNotImplemented)
        with self.assertRaisesRegex(Exception, "Connection.Close"):
            await aio_pika.connect(URL + "nowhere")
        with self.assertRaises(ProbableAuthenticationError):
            await aio_pika.connect(URL.replace("guest:guest", "guest:wrong"))

    async def test_transactions(self):
        channel = await self.connection.channel(publisher_confirms=False)
        async with channel.transaction() as transaction:
            exchange = await channel.get_exchange(self.exchange.name)
            await exchange.publish(persistent("undone"), "a.b")
            await transaction.rollback()
        async with channel.transaction():
            await exchange.publish(persistent("done"), "a.b")
            self.assertEqual(await self.bodies(), [])
        self.assertEqual(await self.bodies(), [("done", False)])


@unittest.skipUnless(os.environ.get("GRPC_PORT"), "the broker is not ours to kill")
class Reconnect(Client):
    async def test_after_kill_9_nothing_is_lost(self):
        """A robust connection recovers by itself: channels, prefetch, consumers, exclusive queues."""
        await self.publish(*map(str, range(200)))
        mine = await self.channel.declare_queue(exclusive=True)
        await mine.bind(self.exchange, "mine")
        await self.channel.set_qos(prefetch_count=10)
        taken = []

        async def take(message):
            taken.append(message)
            if len(taken) <= 50 or len(taken) > 60:
                await message.ack()

        await self.queue.consume(take)
        await eventually(lambda: len(taken) == 60, "sixty messages")
        await self.publish("last")
        await asyncio.sleep(0.1)
        recovered = asyncio.Event()
        self.connection.reconnect_callbacks.add(lambda *_: recovered.set())
        print("restart the broker", flush=True)
        self.assertEqual(await asyncio.to_thread(sys.stdin.readline), "restarted\n")
        await asyncio.wait_for(recovered.wait(), 20)
        await eventually(lambda: len(taken) == 60 + 151, "the rest")
        self.assertEqual([message.body.decode() for message in taken[60:]], [*map(str, range(50, 200)), "last"])
        self.assertTrue(all(message.redelivered for message in taken[60:70]))
        await self.publish("routed", key="mine")
        self.assertEqual(await self.bodies(mine), [("routed", False)])


def load_tests(loader, _tests, _pattern):
    suite = loader.loadTestsFromTestCase(Client)
    suite.addTests(loader.loadTestsFromName(f"{__name__}.Reconnect.test_after_kill_9_nothing_is_lost"))
    return suite
