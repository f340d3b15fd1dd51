"""Records what the peers of tests/ say to each other, one frame a file: python3 capture.py PEERS PROTOCOL...

PEERS is a folder with the programs as the end-to-end tests build them into the cache of Meltemi: brpc-java, trpc-java,
thrift-java (each what Maven makes), thrift-peer and trpc (Go). Needs the PyPI packages protobuf and thrift 0.25.0. Writes the
folders of which the READMEs say so; the indices are by metas.py and thrift/vectors.py.
"""
import itertools
import json
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import threading

from thrift.protocol import TBinaryProtocol, TCompactProtocol
from thrift.transport import TTransport
from thrift.Thrift import TType

PEERS, HERE = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent
JAVA = ("java", "-XX:TieredStopAtLevel=1", "--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.nio=ALL-UNNAMED")


class Relay:
    """Passes on what comes to the server at `port`, and keeps it: `said` has for each connection both directions."""

    def __init__(self, port):
        self.port, self.said, self.coming = port, [], threading.Condition()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client = self.listener.accept()[0]
            server = socket.create_connection(("127.0.0.1", self.port))
            said = {"req": bytearray(), "resp": bytearray()}
            self.said.append(said)
            for one, other, kept in ((client, server, said["req"]), (server, client, said["resp"])):
                threading.Thread(target=self.carry, args=(one, other, kept), daemon=True).start()

    def carry(self, one, other, kept):
        try:
            while data := one.recv(1 << 16):
                with self.coming:
                    kept += data
                    self.coming.notify_all()
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def wait(self):
        """Until something has come, after which a client may have no answer to wait for."""
        with self.coming:
            self.coming.wait_for(lambda: any(said["req"] for said in self.said))

    def frames(self, length):
        """Every frame, with its side, connection by connection."""
        for said in self.said:
            for side, data in said.items():
                data = bytes(data)
                while data:
                    size = length(data)
                    assert size <= len(data), (side, data)
                    yield side, data[:size]
                    data = data[size:]


class Peer:
    """A peer under remote control: a JSON command a line, a JSON answer a line."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def ask(self, what, **more):
        self.process.stdin.write(json.dumps({"id": 1, "do": what, **more}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def java(project, name):
    return (*JAVA, "-cp", f"{PEERS / project}/lib/*", name)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def emptied(folder):
    shutil.rmtree(HERE / folder, ignore_errors=True)
    (HERE / folder).mkdir(parents=True)
    return HERE / folder


def write(folder, number, name, side, data):
    (folder / f"{number:02}-{name.replace(':', '_')}.{side}.bin").write_bytes(data)


def brpc():
    folder, numbers = emptied("brpc/brpc-java-3.0.5"), {"req": itertools.count(), "resp": itertools.count()}
    server, client = (Peer(*java("brpc-java", "org.meltemi.brpc.Peer")) for _ in range(2))
    relay = Relay(free_port())
    server.ask("serve", name="v1", port=relay.port)
    client.ask("connect", client="plain", address="%s:%d" % relay.address)
    client.ask("connect", client="gzip", address="%s:%d" % relay.address, compress="GZIP")
    client.ask("connect", client="zlib", address="%s:%d" % relay.address, compress="ZLIB")
    for name, call in (
        ("Echo", {"text": "you"}),
        ("Echo", {"text": "\u4f60\U0001f600", "logId": 42}),
        ("Echo", {"text": "fields", "logId": -1, "fields": {"x-lane": "gray", "x-user": "\u4f60"}}),
        ("Echo", {"text": "attached", "attachment": "some bytes"}),
        ("Echo", {"number": 1000}),
        ("Echo", {"number": 1000, "client": "gzip"}),
        ("Echo", {"number": 1000, "client": "zlib", "attachment": "some bytes"}),
        ("Fail", {"text": "on purpose"}),
    ):
        print("brpc", name, client.ask("call", **{"client": "plain", "method": name, **call}))
    for side, data in relay.frames(lambda data: 12 + struct.unpack(">I", data[4:8])[0]):
        write(folder, next(numbers[side]), "call", side, data)


def trpc(name, server, client, port, streams_port):
    """Calls and streams of a peer, each with a relay of its own: for their names, and in their order."""
    folder, numbers = emptied(f"trpc/{name}"), itertools.count()

    def through(port, what, method, **more):
        relay = Relay(port)
        print(name, method, client.ask(what, address="%s:%d" % relay.address, method=method, **more))
        relay.wait()
        number = next(numbers)
        for at, (side, data) in enumerate(relay.frames(lambda data: struct.unpack(">I", data[4:8])[0])):
            # The rest of what fills a window is as what came before.
            if len(data) > 1000:
                continue
            kind = ("unary", "init", "data", "feedback", "close")[data[3] if data[2] else 0]
            write(folder, number, f"{method}.{at:02}-{kind}", side, data)

    through(port, "call", "Hello", text="you")
    through(port, "call", "Hello", text="\u4f60\U0001f600", timeout=1500, meta={"x-lane": "gray", "x-user": "\u4f60"})
    through(port, "call", "Meta", text="x-lane", meta={"x-lane": "gray"})
    through(port, "call", "Note", text="one-way", oneWay=True)
    through(port, "call", "Fail", text="on purpose")
    through(port, "call", "Broken", text="overloaded")
    through(port, "call", "Slow", text="late", timeout=50)
    through(streams_port, "stream", "Talk", text="turn", number=3)
    through(streams_port, "stream", "Refuse", text="why", number=1)
    if name.startswith("trpc-java"):
        through(streams_port, "stream", "Collect", text="x", number=3)
        through(streams_port, "stream", "Count", number=3)
        # More than a window: both sides tell each other that they read on.
        through(streams_port, "stream", "Talk", text="x" * 20_000, number=6)
    else:
        through(port, "call", "Hello", text="gray", dyeing="user-7")
        through(streams_port, "stream", "Nope", number=1)
        through(streams_port, "stream", "Talk", text="x" * 20_000, number=6)


def unframed(data):
    """The length of the first message, as Apache Thrift reads it."""
    buffer = TTransport.TMemoryBuffer(data)
    reader = TCompactProtocol.TCompactProtocol(buffer) if data[0] == 0x82 else TBinaryProtocol.TBinaryProtocol(buffer)
    reader.readMessageBegin()
    reader.skip(TType.STRUCT)
    reader.readMessageEnd()
    return buffer.cstringio_buf.tell()


def thrift(folder, program, forms):
    folder = emptied(folder)
    for transport, protocol in forms:
        server = subprocess.Popen([*program, "serve", transport, protocol, "v1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        relay = Relay(int(server.stdout.readline()))
        is_kitex = program[-1] == "kitex"
        calls = ["sayHello=you", "note=1", "notes=", "fail=declared", "unknown=", "sayHello=\u4f60\U0001f600", "echo=@300"]
        if not is_kitex:
            calls.append("Other:sayHello=you")
        has_headers = "header" in transport or transport == "mux"
        headers = ["x-lane=gray", "x-user=\u4f60"] if has_headers else []
        output = subprocess.run(
            [*program, "call", str(relay.address[1]), transport, protocol, *headers, "--", *calls], capture_output=True, text=True, check=True
        )
        print(folder.name, transport, protocol, output.stdout)
        names = {"theader": "header", "mux": "ttheader-mux"}
        is_plain = transport == "unframed"
        numbers = {"req": itertools.count(), "resp": itertools.count()}
        for side, data in relay.frames(unframed if is_plain else lambda data: 4 + struct.unpack(">I", data[:4])[0]):
            (folder / f"{names.get(transport, transport)}-{protocol}.{next(numbers[side]):02}.{side}.bin").write_bytes(data)
        server.terminate()


if "brpc" in sys.argv:
    brpc()
if "trpc" in sys.argv:
    server, client = (Peer(*java("trpc-java", "org.meltemi.trpc.Peer")) for _ in range(2))
    ports = free_port(), free_port()
    server.ask("serve", name="v1", port=ports[0], streams=ports[1])
    trpc("trpc-java-1.1.0", server, client, *ports)
    server, client = (Peer(PEERS / "trpc") for _ in range(2))
    port = int(server.ask("serve", name="v1", address="127.0.0.1:0")["value"].rpartition(":")[2])
    trpc("trpc-go-1.0.3-streams", server, client, port, port)
if "thrift" in sys.argv:
    plain = [(transport, protocol) for transport in ("framed", "unframed") for protocol in ("binary", "compact")]
    header = [("theader", "binary"), ("theader", "compact")]
    kitex = [(transport, "binary") for transport in ("framed", "unframed", "ttheader", "ttheader-framed", "mux")]
    thrift("thrift/java-0.25.0", java("thrift-java", "org.meltemi.thrift.Peer"), plain)
    thrift("thrift/go-0.25.0", (PEERS / "thrift-peer", "apache"), plain + header)
    thrift("thrift/kitex-peers-0.15.4", (PEERS / "thrift-peer", "kitex"), kitex)
