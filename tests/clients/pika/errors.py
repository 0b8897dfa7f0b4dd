"""Reply codes, reply texts and their scope, channel or connection, for the common mistakes."""

import unittest

import pika
import pika.exceptions

from broker import BrokerTest, connect


class NotFound(BrokerTest):
    """404 closes the channel."""

    def missing(self, kind="queue"):
        return self.channel_closed(404, f"NOT_FOUND - no {kind} '{self.name}' in vhost '/'")

    def test_passive_declare_of_a_queue(self):
        with self.missing():
            self.channel.queue_declare(self.name, passive=True)

    def test_passive_declare_of_an_exchange(self):
        with self.missing("exchange"):
            self.channel.exchange_declare(self.name, passive=True)

    def test_consume(self):
        with self.missing():
            self.channel.basic_consume(self.name, lambda *_: None)

    def test_get(self):
        with self.missing():
            self.channel.basic_get(self.name)

    def test_purge(self):
        with self.missing():
            self.channel.queue_purge(self.name)

    def test_bind_of_a_missing_queue(self):
        with self.missing():
            self.channel.queue_bind(self.name, "amq.direct", "key")

    def test_bind_to_a_missing_exchange(self):
        queue = self.queue()
        with self.missing("exchange"):
            self.channel.queue_bind(queue, self.name, "key")

    def test_bind_of_a_missing_exchange_to_another(self):
        with self.missing("exchange"):
            self.channel.exchange_bind(self.name, "amq.direct", "key")

    def test_publish_to_a_missing_exchange(self):
        with self.missing("exchange"):
            self.channel.basic_publish(self.name, "key", "body")
            self.settle()

    def test_publishes_behind_the_bad_one_are_not_taken(self):
        queue = self.queue()
        with self.missing("exchange"):
            self.channel.basic_publish(self.name, "key", "body")
            for _ in range(10):
                self.publish(queue, "behind")
            self.settle()
        self.assertEqual(self.counts(queue)[0], 0)

    def test_no_previously_declared_queue(self):
        with self.channel_closed(404, "NOT_FOUND - no previously declared queue"):
            self.channel.queue_purge("")

    def test_delete_of_what_is_not_there_is_fine(self):
        self.assertEqual(self.channel.queue_delete(self.name).method.message_count, 0)
        self.channel.exchange_delete(self.name)
        self.channel.queue_unbind(self.name, "amq.direct", "key")


class Locked(BrokerTest):
    """405 closes the channel: an exclusive queue of another connection."""

    def setUp(self):
        super().setUp()
        self.name = "locked"
        self.exclusive = self.queue(durable=False, exclusive=True)
        self.channel.queue_bind(self.exclusive, "amq.direct", "key")
        self.other = connect()
        self.addCleanup(self.other.close)

    def test_everything_but_publish(self):
        text = (
            f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{self.exclusive}' in vhost '/'. "
            "It could be originally declared on another connection or the exclusive property value does not "
            "match that of the original declaration."
        )
        attempts = {
            "declare": lambda ch: ch.queue_declare(self.exclusive, exclusive=True),
            "passive": lambda ch: ch.queue_declare(self.exclusive, passive=True),
            "consume": lambda ch: ch.basic_consume(self.exclusive, lambda *_: None),
            "get": lambda ch: ch.basic_get(self.exclusive),
            "bind": lambda ch: ch.queue_bind(self.exclusive, "amq.direct", "key"),
            "unbind": lambda ch: ch.queue_unbind(self.exclusive, "amq.direct", "key"),
            "purge": lambda ch: ch.queue_purge(self.exclusive),
            "delete": lambda ch: ch.queue_delete(self.exclusive),
        }
        for name, attempt in attempts.items():
            with self.subTest(name), self.channel_closed(405, text, self.other):
                attempt(self.other.channel())
        self.publish(self.exclusive, "from elsewhere", channel=self.other.channel())
        self.channel = self.connection.channel()
        self.assertEqual(self.get(self.exclusive)[2], b"from elsewhere")

    def test_the_exclusive_property_must_match(self):
        shared = self.queue("shared", exclusive=False)
        text = (
            f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{shared}' in vhost '/'. "
            "It could be originally declared on another connection or the exclusive property value does not "
            "match that of the original declaration."
        )
        with self.channel_closed(405, text):
            self.channel.queue_declare(shared, durable=True, exclusive=True)


class Inequivalent(BrokerTest):
    """406 closes the channel: a redeclare with other properties; its text names argument and values."""

    def check(self, declare, what, argument, told):
        text = f"PRECONDITION_FAILED - inequivalent arg '{argument}' for {what} in vhost '/': {told}"
        with self.channel_closed(406, text):
            declare()

    def check_queue(self, first, second, argument, told):
        name = self.queue(**first)
        second.setdefault("durable", True)
        self.check(lambda: self.channel.queue_declare(name, **second), f"queue '{name}'", argument, told)

    def test_queue_durable(self):
        self.check_queue({}, {"durable": False}, "durable", "received 'false' but current is 'true'")

    def test_queue_auto_delete(self):
        self.check_queue({}, {"auto_delete": True}, "auto_delete", "received 'true' but current is 'false'")

    def test_queue_argument_value(self):
        self.check_queue(
            {"arguments": {"x-max-length": 5}},
            {"arguments": {"x-max-length": 6}},
            "x-max-length",
            "received '6' but current is '5'",
        )

    def test_queue_argument_missing(self):
        self.check_queue(
            {"arguments": {"x-message-ttl": 60000}},
            {},
            "x-message-ttl",
            "received none but current is the value '60000' of type 'signedint'",
        )

    def test_queue_argument_added(self):
        self.check_queue(
            {},
            {"arguments": {"x-dead-letter-exchange": "amq.fanout"}},
            "x-dead-letter-exchange",
            "received the value 'amq.fanout' of type 'longstr' but current is none",
        )

    def test_queue_argument_of_another_type(self):
        self.check_queue(
            {"arguments": {"x-dead-letter-exchange": "a", "x-dead-letter-routing-key": "k"}},
            {"arguments": {"x-dead-letter-exchange": "a", "x-dead-letter-routing-key": "l"}},
            "x-dead-letter-routing-key",
            "received 'l' but current is 'k'",
        )

    def test_the_same_again_is_fine(self):
        arguments = {"x-max-length": 5, "x-unknown": "kept", "x-message-ttl": 60000}
        name = self.queue(arguments=arguments)
        self.publish(name, "one")
        self.wait_ready(name, 1)
        again = self.channel.queue_declare(name, durable=True, arguments=arguments).method
        self.assertEqual((again.queue, again.message_count, again.consumer_count), (name, 1, 0))
        # Numbers are compared by value, and arguments that nobody knows not at all.
        self.channel.queue_declare(name, durable=True, arguments={"x-max-length": 5, "x-message-ttl": 60000})

    def test_exchange_type(self):
        name = self.exchange("direct")
        self.check(
            lambda: self.channel.exchange_declare(name, "fanout"),
            f"exchange '{name}'",
            "type",
            "received 'fanout' but current is 'direct'",
        )

    def test_exchange_flags(self):
        name = self.exchange("direct")
        for flag in ["durable", "auto_delete", "internal"]:
            with self.subTest(flag):
                self.check(
                    lambda: self.channel.exchange_declare(name, "direct", **{flag: True}),
                    f"exchange '{name}'",
                    flag,
                    "received 'true' but current is 'false'",
                )


class Precondition(BrokerTest):
    """406 closes the channel."""

    def test_unknown_delivery_tag(self):
        with self.channel_closed(406, "PRECONDITION_FAILED - unknown delivery tag 42"):
            self.channel.basic_ack(42)
            self.settle()

    def test_second_ack(self):
        queue = self.queue()
        self.publish(queue, "one")
        tag = self.get(queue, auto_ack=False)[0].delivery_tag
        self.channel.basic_ack(tag)
        with self.channel_closed(406, f"PRECONDITION_FAILED - unknown delivery tag {tag}"):
            self.channel.basic_ack(tag)
            self.settle()

    def test_ack_of_what_needs_none(self):
        queue = self.queue()
        self.publish(queue, "one")
        tag = self.get(queue, auto_ack=True)[0].delivery_tag
        with self.channel_closed(406, f"PRECONDITION_FAILED - unknown delivery tag {tag}"):
            self.channel.basic_nack(tag)
            self.settle()

    def test_ack_on_another_channel(self):
        queue = self.queue()
        self.publish(queue, "one")
        tag = self.get(queue, auto_ack=False)[0].delivery_tag
        other = self.connection.channel()
        with self.channel_closed(406, f"PRECONDITION_FAILED - unknown delivery tag {tag}"):
            other.basic_ack(tag)
            self.settle(other)

    def test_delete_of_a_used_queue(self):
        queue = self.queue()
        other = self.connection.channel()
        other.basic_consume(queue, lambda *_: None)
        with self.channel_closed(406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use"):
            self.channel.queue_delete(queue, if_unused=True)

    def test_delete_of_a_filled_queue(self):
        queue = self.queue()
        self.publish(queue, "one")
        with self.channel_closed(406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty"):
            self.channel.queue_delete(queue, if_empty=True)

    def test_delete_of_a_bound_exchange(self):
        exchange, queue = self.exchange("direct"), self.queue()
        self.channel.queue_bind(queue, exchange, "key")
        with self.channel_closed(406, f"PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use"):
            self.channel.exchange_delete(exchange, if_unused=True)

    def test_commit_without_select(self):
        with self.channel_closed(406, "PRECONDITION_FAILED - channel is not transactional"):
            self.channel.tx_commit()

    def test_rollback_without_select(self):
        with self.channel_closed(406, "PRECONDITION_FAILED - channel is not transactional"):
            self.channel.tx_rollback()

    def test_confirms_and_transactions_exclude_each_other(self):
        self.channel.tx_select()
        with self.channel_closed(406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode"):
            self.channel.confirm_delivery()
        self.channel.confirm_delivery()
        with self.channel_closed(406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode"):
            self.channel.tx_select()

    def test_user_id_of_another(self):
        queue = self.queue()
        text = (
            "PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was 'guest'"
        )
        self.publish(queue, "my own", user_id="guest")
        with self.channel_closed(406, text):
            self.publish(queue, "not mine", user_id="somebody")
            self.settle()
        self.assertEqual(self.drain(queue), [b"my own"])

    def test_reply_to_without_a_consumer(self):
        queue = self.queue()
        with self.channel_closed(406, "PRECONDITION_FAILED - fast reply consumer does not exist"):
            self.publish(queue, "call", reply_to="amq.rabbitmq.reply-to")
            self.settle()


class Arguments(BrokerTest):
    """406 closes the channel: arguments that make no sense."""

    def test_invalid_arguments(self):
        """The reason at the end is Erlang's; clients go by the code and by the argument's name."""
        cases = [
            ({"x-message-ttl": -1}, "x-message-ttl"),
            ({"x-message-ttl": "5"}, "x-message-ttl"),
            ({"x-message-ttl": 2**50}, "x-message-ttl"),
            ({"x-expires": 0}, "x-expires"),
            ({"x-expires": -1}, "x-expires"),
            ({"x-max-length": -1}, "x-max-length"),
            ({"x-max-length-bytes": -1}, "x-max-length-bytes"),
            ({"x-max-priority": 256}, "x-max-priority"),
            ({"x-max-priority": "high"}, "x-max-priority"),
            ({"x-overflow": "explode"}, "x-overflow"),
            ({"x-dead-letter-routing-key": "k"}, "x-dead-letter-routing-key"),
            ({"x-single-active-consumer": "yes"}, "x-single-active-consumer"),
            ({"x-queue-type": "nonsense"}, "x-queue-type"),
            # Of another queue type.
            ({"x-max-age": "1D"}, "x-max-age"),
            ({"x-delivery-limit": 5}, "x-delivery-limit"),
            ({"x-queue-type": "quorum", "x-max-priority": 5}, "x-max-priority"),
        ]
        for arguments, argument in cases:
            with self.subTest(arguments):
                start = f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{self.name}' in vhost '/'"
                with self.assertRaises(pika.exceptions.ChannelClosedByBroker) as raised:
                    self.channel.queue_declare(self.name, durable=True, arguments=arguments)
                self.channel = self.connection.channel()
                self.assertEqual(raised.exception.reply_code, 406)
                self.assertTrue(raised.exception.reply_text.startswith(start), raised.exception.reply_text)

    def test_names_of_other_objects(self):
        text = f"PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue '{self.name}' in vhost '/'"
        with self.channel_closed(406, text):
            self.channel.queue_declare(self.name, arguments={"x-dead-letter-exchange": 5})
        text = f"PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange '{self.name}' in vhost '/'"
        with self.channel_closed(406, text):
            self.channel.exchange_declare(self.name, "fanout", arguments={"alternate-exchange": 5})

    def test_what_a_quorum_queue_cannot_be(self):
        quorum = {"x-queue-type": "quorum"}
        cases = [
            ("non-durable", {}),
            ("exclusive-owner", {"durable": True, "exclusive": True}),
            ("auto-delete", {"durable": True, "auto_delete": True}),
        ]
        for what, properties in cases:
            text = f"PRECONDITION_FAILED - invalid property '{what}' for queue '{self.name}' in vhost '/'"
            with self.subTest(what), self.channel_closed(406, text):
                self.channel.queue_declare(self.name, arguments=quorum, **properties)

    def test_invalid_expiration(self):
        queue = self.queue()
        for expiration in ["soon", "-1", "1.5", ""]:
            with self.subTest(expiration):
                with self.assertRaises(pika.exceptions.ChannelClosedByBroker) as raised:
                    self.publish(queue, "body", expiration=expiration)
                    self.settle()
                self.channel = self.connection.channel()
                self.assertEqual(raised.exception.reply_code, 406)
                start = f"PRECONDITION_FAILED - invalid expiration '{expiration}'"
                self.assertTrue(raised.exception.reply_text.startswith(start), raised.exception.reply_text)

    def test_headers_binding(self):
        exchange, queue = self.exchange("headers"), self.queue()
        for value in ["most", 1]:
            with self.subTest(value), self.assertRaises(pika.exceptions.ChannelClosedByBroker) as raised:
                self.channel.queue_bind(queue, exchange, "", {"x-match": value, "a": 1})
            self.channel = self.connection.channel()
            self.assertEqual(raised.exception.reply_code, 406)
            self.assertIn("x-match", raised.exception.reply_text)


class Refused(BrokerTest):
    """403 closes the channel."""

    def test_reserved_names(self):
        with self.channel_closed(
            403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'"
        ):
            self.channel.queue_declare("amq.mine")
        with self.channel_closed(
            403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'"
        ):
            self.channel.exchange_declare("amq.mine")

    def test_redeclare_of_a_predeclared_exchange_is_fine(self):
        self.channel.exchange_declare("amq.topic", "topic", durable=True)
        self.channel.exchange_declare("amq.headers", passive=True)

    def test_the_default_exchange(self):
        queue = self.queue()
        attempts = {
            "declare": lambda: self.channel.exchange_declare("", "direct", durable=True),
            "delete": lambda: self.channel.exchange_delete(""),
            "bind": lambda: self.channel.queue_bind(queue, "", "key"),
            "unbind": lambda: self.channel.queue_unbind(queue, "", "key"),
        }
        for name, attempt in attempts.items():
            with self.subTest(name), self.channel_closed(
                403, "ACCESS_REFUSED - operation not permitted on the default exchange"
            ):
                attempt()

    def test_delete_of_a_predeclared_exchange(self):
        with self.channel_closed(
            403, "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"
        ):
            self.channel.exchange_delete("amq.direct")

    def test_publish_to_an_internal_exchange(self):
        exchange = self.exchange("fanout", internal=True)
        with self.channel_closed(
            403, f"ACCESS_REFUSED - cannot publish to internal exchange '{exchange}' in vhost '/'"
        ):
            self.channel.basic_publish(exchange, "", "body")
            self.settle()

    def test_exclusive_consumers(self):
        queue = self.queue()
        text = f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"
        owner = self.connection.channel()
        tag = owner.basic_consume(queue, lambda *_: None, exclusive=True)
        with self.channel_closed(403, text):
            self.channel.basic_consume(queue, lambda *_: None)
        owner.basic_cancel(tag)
        owner.basic_consume(queue, lambda *_: None)
        with self.channel_closed(403, text):
            self.channel.basic_consume(queue, lambda *_: None, exclusive=True)


class Hard(BrokerTest):
    """These close the connection."""

    def test_consumer_tag_twice(self):
        queue = self.queue()
        self.channel.basic_consume(queue, lambda *_: None, consumer_tag="mine")
        # pika itself does not let it through.
        self.channel._consumer_infos.clear()
        self.channel._impl._consumers.clear()
        with self.connection_closed(530, "NOT_ALLOWED - attempt to reuse consumer tag 'mine'"):
            self.channel.basic_consume(queue, lambda *_: None, consumer_tag="mine")

    def test_immediate(self):
        queue = self.queue()
        with self.connection_closed(540, "NOT_IMPLEMENTED - immediate=true"):
            publish = pika.spec.Basic.Publish(exchange="", routing_key=queue, immediate=True)
            self.channel._impl._send_method(publish, (pika.BasicProperties(), b"now"))
            self.settle()

    def test_prefetch_size(self):
        with self.connection_closed(540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)"):
            self.channel.basic_qos(prefetch_size=10)

    def test_recover_without_requeue(self):
        with self.connection_closed(540, "NOT_IMPLEMENTED - requeue=false"):
            self.channel.basic_recover(requeue=False)

    def test_unknown_vhost(self):
        with self.assertRaises(pika.exceptions.ProbableAccessDeniedError) as raised:
            connect(virtual_host="nowhere")
        self.assertIn("(530) 'NOT_ALLOWED - vhost nowhere not found'", str(raised.exception))

    def test_wrong_password(self):
        with self.assertRaises(pika.exceptions.ProbableAuthenticationError) as raised:
            connect(credentials=pika.PlainCredentials("guest", "wrong"))
        text = "(403) 'ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN."
        self.assertIn(text, str(raised.exception))


class Limits(BrokerTest):
    """Names and sizes."""

    def test_long_names(self):
        name = "n" * 255
        self.channel.queue_declare(name)
        self.declared.append(("queue", name))
        with self.assertRaises(pika.exceptions.ChannelClosedByBroker) as raised:
            self.channel.queue_declare(name, durable=True)
        # A reply text has 255 bytes at most.
        self.assertEqual(raised.exception.reply_code, 406)
        self.assertEqual(len(raised.exception.reply_text.encode()), 255)
        self.assertTrue(raised.exception.reply_text.endswith("nnn..."), raised.exception.reply_text)
        self.assertTrue(raised.exception.reply_text.startswith("PRECONDITION_FAILED - inequivalent arg 'durable'"))


if __name__ == "__main__":
    unittest.main()
