package org.meltemi.thrift;

import com.google.gson.JsonObject;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.thrift.TApplicationException;
import org.apache.thrift.TException;
import org.apache.thrift.TProcessor;
import org.apache.thrift.protocol.TBinaryProtocol;
import org.apache.thrift.protocol.TCompactProtocol;
import org.apache.thrift.protocol.TField;
import org.apache.thrift.protocol.TMessage;
import org.apache.thrift.protocol.TMessageType;
import org.apache.thrift.protocol.TProtocol;
import org.apache.thrift.protocol.TProtocolFactory;
import org.apache.thrift.protocol.TProtocolUtil;
import org.apache.thrift.protocol.TStruct;
import org.apache.thrift.protocol.TType;
import org.apache.thrift.server.TThreadPoolServer;
import org.apache.thrift.transport.TServerSocket;
import org.apache.thrift.transport.TSocket;
import org.apache.thrift.transport.TTransportFactory;
import org.apache.thrift.transport.layered.TFramedTransport;

/** The Thrift peer of the tests, with the command line and the methods of {@code thrift_peer.py}. */
public final class Peer {
    private static final TStruct STRUCT = new TStruct("");

    public static void main(String[] args) throws Exception {
        if (args[0].equals("serve")) {
            serve(args[1], args[2], args[3]);
        } else {
            int at = Arrays.asList(args).indexOf("--");
            call(Integer.parseInt(args[1]), args[2], args[3], Arrays.copyOfRange(args, at + 1, args.length));
        }
    }

    private static TTransportFactory transports(String transport) {
        return transport.equals("framed") ? new TFramedTransport.Factory() : new TTransportFactory();
    }

    private static TProtocolFactory protocols(String protocol) {
        return protocol.equals("compact") ? new TCompactProtocol.Factory() : new TBinaryProtocol.Factory();
    }

    private static void serve(String transport, String protocol, String name) throws Exception {
        InetSocketAddress address = new InetSocketAddress(InetAddress.getLoopbackAddress(), 0);
        TServerSocket socket = new TServerSocket(address);
        System.out.println(socket.getServerSocket().getLocalPort());
        TThreadPoolServer.Args args = new TThreadPoolServer.Args(socket);
        args.transportFactory(transports(transport)).protocolFactory(protocols(protocol));
        TThreadPoolServer server = new TThreadPoolServer(args.processor(new Greeter(name)));
        Thread thread = new Thread(server::serve);
        thread.setDaemon(true);
        thread.start();
        System.in.readAllBytes();
        System.exit(0);
    }

    private static void call(int port, String transport, String protocol, String[] calls) throws Exception {
        TSocket socket = new TSocket("127.0.0.1", port, 20_000);
        socket.open();
        TProtocol connection = protocols(protocol).getProtocol(transports(transport).getTransport(socket));
        int number = 0;
        for (String call : calls) {
            String[] parts = call.split("=", 2);
            String method = parts[0];
            String text = parts[1];
            if (text.startsWith("@")) {
                text = "x".repeat(Integer.parseInt(text.substring(1)));
            }
            boolean oneWay = method.endsWith("note");
            byte type = oneWay ? TMessageType.ONEWAY : TMessageType.CALL;
            connection.writeMessageBegin(new TMessage(method, type, ++number));
            writeText(connection, 1, text);
            connection.writeMessageEnd();
            connection.getTransport().flush();
            JsonObject answer = new JsonObject();
            if (oneWay) {
                answer.addProperty("sent", true);
            } else {
                read(connection, method, number, answer);
            }
            System.out.println(answer);
        }
    }

    /** As the code that Thrift generates reads an answer. */
    private static void read(TProtocol connection, String method, int number, JsonObject answer) {
        try {
            TMessage message = connection.readMessageBegin();
            if (message.type == TMessageType.EXCEPTION) {
                TApplicationException error = new TApplicationException();
                error.read(connection);
                connection.readMessageEnd();
                answer.addProperty("error", error.getType());
                answer.addProperty("text", error.getMessage());
                return;
            }
            if (message.seqid != number || !message.name.equals(method)) {
                throw new IllegalStateException(message + " for " + number);
            }
            Map<Short, String> fields = readFields(connection);
            connection.readMessageEnd();
            String declared = fields.get((short) 1);
            answer.addProperty(declared == null ? "value" : "exception", declared == null ? fields.get((short) 0) : declared);
        } catch (TException lost) {
            answer.addProperty("lost", lost.toString());
        }
    }

    private static void writeText(TProtocol out, int field, String text) throws TException {
        out.writeStructBegin(STRUCT);
        out.writeFieldBegin(new TField("", TType.STRING, (short) field));
        out.writeString(text);
        out.writeFieldEnd();
        out.writeFieldStop();
        out.writeStructEnd();
    }

    private static Map<Short, String> readFields(TProtocol in) throws TException {
        Map<Short, String> fields = new HashMap<>();
        in.readStructBegin();
        while (true) {
            TField field = in.readFieldBegin();
            if (field.type == TType.STOP) {
                break;
            } else if (field.type == TType.STRING) {
                fields.put(field.id, in.readString());
            } else if (field.type == TType.STRUCT) {
                fields.put(field.id, readFields(in).getOrDefault((short) 1, ""));
            } else {
                TProtocolUtil.skip(in, field.type);
            }
            in.readFieldEnd();
        }
        in.readStructEnd();
        return fields;
    }

    private static final class Greeter implements TProcessor {
        private final String name;
        private final AtomicInteger notes = new AtomicInteger();

        Greeter(String name) {
            this.name = name;
        }

        @Override
        public void process(TProtocol in, TProtocol out) throws TException {
            TMessage call = in.readMessageBegin();
            String text = readFields(in).getOrDefault((short) 1, "");
            in.readMessageEnd();
            String method = call.name.substring(call.name.indexOf(':') + 1);
            switch (method) {
                case "note":
                    notes.incrementAndGet();
                    return;
                case "fail":
                    out.writeMessageBegin(new TMessage(call.name, TMessageType.REPLY, call.seqid));
                    out.writeStructBegin(STRUCT);
                    out.writeFieldBegin(new TField("", TType.STRUCT, (short) 1));
                    writeText(out, 1, text);
                    out.writeFieldEnd();
                    out.writeFieldStop();
                    out.writeStructEnd();
                    break;
                case "sayHello":
                    answer(out, call, name + ": " + text);
                    break;
                case "echo":
                    answer(out, call, text);
                    break;
                case "notes":
                    answer(out, call, notes.toString());
                    break;
                case "sleep":
                    try {
                        Thread.sleep(Long.parseLong(text));
                    } catch (InterruptedException stopped) {
                        throw new TException(stopped);
                    }
                    answer(out, call, name);
                    break;
                default:
                    out.writeMessageBegin(new TMessage(call.name, TMessageType.EXCEPTION, call.seqid));
                    int type = TApplicationException.UNKNOWN_METHOD;
                    new TApplicationException(type, "no method " + call.name).write(out);
            }
            out.writeMessageEnd();
            out.getTransport().flush();
        }

        private static void answer(TProtocol out, TMessage call, String text) throws TException {
            out.writeMessageBegin(new TMessage(call.name, TMessageType.REPLY, call.seqid));
            writeText(out, 0, text);
        }
    }
}
