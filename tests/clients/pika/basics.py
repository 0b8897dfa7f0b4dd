"""Publish, consume, get, acks of every kind, prefetch, redelivery."""

import datetime
import decimal
import unittest

import pika

from broker import BrokerTest, connect


def bodies(deliveries):
    return [body for _, _, body in deliveries]


class Deliveries(BrokerTest):
    def test_get_tells_what_is_left(self):
        queue = self.queue()
        self.publish(queue, "a", "b", "c")
        self.wait_ready(queue, 3)
        left = [self.get_now(queue)[0].message_count for _ in range(3)]
        self.assertEqual(left, [2, 1, 0])
        self.assertIsNone(self.get_now(queue))

    def test_delivery_tags_are_one_row_for_get_and_consume(self):
        queue, other = self.queue(), self.queue("other")
        self.publish(queue, "a")
        self.publish(other, "b", "c")
        self.assertEqual(self.get(queue, auto_ack=False)[0].delivery_tag, 1)
        _, deliveries = self.consumer(other)
        self.wait_for(deliveries, 2)
        self.assertEqual([method.delivery_tag for method, _, _ in deliveries], [2, 3])

    def test_a_delivery_says_where_it_comes_from(self):
        exchange, queue = self.exchange("topic"), self.queue()
        self.channel.queue_bind(queue, exchange, "a.*")
        tag, deliveries = self.consumer(queue, auto_ack=True, consumer_tag="my.tag")
        self.channel.basic_publish(exchange, "a.b", "body")
        self.wait_for(deliveries, 1)
        method = deliveries[0][0]
        self.assertEqual(
            (method.consumer_tag, method.exchange, method.routing_key, method.redelivered),
            ("my.tag", exchange, "a.b", False),
        )
        self.assertEqual(tag, "my.tag")

    def test_server_named_consumers(self):
        # pika makes its own tags; an empty one is for the broker to fill.
        consume = pika.spec.Basic.Consume(queue=self.queue(), consumer_tag="")
        with connect() as connection:
            channel = connection.channel()
            tags = []
            channel._impl._rpc(consume, lambda frame: tags.append(frame.method.consumer_tag),
                               [(pika.spec.Basic.ConsumeOk, {})])
            self.work(0.2, connection)
            self.assertTrue(tags and tags[0].startswith("amq.ctag-"), tags)

    def test_bodies_of_all_sizes(self):
        queue = self.queue()
        self.channel.confirm_delivery()
        # 131,072 is the frame size that is negotiated, 8 of it are not payload.
        for size in [0, 1, 131_063, 131_064, 131_065, 262_128, 500_000]:
            with self.subTest(size):
                body = bytes(number % 251 for number in range(size))
                self.publish(queue, body)
                self.assertEqual(self.get(queue)[2], body)

    def test_small_frames(self):
        queue = self.queue()
        with connect(frame_max=4096) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            body = bytes(number % 251 for number in range(20_000))
            self.publish(queue, body, channel=channel, headers={"long": "x" * 3000})
            method, properties, received = channel.basic_get(queue, auto_ack=True)
            self.assertEqual((received, properties.headers), (body, {"long": "x" * 3000}))

    def test_cancel_keeps_what_is_out(self):
        queue = self.queue()
        self.publish(queue, "a", "b")
        other = self.connection.channel()
        tag, deliveries = self.consumer(queue, prefetch=1, channel=other)
        self.wait_for(deliveries, 1)
        other.basic_cancel(tag)
        self.assertEqual(self.counts(queue), (1, 0))
        other.basic_ack(deliveries[0][0].delivery_tag)
        self.settle(other)
        self.assertEqual(self.drain(queue), [b"b"])

    def test_purge_takes_what_is_ready(self):
        queue = self.queue()
        self.publish(queue, "a", "b", "c")
        method = self.get(queue, auto_ack=False)[0]
        self.wait_ready(queue, 2)
        self.assertEqual(self.channel.queue_purge(queue).method.message_count, 2)
        self.channel.basic_nack(method.delivery_tag)
        self.assertEqual(self.get(queue)[2], b"a")

    def test_delete_tells_how_many_went(self):
        queue = self.queue()
        self.publish(queue, "a", "b")
        self.wait_ready(queue, 2)
        self.assertEqual(self.channel.queue_delete(queue).method.message_count, 2)

    def test_a_message_comes_once_though_two_bindings_match(self):
        exchange, queue = self.exchange("topic"), self.queue()
        for key in ["#", "a.*", "*.b"]:
            self.channel.queue_bind(queue, exchange, key)
        self.channel.basic_publish(exchange, "a.b", "once")
        self.assertEqual(self.drain(queue, 1), [b"once"])

    def test_cc_and_bcc(self):
        queues = [self.queue(suffix) for suffix in ["to", "cc", "bcc"]]
        headers = {"CC": [queues[1], queues[0]], "BCC": [queues[2]], "other": 1}
        self.publish(queues[0], "copy", headers=headers)
        for queue in queues:
            _, properties, body = self.get(queue)
            self.assertEqual(body, b"copy")
            self.assertEqual(properties.headers, {"CC": [queues[1], queues[0]], "other": 1})
            self.assertIsNone(self.get_now(queue))

    def test_exchange_to_exchange(self):
        front, back, queue = self.exchange("fanout", "front"), self.exchange("direct", "back"), self.queue()
        self.channel.exchange_bind(back, front, "")
        self.channel.queue_bind(queue, back, "key")
        self.channel.basic_publish(front, "key", "through two")
        self.channel.basic_publish(front, "other", "to nobody")
        self.channel.exchange_unbind(back, front, "")
        self.channel.basic_publish(front, "key", "unbound")
        self.settle()
        self.assertEqual(self.drain(queue, 1), [b"through two"])


class Settling(BrokerTest):
    def test_ack_of_many(self):
        queue = self.queue()
        self.publish(queue, *"abcde")
        other = self.connection.channel()
        _, deliveries = self.consumer(queue, channel=other)
        self.wait_for(deliveries, 5)
        other.basic_ack(deliveries[2][0].delivery_tag, multiple=True)
        other.close()
        self.wait_ready(queue, 2)
        got = [self.get(queue) for _ in range(2)]
        self.assertEqual([(method.redelivered, body) for method, _, body in got], [(True, b"d"), (True, b"e")])

    def test_ack_of_all(self):
        queue = self.queue()
        self.publish(queue, *"abc")
        _, deliveries = self.consumer(queue)
        self.wait_for(deliveries, 3)
        self.channel.basic_ack(0, multiple=True)
        # With nothing out this is fine as well.
        self.channel.basic_ack(0, multiple=True)
        self.settle()
        self.connection.close()
        self.assertEqual(self.counts(queue), (0, 0))

    def test_requeued_messages_go_to_their_old_places(self):
        queue = self.queue()
        self.publish(queue, *"abcdef")
        other = self.connection.channel()
        _, deliveries = self.consumer(queue, prefetch=4, channel=other)
        self.wait_for(deliveries, 4)
        other.basic_cancel(deliveries[0][0].consumer_tag)
        other.basic_ack(deliveries[1][0].delivery_tag)
        for index in (3, 0, 2):
            other.basic_nack(deliveries[index][0].delivery_tag, requeue=True)
        self.settle(other)
        self.wait_ready(queue, 5)
        got = [self.get(queue) for _ in range(5)]
        self.assertEqual([body for _, _, body in got], [b"a", b"c", b"d", b"e", b"f"])
        self.assertEqual([method.redelivered for method, _, _ in got], [True, True, True, False, False])

    def test_nack_of_many_without_requeue_drops(self):
        queue = self.queue()
        self.publish(queue, *"abc")
        other = self.connection.channel()
        _, deliveries = self.consumer(queue, prefetch=2, channel=other)
        self.wait_for(deliveries, 2)
        other.basic_nack(deliveries[1][0].delivery_tag, multiple=True, requeue=False)
        self.wait_for(deliveries, 3)
        other.basic_reject(deliveries[2][0].delivery_tag, requeue=False)
        self.settle(other)
        self.assertEqual(self.counts(queue)[0], 0)

    def test_recover_requeues_all_of_the_channel(self):
        queue = self.queue()
        self.publish(queue, *"ab")
        other = self.connection.channel()
        for _ in range(2):
            self.assertIsNotNone(other.basic_get(queue)[0])
        other.basic_recover(requeue=True)
        self.wait_ready(queue, 2)
        got = [self.get(queue) for _ in range(2)]
        self.assertEqual([(method.redelivered, body) for method, _, body in got], [(True, b"a"), (True, b"b")])

    def test_a_lost_connection_gives_everything_back(self):
        queue = self.queue()
        self.publish(queue, *"abc")
        connection = connect()
        _, deliveries = self.consumer(queue, channel=connection.channel())
        self.wait_for(deliveries, 3, connection)
        connection.close()
        got = [self.get(queue) for _ in range(3)]
        self.assertEqual([(m.redelivered, body) for m, _, body in got], [(True, b"a"), (True, b"b"), (True, b"c")])


class Prefetch(BrokerTest):
    def test_per_consumer(self):
        queue = self.queue()
        self.publish(queue, *"abcdef")
        self.channel.basic_qos(prefetch_count=2)
        _, first = self.consumer(queue)
        self.wait_for(first, 2)
        # It counts for consumers that come later.
        self.channel.basic_qos(prefetch_count=1)
        _, second = self.consumer(queue)
        self.wait_for(second, 1)
        self.assertEqual((len(first), len(second)), (2, 1))
        self.channel.basic_ack(first[0][0].delivery_tag)
        self.wait_for(first, 3)
        self.assertEqual(len(second), 1)

    def test_per_channel(self):
        queue, other = self.queue(), self.queue("other")
        self.publish(queue, *"abc")
        self.publish(other, *"def")
        self.channel.basic_qos(prefetch_count=3, global_qos=True)
        _, deliveries = self.consumer(queue)
        _, more = self.consumer(other)
        self.work(0.2)
        self.assertEqual(len(deliveries) + len(more), 3)
        self.channel.basic_ack(0, multiple=True)
        self.work(0.2)
        self.assertEqual(len(deliveries) + len(more), 6)

    def test_consumers_take_turns(self):
        queue = self.queue()
        _, first = self.consumer(queue, auto_ack=True)
        _, second = self.consumer(queue, auto_ack=True)
        self.publish(queue, *"abcdef")
        self.work(0.2)
        self.assertEqual(sorted(bodies(first) + bodies(second)), [b"a", b"b", b"c", b"d", b"e", b"f"])
        self.assertEqual(bodies(first), [b"a", b"c", b"e"])


class Lifetimes(BrokerTest):
    def test_auto_delete_goes_with_its_last_consumer(self):
        queue = self.queue(auto_delete=True)
        self.publish(queue, "a")
        tags = [self.consumer(queue)[0] for _ in range(2)]
        self.channel.basic_cancel(tags[0])
        self.assertEqual(self.counts(queue)[1], 1)
        self.channel.basic_cancel(tags[1])
        with self.channel_closed(404, f"NOT_FOUND - no queue '{queue}' in vhost '/'"):
            self.channel.queue_declare(queue, passive=True)

    def test_auto_delete_exchange_goes_with_its_last_binding(self):
        exchange, queue = self.exchange("fanout", auto_delete=True), self.queue()
        self.channel.queue_bind(queue, exchange)
        self.channel.queue_unbind(queue, exchange)
        with self.channel_closed(404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/'"):
            self.channel.exchange_declare(exchange, passive=True)

    def test_a_consumer_is_told_that_its_queue_is_deleted(self):
        queue = self.queue()
        tag, _ = self.consumer(queue)
        cancelled = []
        self.channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
        with connect() as connection:
            connection.channel().queue_delete(queue)
        self.work(0.2)
        self.assertEqual(cancelled, [tag])

    def test_the_last_declared_queue_has_a_short_name(self):
        name = self.channel.queue_declare("", exclusive=True).method.queue
        self.assertTrue(name.startswith("amq.gen-"), name)
        self.channel.basic_publish("", name, "one")
        self.assertEqual(self.get("")[2], b"one")
        self.channel.queue_bind("", "amq.direct")
        # The routing key is the queue's name then, too.
        self.channel.basic_publish("amq.direct", name, "two")
        self.assertEqual(self.get("")[2], b"two")


class Properties(BrokerTest):
    def test_all_of_them_come_back(self):
        queue = self.queue()
        headers = {
            "text": "häschen",
            "bytes": b"\x00\xff",
            "yes": True,
            "no": False,
            "int": 2**31 - 1,
            "negative": -(2**31),
            "long": 2**62,
            "decimal": decimal.Decimal("3.25"),
            "time": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
            "nothing": None,
            "table": {"inner": {"innermost": [1, "two", {"three": 3}]}},
            "array": ["a", 1, [True, None]],
            "empty": {},
        }
        properties = dict(
            content_type="application/json",
            content_encoding="gzip",
            headers=headers,
            delivery_mode=2,
            priority=7,
            correlation_id="correlation",
            reply_to="somewhere",
            expiration="60000",
            message_id="message",
            timestamp=1_700_000_000,
            type="kind",
            user_id="guest",
            app_id="application",
            cluster_id="cluster",
        )
        self.publish(queue, "body", **properties)
        received = self.get(queue)[1]
        for name, value in properties.items():
            if name == "headers":
                continue
            self.assertEqual(getattr(received, name), value, name)
        self.assertEqual(set(received.headers), set(headers))
        for name, value in headers.items():
            got = received.headers[name]
            if isinstance(value, datetime.datetime):
                self.assertEqual(got.replace(tzinfo=datetime.timezone.utc), value, name)
            else:
                self.assertEqual(got, value, name)


if __name__ == "__main__":
    unittest.main()
