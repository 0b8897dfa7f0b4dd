"""Publishes with confirms and consumes with acks, over gRPC."""

import os

import grpc
from leveret.v1 import broker_pb2 as pb
from leveret.v1 import broker_pb2_grpc
from leveret.v1.message_pb2 import Message

with grpc.insecure_channel(os.environ.get("LEVERET_GRPC", "127.0.0.1:50051")) as channel:
    broker = broker_pb2_grpc.BrokerStub(channel)
    broker.DeclareQueue(pb.DeclareQueueRequest(name="jobs"))

    jobs = ["one", "two", "three"]
    # All of them or none; the answer comes when they are on the disk.
    answer = broker.Publish(
        pb.PublishRequest(messages=[pb.PublishMessage(routing_key="jobs", message=Message(text=job)) for job in jobs])
    )
    assert all(result.outcome == pb.PUBLISH_OUTCOME_ROUTED for result in answer.results)
    print(len(answer.results), "messages confirmed")

    deliveries = broker.Subscribe(pb.SubscribeRequest(queue="jobs", prefetch_messages=10))
    for _ in jobs:
        delivery = next(deliveries).delivery
        print(delivery.message.bytes.decode())
        broker.Ack(pb.AckRequest(ack_ids=[delivery.ack_id]))
    deliveries.cancel()
