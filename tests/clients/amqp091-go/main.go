// What users of amqp091-go write: amqp091-go SCENARIO, with the broker's port in AMQP_PORT.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var scenarios = map[string]func(){
	"publish_and_consume":    publishAndConsume,
	"properties":             properties,
	"mandatory":              mandatory,
	"requeue":                requeue,
	"dead_letters":           deadLetters,
	"large":                  large,
	"errors_of_a_channel":    errorsOfAChannel,
	"errors_of_a_connection": errorsOfAConnection,
	"transactions":           transactions,
	"consumer_cancelled":     consumerCancelled,
	"reconnect":              reconnect,
}

func main() {
	scenarios[os.Args[1]]()
}

func url() string {
	return fmt.Sprintf("amqp://guest:guest@127.0.0.1:%s/", os.Getenv("AMQP_PORT"))
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func equal(got, want any) {
	if !reflect.DeepEqual(got, want) {
		panic(fmt.Sprintf("got %#v, want %#v", got, want))
	}
}

// next waits for what comes next, and says what did not come.
func next[T any](channel <-chan T, what string) T {
	select {
	case value := <-channel:
		return value
	case <-time.After(10 * time.Second):
		panic("never: " + what)
	}
}

func open() (*amqp.Connection, *amqp.Channel) {
	connection := must(amqp.Dial(url()))
	return connection, must(connection.Channel())
}

func declare(channel *amqp.Channel, name string, arguments amqp.Table) {
	must(channel.QueueDeclare(name, true, false, false, false, arguments))
	must(channel.QueuePurge(name, false))
}

// publish waits for the confirm of each message.
func publish(channel *amqp.Channel, queue string, messages ...amqp.Publishing) {
	var confirms []*amqp.DeferredConfirmation
	for _, message := range messages {
		message.DeliveryMode = amqp.Persistent
		confirm := must(channel.PublishWithDeferredConfirmWithContext(context.Background(), "", queue, false, false, message))
		confirms = append(confirms, confirm)
	}
	for _, confirm := range confirms {
		equal(confirm.Wait(), true)
	}
}

func texts(bodies ...string) (messages []amqp.Publishing) {
	for _, body := range bodies {
		messages = append(messages, amqp.Publishing{Body: []byte(body)})
	}
	return
}

func numbers(from, to int) (bodies []string) {
	for n := from; n < to; n++ {
		bodies = append(bodies, strconv.Itoa(n))
	}
	return
}

// get waits for the next message of a queue.
func get(channel *amqp.Channel, queue string) amqp.Delivery {
	for range 1000 {
		if delivery, ok := must2(channel.Get(queue, false)); ok {
			return delivery
		}
		time.Sleep(10 * time.Millisecond)
	}
	panic("no message in " + queue)
}

func must2(delivery amqp.Delivery, ok bool, err error) (amqp.Delivery, bool) {
	check(err)
	return delivery, ok
}

// drain takes and acknowledges all that is there: bodies, and which of them are redelivered.
func drain(channel *amqp.Channel, queue string) (bodies []string, redelivered []bool) {
	for {
		delivery, ok := must2(channel.Get(queue, false))
		if !ok {
			return
		}
		check(delivery.Ack(false))
		bodies = append(bodies, string(delivery.Body))
		redelivered = append(redelivered, delivery.Redelivered)
	}
}

func publishAndConsume() {
	connection, channel := open()
	defer connection.Close()
	check(channel.ExchangeDeclare("go.x", "topic", true, false, false, false, nil))
	declare(channel, "go.work", nil)
	check(channel.QueueBind("go.work", "order.#", "go.x", false, nil))
	check(channel.Confirm(false))
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, 10))
	for n := range 10 {
		message := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(strconv.Itoa(n))}
		check(channel.PublishWithContext(context.Background(), "go.x", "order.new", true, false, message))
	}
	for n := range 10 {
		equal(next(confirms, "a confirm"), amqp.Confirmation{DeliveryTag: uint64(n + 1), Ack: true})
	}
	check(channel.Qos(3, 0, false))
	deliveries := must(channel.Consume("go.work", "", false, false, false, false, nil))
	var taken []amqp.Delivery
	for len(taken) < 10 {
		taken = append(taken, next(deliveries, "a message"))
		equal(string(taken[len(taken)-1].Body), strconv.Itoa(len(taken)-1))
		if len(taken) < 3 {
			continue
		}
		select {
		case delivery := <-deliveries:
			panic(fmt.Sprintf("%s is beyond the prefetch", delivery.Body))
		case <-time.After(20 * time.Millisecond):
		}
		check(taken[len(taken)-3].Ack(false))
	}
	check(taken[9].Ack(true))
	check(channel.Cancel(taken[0].ConsumerTag, false))
	equal(must(channel.QueueDeclarePassive("go.work", true, false, false, false, nil)).Messages, 0)
}

func properties() {
	connection, channel := open()
	defer connection.Close()
	declare(channel, "go.properties", nil)
	check(channel.Confirm(false))
	stamp := time.Unix(1_700_000_000, 0)
	message := amqp.Publishing{
		Headers: amqp.Table{
			"text": "grüße", "byte": byte(255), "int8": int8(-1), "int16": int16(-2), "int32": int32(-3), "int64": int64(-4),
			"float": float32(1.5), "double": 2.5, "decimal": amqp.Decimal{Scale: 2, Value: 12345}, "yes": true, "none": nil,
			"stamp": stamp, "bytes": []byte{0, 255}, "list": []any{int32(1), "a", amqp.Table{"b": false}},
			"table": amqp.Table{"deep": amqp.Table{"deeper": "x"}},
		},
		ContentType: "text/plain", ContentEncoding: "utf-8", DeliveryMode: amqp.Persistent, Priority: 5,
		CorrelationId: "c", ReplyTo: "r", Expiration: "60000", MessageId: "m", Timestamp: stamp, Type: "t",
		UserId: "guest", AppId: "a", Body: []byte("x"),
	}
	publish(channel, "go.properties", message)
	got := get(channel, "go.properties")
	equal(got.Headers, message.Headers)
	equal([]any{got.ContentType, got.ContentEncoding, got.DeliveryMode, got.Priority, got.CorrelationId, got.ReplyTo},
		[]any{"text/plain", "utf-8", amqp.Persistent, uint8(5), "c", "r"})
	equal([]any{got.Expiration, got.MessageId, got.Timestamp.Unix(), got.Type, got.UserId, got.AppId},
		[]any{"60000", "m", stamp.Unix(), "t", "guest", "a"})
	check(got.Ack(false))
}

func mandatory() {
	connection, channel := open()
	defer connection.Close()
	check(channel.Confirm(false))
	returns := channel.NotifyReturn(make(chan amqp.Return, 1))
	message := amqp.Publishing{Body: []byte("lost")}
	confirm := must(channel.PublishWithDeferredConfirmWithContext(context.Background(), "", "go.nowhere", true, false, message))
	equal(confirm.Wait(), true)
	// It comes before the confirm.
	select {
	case returned := <-returns:
		equal([]any{returned.ReplyCode, returned.ReplyText, returned.RoutingKey, string(returned.Body)},
			[]any{uint16(312), "NO_ROUTE", "go.nowhere", "lost"})
	default:
		panic("the message did not come back before its confirm")
	}
}

func requeue() {
	connection, channel := open()
	defer connection.Close()
	declare(channel, "go.requeue", nil)
	check(channel.Confirm(false))
	publish(channel, "go.requeue", texts("one", "two", "three")...)
	first := get(channel, "go.requeue")
	equal(first.Redelivered, false)
	check(first.Nack(false, true))
	again := get(channel, "go.requeue")
	equal([]any{string(again.Body), again.Redelivered}, []any{"one", true})
	check(again.Reject(false))
	// What a channel held when it closed comes back.
	other := must(connection.Channel())
	equal(string(get(other, "go.requeue").Body), "two")
	check(other.Close())
	bodies, redelivered := drain(channel, "go.requeue")
	equal(bodies, []string{"two", "three"})
	equal(redelivered, []bool{true, false})
}

func deadLetters() {
	connection, channel := open()
	defer connection.Close()
	check(channel.ExchangeDeclare("go.dlx", "fanout", true, false, false, false, nil))
	declare(channel, "go.dead", nil)
	check(channel.QueueBind("go.dead", "", "go.dlx", false, nil))
	declare(channel, "go.living", amqp.Table{amqp.QueueMaxLenArg: int32(2), "x-dead-letter-exchange": "go.dlx"})
	check(channel.Confirm(false))
	expect := func(body, reason string) {
		letter := get(channel, "go.dead")
		death := letter.Headers["x-death"].([]any)[0].(amqp.Table)
		equal([]any{string(letter.Body), death["reason"], death["queue"], death["count"]},
			[]any{body, reason, "go.living", int64(1)})
		check(letter.Ack(false))
	}
	publish(channel, "go.living", texts("a")...)
	check(get(channel, "go.living").Reject(false))
	expect("a", "rejected")
	publish(channel, "go.living", amqp.Publishing{Body: []byte("b"), Expiration: "20"})
	expect("b", "expired")
	publish(channel, "go.living", texts("1", "2", "3")...)
	expect("1", "maxlen")
}

func large() {
	connection, channel := open()
	defer connection.Close()
	declare(channel, "go.large", nil)
	check(channel.Confirm(false))
	body := make([]byte, 400_000)
	must(rand.Read(body))
	publish(channel, "go.large", amqp.Publishing{Body: body}, amqp.Publishing{})
	equal(bytes.Equal(get(channel, "go.large").Body, body), true)
	equal(len(get(channel, "go.large").Body), 0)
}

func errorsOfAChannel() {
	connection, channel := open()
	defer connection.Close()
	declare(channel, "go.errors", nil)
	other, exclusive := open()
	defer other.Close()
	must(exclusive.QueueDeclare("go.exclusive", false, false, true, false, nil))
	cases := []struct {
		code   int
		reason string
		act    func(*amqp.Channel) error
	}{
		{404, "NOT_FOUND - no queue 'go.nowhere' in vhost '/'", func(channel *amqp.Channel) error {
			_, err := channel.QueueDeclarePassive("go.nowhere", true, false, false, false, nil)
			return err
		}},
		{406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'go.errors' in vhost '/': received 'false' but current is 'true'", func(channel *amqp.Channel) error {
			_, err := channel.QueueDeclare("go.errors", false, false, false, false, nil)
			return err
		}},
		{403, "", func(channel *amqp.Channel) error {
			return channel.ExchangeDeclare("amq.mine", "direct", true, false, false, false, nil)
		}},
		{405, "", func(channel *amqp.Channel) error {
			_, err := channel.QueuePurge("go.exclusive", false)
			return err
		}},
	}
	for _, each := range cases {
		var refused *amqp.Error
		equal(errors.As(each.act(must(connection.Channel())), &refused), true)
		equal(refused.Code, each.code)
		if each.reason != "" {
			equal(refused.Reason, each.reason)
		}
		equal(refused.Server, true)
		equal(connection.IsClosed(), false)
	}
	// Errors of what has no answer come by themselves.
	for code, act := range map[int]func(*amqp.Channel) error{
		404: func(channel *amqp.Channel) error {
			return channel.PublishWithContext(context.Background(), "go.nowhere", "", false, false, amqp.Publishing{})
		},
		406: func(channel *amqp.Channel) error { return channel.Ack(7, false) },
	} {
		channel := must(connection.Channel())
		closed := channel.NotifyClose(make(chan *amqp.Error, 1))
		check(act(channel))
		equal(next(closed, "the channel's end").Code, code)
	}
	equal(connection.IsClosed(), false)
}

func errorsOfAConnection() {
	connection, channel := open()
	declare(channel, "go.errors", nil)
	closed := connection.NotifyClose(make(chan *amqp.Error, 1))
	must(channel.Consume("go.errors", "t", false, false, false, false, nil))
	_, err := channel.Consume("go.errors", "t", false, false, false, false, nil)
	equal(err != nil, true)
	equal(next(closed, "the connection's end").Code, 530)
	connection, channel = open()
	closed = connection.NotifyClose(make(chan *amqp.Error, 1))
	// Immediate is not there, as in RabbitMQ.
	check(channel.PublishWithContext(context.Background(), "", "go.errors", false, true, amqp.Publishing{}))
	equal(next(closed, "the connection's end").Code, 540)
	_, err = amqp.Dial(url() + "nowhere")
	equal(err != nil, true)
	_, err = amqp.DialConfig(url(), amqp.Config{SASL: []amqp.Authentication{&amqp.PlainAuth{Username: "guest", Password: "wrong"}}})
	equal(errors.Is(err, amqp.ErrCredentials), true)
}

func transactions() {
	connection, channel := open()
	defer connection.Close()
	declare(channel, "go.tx", nil)
	check(channel.Tx())
	send := func(body string) {
		message := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(body)}
		check(channel.PublishWithContext(context.Background(), "", "go.tx", false, false, message))
	}
	send("undone")
	check(channel.TxRollback())
	send("done")
	_, there := must2(channel.Get("go.tx", true))
	equal(there, false)
	check(channel.TxCommit())
	delivery := get(channel, "go.tx")
	equal(string(delivery.Body), "done")
	check(delivery.Ack(false))
	check(channel.TxCommit())
	check(channel.Close())
	_, there = must2(must(connection.Channel()).Get("go.tx", true))
	equal(there, false)
}

func consumerCancelled() {
	connection, channel := open()
	defer connection.Close()
	declare(channel, "go.deleted", nil)
	cancels := channel.NotifyCancel(make(chan string, 1))
	deliveries := must(channel.Consume("go.deleted", "mine", false, false, false, false, nil))
	must(must(connection.Channel()).QueueDelete("go.deleted", false, false, false))
	equal(next(cancels, "the cancel"), "mine")
	_, more := <-deliveries
	equal(more, false)
}

func reconnect() {
	connection, channel := open()
	declare(channel, "go.kept", nil)
	check(channel.Confirm(false))
	publish(channel, "go.kept", texts(numbers(0, 200)...)...)
	for n := range 60 {
		delivery := get(channel, "go.kept")
		if n < 50 {
			check(delivery.Ack(false))
		}
	}
	publish(channel, "go.kept", texts("last")...)
	time.Sleep(100 * time.Millisecond)
	closed := connection.NotifyClose(make(chan *amqp.Error, 1))
	fmt.Println("restart the broker")
	equal(must(bufio.NewReader(os.Stdin).ReadString('\n')), "restarted\n")
	next(closed, "the connection's end")
	connection, channel = open()
	defer connection.Close()
	bodies, redelivered := drain(channel, "go.kept")
	equal(bodies, append(numbers(50, 200), "last"))
	for _, flag := range redelivered[:10] {
		equal(flag, true)
	}
}
