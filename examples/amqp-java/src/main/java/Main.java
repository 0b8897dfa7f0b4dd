// Publishes with confirms and consumes with acks, over AMQP with RabbitMQ's Java client.

import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.MessageProperties;
import java.util.List;
import java.util.concurrent.CountDownLatch;

public class Main {
    public static void main(String[] arguments) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(System.getenv().getOrDefault("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672"));
        try (Connection connection = factory.newConnection(); Channel channel = connection.createChannel()) {
            channel.queueDeclare("jobs", true, false, false, null);

            channel.confirmSelect();
            List<String> jobs = List.of("one", "two", "three");
            for (String job : jobs) {
                channel.basicPublish("", "jobs", true, MessageProperties.PERSISTENT_TEXT_PLAIN, job.getBytes());
            }
            // Returns when the messages are on the disk.
            channel.waitForConfirmsOrDie(10_000);
            System.out.println(jobs.size() + " messages confirmed");

            channel.basicQos(10);
            CountDownLatch left = new CountDownLatch(jobs.size());
            channel.basicConsume("jobs", false, (tag, delivery) -> {
                System.out.println(new String(delivery.getBody()));
                channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
                left.countDown();
            }, tag -> {});
            left.await();
        }
    }
}
