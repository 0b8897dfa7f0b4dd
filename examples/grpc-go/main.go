// Publishes with confirms and consumes with acks, over gRPC.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "leveret.example/grpc-go/gen/leveret/v1"
)

func main() {
	address := os.Getenv("LEVERET_GRPC")
	if address == "" {
		address = "127.0.0.1:50051"
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	defer connection.Close()
	broker := pb.NewBrokerClient(connection)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err = broker.DeclareQueue(ctx, &pb.DeclareQueueRequest{Name: "jobs"})
	check(err)

	var publish pb.PublishRequest
	for _, job := range []string{"one", "two", "three"} {
		message := &pb.Message{Body: &pb.Message_Text{Text: job}}
		publish.Messages = append(publish.Messages, &pb.PublishMessage{RoutingKey: "jobs", Message: message})
	}
	// All of them or none; the answer comes when they are on the disk.
	answer, err := broker.Publish(ctx, &publish)
	check(err)
	for _, result := range answer.Results {
		if result.Outcome != pb.PublishOutcome_PUBLISH_OUTCOME_ROUTED {
			log.Fatal("no queue took it")
		}
	}
	fmt.Println(len(answer.Results), "messages confirmed")

	deliveries, err := broker.Subscribe(ctx, &pb.SubscribeRequest{Queue: "jobs", PrefetchMessages: 10})
	check(err)
	for range publish.Messages {
		next, err := deliveries.Recv()
		check(err)
		fmt.Println(string(next.Delivery.Message.GetBytes()))
		_, err = broker.Ack(ctx, &pb.AckRequest{AckIds: []string{next.Delivery.AckId}})
		check(err)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
