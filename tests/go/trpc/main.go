// trpc-go under remote control: reads one JSON command a line from standard input and writes one JSON answer a line to
// standard output, as {"id": ..., "value": ...} or {"id": ..., "error": {...}}. Calls run side by side, so answers come in
// any order. Ends when standard input does.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	_ "trpc.group/trpc-go/trpc-go" // Registers its codec.
	"trpc.group/trpc-go/trpc-go/client"
	"trpc.group/trpc-go/trpc-go/codec"
	"trpc.group/trpc-go/trpc-go/errs"
	"trpc.group/trpc-go/trpc-go/pool/multiplexed"
)

// A command: which fields it has depends on what is to be done.
type command struct {
	ID      uint64            `json:"id"`
	Do      string            `json:"do"`
	Name    string            `json:"name"`
	Address string            `json:"address"`
	Method  string            `json:"method"`
	Text    string            `json:"text"`
	Number  int               `json:"number"`
	Timeout int               `json:"timeout"`
	Meta    map[string]string `json:"meta"`
	OneWay  bool              `json:"oneWay"`
	Dyeing  string            `json:"dyeing"`
}

func main() {
	// trpc-go logs to standard output: that goes where errors go.
	out, err := syscall.Dup(1)
	if err == nil {
		err = syscall.Dup3(2, 1, 0)
	}
	if err != nil {
		panic(err)
	}
	peer := &peer{out: os.NewFile(uintptr(out), "answers"), pool: multiplexed.New(multiplexed.WithConnectNumber(1))}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var command command
		if err := json.Unmarshal(lines.Bytes(), &command); err != nil {
			panic(err)
		}
		go peer.answer(command)
	}
}

type peer struct {
	writing sync.Mutex
	out     *os.File
	pool    multiplexed.Pool
	server  *greeter
}

func (p *peer) answer(command command) {
	answer := map[string]any{"id": command.ID}
	value, err := p.run(command)
	if err != nil {
		answer["error"] = map[string]any{
			"class":   class(err),
			"message": errs.Msg(err),
			"code":    int(errs.Code(err)),
		}
	} else {
		answer["value"] = value
	}
	line, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	fmt.Fprintln(p.out, string(line))
}

// Who failed, in trpc-go's words: the framework of one side, or the service.
func class(err error) string {
	e, ok := err.(*errs.Error)
	switch {
	case !ok:
		return fmt.Sprintf("%T", err)
	case e.Type == errs.ErrorTypeBusiness:
		return "business"
	case e.Type == errs.ErrorTypeCalleeFramework:
		return "callee framework"
	default:
		return "framework"
	}
}

func (p *peer) run(command command) (any, error) {
	switch command.Do {
	case "serve":
		server, address, err := serve(command.Name, command.Address)
		p.server = server
		return address, err
	case "counts":
		return p.server.counted(), nil
	case "call":
		return p.call(command)
	case "stream":
		return p.stream(command)
	}
	return nil, fmt.Errorf("unknown command %q", command.Do)
}

func (p *peer) options(command command) []client.Option {
	options := []client.Option{
		client.WithTarget("ip://" + command.Address),
		client.WithProtocol("trpc"),
		client.WithNetwork("tcp"),
		client.WithServiceName(service),
		client.WithCallerServiceName("trpc.meltemi.tests.client"),
		client.WithCurrentSerializationType(codec.SerializationTypeNoop),
		client.WithMultiplexedPool(p.pool),
	}
	if command.Timeout > 0 {
		options = append(options, client.WithTimeout(time.Duration(command.Timeout)*time.Millisecond))
	}
	if command.OneWay {
		options = append(options, client.WithSendOnly())
	}
	for name, value := range command.Meta {
		options = append(options, client.WithMetaData(name, []byte(value)))
	}
	return options
}

// A call; the answer is the body and what of the server's trans_info there is.
func (p *peer) call(command command) (any, error) {
	ctx, message := codec.WithNewMessage(context.Background())
	defer codec.PutBackMessage(message)
	message.WithClientRPCName("/" + service + "/" + command.Method)
	message.WithCalleeServiceName(service)
	message.WithSerializationType(codec.SerializationTypePB)
	if command.Dyeing != "" {
		message.WithDyeing(true)
		message.WithDyeingKey(command.Dyeing)
	}
	text := command.Text
	if command.Method == "Echo" {
		text = strings.Repeat("x", command.Number)
	}
	request, answer := &codec.Body{Data: []byte(text)}, &codec.Body{}
	err := client.DefaultClient.Invoke(ctx, request, answer, p.options(command)...)
	if err != nil || command.OneWay {
		return nil, err
	}
	if command.Method == "Echo" {
		return string(answer.Data) == text, nil
	}
	meta := map[string]string{}
	for name, value := range message.ClientMetaData() {
		meta[name] = string(value)
	}
	return map[string]any{"text": string(answer.Data), "meta": meta}, nil
}
