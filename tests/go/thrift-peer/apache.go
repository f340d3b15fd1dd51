package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
)

var configuration = &thrift.TConfiguration{}

func protocols(transport, protocol string) thrift.TProtocolFactory {
	if transport == "theader" {
		id := thrift.THeaderProtocolBinary
		if protocol == "compact" {
			id = thrift.THeaderProtocolCompact
		}
		return thrift.NewTHeaderProtocolFactoryConf(&thrift.TConfiguration{THeaderProtocolID: &id})
	}
	if protocol == "compact" {
		return thrift.NewTCompactProtocolFactoryConf(configuration)
	}
	return thrift.NewTBinaryProtocolFactoryConf(configuration)
}

func transports(transport string) thrift.TTransportFactory {
	switch transport {
	case "framed":
		return thrift.NewTFramedTransportFactoryConf(thrift.NewTTransportFactory(), configuration)
	case "theader":
		return thrift.NewTTransportFactory()
	default:
		return thrift.NewTBufferedTransportFactory(8192)
	}
}

// A struct with one text, at the field of that number.
type text struct {
	field int16
	value string
}

func (t *text) Write(ctx context.Context, out thrift.TProtocol) error {
	return errors.Join(
		out.WriteStructBegin(ctx, ""),
		out.WriteFieldBegin(ctx, "", thrift.STRING, t.field),
		out.WriteString(ctx, t.value),
		out.WriteFieldEnd(ctx),
		out.WriteFieldStop(ctx),
		out.WriteStructEnd(ctx),
	)
}

// Fields by number: text, or of a struct its first.
func (t *text) Read(ctx context.Context, in thrift.TProtocol) error {
	fields, err := readFields(ctx, in)
	for field, value := range fields {
		t.field, t.value = field, value
	}
	return err
}

func readFields(ctx context.Context, in thrift.TProtocol) (map[int16]string, error) {
	fields := map[int16]string{}
	if _, err := in.ReadStructBegin(ctx); err != nil {
		return nil, err
	}
	for {
		_, kind, field, err := in.ReadFieldBegin(ctx)
		if err != nil || kind == thrift.STOP {
			return fields, errors.Join(err, in.ReadStructEnd(ctx))
		}
		switch kind {
		case thrift.STRING:
			fields[field], err = in.ReadString(ctx)
		case thrift.STRUCT:
			var inner map[int16]string
			inner, err = readFields(ctx, in)
			fields[field] = inner[1]
		default:
			err = in.Skip(ctx, kind)
		}
		if err = errors.Join(err, in.ReadFieldEnd(ctx)); err != nil {
			return nil, err
		}
	}
}

type greeter struct {
	name  string
	notes atomic.Int64
}

// What a method answers; whether it is known.
func (g *greeter) answer(ctx context.Context, method, text string, header func(string) string) (string, bool) {
	switch method {
	case "sayHello":
		return g.name + ": " + text, true
	case "echo":
		return text, true
	case "notes":
		return strconv.FormatInt(g.notes.Load(), 10), true
	case "sleep":
		millis, err := strconv.Atoi(text)
		check(err)
		time.Sleep(time.Duration(millis) * time.Millisecond)
		return g.name, true
	case "header":
		return header(text), true
	}
	return "", false
}

func (g *greeter) Process(ctx context.Context, in, out thrift.TProtocol) (bool, thrift.TException) {
	name, _, sequence, err := in.ReadMessageBegin(ctx)
	if err != nil {
		return false, thrift.WrapTException(err)
	}
	fields, err := readFields(ctx, in)
	if err = errors.Join(err, in.ReadMessageEnd(ctx)); err != nil {
		return false, thrift.WrapTException(err)
	}
	method := name[strings.LastIndex(name, ":")+1:]
	header := func(key string) string {
		value, _ := thrift.GetHeader(ctx, key)
		return value
	}
	if method == "note" {
		g.notes.Add(1)
		return true, nil
	}
	value, known := g.answer(ctx, method, fields[1], header)
	switch {
	case method == "fail":
		err = errors.Join(
			out.WriteMessageBegin(ctx, name, thrift.REPLY, sequence),
			out.WriteFieldBegin(ctx, "", thrift.STRUCT, 1),
			(&text{1, fields[1]}).Write(ctx, out),
			out.WriteFieldEnd(ctx),
			out.WriteFieldStop(ctx),
		)
	case known:
		err = errors.Join(
			out.WriteMessageBegin(ctx, name, thrift.REPLY, sequence),
			(&text{0, value}).Write(ctx, out),
		)
	default:
		unknown := thrift.NewTApplicationException(thrift.UNKNOWN_METHOD, "no method "+name)
		err = errors.Join(
			out.WriteMessageBegin(ctx, name, thrift.EXCEPTION, sequence),
			unknown.Write(ctx, out),
		)
	}
	err = errors.Join(err, out.WriteMessageEnd(ctx), out.Flush(ctx))
	return err == nil, thrift.WrapTException(err)
}

func (g *greeter) ProcessorMap() map[string]thrift.TProcessorFunction  { return nil }
func (g *greeter) AddToProcessorMap(string, thrift.TProcessorFunction) {}

func serveApache(transport, protocol, name string) {
	socket, err := thrift.NewTServerSocket("127.0.0.1:0")
	check(err)
	check(socket.Listen())
	server := thrift.NewTSimpleServer4(&greeter{name: name}, socket, transports(transport), protocols(transport, protocol))
	server.SetLogger(func(string) {})
	go server.AcceptLoop()
	serving(socket.Addr().(*net.TCPAddr).Port)
}

// Only the first field of a declared exception tells it from a value.
type result struct{ fields map[int16]string }

func (r *result) Read(ctx context.Context, in thrift.TProtocol) (err error) {
	r.fields, err = readFields(ctx, in)
	return err
}
func (r *result) Write(context.Context, thrift.TProtocol) error { return nil }

func callApache(address, transport, protocol string, headers, calls []string) {
	socket := thrift.NewTSocketConf(address, &thrift.TConfiguration{SocketTimeout: 20 * time.Second})
	connection, err := transports(transport).GetTransport(socket)
	check(err)
	check(connection.Open())
	factory := protocols(transport, protocol)
	out := factory.GetProtocol(connection)
	client := thrift.NewTStandardClient(factory.GetProtocol(connection), out)
	ctx := context.Background()
	for _, header := range headers {
		key, value, _ := strings.Cut(header, "=")
		ctx = thrift.SetHeader(ctx, key, value)
		ctx = thrift.SetWriteHeaderList(ctx, append(thrift.GetWriteHeaderList(ctx), key))
	}
	for _, call := range calls {
		method, argument := parse(call)
		if strings.HasSuffix(method, "note") {
			// Its own client sends these as calls that are answered.
			check(errors.Join(
				out.WriteMessageBegin(ctx, method, thrift.ONEWAY, 0),
				(&text{1, argument}).Write(ctx, out),
				out.WriteMessageEnd(ctx),
				out.Flush(ctx),
			))
			report(outcome{"sent": true})
			continue
		}
		var answer result
		_, err := client.Call(ctx, method, &text{1, argument}, &answer)
		var told thrift.TApplicationException
		switch declared, thrown := answer.fields[1]; {
		case errors.As(err, &told):
			report(outcome{"error": told.TypeId(), "text": told.Error()})
		case err != nil:
			report(outcome{"lost": fmt.Sprint(err)})
		case thrown:
			report(outcome{"exception": declared})
		default:
			report(outcome{"value": answer.fields[0]})
		}
	}
}
