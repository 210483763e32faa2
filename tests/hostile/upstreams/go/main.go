// An app on Go's net/http that tells, one JSON line a request, what it was sent.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
)

type seen struct {
	Method  string      `json:"method"`
	Target  string      `json:"target"`
	Headers [][2]string `json:"headers"`
	Body    string      `json:"body"`
	Whole   bool        `json:"whole"`
}

func main() {
	port, files := os.Args[1], os.Args[2]
	var lock sync.Mutex
	out := json.NewEncoder(os.Stdout)
	static := http.FileServer(http.Dir(files))
	http.ListenAndServe("127.0.0.1:"+port, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Static") != "" {
			static.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		s := seen{Method: r.Method, Target: r.RequestURI, Body: latin(body), Whole: err == nil}
		s.Headers = append(s.Headers, [2]string{"host", r.Host})
		for _, from := range []http.Header{r.Header, r.Trailer} {
			for name, values := range from {
				for _, value := range values {
					s.Headers = append(s.Headers, [2]string{strings.ToLower(name), latin([]byte(value))})
				}
			}
		}
		lock.Lock()
		out.Encode(s)
		lock.Unlock()
		answer := "you asked for " + r.RequestURI
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
		io.WriteString(w, answer)
	}))
}

// Bytes as characters of the same number.
func latin(bytes []byte) string {
	runes := make([]rune, len(bytes))
	for i, b := range bytes {
		runes[i] = rune(b)
	}
	return string(runes)
}
