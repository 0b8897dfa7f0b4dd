"""Publisher confirms, as users of the blocking connection write them."""

import pika
import pika.exceptions

from broker import parameters

connection = pika.BlockingConnection(parameters())
channel = connection.channel()
channel.queue_declare(queue="confirmed", durable=True)
channel.confirm_delivery()
persistent = pika.BasicProperties(content_type="text/plain", delivery_mode=pika.DeliveryMode.Persistent)

# Returns when the broker has confirmed.
for number in range(200):
    channel.basic_publish("", "confirmed", f"message {number}", persistent, mandatory=True)
depth = channel.queue_declare("confirmed", durable=True).method.message_count
assert depth == 200, depth

# Nobody wants this one: it comes back, and that is said before the confirm.
try:
    channel.basic_publish("", "confirmed.nowhere", "lost", persistent, mandatory=True)
    raise AssertionError("an unroutable mandatory message is returned")
except pika.exceptions.UnroutableError as error:
    (returned,) = error.messages
    assert (returned.method.reply_code, returned.method.reply_text) == (312, "NO_ROUTE"), returned.method
    assert (returned.method.exchange, returned.method.routing_key) == ("", "confirmed.nowhere")
    assert returned.body == b"lost" and returned.properties.content_type == "text/plain"
# Without mandatory it is confirmed and gone.
channel.basic_publish("", "confirmed.nowhere", "lost", persistent)

bodies = []
for method, properties, body in channel.consume("confirmed", inactivity_timeout=10):
    assert method is not None, f"only {len(bodies)} messages came"
    assert properties.delivery_mode == 2
    bodies.append(body.decode())
    channel.basic_ack(method.delivery_tag)
    if len(bodies) == 200:
        break
assert bodies == [f"message {number}" for number in range(200)], bodies
assert channel.cancel() == 0
assert channel.queue_delete("confirmed").method.message_count == 0
connection.close()
