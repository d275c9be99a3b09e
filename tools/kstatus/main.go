// Command kstatus reads Kubernetes objects as JSON on its standard input, one after the other, and prints for each what
// sigs.k8s.io/cli-utils/pkg/kstatus, the library that GitOps tools judge by, says of it: InProgress, Current, Failed,
// Terminating or NotFound, one a line.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	decoder := json.NewDecoder(in)
	for {
		var text json.RawMessage
		if err := decoder.Decode(&text); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read an object: %w", err)
		}
		// Whole numbers as int64, as the library expects them.
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
			return fmt.Errorf("read an object: %w", err)
		}
		result, err := status.Compute(object)
		if err != nil {
			return fmt.Errorf("judge %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		if _, err := fmt.Fprintln(out, result.Status); err != nil {
			return err
		}
	}
}
