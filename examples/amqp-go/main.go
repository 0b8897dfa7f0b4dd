// Publishes with confirms and consumes with acks, over AMQP with amqp091-go.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	amqp "github.com/rabbitmq/amqp091-go"
)

func main() {
	url := os.Getenv("AMQP_URL")
	if url == "" {
		url = "amqp://guest:guest@127.0.0.1:5672"
	}
	connection, err := amqp.Dial(url)
	check(err)
	defer connection.Close()
	channel, err := connection.Channel()
	check(err)
	_, err = channel.QueueDeclare("jobs", true, false, false, false, nil)
	check(err)

	check(channel.Confirm(false))
	jobs := []string{"one", "two", "three"}
	for _, job := range jobs {
		message := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(job)}
		confirm, err := channel.PublishWithDeferredConfirmWithContext(context.Background(), "", "jobs", true, false, message)
		check(err)
		// Returns when the message is on the disk.
		if !confirm.Wait() {
			log.Fatalf("%s is refused", job)
		}
	}
	fmt.Println(len(jobs), "messages confirmed")

	check(channel.Qos(10, 0, false))
	deliveries, err := channel.Consume("jobs", "", false, false, false, false, nil)
	check(err)
	for range jobs {
		delivery := <-deliveries
		fmt.Println(string(delivery.Body))
		check(delivery.Ack(false))
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
