// Probe is what the test of a node runs beside Hookwright: a receiver, a publisher, and the process that holds the
// namespaces of each Pod.
//
//	probe pause                      wait for SIGTERM
//	probe receive ADDRESS            verify webhooks with the key in SECRET; GET /report says what came
//	probe publish SUBJECT RATE MAX   publish to the server in NATS_URL, RATE events a second, until SIGTERM or MAX events;
//	                                 print how many JetStream has acknowledged, and in how many seconds
//	probe reach ADDRESS              fail unless a connection opens within 10 s
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: probe pause | receive ADDRESS | publish SUBJECT RATE MAX | reach ADDRESS")
	}
	var err error
	switch args := os.Args[2:]; {
	case os.Args[1] == "pause":
		pause()
	case os.Args[1] == "receive" && len(args) == 1:
		err = receive(args[0])
	case os.Args[1] == "publish" && len(args) == 3:
		err = publish(args[0], args[1], args[2])
	case os.Args[1] == "reach" && len(args) == 1:
		err = reach(args[0])
	default:
		err = fmt.Errorf("unknown arguments %q", os.Args[1:])
	}
	if err != nil {
		log.Fatal(err)
	}
}

// pause also reaps: it is process 1 where a Pod's containers share their processes.
func pause() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}

// reach tries again and again: what enforces policies learns of a new Pod a moment later.
func reach(address string) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if _, err := net.DialTimeout("tcp", address, time.Until(deadline)); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

type report struct {
	Distinct   int `json:"distinct"`   // webhook-ids that came with a good signature
	Duplicates int `json:"duplicates"` // verified webhooks whose id had come before
	Refused    int `json:"refused"`    // requests without a good signature
}

func receive(address string) error {
	key, err := webhooks.NewWebhook(os.Getenv("SECRET"))
	if err != nil {
		return fmt.Errorf("SECRET: %w", err)
	}
	var lock sync.Mutex
	var counts report
	seen := map[string]bool{}
	http.HandleFunc("GET /report", func(w http.ResponseWriter, _ *http.Request) {
		lock.Lock()
		defer lock.Unlock()
		_ = json.NewEncoder(w).Encode(counts)
	})
	http.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = key.Verify(body, r.Header)
		}
		id := r.Header.Get("webhook-id")
		lock.Lock()
		defer lock.Unlock()
		switch {
		case err != nil:
			counts.Refused++
			log.Printf("%s: %v", id, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		case seen[id]:
			counts.Duplicates++
			log.Printf("%s came again", id)
		default:
			seen[id] = true
			counts.Distinct++
		}
		w.WriteHeader(http.StatusNoContent)
	})
	server := &http.Server{Addr: address, ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

func publish(subject, rate, most string) error {
	perSecond, err := strconv.Atoi(rate)
	if err != nil || perSecond < 1 {
		return fmt.Errorf("rate %q", rate)
	}
	max, err := strconv.Atoi(most)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	connection, err := nats.Connect(os.Getenv("NATS_URL"), nats.MaxReconnects(-1), nats.CustomInboxPrefix("_INBOX_app"))
	if err != nil {
		return err
	}
	defer connection.Close()
	stream, err := jetstream.New(connection,
		jetstream.WithPublishAsyncTimeout(5*time.Minute), jetstream.WithPublishAsyncMaxPending(max))
	if err != nil {
		return err
	}
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	every := time.Second / time.Duration(perSecond)
	start := time.Now()
	var acks []jetstream.PubAckFuture
	for len(acks) < max && ctx.Err() == nil {
		// What was late is made up for.
		select {
		case <-time.After(time.Until(start.Add(time.Duration(len(acks)) * every))):
		case <-ctx.Done():
			continue
		}
		ack, err := stream.PublishAsync(subject, fmt.Appendf(nil, `{"order":%d}`, len(acks)+1),
			jetstream.WithMsgID(fmt.Sprintf("%s-%d", run, len(acks))))
		if err != nil {
			return err
		}
		acks = append(acks, ack)
	}
	took := time.Since(start)
	for n, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return fmt.Errorf("event %d is not acknowledged: %w", n+1, err)
		}
	}
	fmt.Printf("%d %.1f\n", len(acks), took.Seconds())
	return nil
}
