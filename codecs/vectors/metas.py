"""Writes the indices of the folders of brpc and tRPC, as Python's protobuf (PyPI protobuf) reads the frames: python3 metas.py

Each line of index.tsv: the file, then fields as name=value, between tabs.
"""
import pathlib
import struct

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

HERE = pathlib.Path(__file__).parent
TYPES = {"u32": 13, "i32": 5, "i64": 3, "text": 9, "bytes": 12}

SCHEMA = {
    "RpcRequestMeta": "text service 1, text method 2, i64 log_id 3, i32 timeout_ms 8",
    "RpcResponseMeta": "i32 error_code 1, text error_text 2",
    "RpcMeta": "RpcRequestMeta request 1, RpcResponseMeta response 2, i32 compress 3, i64 id 4, i32 attachment 5",
    "Info": "text key 1, bytes value 2",
    "Request": "u32 call_type 2, u32 id 3, u32 timeout 4, bytes caller 5, bytes callee 6, bytes func 7, u32 message_type 8, "
    "Info* info 9, u32 content_type 10, u32 encoding 11",
    "Response": "u32 call_type 2, u32 id 3, i32 ret 4, i32 func_ret 5, bytes msg 6, u32 message_type 7, Info* info 8",
    "InitRequest": "bytes caller 1, bytes callee 2, bytes func 3, u32 message_type 4, Info* info 5",
    "InitResponse": "i32 ret 1, bytes msg 2",
    "Init": "InitRequest request 1, InitResponse response 2, u32 window 3",
    "Feedback": "u32 window 1",
    "Close": "i32 close_type 1, i32 ret 2, bytes msg 3, i32 func_ret 6",
}


def messages():
    file = descriptor_pb2.FileDescriptorProto(name="metas.proto", syntax="proto2")
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for kind, field, number in (field.split() for field in fields.split(", ")):
            one = message.field.add(name=field, number=int(number), label=3 if kind.endswith("*") else 1)
            kind = kind.rstrip("*")
            one.type = TYPES.get(kind, 11)
            if kind not in TYPES:
                one.type_name = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in SCHEMA}


MESSAGES = messages()


def brpc(data, is_request):
    total, size = struct.unpack(">II", data[4:12])
    assert data[:4] == b"PRPC" and total == len(data) - 12
    meta = MESSAGES["RpcMeta"].FromString(data[12:12 + size])
    told = {"len": len(data), "id": meta.id, "compress": meta.compress, "attachment": meta.attachment}
    if is_request:
        request = meta.request
        return told | {"service": request.service, "method": request.method, "log_id": request.log_id}
    return told | {"error_code": meta.response.error_code, "error_text": meta.response.error_text}


def entries(info):
    return " ".join(sorted(f"{one.key}={one.value.decode('utf-8', 'replace')}" for one in info))


def trpc(data, is_request):
    magic, kind, frame, total, size, number = struct.unpack(">HBBIHI", data[:14])
    assert magic == 0x930 and total == len(data)
    told = {"len": len(data)}
    if kind == 0:
        message = MESSAGES["Request" if is_request else "Response"].FromString(data[16:16 + size])
        told |= {"kind": "unary", "id": message.id, "call_type": message.call_type}
    else:
        kind, name = (("init", "Init"), ("data", None), ("feedback", "Feedback"), ("close", "Close"))[frame - 1]
        told |= {"kind": kind, "id": number}
        if name in (None, "Feedback"):
            return told
        # Peers differ in whether the length of the head counts it.
        message = MESSAGES[name].FromString(data[16:])
        if name == "Close":
            return told | {"close_type": message.close_type, "ret": message.ret, "func_ret": message.func_ret, "msg": message.msg.decode()}
        message = message.request if is_request else message.response
    if not is_request:
        told |= {"ret": message.ret, "func_ret": getattr(message, "func_ret", 0), "msg": message.msg.decode()}
    else:
        told |= {"func": message.func.decode(), "callee": message.callee.decode(), "timeout": getattr(message, "timeout", 0)}
    return told | ({"info": entries(message.info)} if hasattr(message, "info") else {})


for protocol in (brpc, trpc):
    for folder in sorted(folder for folder in (HERE / protocol.__name__).iterdir() if folder.is_dir()):
        lines = []
        for file in sorted(folder.glob("*.bin")):
            told = protocol(file.read_bytes(), file.name.endswith(".req.bin"))
            lines.append("\t".join([file.name, *(f"{name}={value}" for name, value in told.items())]) + "\n")
        (folder / "index.tsv").write_text("".join(lines))
