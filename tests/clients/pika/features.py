"""What queues, exchanges and consumers do by their arguments."""

import time
import unittest

import pika
import pika.exceptions

from broker import BrokerTest, connect, eventually


class TimeToLive(BrokerTest):
    def test_of_a_queue(self):
        queue = self.queue(arguments={"x-message-ttl": 150})
        self.publish(queue, "a", "b")
        self.wait_ready(queue, 2)
        self.wait_ready(queue, 0)
        self.assertIsNone(self.get_now(queue))

    def test_of_a_message(self):
        queue = self.queue()
        self.publish(queue, "short", expiration="100")
        self.publish(queue, "long", expiration="60000")
        self.publish(queue, "for ever")
        self.wait_ready(queue, 2)
        _, properties, body = self.get(queue)
        self.assertEqual((body, properties.expiration), (b"long", "60000"))
        self.assertEqual(self.drain(queue), [b"for ever"])

    def test_the_shorter_one_counts(self):
        queue = self.queue(arguments={"x-message-ttl": 60000})
        self.publish(queue, "a", expiration="100")
        self.wait_ready(queue, 0)
        queue = self.queue("short", arguments={"x-message-ttl": 100})
        self.publish(queue, "a", expiration="60000")
        self.wait_ready(queue, 0)

    def test_only_the_head_expires(self):
        queue = self.queue()
        self.publish(queue, "first")
        self.publish(queue, "second", expiration="50")
        time.sleep(0.2)
        self.assertEqual(self.counts(queue)[0], 2)
        self.assertEqual(self.drain(queue), [b"first"])

    def test_zero_is_now_or_never(self):
        queue = self.queue(arguments={"x-message-ttl": 0})
        self.publish(queue, "nobody is there")
        self.settle()
        self.assertEqual(self.counts(queue)[0], 0)
        _, deliveries = self.consumer(queue, auto_ack=True)
        self.publish(queue, "now")
        self.wait_for(deliveries, 1)
        self.assertEqual(deliveries[0][2], b"now")

    def test_what_is_out_does_not_expire(self):
        queue = self.queue(arguments={"x-message-ttl": 100})
        self.publish(queue, "a")
        method = self.get(queue, auto_ack=False)[0]
        time.sleep(0.3)
        self.channel.basic_ack(method.delivery_tag)
        self.settle()
        # A requeued one keeps its deadline.
        self.publish(queue, "b")
        method = self.get(queue, auto_ack=False)[0]
        time.sleep(0.2)
        self.channel.basic_nack(method.delivery_tag)
        self.settle()
        self.wait_ready(queue, 0)

    def test_of_an_unused_queue(self):
        queue = self.queue(arguments={"x-expires": 300})
        self.publish(queue, "a")
        for _ in range(3):
            time.sleep(0.15)
            self.channel.basic_get(queue)
        time.sleep(0.1)
        self.counts(queue)

        def gone():
            channel = self.connection.channel()
            try:
                channel.queue_bind(queue, "amq.direct", "look")
                channel.close()
                return False
            except pika.exceptions.ChannelClosedByBroker as closed:
                return closed.reply_code == 404

        self.assertTrue(eventually(gone, 3))


class DeadLetters(BrokerTest):
    def source(self, dead, suffix="q", **arguments):
        """A queue that dead-letters to another."""
        names = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self.queue(
            suffix, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, **names}
        )

    def death(self, properties):
        """The newest entry of x-death, its time checked and taken out."""
        death = dict(properties.headers["x-death"][0])
        seconds = time.time() - death.pop("time").timestamp()
        self.assertLess(abs(seconds + time.timezone), 86_400)
        return death

    def test_rejected(self):
        dead = self.queue("dead")
        queue = self.source(dead)
        self.publish(queue, "a", headers={"mine": 1}, content_type="text/plain", message_id="m")
        self.channel.basic_reject(self.get(queue, auto_ack=False)[0].delivery_tag, requeue=False)
        method, properties, body = self.get(dead)
        self.assertEqual((body, method.exchange, method.routing_key, method.redelivered), (b"a", "", dead, False))
        self.assertEqual((properties.content_type, properties.message_id), ("text/plain", "m"))
        self.assertEqual(
            self.death(properties),
            {"count": 1, "reason": "rejected", "queue": queue, "exchange": "", "routing-keys": [queue]},
        )
        headers = properties.headers
        self.assertEqual(headers["mine"], 1)
        self.assertEqual(headers["x-first-death-reason"], "rejected")
        self.assertEqual(headers["x-first-death-queue"], queue)
        self.assertEqual(headers["x-first-death-exchange"], "")

    def test_expired(self):
        dead = self.queue("dead")
        queue = self.source(dead)
        self.publish(queue, "a", expiration="50")
        _, properties, body = self.get(dead)
        self.assertEqual((body, properties.expiration), (b"a", None))
        self.assertEqual(
            self.death(properties),
            {
                "count": 1,
                "reason": "expired",
                "queue": queue,
                "exchange": "",
                "routing-keys": [queue],
                "original-expiration": "50",
            },
        )

    def test_by_the_time_to_live_of_the_queue_in_order(self):
        dead = self.queue("dead")
        queue = self.source(dead, x_message_ttl=50)
        self.publish(queue, *"abcde")
        self.assertEqual(self.drain(dead, 5), [b"a", b"b", b"c", b"d", b"e"])

    def test_overflow(self):
        dead = self.queue("dead")
        queue = self.source(dead, x_max_length=2)
        self.publish(queue, *"abc")
        _, properties, body = self.get(dead)
        self.assertEqual((body, self.death(properties)["reason"]), (b"a", "maxlen"))
        self.assertEqual(self.drain(queue, 2), [b"b", b"c"])

    def test_the_routing_key_stays_where_none_is_given(self):
        exchange, dead = self.exchange("topic", durable=True), self.queue("dead")
        queue = self.queue(arguments={"x-dead-letter-exchange": exchange})
        self.channel.queue_bind(queue, exchange, "in.#")
        self.channel.queue_bind(dead, exchange, "#")
        self.channel.basic_publish(exchange, "in.key", "a")
        self.assertEqual(self.get(dead)[0].routing_key, "in.key")
        self.channel.basic_nack(self.get(queue, auto_ack=False)[0].delivery_tag, requeue=False)
        method, properties, _ = self.get(dead)
        self.assertEqual((method.exchange, method.routing_key), (exchange, "in.key"))
        death = self.death(properties)
        self.assertEqual((death["exchange"], death["routing-keys"]), (exchange, ["in.key"]))

    def test_a_round_trip_counts(self):
        # The retry pattern: work -> rejected -> wait -> expired -> work.
        work, wait = f"{self.name}.work", f"{self.name}.wait"
        self.source(wait, "work")
        self.source(work, "wait", x_message_ttl=30)
        self.publish(work, "a")
        for count in range(1, 4):
            method, properties, _ = self.get(work, auto_ack=False)
            if count > 1:
                deaths = [(d["reason"], d["queue"], d["count"]) for d in properties.headers["x-death"]]
                self.assertEqual(deaths, [("expired", wait, count - 1), ("rejected", work, count - 1)])
                self.assertEqual(properties.headers["x-first-death-reason"], "rejected")
            self.channel.basic_nack(method.delivery_tag, requeue=False)

    def test_a_cycle_without_a_reject_is_cut(self):
        one, two = f"{self.name}.one", f"{self.name}.two"
        self.source(two, "one", x_message_ttl=30)
        self.source(one, "two", x_message_ttl=30)
        self.publish(one, "a")
        time.sleep(0.5)
        self.assertEqual((self.counts(one)[0], self.counts(two)[0]), (0, 0))

    def test_without_an_exchange_it_is_gone(self):
        queue = self.queue(arguments={"x-dead-letter-exchange": "nowhere.at.all"})
        self.publish(queue, "a")
        self.channel.basic_nack(self.get(queue, auto_ack=False)[0].delivery_tag, requeue=False)
        self.settle()
        self.assertEqual(self.counts(queue)[0], 0)

    def test_to_many_queues(self):
        exchange = self.exchange("fanout", durable=True)
        dead = [self.queue(f"dead{number}") for number in range(3)]
        for queue in dead:
            self.channel.queue_bind(queue, exchange)
        queue = self.queue(arguments={"x-dead-letter-exchange": exchange})
        self.publish(queue, "a")
        self.channel.basic_nack(self.get(queue, auto_ack=False)[0].delivery_tag, requeue=False)
        for queue in dead:
            self.assertEqual(self.drain(queue, 1), [b"a"])

    def test_purge_and_delete_dead_letter_nothing(self):
        dead = self.queue("dead")
        queue = self.source(dead)
        self.publish(queue, "a")
        self.wait_ready(queue, 1)
        self.channel.queue_purge(queue)
        self.publish(queue, "b")
        self.wait_ready(queue, 1)
        self.channel.queue_delete(queue)
        time.sleep(0.1)
        self.assertEqual(self.counts(dead)[0], 0)


class Length(BrokerTest):
    def test_the_head_is_dropped(self):
        queue = self.queue(arguments={"x-max-length": 3})
        self.publish(queue, *"abcde")
        self.wait_ready(queue, 3)
        self.assertEqual(self.drain(queue), [b"c", b"d", b"e"])

    def test_in_bytes(self):
        queue = self.queue(arguments={"x-max-length-bytes": 10})
        self.publish(queue, "aaaa", "bbbb", "cccc")
        self.wait_ready(queue, 2)
        self.assertEqual(self.drain(queue), [b"bbbb", b"cccc"])

    def test_what_is_out_does_not_count(self):
        queue = self.queue(arguments={"x-max-length": 1})
        self.publish(queue, "a")
        self.assertEqual(self.get(queue, auto_ack=False)[2], b"a")
        self.publish(queue, "b")
        self.assertEqual(self.get(queue, auto_ack=False)[2], b"b")
        self.publish(queue, "c")
        self.wait_ready(queue, 1)
        self.channel.basic_ack(0, multiple=True)
        self.assertEqual(self.drain(queue, 1), [b"c"])

    def test_reject_publish(self):
        queue = self.queue(arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
        self.channel.confirm_delivery()
        self.publish(queue, *"ab")
        with self.assertRaises(pika.exceptions.NackError):
            self.publish(queue, "c")
        self.assertEqual(self.get(queue)[2], b"a")
        self.publish(queue, "d")
        self.assertEqual(self.drain(queue, 2), [b"b", b"d"])

    def test_a_rejected_fan_out_keeps_the_other_queues(self):
        exchange = self.exchange("fanout")
        full = self.queue("full", arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
        free = self.queue("free")
        for queue in (full, free):
            self.channel.queue_bind(queue, exchange)
        self.channel.confirm_delivery()
        with self.assertRaises(pika.exceptions.NackError):
            self.channel.basic_publish(exchange, "", "a")
        self.assertEqual(self.drain(free, 1), [b"a"])
        self.assertEqual(self.counts(full)[0], 0)

    def test_reject_publish_dlx(self):
        dead = self.queue("dead")
        queue = self.queue(
            arguments={
                "x-max-length": 1,
                "x-overflow": "reject-publish-dlx",
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": dead,
            }
        )
        self.channel.confirm_delivery()
        self.publish(queue, "a")
        with self.assertRaises(pika.exceptions.NackError):
            self.publish(queue, "b")
        _, properties, body = self.get(dead)
        self.assertEqual((body, properties.headers["x-first-death-reason"]), (b"b", "maxlen"))
        self.assertEqual(self.drain(queue, 1), [b"a"])


class Priorities(BrokerTest):
    def test_higher_ones_come_first(self):
        queue = self.queue(arguments={"x-max-priority": 5})
        self.channel.confirm_delivery()
        for body, priority in [("a", None), ("b", 3), ("c", 5), ("d", 3), ("e", 9), ("f", 0), ("g", 1)]:
            self.publish(queue, body, priority=priority)
        # More than the highest counts as the highest, none as 0.
        self.assertEqual(self.drain(queue, 7), [b"c", b"e", b"b", b"d", b"g", b"a", b"f"])

    def test_the_property_stays_what_it_was(self):
        queue = self.queue(arguments={"x-max-priority": 2})
        self.publish(queue, "a", priority=9)
        self.assertEqual(self.get(queue)[1].priority, 9)

    def test_a_requeued_message_keeps_its_level(self):
        queue = self.queue(arguments={"x-max-priority": 5})
        self.channel.confirm_delivery()
        self.publish(queue, "low", priority=1)
        method = self.get(queue, auto_ack=False)[0]
        self.publish(queue, "high", priority=4)
        self.publish(queue, "low too", priority=1)
        self.channel.basic_nack(method.delivery_tag)
        self.settle()
        self.assertEqual(self.drain(queue, 3), [b"high", b"low", b"low too"])

    def test_a_full_queue_drops_the_first_to_be_delivered(self):
        queue = self.queue(arguments={"x-max-priority": 5, "x-max-length": 2})
        self.channel.confirm_delivery()
        self.publish(queue, "low", priority=1)
        self.publish(queue, "high", priority=4)
        self.publish(queue, "lower", priority=0)
        self.assertEqual(self.drain(queue, 2), [b"low", b"lower"])


class Headers(BrokerTest):
    def routed(self, arguments, headers):
        exchange, queue = self.exchange("headers"), self.queue()
        self.channel.queue_bind(queue, exchange, "ignored", arguments)
        self.channel.confirm_delivery()
        self.channel.basic_publish(exchange, "other", "a", pika.BasicProperties(headers=headers))
        routed = self.get_now(queue) is not None
        self.channel.queue_delete(queue)
        self.channel.exchange_delete(exchange)
        self.channel.close()
        self.channel = self.connection.channel()
        return routed

    def test_matching(self):
        both = {"a": 1, "b": "two"}
        cases = [
            ({"x-match": "all", **both}, {**both, "c": 3}, True),
            ({"x-match": "all", **both}, {"a": 1}, False),
            ({"x-match": "all", **both}, {"a": 2, "b": "two"}, False),
            (both, both, True),
            (both, {"a": 1}, False),
            ({"x-match": "any", **both}, {"b": "two"}, True),
            ({"x-match": "any", **both}, {"b": "three"}, False),
            ({"x-match": "any", **both}, None, False),
            # By value, whatever the width of the number.
            ({"x-match": "all", "n": 5}, {"n": 5}, True),
            ({"x-match": "all", "n": 2**40}, {"n": 2**40}, True),
            # Nothing asked for: all of nothing is there, none of it is.
            ({"x-match": "all"}, {"a": 1}, True),
            ({"x-match": "all"}, None, True),
            ({"x-match": "any"}, {"a": 1}, False),
            # No value: it only has to be there.
            ({"x-match": "all", "a": None}, {"a": "whatever"}, True),
            ({"x-match": "all", "a": None}, {"b": 1}, False),
            # Names with x- do not count, but where it is said.
            ({"x-match": "all", "x-a": 1, "b": 2}, {"b": 2}, True),
            ({"x-match": "any", "x-a": 1, "b": 2}, {"x-a": 1}, False),
            ({"x-match": "all-with-x", "x-a": 1, "b": 2}, {"b": 2}, False),
            ({"x-match": "all-with-x", "x-a": 1, "b": 2}, {"x-a": 1, "b": 2}, True),
            ({"x-match": "any-with-x", "x-a": 1, "b": 2}, {"x-a": 1}, True),
        ]
        for arguments, headers, expected in cases:
            with self.subTest(arguments=arguments, headers=headers):
                self.assertEqual(self.routed(arguments, headers), expected)

    def test_amq_match_is_one(self):
        queue = self.queue()
        self.channel.queue_bind(queue, "amq.match", "", {"x-match": "any", "a": 1})
        self.channel.basic_publish("amq.match", "", "a", pika.BasicProperties(headers={"a": 1}))
        self.channel.queue_bind(queue, "amq.headers", "", {"x-match": "any", "a": 1})
        self.channel.basic_publish("amq.headers", "", "b", pika.BasicProperties(headers={"a": 1}))
        self.assertEqual(self.drain(queue, 2), [b"a", b"b"])


class AlternateExchange(BrokerTest):
    def test_it_gets_what_is_not_routed(self):
        other, queue, unrouted = self.exchange("fanout", "other"), self.queue(), self.queue("unrouted")
        exchange = self.exchange("direct", arguments={"alternate-exchange": other})
        self.channel.queue_bind(queue, exchange, "known")
        self.channel.queue_bind(unrouted, other)
        self.channel.confirm_delivery()
        for key in ["known", "unknown"]:
            # Routed is what the alternate exchange routes.
            self.channel.basic_publish(exchange, key, key, mandatory=True)
        self.assertEqual(self.drain(queue), [b"known"])
        method, _, body = self.get(unrouted)
        self.assertEqual((method.exchange, method.routing_key, body), (exchange, "unknown", b"unknown"))
        self.channel.queue_unbind(unrouted, other)
        with self.assertRaises(pika.exceptions.UnroutableError):
            self.channel.basic_publish(exchange, "unknown", "a", mandatory=True)

    def test_a_ring_of_them_ends(self):
        one, two = f"{self.name}.one", f"{self.name}.two"
        self.exchange("direct", "one", arguments={"alternate-exchange": two})
        self.exchange("direct", "two", arguments={"alternate-exchange": one})
        self.channel.confirm_delivery()
        with self.assertRaises(pika.exceptions.UnroutableError):
            self.channel.basic_publish(one, "key", "a", mandatory=True)

    def test_a_missing_one_is_ignored(self):
        exchange = self.exchange("direct", arguments={"alternate-exchange": "not.there"})
        self.channel.confirm_delivery()
        with self.assertRaises(pika.exceptions.UnroutableError):
            self.channel.basic_publish(exchange, "key", "a", mandatory=True)


class Consumers(BrokerTest):
    def test_single_active(self):
        queue = self.queue(arguments={"x-single-active-consumer": True})
        tag, first = self.consumer(queue)
        other = self.connection.channel()
        _, second = self.consumer(queue, channel=other)
        self.publish(queue, *"ab")
        self.wait_for(first, 2)
        self.assertEqual(second, [])
        # The next one takes over; what is out stays with the first.
        self.channel.basic_cancel(tag)
        self.publish(queue, "c")
        self.wait_for(second, 1)
        self.channel.basic_ack(first[0][0].delivery_tag)
        self.channel.close()
        self.wait_for(second, 2)
        self.assertEqual([(m.redelivered, body) for m, _, body in second], [(False, b"c"), (True, b"b")])

    def test_single_active_and_exclusive_exclude_each_other(self):
        queue = self.queue(arguments={"x-single-active-consumer": True})
        with self.assertRaises(pika.exceptions.ChannelClosedByBroker) as raised:
            self.channel.basic_consume(queue, lambda *_: None, exclusive=True)
        self.assertEqual(raised.exception.reply_code, 403)

    def test_higher_priorities_first(self):
        queue = self.queue()
        _, low = self.consumer(queue, prefetch=2)
        _, high = self.consumer(queue, arguments={"x-priority": 10})
        self.publish(queue, *"abcde")
        self.work(0.2)
        self.assertEqual([body for _, _, body in high], [b"a", b"b"])
        self.assertEqual([body for _, _, body in low], [b"c", b"d"])

    def test_exclusive_ends_with_its_channel(self):
        queue = self.queue()
        owner = self.connection.channel()
        owner.basic_consume(queue, lambda *_: None, exclusive=True)
        owner.close()
        _, deliveries = self.consumer(queue, auto_ack=True)
        self.publish(queue, "a")
        self.wait_for(deliveries, 1)


class DirectReplyTo(BrokerTest):
    NAME = "amq.rabbitmq.reply-to"

    def test_call(self):
        queue = self.queue()
        server = connect()
        self.addCleanup(server.close)
        server_channel = server.channel()

        def answer(channel, method, properties, body):
            channel.basic_publish(
                "", properties.reply_to, body.upper(), pika.BasicProperties(correlation_id=properties.correlation_id)
            )
            channel.basic_ack(method.delivery_tag)

        server_channel.basic_consume(queue, answer)
        _, replies = self.consumer(self.NAME, auto_ack=True)
        for number in range(3):
            self.publish(queue, f"call {number}", reply_to=self.NAME, correlation_id=str(number))
        self.work(0.1)
        end = time.monotonic() + 5
        while len(replies) < 3 and time.monotonic() < end:
            self.work(0.02, server)
            self.work(0.02)
        self.assertEqual(
            [(properties.correlation_id, body) for _, properties, body in replies],
            [("0", b"CALL 0"), ("1", b"CALL 1"), ("2", b"CALL 2")],
        )

    def test_the_name_is_rewritten_and_can_be_looked_up(self):
        queue = self.queue()
        self.consumer(self.NAME, auto_ack=True)
        self.publish(queue, "call", reply_to=self.NAME)
        reply_to = self.get(queue)[1].reply_to
        self.assertTrue(reply_to.startswith(f"{self.NAME}."), reply_to)
        with connect() as connection:
            declared = connection.channel().queue_declare(reply_to, passive=True).method
            self.assertEqual(declared.queue, reply_to)
        self.channel.close()
        self.channel = self.connection.channel()
        with self.assertRaises(pika.exceptions.ChannelClosedByBroker) as raised:
            self.channel.queue_declare(reply_to, passive=True)
        self.assertEqual(raised.exception.reply_code, 404)

    def test_a_reply_to_nobody_is_unroutable(self):
        queue = self.queue()
        self.consumer(self.NAME, auto_ack=True)
        self.publish(queue, "call", reply_to=self.NAME)
        reply_to = self.get(queue)[1].reply_to
        self.channel.close()
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        with self.assertRaises(pika.exceptions.UnroutableError):
            self.channel.basic_publish("", reply_to, "too late", mandatory=True)

    def test_acks_are_not_for_it(self):
        with self.channel_closed(406, "PRECONDITION_FAILED - reply consumer cannot acknowledge"):
            self.channel.basic_consume(self.NAME, lambda *_: None)

    def test_one_per_channel(self):
        self.consumer(self.NAME, auto_ack=True)
        with self.channel_closed(406, "PRECONDITION_FAILED - reply consumer already set"):
            self.consumer(self.NAME, auto_ack=True)


class Transactions(BrokerTest):
    def test_publishes_wait_for_the_commit(self):
        queue = self.queue()
        self.channel.tx_select()
        self.publish(queue, *"ab")
        self.assertEqual(self.counts(queue)[0], 0)
        self.channel.tx_commit()
        self.assertEqual(self.counts(queue)[0], 2)
        self.publish(queue, "c")
        self.channel.tx_rollback()
        self.channel.tx_commit()
        self.assertEqual(self.drain(queue, 2), [b"a", b"b"])

    def test_acks_wait_too(self):
        queue = self.queue()
        self.publish(queue, *"abc")
        other = self.connection.channel()
        other.tx_select()
        self.wait_ready(queue, 3)
        tags = [other.basic_get(queue)[0].delivery_tag for _ in range(3)]
        other.basic_ack(tags[0])
        other.tx_commit()
        other.basic_ack(tags[1])
        other.tx_rollback()
        # After a rollback they are out as before and can be acked again.
        other.basic_ack(tags[1])
        other.basic_ack(tags[2])
        other.close()
        self.wait_ready(queue, 2)
        got = [self.get(queue) for _ in range(2)]
        self.assertEqual([(m.redelivered, body) for m, _, body in got], [(True, b"b"), (True, b"c")])

    def test_moving_from_queue_to_queue(self):
        source, target = self.queue("source"), self.queue("target")
        self.publish(source, *"abc")
        other = self.connection.channel()
        other.tx_select()
        self.wait_ready(source, 3)
        for _ in range(3):
            method, _, body = other.basic_get(source)
            self.publish(target, body, channel=other)
            other.basic_ack(method.delivery_tag)
        other.tx_commit()
        other.close()
        self.assertEqual((self.counts(source)[0], self.counts(target)[0]), (0, 3))

    def test_unroutable_messages_come_back_with_the_commit(self):
        returned = []
        self.channel.add_on_return_callback(lambda *args: returned.append(args[3]))
        self.channel.tx_select()
        self.channel.basic_publish("", f"{self.name}.nowhere", "a", mandatory=True)
        self.work(0.2)
        self.assertEqual(returned, [])
        self.channel.tx_commit()
        self.work(0.1)
        self.assertEqual(returned, [b"a"])

    def test_a_missing_exchange_is_told_at_once(self):
        self.channel.tx_select()
        self.channel.basic_publish(self.name, "key", "a")
        self.assertTrue(eventually(lambda: self.work(0.02) or self.channel.is_closed))
        reason = self.channel._impl._closing_reason
        self.assertEqual((reason.reply_code, reason.reply_text), (404, f"NOT_FOUND - no exchange '{self.name}' in vhost '/'"))


class Quorum(BrokerTest):
    ARGUMENTS = {"x-queue-type": "quorum"}

    def test_it_works_like_a_queue(self):
        queue = self.queue(arguments=self.ARGUMENTS)
        self.channel.confirm_delivery()
        self.publish(queue, *"abc")
        _, deliveries = self.consumer(queue, prefetch=10)
        self.wait_for(deliveries, 3)
        self.assertEqual([body for _, _, body in deliveries], [b"a", b"b", b"c"])
        self.channel.basic_ack(0, multiple=True)
        self.settle()
        self.wait_ready(queue, 0)

    def test_deliveries_are_counted(self):
        queue = self.queue(arguments=self.ARGUMENTS)
        self.publish(queue, "a")
        counts = []
        for _ in range(3):
            method, properties, _ = self.get(queue, auto_ack=False)
            counts.append((method.redelivered, (properties.headers or {}).get("x-delivery-count")))
            self.channel.basic_reject(method.delivery_tag, requeue=True)
        # Old versions say 0 the first time, new ones nothing.
        self.assertIn(counts[0], [(False, None), (False, 0)])
        self.assertEqual(counts[1:], [(True, 1), (True, 2)])

    def test_the_delivery_limit(self):
        dead = self.queue("dead")
        queue = self.queue(
            arguments={
                **self.ARGUMENTS,
                "x-delivery-limit": 2,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": dead,
            }
        )
        self.publish(queue, "poison")
        for _ in range(3):
            self.channel.basic_reject(self.get(queue, auto_ack=False)[0].delivery_tag, requeue=True)
        _, properties, body = self.get(dead)
        self.assertEqual((body, properties.headers["x-first-death-reason"]), (b"poison", "delivery_limit"))
        self.wait_ready(queue, 0)

    def test_redeclare(self):
        queue = self.queue(arguments=self.ARGUMENTS)
        self.channel.queue_declare(queue, durable=True, arguments=self.ARGUMENTS)
        with self.assertRaises(pika.exceptions.ChannelClosedByBroker) as raised:
            self.channel.queue_declare(queue, durable=True)
        self.assertEqual(raised.exception.reply_code, 406)


if __name__ == "__main__":
    unittest.main()
