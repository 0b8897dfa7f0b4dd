// Publishes with confirms and consumes with acks, over gRPC.

import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import java.util.Iterator;
import java.util.List;
import leveret.v1.BrokerGrpc;
import leveret.v1.BrokerOuterClass.AckRequest;
import leveret.v1.BrokerOuterClass.DeclareQueueRequest;
import leveret.v1.BrokerOuterClass.Delivery;
import leveret.v1.BrokerOuterClass.PublishMessage;
import leveret.v1.BrokerOuterClass.PublishOutcome;
import leveret.v1.BrokerOuterClass.PublishRequest;
import leveret.v1.BrokerOuterClass.PublishResponse;
import leveret.v1.BrokerOuterClass.SubscribeRequest;
import leveret.v1.BrokerOuterClass.SubscribeResponse;
import leveret.v1.MessageOuterClass.Message;

public class Main {
    public static void main(String[] arguments) {
        String address = System.getenv().getOrDefault("LEVERET_GRPC", "127.0.0.1:50051");
        ManagedChannel channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
        BrokerGrpc.BrokerBlockingStub broker = BrokerGrpc.newBlockingStub(channel);
        broker.declareQueue(DeclareQueueRequest.newBuilder().setName("jobs").build());

        List<String> jobs = List.of("one", "two", "three");
        PublishRequest.Builder publish = PublishRequest.newBuilder();
        for (String job : jobs) {
            Message message = Message.newBuilder().setText(job).build();
            publish.addMessages(PublishMessage.newBuilder().setRoutingKey("jobs").setMessage(message));
        }
        // All of them or none; the answer comes when they are on the disk.
        PublishResponse answer = broker.publish(publish.build());
        if (!answer.getResultsList().stream().allMatch(each -> each.getOutcome() == PublishOutcome.PUBLISH_OUTCOME_ROUTED)) {
            throw new IllegalStateException("no queue took it");
        }
        System.out.println(answer.getResultsCount() + " messages confirmed");

        // The context ends the subscription.
        try (Context.CancellableContext context = Context.current().withCancellation()) {
            context.run(() -> {
                Iterator<SubscribeResponse> deliveries =
                        broker.subscribe(SubscribeRequest.newBuilder().setQueue("jobs").setPrefetchMessages(10).build());
                for (int n = 0; n < jobs.size(); n++) {
                    Delivery delivery = deliveries.next().getDelivery();
                    System.out.println(delivery.getMessage().getBytes().toStringUtf8());
                    broker.ack(AckRequest.newBuilder().addAckIds(delivery.getAckId()).build());
                }
            });
        }
        channel.shutdownNow();
    }
}
