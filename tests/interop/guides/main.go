// Verifies each request of standard input with the code of docs/guides/verify/go.md.
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"

	"guides/webhook"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		body, err := base64.StdEncoding.DecodeString(fields[1])
		if err != nil {
			panic(err)
		}
		header := http.Header{}
		for _, field := range fields[2:] {
			name, value, _ := strings.Cut(field, ": ")
			header.Add(name, value)
		}
		switch err := webhook.Verify(fields[0], header, body); err {
		case nil:
			fmt.Println("accepted")
		case webhook.ErrNotVerified:
			fmt.Println("refused")
		default:
			panic(err)
		}
	}
}
