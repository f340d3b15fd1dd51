"""Writes old-python-0.25.0 and the index of every folder, with the PyPI package thrift 0.25.0: python3 vectors.py

Each line of index.tsv: file, length, type of the message (1 call, 2 reply, 3 exception with its own type after a dot, 4
one-way), sequence id, name, and the headers, as Apache Thrift itself reads them. TTHeader, which it does not know, is taken
off first.
"""
import pathlib
import struct

from thrift.protocol import TBinaryProtocol, TCompactProtocol, THeaderProtocol
from thrift.Thrift import TApplicationException
from thrift.transport import THeaderTransport, TTransport

HERE = pathlib.Path(__file__).parent


def old():
    folder = HERE / "old-python-0.25.0"
    folder.mkdir(exist_ok=True)
    for transport in ("framed", "unframed"):
        for number, (name, kind, field) in enumerate((("sayHello", 1, 1), ("sayHello", 2, 0), ("notify", 4, 1), ("x", 3, 1))):
            buffer = TTransport.TMemoryBuffer()
            out = TTransport.TFramedTransport(buffer) if transport == "framed" else buffer
            protocol = TBinaryProtocol.TBinaryProtocol(out, strictRead=False, strictWrite=False)
            protocol.writeMessageBegin(name, kind, 0x01020304)
            protocol.writeFieldBegin("", 11, field)
            protocol.writeString("envoy")
            if kind == 3:
                protocol.writeFieldBegin("", 8, 2)
                protocol.writeI32(6)
            protocol.writeFieldStop()
            out.flush()
            side = "resp" if kind in (2, 3) else "req"
            (folder / f"{transport}-old.0{number}-{name}.{side}.bin").write_bytes(buffer.getvalue())


def tt_header(data):
    """The headers, and what follows them, without a length of its own."""
    size = 14 + 4 * struct.unpack(">H", data[12:14])[0]
    at, headers = 16, []

    def text():
        nonlocal at
        length = struct.unpack(">H", data[at:at + 2])[0]
        at += 2 + length
        return data[at - length:at].decode()

    while at < size:
        kind = data[at]
        at += 1
        if kind == 0x11:
            headers.append(("RPC_TRANSIT_gdpr-token", text()))
        elif kind in (0x01, 0x10):
            count = struct.unpack(">H", data[at:at + 2])[0]
            at += 2
            for _ in range(count):
                if kind == 0x01:
                    key = text()
                else:
                    key = str(struct.unpack(">H", data[at:at + 2])[0])
                    at += 2
                headers.append((key, text()))
    return headers, data[size:] if data[size] & 0x80 else data[size + 4:]


def read(file):
    data = file.read_bytes()
    headers = []
    if file.name.startswith("header"):
        transport = TTransport.TMemoryBuffer(data)
        protocol = THeaderProtocol.THeaderProtocol(transport, (THeaderTransport.THeaderClientType.HEADERS,))
        message = protocol.readMessageBegin()
        headers = sorted((key.decode(), value.decode()) for key, value in protocol.trans.get_headers().items())
    else:
        if file.name.startswith("ttheader"):
            headers, data = tt_header(data)
        elif file.name.startswith("framed"):
            data = data[4:]
        buffer = TTransport.TMemoryBuffer(data)
        is_compact = data[0] == 0x82
        protocol = TCompactProtocol.TCompactProtocol(buffer) if is_compact else TBinaryProtocol.TBinaryProtocol(buffer)
        message = protocol.readMessageBegin()
    name, kind, sequence = message
    if kind == 3:
        error = TApplicationException()
        error.read(protocol)
        kind = f"3.{error.type}"
    fields = [file.name, len(file.read_bytes()), kind, sequence, name, *(f"{key}={value}" for key, value in headers)]
    return "\t".join(map(str, fields)) + "\n"


old()
for folder in sorted(folder for folder in HERE.iterdir() if folder.is_dir()):
    files = sorted(file for file in folder.glob("*.bin") if ".stream." not in file.name)
    (folder / "index.tsv").write_text("".join(map(read, files)))
