// Writes TTHeader frames with Kitex's own encoder: go run . <folder>
package main

import (
	"context"
	"os"
	"path/filepath"

	"encoding/binary"
	"github.com/cloudwego/gopkg/protocol/thrift"
	"github.com/cloudwego/gopkg/protocol/ttheader"
)

func message(name string, kind thrift.TMessageType, id int32, field int16, text string) []byte {
	b := thrift.BinaryProtocol{}
	var buf []byte
	buf = b.AppendMessageBegin(buf, name, kind, id)
	if field >= 0 {
		buf = b.AppendFieldBegin(buf, thrift.STRING, field)
		buf = b.AppendString(buf, text)
	}
	return b.AppendFieldStop(buf)
}

func main() {
	ints := map[uint16]string{ttheader.FromService: "caller", ttheader.ToService: "shop.greeter", ttheader.ToMethod: "sayHello", ttheader.LogID: "20260101", 99: "ninety-nine"}
	text := map[string]string{"x-lane": "gray"}
	isn := map[string]string{"isn": "Greeter"}
	token := map[string]string{ttheader.GDPRToken: "secret"}
	flag := ttheader.HeaderFlags(ttheader.HeaderFlagSupportOutOfOrder)
	write := func(name string, framed bool, param ttheader.EncodeParam, payload []byte) {
		head, err := ttheader.EncodeToBytes(context.Background(), param)
		if err != nil {
			panic(err)
		}
		if framed {
			payload = append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), payload...)
		}
		frame := append(head, payload...)
		binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
		if err := os.WriteFile(filepath.Join(os.Args[1], name+".bin"), frame, 0o644); err != nil {
			panic(err)
		}
	}
	x := thrift.NewApplicationException(6, "failed")
	ex := append(thrift.BinaryProtocol{}.AppendMessageBegin(nil, "sayHello", thrift.EXCEPTION, 7), make([]byte, x.BLength())...)
	x.FastWrite(ex[len(ex)-x.BLength():])
	call := message("sayHello", thrift.CALL, 7, 1, "envoy")
	write("ttheader-ints.00-sayHello.req", false, ttheader.EncodeParam{Flags: flag, SeqID: 7, IntInfo: ints}, call)
	write("ttheader-text.01-sayHello.req", false, ttheader.EncodeParam{Flags: flag, SeqID: 7, StrInfo: text}, call)
	write("ttheader-isn.02-sayHello.req", true, ttheader.EncodeParam{SeqID: 7, StrInfo: isn}, call)
	write("ttheader-token.03-sayHello.req", false, ttheader.EncodeParam{SeqID: 7, StrInfo: token}, call)
	write("ttheader-both.04-sayHello.req", true, ttheader.EncodeParam{SeqID: 7, StrInfo: text, IntInfo: map[uint16]string{6: "shop.greeter"}}, call)
	write("ttheader-none.05-sayHello.req", false, ttheader.EncodeParam{SeqID: 7}, call)
	write("ttheader-none.06-notify.req", false, ttheader.EncodeParam{SeqID: 8}, message("notify", thrift.ONEWAY, 8, 1, "oneway"))
	write("ttheader-none.07-sayHello.resp", false, ttheader.EncodeParam{SeqID: 7}, message("sayHello", thrift.REPLY, 7, 0, "Hello envoy"))
	write("ttheader-framed.08-fail.resp", true, ttheader.EncodeParam{SeqID: 7, StrInfo: text}, append(append(thrift.BinaryProtocol{}.AppendMessageBegin(nil, "fail", thrift.REPLY, 7), 12, 0, 1, 0), 0))
	write("ttheader-none.09-boom.resp", false, ttheader.EncodeParam{SeqID: 7}, ex)
	write("ttheader-stopping.10-none.resp", false, ttheader.EncodeParam{StrInfo: map[string]string{"crrst": "1"}}, message("none", thrift.REPLY, 0, -1, ""))
	write("ttheader-timeout.11-sayHello.req", false, ttheader.EncodeParam{Flags: flag, SeqID: 7, IntInfo: map[uint16]string{ttheader.RPCTimeout: "1500"}}, call)
}
