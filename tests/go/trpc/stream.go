package main

import (
	"context"
	"fmt"
	"io"

	"trpc.group/trpc-go/trpc-go/client"
	"trpc.group/trpc-go/trpc-go/codec"
	"trpc.group/trpc-go/trpc-go/errs"
	"trpc.group/trpc-go/trpc-go/server"
	"trpc.group/trpc-go/trpc-go/stream"
)

// Streams of the service, each both ways.
var streams = map[string]func(name string, s server.Stream) error{
	// Sends back what comes, and says at the end who did.
	"Talk": func(name string, s server.Stream) error {
		for {
			text, err := receive(s)
			if err == io.EOF {
				return s.SendMsg(&codec.Body{Data: []byte(name)})
			}
			if err != nil {
				return err
			}
			if err := s.SendMsg(&codec.Body{Data: []byte(text)}); err != nil {
				return err
			}
		}
	},
	// Ends with an error of its own after the first message.
	"Refuse": func(_ string, s server.Stream) error {
		text, err := receive(s)
		if err != nil {
			return err
		}
		return errs.New(10001, text)
	},
}

func receive(s interface{ RecvMsg(any) error }) (string, error) {
	body := &codec.Body{}
	err := s.RecvMsg(body)
	return string(body.Data), err
}

func streamDescs(name string) []server.StreamDesc {
	var descs []server.StreamDesc
	for method, run := range streams {
		descs = append(descs, server.StreamDesc{
			StreamName:    "/" + service + "/" + method,
			Handler:       func(_ any, s server.Stream) error { return run(name, s) },
			ServerStreams: true,
			ClientStreams: true,
		})
	}
	return descs
}

// A stream: sends so many messages of that size and awaits each, then ends and reads to the end. The answer is the last
// message.
func (p *peer) stream(command command) (any, error) {
	ctx, message := codec.WithNewMessage(context.Background())
	defer codec.PutBackMessage(message)
	message.WithClientRPCName("/" + service + "/" + command.Method)
	message.WithCalleeServiceName(service)
	desc := &client.ClientStreamDesc{StreamName: command.Method, ClientStreams: true, ServerStreams: true}
	s, err := stream.DefaultStreamClient.NewStream(ctx, desc, "/"+service+"/"+command.Method, p.options(command)...)
	if err != nil {
		return nil, err
	}
	for i := 0; i < command.Number; i++ {
		text := fmt.Sprintf("%s %d", command.Text, i)
		if err := s.SendMsg(&codec.Body{Data: []byte(text)}); err != nil {
			// The stream has ended meanwhile, and why is still to be read.
			if _, why := receive(s); why != nil && why != io.EOF {
				err = why
			}
			return nil, err
		}
		answer, err := receive(s)
		if err != nil {
			return nil, err
		}
		if answer != text {
			return nil, fmt.Errorf("sent %q, received %q", text, answer)
		}
	}
	if err := s.CloseSend(); err != nil {
		return nil, err
	}
	last := ""
	for {
		text, err := receive(s)
		if err == io.EOF {
			return last, nil
		}
		if err != nil {
			return nil, err
		}
		last = text
	}
}
