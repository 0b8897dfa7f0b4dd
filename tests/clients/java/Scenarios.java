// What users of RabbitMQ's Java client write: java Scenarios SCENARIO, with the broker's port in AMQP_PORT.

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.LongString;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.Method;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoveryListener;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

public class Scenarios {
    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "publish_and_consume" -> publishAndConsume();
            case "properties" -> properties();
            case "mandatory" -> mandatory();
            case "requeue" -> requeue();
            case "dead_letters" -> deadLetters();
            case "large" -> large();
            case "errors_of_a_channel" -> errorsOfAChannel();
            case "errors_of_a_connection" -> errorsOfAConnection();
            case "transactions" -> transactions();
            case "rpc" -> rpc();
            case "reconnect" -> reconnect();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
        System.exit(0);
    }

    static ConnectionFactory factory() {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setHost("127.0.0.1");
        factory.setPort(Integer.parseInt(System.getenv("AMQP_PORT")));
        factory.setNetworkRecoveryInterval(200);
        return factory;
    }

    static void equal(Object got, Object want) {
        if (!Objects.equals(got, want)) {
            throw new AssertionError("got " + got + ", want " + want);
        }
    }

    static <T> T eventually(Callable<T> attempt, String what) throws Exception {
        for (int n = 0; n < 1000; n++) {
            T value = attempt.call();
            if (value != null && !Boolean.FALSE.equals(value)) {
                return value;
            }
            Thread.sleep(10);
        }
        throw new AssertionError("never: " + what);
    }

    static void declare(Channel channel, String queue, Map<String, Object> arguments) throws IOException {
        channel.queueDeclare(queue, true, false, false, arguments);
        channel.queuePurge(queue);
    }

    static void publish(Channel channel, String queue, String... bodies) throws Exception {
        for (String body : bodies) {
            channel.basicPublish("", queue, MessageProperties.PERSISTENT_BASIC, body.getBytes());
        }
        channel.waitForConfirmsOrDie(10_000);
    }

    static GetResponse get(Channel channel, String queue) throws Exception {
        return eventually(() -> channel.basicGet(queue, false), "a message in " + queue);
    }

    static List<String> drain(Channel channel, String queue) throws IOException {
        List<String> found = new ArrayList<>();
        for (GetResponse got; (got = channel.basicGet(queue, true)) != null; ) {
            found.add(new String(got.getBody()) + (got.getEnvelope().isRedeliver() ? " again" : ""));
        }
        return found;
    }

    interface Act {
        void run() throws Exception;
    }

    /** The close that an act brought on: of a channel or of a connection. */
    static Method closing(Act act) throws Exception {
        try {
            act.run();
        } catch (IOException | ShutdownSignalException error) {
            Throwable cause = error instanceof IOException ? error.getCause() : error;
            return ((ShutdownSignalException) cause).getReason();
        }
        throw new AssertionError("it is no error");
    }

    static void channelCloses(Connection connection, int code, String text, Act act) throws Exception {
        AMQP.Channel.Close close = (AMQP.Channel.Close) closing(act);
        equal(close.getReplyCode(), code);
        if (text != null) {
            equal(close.getReplyText(), text);
        }
        equal(connection.isOpen(), true);
    }

    static void publishAndConsume() throws Exception {
        try (Connection connection = factory().newConnection(); Channel channel = connection.createChannel()) {
            channel.exchangeDeclare("java.x", "topic", true);
            declare(channel, "java.work", null);
            channel.queueBind("java.work", "java.x", "order.#");
            channel.confirmSelect();
            Set<Long> unconfirmed = ConcurrentHashMap.newKeySet();
            channel.addConfirmListener(
                    (tag, multiple) -> unconfirmed.removeIf(each -> multiple ? each <= tag : each == tag),
                    (tag, multiple) -> System.exit(1));
            for (int n = 0; n < 10; n++) {
                unconfirmed.add(channel.getNextPublishSeqNo());
                channel.basicPublish("java.x", "order.new", MessageProperties.PERSISTENT_BASIC, ("" + n).getBytes());
            }
            eventually(unconfirmed::isEmpty, "all are confirmed");
            List<Delivery> taken = Collections.synchronizedList(new ArrayList<>());
            channel.basicQos(3);
            String tag = channel.basicConsume("java.work", false, (consumer, delivery) -> taken.add(delivery), consumer -> {});
            eventually(() -> taken.size() >= 3, "three messages");
            for (int n = 0; n < 7; n++) {
                int expected = n + 4;
                Thread.sleep(20);
                equal(taken.size(), n + 3);
                channel.basicAck(taken.get(n).getEnvelope().getDeliveryTag(), false);
                eventually(() -> taken.size() == expected, "the next one");
            }
            channel.basicAck(taken.get(9).getEnvelope().getDeliveryTag(), true);
            channel.basicCancel(tag);
            equal(taken.stream().map(each -> new String(each.getBody())).toList(),
                    List.of("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"));
            equal(channel.messageCount("java.work"), 0L);
        }
    }

    static void properties() throws Exception {
        try (Connection connection = factory().newConnection(); Channel channel = connection.createChannel()) {
            declare(channel, "java.properties", null);
            channel.confirmSelect();
            Map<String, Object> headers = new HashMap<>();
            headers.put("byte", (byte) -1);
            headers.put("short", (short) -2);
            headers.put("int", -3);
            headers.put("long", 1L << 40);
            headers.put("float", 1.5f);
            headers.put("double", 2.5);
            headers.put("decimal", new BigDecimal("123.45"));
            headers.put("yes", true);
            headers.put("none", null);
            headers.put("stamp", new Date(1_700_000_000_000L));
            headers.put("list", List.of(1, true, List.of(2L)));
            headers.put("table", Map.of("deep", Map.of("deeper", 1)));
            AMQP.BasicProperties properties = new AMQP.BasicProperties("text/plain", "utf-8", headers, 2, 5, "c", "r", "60000",
                    "m", new Date(1_700_000_000_000L), "t", "guest", "a", null);
            Map<String, Object> withText = new HashMap<>(headers);
            withText.put("text", "grüße");
            channel.basicPublish("", "java.properties", properties.builder().headers(withText).build(), new byte[] {1});
            channel.waitForConfirmsOrDie(10_000);
            AMQP.BasicProperties got = get(channel, "java.properties").getProps();
            Map<String, Object> gotHeaders = new HashMap<>(got.getHeaders());
            equal(((LongString) gotHeaders.remove("text")).toString(), "grüße");
            equal(gotHeaders, headers);
            equal(got.builder().headers(null).build(), properties.builder().headers(null).build());
        }
    }

    static void mandatory() throws Exception {
        try (Connection connection = factory().newConnection(); Channel channel = connection.createChannel()) {
            BlockingQueue<String> happened = new LinkedBlockingQueue<>();
            channel.addReturnListener(back -> happened.add(back.getReplyCode() + " " + back.getReplyText() + " " + new String(back.getBody())));
            channel.addConfirmListener((tag, multiple) -> happened.add("ack " + tag), (tag, multiple) -> happened.add("nack"));
            channel.confirmSelect();
            channel.basicPublish("", "java.nowhere", true, MessageProperties.PERSISTENT_BASIC, "lost".getBytes());
            equal(happened.poll(10, TimeUnit.SECONDS), "312 NO_ROUTE lost");
            equal(happened.poll(10, TimeUnit.SECONDS), "ack 1");
        }
    }

    static void requeue() throws Exception {
        try (Connection connection = factory().newConnection(); Channel channel = connection.createChannel()) {
            declare(channel, "java.requeue", null);
            channel.confirmSelect();
            publish(channel, "java.requeue", "one", "two", "three");
            GetResponse first = get(channel, "java.requeue");
            equal(first.getEnvelope().isRedeliver(), false);
            channel.basicNack(first.getEnvelope().getDeliveryTag(), false, true);
            GetResponse again = get(channel, "java.requeue");
            equal(new String(again.getBody()) + again.getEnvelope().isRedeliver(), "onetrue");
            channel.basicReject(again.getEnvelope().getDeliveryTag(), false);
            // What a channel held when it closed comes back; so does what basic.recover asks for.
            Channel other = connection.createChannel();
            equal(new String(get(other, "java.requeue").getBody()), "two");
            other.basicRecover(true);
            equal(new String(get(other, "java.requeue").getBody()), "two");
            other.close();
            equal(drain(channel, "java.requeue"), List.of("two again", "three"));
        }
    }

    static void deadLetters() throws Exception {
        try (Connection connection = factory().newConnection(); Channel channel = connection.createChannel()) {
            channel.exchangeDeclare("java.dlx", "fanout", true);
            declare(channel, "java.dead", null);
            channel.queueBind("java.dead", "java.dlx", "");
            declare(channel, "java.living", Map.of("x-dead-letter-exchange", "java.dlx", "x-max-length", 2L));
            channel.confirmSelect();
            publish(channel, "java.living", "a");
            channel.basicReject(get(channel, "java.living").getEnvelope().getDeliveryTag(), false);
            dead(channel, "a", "rejected");
            AMQP.BasicProperties soon = MessageProperties.PERSISTENT_BASIC.builder().expiration("20").build();
            channel.basicPublish("", "java.living", soon, "b".getBytes());
            dead(channel, "b", "expired");
            publish(channel, "java.living", "1", "2", "3");
            dead(channel, "1", "maxlen");
        }
    }

    static void dead(Channel channel, String body, String reason) throws Exception {
        GetResponse letter = get(channel, "java.dead");
        Map<?, ?> death = (Map<?, ?>) ((List<?>) letter.getProps().getHeaders().get("x-death")).get(0);
        equal(new String(letter.getBody()), body);
        equal(death.get("reason").toString(), reason);
        equal(death.get("queue").toString(), "java.living");
        equal(death.get("count"), 1L);
        channel.basicAck(letter.getEnvelope().getDeliveryTag(), false);
    }

    static void large() throws Exception {
        try (Connection connection = factory().newConnection(); Channel channel = connection.createChannel()) {
            declare(channel, "java.large", null);
            channel.confirmSelect();
            byte[] body = new byte[400_000];
            new Random(1).nextBytes(body);
            channel.basicPublish("", "java.large", MessageProperties.PERSISTENT_BASIC, body);
            channel.basicPublish("", "java.large", MessageProperties.PERSISTENT_BASIC, new byte[0]);
            channel.waitForConfirmsOrDie(10_000);
            equal(Arrays.equals(get(channel, "java.large").getBody(), body), true);
            equal(get(channel, "java.large").getBody().length, 0);
        }
    }

    static void errorsOfAChannel() throws Exception {
        try (Connection connection = factory().newConnection(); Connection other = factory().newConnection()) {
            declare(connection.createChannel(), "java.errors", null);
            other.createChannel().queueDeclare("java.exclusive", false, true, false, null);
            channelCloses(connection, 404, "NOT_FOUND - no queue 'java.nowhere' in vhost '/'",
                    () -> connection.createChannel().queueDeclarePassive("java.nowhere"));
            channelCloses(connection, 406,
                    "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'java.errors' in vhost '/': received 'false' but current is 'true'",
                    () -> connection.createChannel().queueDeclare("java.errors", false, false, false, null));
            channelCloses(connection, 403, null, () -> connection.createChannel().exchangeDeclare("amq.mine", "direct"));
            channelCloses(connection, 405, null, () -> connection.createChannel().queuePurge("java.exclusive"));
            // Errors of what has no answer come by themselves.
            channelCloses(connection, 406, "PRECONDITION_FAILED - unknown delivery tag 7", () -> {
                Channel channel = connection.createChannel();
                channel.basicAck(7, false);
                channel.basicQos(1);
            });
            channelCloses(connection, 404, "NOT_FOUND - no exchange 'java.nowhere' in vhost '/'", () -> {
                Channel channel = connection.createChannel();
                channel.confirmSelect();
                channel.basicPublish("java.nowhere", "", null, new byte[0]);
                channel.waitForConfirms(10_000);
            });
        }
    }

    static void errorsOfAConnection() throws Exception {
        Connection connection = factory().newConnection();
        Channel channel = connection.createChannel();
        declare(channel, "java.errors", null);
        channel.basicConsume("java.errors", false, "t", (tag, delivery) -> {}, tag -> {});
        AMQP.Connection.Close close = (AMQP.Connection.Close) closing(
                () -> channel.basicConsume("java.errors", false, "t", (tag, delivery) -> {}, tag -> {}));
        equal(close.getReplyCode(), 530);
        equal(connection.isOpen(), false);
        ConnectionFactory nowhere = factory();
        nowhere.setVirtualHost("nowhere");
        close = (AMQP.Connection.Close) closing(nowhere::newConnection);
        equal(close.getReplyCode() + " " + close.getReplyText(), "530 NOT_ALLOWED - vhost nowhere not found");
        ConnectionFactory wrong = factory();
        wrong.setPassword("wrong");
        try {
            wrong.newConnection();
            throw new AssertionError("a wrong password is let in");
        } catch (AuthenticationFailureException refused) {
            equal(refused.getMessage().startsWith("ACCESS_REFUSED"), true);
        }
    }

    static void transactions() throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel channel = connection.createChannel();
            declare(channel, "java.tx", null);
            channel.txSelect();
            channel.basicPublish("", "java.tx", MessageProperties.PERSISTENT_BASIC, "undone".getBytes());
            channel.txRollback();
            channel.basicPublish("", "java.tx", MessageProperties.PERSISTENT_BASIC, "done".getBytes());
            equal(channel.basicGet("java.tx", true), null);
            channel.txCommit();
            GetResponse got = get(channel, "java.tx");
            equal(new String(got.getBody()), "done");
            channel.basicAck(got.getEnvelope().getDeliveryTag(), false);
            channel.txCommit();
            channel.close();
            equal(connection.createChannel().basicGet("java.tx", true), null);
        }
    }

    static void rpc() throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel server = connection.createChannel();
            declare(server, "java.rpc", null);
            server.basicConsume("java.rpc", true, (tag, request) -> {
                AMQP.BasicProperties properties =
                        new AMQP.BasicProperties.Builder().correlationId(request.getProperties().getCorrelationId()).build();
                byte[] answer = ("" + 2 * Integer.parseInt(new String(request.getBody()))).getBytes();
                server.basicPublish("", request.getProperties().getReplyTo(), properties, answer);
            }, tag -> {});
            Channel client = connection.createChannel();
            BlockingQueue<String> answers = new LinkedBlockingQueue<>();
            client.basicConsume("amq.rabbitmq.reply-to", true, (tag, answer) ->
                    answers.add(answer.getProperties().getCorrelationId() + " " + new String(answer.getBody())), tag -> {});
            for (int n = 1; n <= 3; n++) {
                AMQP.BasicProperties properties =
                        new AMQP.BasicProperties.Builder().correlationId("c" + n).replyTo("amq.rabbitmq.reply-to").build();
                client.basicPublish("", "java.rpc", properties, ("" + n).getBytes());
            }
            for (int n = 1; n <= 3; n++) {
                equal(answers.poll(10, TimeUnit.SECONDS), "c" + n + " " + 2 * n);
            }
        }
    }

    /** The client recovers by itself: connection, channel, transient topology, consumers. */
    static void reconnect() throws Exception {
        Connection connection = factory().newConnection();
        Channel channel = connection.createChannel();
        declare(channel, "java.kept", null);
        channel.queueDeclare("java.mine", false, true, true, null);
        channel.exchangeDeclare("java.transient", "fanout", false);
        channel.queueBind("java.mine", "java.transient", "");
        channel.confirmSelect();
        for (int n = 0; n < 200; n++) {
            channel.basicPublish("", "java.kept", MessageProperties.PERSISTENT_BASIC, ("" + n).getBytes());
        }
        channel.waitForConfirmsOrDie(10_000);
        List<Delivery> taken = Collections.synchronizedList(new ArrayList<>());
        channel.basicQos(10);
        channel.basicConsume("java.kept", false, (tag, delivery) -> {
            taken.add(delivery);
            // The last ten before the kill stay without an ack.
            if (taken.size() <= 50 || taken.size() > 60) {
                channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
            }
        }, tag -> {});
        eventually(() -> taken.size() == 60, "sixty messages");
        publish(channel, "java.kept", "last");
        Thread.sleep(100);
        CountDownLatch recovered = new CountDownLatch(1);
        ((Recoverable) connection).addRecoveryListener(new RecoveryListener() {
            @Override
            public void handleRecovery(Recoverable recoverable) {
                recovered.countDown();
            }

            @Override
            public void handleRecoveryStarted(Recoverable recoverable) {}
        });
        System.out.println("restart the broker");
        equal(new BufferedReader(new InputStreamReader(System.in)).readLine(), "restarted");
        equal(recovered.await(30, TimeUnit.SECONDS), true);
        eventually(() -> taken.size() == 60 + 151, "the rest, and not " + taken.size());
        List<String> rest = taken.subList(60, 211).stream().map(each -> new String(each.getBody())).toList();
        List<String> expected = new ArrayList<>();
        for (int n = 50; n < 200; n++) {
            expected.add("" + n);
        }
        expected.add("last");
        equal(rest, expected);
        equal(taken.subList(60, 70).stream().allMatch(each -> each.getEnvelope().isRedeliver()), true);
        eventually(() -> channel.messageCount("java.kept") == 0, "all are acknowledged");
        // The exclusive queue, its exchange and its binding are there again.
        publish(channel, "java.mine", "direct");
        channel.basicPublish("java.transient", "", null, "routed".getBytes());
        channel.waitForConfirmsOrDie(10_000);
        equal(drain(channel, "java.mine"), List.of("direct", "routed"));
        connection.close();
        try {
            channel.basicQos(1);
            throw new AssertionError("a closed channel works");
        } catch (AlreadyClosedException closed) {
            equal(closed.isHardError(), true);
        }
    }
}
