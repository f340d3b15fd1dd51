// Apache Thrift for Go and Kitex as clients and servers of the end-to-end tests, with the command line and the methods of
// tests/python/thrift_peer.py behind the name of the library: apache, kitex.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// What came of a call.
type outcome map[string]any

func main() {
	library, command, rest := os.Args[1], os.Args[2], os.Args[3:]
	switch library + " " + command {
	case "apache serve":
		serveApache(rest[0], rest[1], rest[2])
	case "kitex serve":
		serveKitex(rest[0], rest[2])
	default:
		at := 0
		for rest[at] != "--" {
			at++
		}
		call := callApache
		if library == "kitex" {
			call = callKitex
		}
		call("127.0.0.1:"+rest[0], rest[1], rest[2], rest[3:at], rest[at+1:])
	}
}

// Says where a server listens, and lets it serve until the input ends.
func serving(port int) {
	fmt.Println(port)
	io.Copy(io.Discard, os.Stdin)
}

func report(outcome outcome) {
	line, err := json.Marshal(outcome)
	check(err)
	fmt.Println(string(line))
}

func parse(call string) (method, text string) {
	method, text, _ = strings.Cut(call, "=")
	if size, isSize := strings.CutPrefix(text, "@"); isSize {
		count, err := strconv.Atoi(size)
		check(err)
		text = strings.Repeat("x", count)
	}
	return method, text
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
