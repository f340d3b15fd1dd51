package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/bytedance/gopkg/cloud/metainfo"
	"github.com/cloudwego/gopkg/protocol/thrift"
	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/server"
	kitex "github.com/cloudwego/kitex/transport"
)

// A struct with texts, as Kitex's fast codec reads and writes it.
type fields struct {
	texts map[int16]string
	// The text that a declared exception has.
	declared *string
}

func (f *fields) BLength() int { return len(f.bytes()) }

func (f *fields) bytes() (out []byte) {
	x := thrift.BinaryProtocol{}
	for field, text := range f.texts {
		out = x.AppendFieldBegin(out, thrift.STRING, field)
		out = x.AppendString(out, text)
	}
	if f.declared != nil {
		out = x.AppendFieldBegin(out, thrift.STRUCT, 1)
		out = x.AppendFieldBegin(out, thrift.STRING, 1)
		out = x.AppendString(out, *f.declared)
		out = x.AppendFieldStop(out)
	}
	return x.AppendFieldStop(out)
}

func (f *fields) FastWriteNocopy(out []byte, _ thrift.NocopyWriter) int { return copy(out, f.bytes()) }

func (f *fields) FastRead(in []byte) (at int, err error) {
	x := thrift.BinaryProtocol{}
	f.texts = map[int16]string{}
	for {
		kind, field, length, err := x.ReadFieldBegin(in[at:])
		at += length
		if err != nil || kind == thrift.STOP {
			return at, err
		}
		switch kind {
		case thrift.STRING:
			f.texts[field], length, err = x.ReadString(in[at:])
		case thrift.STRUCT:
			var inner fields
			length, err = inner.FastRead(in[at:])
			text := inner.texts[1]
			f.declared = &text
		default:
			length, err = x.Skip(in[at:], kind)
		}
		at += length
		if err != nil {
			return at, err
		}
	}
}

var methods = []string{
	"sayHello", "echo", "fail", "note", "notes", "header", "sleep", "unknown",
	"dead", "closed", "nowhere", "empty", "lost", "babbling", "aborted", "limited", "full",
}

func description(serves bool, handle serviceinfo.MethodHandler) *serviceinfo.ServiceInfo {
	known := map[string]serviceinfo.MethodInfo{}
	for _, method := range methods {
		if serves && method == "unknown" {
			continue
		}
		make := func() any { return &fields{} }
		known[method] = serviceinfo.NewMethodInfo(handle, make, make, method == "note")
	}
	return &serviceinfo.ServiceInfo{
		ServiceName: "Greeter", Methods: known, PayloadCodec: serviceinfo.Thrift, HandlerType: (*any)(nil),
		Extra: map[string]any{"PackageName": "test"},
	}
}

func serveKitex(transport, name string) {
	klog.SetOutput(io.Discard)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	greeter := &greeter{name: name}
	handle := func(ctx context.Context, _ any, argument, result any) error {
		call, answer := argument.(*fields), result
		method := rpcinfo.GetRPCInfo(ctx).Invocation().MethodName()
		text := call.texts[1]
		switch method {
		case "note":
			greeter.notes.Add(1)
			return nil
		case "fail":
			answer.(*fields).declared = &text
			return nil
		}
		header := func(key string) string {
			value, _ := metainfo.GetPersistentValue(ctx, key)
			return value
		}
		value, _ := greeter.answer(ctx, method, text, header)
		answer.(*fields).texts = map[int16]string{0: value}
		return nil
	}
	options := []server.Option{
		server.WithListener(listener), server.WithExitWaitTime(time.Millisecond),
		server.WithMetaHandler(transmeta.ServerTTHeaderHandler), server.WithMetaHandler(transmeta.MetainfoServerHandler),
	}
	if transport == "mux" {
		options = append(options, server.WithMuxTransport())
	}
	kitexServer := server.NewServer(options...)
	check(kitexServer.RegisterService(description(true, handle), &struct{}{}))
	go kitexServer.Run()
	serving(listener.Addr().(*net.TCPAddr).Port)
}

func callKitex(address, transport, _ string, headers, calls []string) {
	klog.SetOutput(io.Discard)
	options := []client.Option{
		client.WithHostPorts(address), client.WithDestService("greeter"), client.WithRPCTimeout(20 * time.Second),
		client.WithConnectTimeout(20 * time.Second),
		client.WithMetaHandler(transmeta.ClientTTHeaderHandler), client.WithMetaHandler(transmeta.MetainfoClientHandler),
	}
	switch transport {
	case "framed":
		options = append(options, client.WithTransportProtocol(kitex.Framed))
	case "unframed":
		// It frames what nobody tells it not to.
		options = append(options, client.WithTransportProtocol(kitex.PurePayload))
	case "ttheader":
		options = append(options, client.WithTransportProtocol(kitex.TTHeader))
	case "ttheader-framed":
		options = append(options, client.WithTransportProtocol(kitex.TTHeaderFramed))
	case "mux":
		options = append(options, client.WithTransportProtocol(kitex.TTHeader), client.WithMuxConnection(1))
	}
	kitexClient, err := client.NewClient(description(false, nil), options...)
	check(err)
	ctx := context.Background()
	for _, header := range headers {
		key, value, _ := strings.Cut(header, "=")
		ctx = metainfo.WithPersistentValue(ctx, key, value)
	}
	one := func(call string) outcome {
		method, text := parse(call)
		argument, answer := &fields{texts: map[int16]string{1: text}}, &fields{}
		err := kitexClient.Call(ctx, method, argument, answer)
		var told *remote.TransError
		switch {
		case errors.As(err, &told):
			return outcome{"error": told.TypeID(), "text": told.Error()}
		case err != nil:
			return outcome{"lost": fmt.Sprint(err)}
		case method == "note":
			return outcome{"sent": true}
		case answer.declared != nil:
			return outcome{"exception": *answer.declared}
		}
		return outcome{"value": answer.texts[0]}
	}
	// All at once where a connection carries several.
	outcomes := make([]outcome, len(calls))
	var waiting sync.WaitGroup
	for at, call := range calls {
		waiting.Add(1)
		run := func() { defer waiting.Done(); outcomes[at] = one(call) }
		if transport == "mux" {
			go run()
		} else {
			run()
		}
	}
	waiting.Wait()
	for _, outcome := range outcomes {
		report(outcome)
	}
}
