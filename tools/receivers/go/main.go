// Reads a request per line, {"headers", "body_base64", "secret"}, and prints a verdict per line. The signature is judged
// by the official Standard Webhooks library, the event is read by the CloudEvents SDK.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

type request struct {
	Headers map[string]string `json:"headers"`
	Body    []byte            `json:"body_base64"`
	Secret  string            `json:"secret"`
}

type parsed struct {
	ID          string  `json:"id"`
	Type        string  `json:"type"`
	Source      string  `json:"source"`
	Time        *int64  `json:"time"`
	ContentType *string `json:"datacontenttype"`
	Tenant      *string `json:"tenantid"`
	Data        any     `json:"data"`
}

type verdict struct {
	OK         bool    `json:"ok"`
	Error      *string `json:"error"`
	Event      *parsed `json:"event"`
	EventError *string `json:"event_error"`
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	verdicts := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return
		}
		var request request
		if err == nil {
			err = json.Unmarshal(line, &request)
		}
		if err == nil {
			err = verdicts.Encode(judge(request))
		}
		if err != nil {
			panic(err)
		}
	}
}

func judge(request request) verdict {
	headers := http.Header{}
	for name, value := range request.Headers {
		headers.Set(name, value)
	}
	signed := verify(request, headers)
	event, err := parse(request, headers)
	return verdict{OK: signed == nil, Error: text(signed), Event: event, EventError: text(err)}
}

func verify(request request, headers http.Header) error {
	webhook, err := standardwebhooks.NewWebhook(request.Secret)
	if err != nil {
		return err
	}
	return webhook.Verify(request.Body, headers)
}

func parse(request request, headers http.Header) (*parsed, error) {
	read, err := cehttp.NewEventFromHTTPRequest(&http.Request{Header: headers, Body: io.NopCloser(bytes.NewReader(request.Body))})
	if err == nil {
		err = read.Validate()
	}
	if err != nil {
		return nil, err
	}
	shown := parsed{ID: read.ID(), Type: read.Type(), Source: read.Source(), Data: data(read)}
	if !read.Time().IsZero() {
		seconds := read.Time().Unix()
		shown.Time = &seconds
	}
	if contentType := read.DataContentType(); contentType != "" {
		shown.ContentType = &contentType
	}
	if tenant, ok := read.Extensions()["tenantid"].(string); ok {
		shown.Tenant = &tenant
	}
	return &shown, nil
}

// data is JSON, a text, or anything else in base64, by its type. Without a type, an event in JSON has JSON.
func data(read *event.Event) any {
	contentType := read.DataContentType()
	switch {
	case len(read.Data()) == 0:
		return nil
	case contentType == "" || strings.Contains(contentType, "json"):
		return json.RawMessage(read.Data())
	case strings.HasPrefix(contentType, "text/"):
		return string(read.Data())
	default:
		return base64.StdEncoding.EncodeToString(read.Data())
	}
}

func text(err error) *string {
	if err == nil {
		return nil
	}
	said := err.Error()
	return &said
}
