// SPDX-License-Identifier: Apache-2.0

// Go's own HTTP server, turned around: its listener dials a hub instead of waiting for clients.
//
//	go run worker.go [-hub HOST:PORT] [-service NAME] [-slots N]
//	curl http://127.0.0.1:8080/hello; curl -d 'some text' http://127.0.0.1:8080/hello
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os/signal"
	"strings"
	"syscall"
	"testing/iotest"
	"time"
)

var address = flag.String("hub", "127.0.0.1:8081", "where the hub waits for workers")
var service = flag.String("service", "hello", "what is offered")
var slots = flag.Int("slots", 4, "jobs at once")

// A hub is a net.Listener. Each connection that it "accepts" is a slot; the channel holds room for more.
type hub chan bool

func (h hub) Addr() net.Addr { return &net.UnixAddr{Name: *address} }
func (h hub) Close() error   { h <- false; return nil }
func (h hub) Accept() (net.Conn, error) {
	if more := <-h; !more {
		return nil, net.ErrClosed
	}
	conn, err := dial()
	if err != nil { // http.Server waits after an error of this kind, 5 ms to 1 s, and calls again
		h <- true
		err = &net.DNSError{Err: err.Error(), Name: *address, IsTemporary: true}
	}
	return conn, err
}

func dial() (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", *address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(conn, "GET /.well-known/ptth/http%%3A%%2F%%2F%s/ HTTP/1.1\r\nHost: hub\r\n"+
		"Connection: Upgrade\r\nUpgrade: ptth\r\nALPN: http%%2F1.1\r\nWeir-Worker: go\r\n\r\n", *service)
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	// One byte at a time: what follows the head is for the server.
	answer, err := http.ReadResponse(bufio.NewReader(iotest.OneByteReader(conn)), nil)
	if err == nil && answer.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New("refused: " + answer.Status)
	}
	if err != nil {
		conn.Close()
	}
	conn.SetReadDeadline(time.Time{})
	return conn, err
}

// The application: any http.Handler.
func app(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		body, _ := io.ReadAll(r.Body) // all of it first: Go's server does not read on once it has answered
		w.Write(body)
	} else if strings.HasSuffix(r.URL.Path, "/slow") {
		select {
		case <-time.After(5 * time.Second):
			io.WriteString(w, "slow\n")
		case <-r.Context().Done(): // the hub has cancelled the job
			log.Print("job ", r.Header.Get("Weir-Job"), " was cancelled")
		}
	} else {
		io.WriteString(w, "Hello from Go!\n")
	}
}

func main() {
	flag.Parse()
	room := make(hub, *slots+1)
	for len(room) < *slots {
		room <- true
	}
	server := &http.Server{Handler: http.HandlerFunc(app)}
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			room <- true
		}
	}
	go server.Serve(room)
	stop, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	<-stop.Done()
	server.Shutdown(context.Background()) // running jobs finish
}
