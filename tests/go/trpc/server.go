package main

import (
	"context"
	"net"
	"sync"
	"time"

	"trpc.group/trpc-go/trpc-go/codec"
	"trpc.group/trpc-go/trpc-go/errs"
	"trpc.group/trpc-go/trpc-go/server"
	"trpc.group/trpc-go/trpc-go/stream"
)

// The name of the service, and of its callee.
const service = "trpc.meltemi.tests.Greeter"

// A service that says who it is.
type greeter struct {
	name   string
	guard  sync.Mutex
	counts map[string]int
}

func serve(name, address string) (*greeter, string, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, "", err
	}
	g := &greeter{name: name, counts: map[string]int{}}
	s := server.New(
		server.WithListener(listener),
		server.WithServiceName(service),
		server.WithProtocol("trpc"),
		server.WithNetwork("tcp"),
		server.WithCurrentSerializationType(codec.SerializationTypeNoop),
		server.WithServerAsync(true),
	)
	methods := map[string]func(context.Context, string) (string, error){
		"Hello": func(_ context.Context, text string) (string, error) { return name + ": " + text, nil },
		"Echo":  func(_ context.Context, text string) (string, error) { return text, nil },
		"Slow": func(_ context.Context, text string) (string, error) {
			time.Sleep(200 * time.Millisecond)
			return name + ": " + text, nil
		},
		"Never": func(ctx context.Context, _ string) (string, error) {
			<-ctx.Done()
			time.Sleep(time.Minute)
			return "", nil
		},
		"Fail": func(_ context.Context, text string) (string, error) { return "", errs.New(10001, text) },
		"Broken": func(_ context.Context, text string) (string, error) {
			return "", errs.NewFrameError(errs.RetServerOverload, text)
		},
		"Note": func(context.Context, string) (string, error) { return "", nil },
		// The entry of that name in the request's trans_info.
		"Meta": func(ctx context.Context, text string) (string, error) {
			value, ok := codec.Message(ctx).ServerMetaData()[text]
			if !ok {
				return "", errs.New(404, text)
			}
			return string(value), nil
		},
		// What is left of the client's time-out.
		"Budget": func(ctx context.Context, _ string) (string, error) {
			return codec.Message(ctx).RequestTimeout().String(), nil
		},
	}
	desc := &server.ServiceDesc{
		ServiceName:  service,
		HandlerType:  (*any)(nil),
		Streams:      streamDescs(name),
		StreamHandle: stream.NewStreamDispatcher(),
	}
	for method, run := range methods {
		desc.Methods = append(desc.Methods, server.Method{
			Name: "/" + service + "/" + method,
			Func: func(_ any, ctx context.Context, filter server.FilterFunc) (any, error) {
				request := &codec.Body{}
				filters, err := filter(request)
				if err != nil {
					return nil, err
				}
				handle := func(ctx context.Context, request any) (any, error) {
					text := string(request.(*codec.Body).Data)
					g.count(method, text)
					answer, err := run(ctx, text)
					return &codec.Body{Data: []byte(answer)}, err
				}
				return filters.Filter(ctx, request, handle)
			},
		})
	}
	if err := s.Register(desc, nil); err != nil {
		return nil, "", err
	}
	go s.Serve()
	return g, listener.Addr().String(), nil
}

func (g *greeter) count(method, text string) {
	if method == "Note" || method == "Broken" {
		method += ":" + text
	}
	g.guard.Lock()
	defer g.guard.Unlock()
	g.counts[method]++
}

func (g *greeter) counted() map[string]int {
	g.guard.Lock()
	defer g.guard.Unlock()
	counts := map[string]int{}
	for method, count := range g.counts {
		counts[method] = count
	}
	return counts
}
