"""Apache Thrift for Python as client and server of the end-to-end tests.

    thrift_peer.py serve TRANSPORT PROTOCOL NAME [ADDRESS]    prints its port; serves until its input ends
    thrift_peer.py call ADDRESS TRANSPORT PROTOCOL [NAME=VALUE ...] -- METHOD=TEXT ...

An address is a port on this host, or has a host before it. A client makes its calls on one connection and writes a line of JSON for each. A method has one text for argument and
result: sayHello (the server's name and the text), echo, fail (throws what it declares), note (one-way), notes (how many
of these came), header (what the header of that name says), sleep (so many milliseconds).
"""
import json
import sys
import threading
import time

from thrift.Thrift import TApplicationException, TException, TMessageType, TType
from thrift.protocol import TBinaryProtocol, TCompactProtocol, THeaderProtocol
from thrift.server import TServer
from thrift.transport import THeaderTransport, TSocket, TTransport

PROTOCOLS = {
    "binary": TBinaryProtocol.TBinaryProtocolFactory(),
    "old": TBinaryProtocol.TBinaryProtocolFactory(strictRead=False, strictWrite=False),
    "compact": TCompactProtocol.TCompactProtocolFactory(),
}


def factories(transport, protocol):
    if transport == "theader":
        kind = THeaderTransport.THeaderSubprotocolID
        default = kind.COMPACT if protocol == "compact" else kind.BINARY
        allowed = (THeaderTransport.THeaderClientType.HEADERS,)
        return TTransport.TTransportFactoryBase(), THeaderProtocol.THeaderProtocolFactory(allowed, default)
    if transport == "framed":
        return TTransport.TFramedTransportFactory(), PROTOCOLS[protocol]
    return TTransport.TBufferedTransportFactory(), PROTOCOLS[protocol]


def write_text(out, field, text):
    out.writeStructBegin("")
    out.writeFieldBegin("", TType.STRING, field)
    out.writeString(text)
    out.writeFieldEnd()
    out.writeFieldStop()
    out.writeStructEnd()


def read_fields(source):
    """The text of each field, by number; of a struct, its own first."""
    fields = {}
    source.readStructBegin()
    while True:
        _, kind, field = source.readFieldBegin()
        if kind == TType.STOP:
            break
        if kind == TType.STRING:
            fields[field] = source.readString()
        elif kind == TType.STRUCT:
            fields[field] = read_fields(source).get(1, "")
        else:
            source.skip(kind)
        source.readFieldEnd()
    source.readStructEnd()
    return fields


class Greeter:
    def __init__(self, name):
        self.name = name
        self.notes = 0

    def process(self, source, out):
        name, kind, sequence = source.readMessageBegin()
        text = read_fields(source).get(1, "")
        source.readMessageEnd()
        method = name.split(":")[-1]
        if method == "note":
            self.notes += 1
            return
        if method == "sleep":
            time.sleep(int(text) / 1000)
        headers = source.trans.get_headers() if isinstance(source.trans, THeaderTransport.THeaderTransport) else {}
        answers = {
            "sayHello": lambda: f"{self.name}: {text}",
            "echo": lambda: text,
            "notes": lambda: str(self.notes),
            "sleep": lambda: self.name,
            "header": lambda: headers.get(text.encode(), b"").decode(),
        }
        if method == "fail":
            out.writeMessageBegin(name, TMessageType.REPLY, sequence)
            out.writeStructBegin("")
            out.writeFieldBegin("", TType.STRUCT, 1)
            write_text(out, 1, text)
            out.writeFieldEnd()
            out.writeFieldStop()
            out.writeStructEnd()
        elif method in answers:
            out.writeMessageBegin(name, TMessageType.REPLY, sequence)
            write_text(out, 0, answers[method]())
        else:
            out.writeMessageBegin(name, TMessageType.EXCEPTION, sequence)
            TApplicationException(TApplicationException.UNKNOWN_METHOD, f"no method {name}").write(out)
        out.writeMessageEnd()
        out.trans.flush()

    def on_message_begin(self, callback):
        pass


def place(address):
    host, _, port = address.rpartition(":")
    return host or "127.0.0.1", int(port)


def serve(transport, protocol, name, address="0"):
    listener = TSocket.TServerSocket(*place(address))
    listener.listen()
    print(listener.handle.getsockname()[1], flush=True)
    listener.listen = lambda: None
    server = TServer.TThreadedServer(Greeter(name), listener, *factories(transport, protocol), daemon=True)
    threading.Thread(target=server.serve, daemon=True).start()
    sys.stdin.read()


def call(address, transport, protocol, *rest):
    at = rest.index("--")
    socket = TSocket.TSocket(*place(address))
    socket.setTimeout(20_000)
    transports, protocols = factories(transport, protocol)
    connection = protocols.getProtocol(transports.getTransport(socket))
    socket.open()
    for number, text in enumerate(rest[at + 1:]):
        method, text = text.split("=", 1)
        if text.startswith("@"):
            text = "x" * int(text[1:])
        for header in rest[:at]:
            connection.trans.set_header(*(part.encode() for part in header.split("=", 1)))
        kind = TMessageType.ONEWAY if method.endswith("note") else TMessageType.CALL
        try:
            connection.writeMessageBegin(method, kind, number)
            write_text(connection, 1, text)
            connection.writeMessageEnd()
            connection.trans.flush()
        except (TException, OSError) as error:
            print(json.dumps({"lost": repr(error)}), flush=True)
            continue
        if kind == TMessageType.ONEWAY:
            print(json.dumps({"sent": True}), flush=True)
            continue
        print(json.dumps(answer(connection, method, number)), flush=True)


def answer(connection, method, number):
    try:
        name, kind, sequence = connection.readMessageBegin()
        if kind == TMessageType.EXCEPTION:
            error = TApplicationException()
            error.read(connection)
            connection.readMessageEnd()
            raise error
        fields = read_fields(connection)
        connection.readMessageEnd()
        assert (name, sequence) == (method, number), (name, sequence)
        return {"exception": fields[1]} if 1 in fields else {"value": fields.get(0)}
    except TApplicationException as error:
        return {"error": error.type, "text": error.message}
    except (TException, EOFError) as error:
        return {"lost": repr(error)}


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]](*sys.argv[2:])
