package org.meltemi.brpc;

import com.baidu.brpc.RpcContext;
import com.baidu.brpc.client.BrpcProxy;
import com.baidu.brpc.client.RpcClient;
import com.baidu.brpc.client.RpcClientOptions;
import com.baidu.brpc.exceptions.RpcException;
import com.baidu.brpc.protocol.Options;
import com.baidu.brpc.protocol.standard.BaiduRpcProto;
import com.baidu.brpc.server.RpcServer;
import com.baidu.brpc.server.RpcServerOptions;
import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.protobuf.DescriptorProtos.FileDescriptorProto;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * brpc-java under remote control: reads one JSON command a line from standard input and writes one JSON answer a line to
 * standard output, as {"id": ..., "value": ...} or {"id": ..., "error": {...}}. Calls run side by side, so answers come in
 * any order. Ends when standard input does.
 */
public final class Peer {

    private final Gson gson = new Gson();
    private final PrintStream out;
    private final Map<String, Echo> clients = new ConcurrentHashMap<>();

    private Peer(PrintStream out) {
        this.out = out;
    }

    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        System.setOut(System.err);
        Peer peer = new Peer(out);
        ExecutorService workers = Executors.newCachedThreadPool();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonObject command = peer.gson.fromJson(line, JsonObject.class);
            workers.execute(() -> peer.answer(command));
        }
        Runtime.getRuntime().halt(0);
    }

    private void answer(JsonObject command) {
        JsonObject answer = new JsonObject();
        answer.add("id", command.get("id"));
        try {
            answer.add("value", gson.toJsonTree(run(command)));
        } catch (Throwable error) {
            answer.add("error", describe(error));
        }
        String line = gson.toJson(answer);
        synchronized (out) {
            out.println(line);
        }
    }

    private JsonObject describe(Throwable error) {
        JsonObject result = new JsonObject();
        result.addProperty("class", error.getClass().getName());
        result.addProperty("message", String.valueOf(error.getMessage()));
        if (error instanceof RpcException) {
            result.addProperty("code", ((RpcException) error).getCode());
        }
        if (error.getCause() != null) {
            result.add("cause", describe(error.getCause()));
        }
        return result;
    }

    private Object run(JsonObject command) throws Exception {
        switch (command.get("do").getAsString()) {
            case "serve":
                return serve(command.get("port").getAsInt(), command.get("name").getAsString());
            case "connect":
                return connect(command);
            case "call":
                return call(command);
            case "read":
                return read(command);
            default:
                throw new IllegalArgumentException("unknown command " + command);
        }
    }

    private Object serve(int port, String name) {
        RpcServerOptions options = new RpcServerOptions();
        options.setProtocolType(Options.ProtocolType.PROTOCOL_BAIDU_STD_VALUE);
        options.setWorkThreadNum(64);
        RpcServer server = new RpcServer(port, options);
        server.registerService(new EchoServer(name));
        server.start();
        return port;
    }

    private Object connect(JsonObject command) {
        String client = command.get("client").getAsString();
        RpcClientOptions options = new RpcClientOptions();
        options.setProtocolType(Options.ProtocolType.PROTOCOL_BAIDU_STD_VALUE);
        options.setReadTimeoutMillis(30_000);
        options.setWriteTimeoutMillis(30_000);
        options.setMaxTotalConnections(1);
        options.setMinIdleConnections(1);
        options.setMaxTryTimes(1);
        if (command.has("compress")) {
            options.setCompressType(Options.CompressType.valueOf("COMPRESS_TYPE_" + command.get("compress").getAsString()));
        }
        String address = "list://" + command.get("address").getAsString();
        clients.put(client, BrpcProxy.getProxy(new RpcClient(address, options), Echo.class));
        return client;
    }

    private Object call(JsonObject command) {
        Echo client = clients.get(command.get("client").getAsString());
        String text = command.has("text") ? command.get("text").getAsString() : "";
        if (command.has("number")) {
            text = "x".repeat(command.get("number").getAsInt());
        }
        FileDescriptorProto request = FileDescriptorProto.newBuilder().setName(text).build();
        RpcContext context = RpcContext.getContext();
        context.reset();
        if (command.has("logId")) {
            context.setLogId(command.get("logId").getAsLong());
        }
        if (command.has("fields")) {
            command.getAsJsonObject("fields").entrySet()
                    .forEach(entry -> context.setRequestKvAttachment(entry.getKey(), entry.getValue().getAsString()));
        }
        if (command.has("attachment")) {
            context.setRequestBinaryAttachment(command.get("attachment").getAsString().getBytes(StandardCharsets.UTF_8));
        }
        FileDescriptorProto answer = run(client, command.get("method").getAsString(), request);
        if (command.has("attachment")) {
            return RpcContext.getContext().getResponseBinaryAttachment().toString(StandardCharsets.UTF_8);
        }
        if (command.has("number")) {
            return text.equals(answer.getName());
        }
        return Map.of("text", answer.getName(), "server", answer.getPackage(), "fields", answer.getDependency(0));
    }

    /** What the meta of an answer says, of which brpc-java's clients keep the text alone. */
    private Object read(JsonObject command) throws Exception {
        BaiduRpcProto.RpcMeta meta = BaiduRpcProto.RpcMeta.parseFrom(gson.fromJson(command.get("meta"), byte[].class));
        BaiduRpcProto.RpcResponseMeta answer = meta.getResponse();
        return Map.of("id", meta.getCorrelationId(), "code", answer.getErrorCode(), "text", answer.getErrorText());
    }

    private static FileDescriptorProto run(Echo client, String method, FileDescriptorProto request) {
        switch (method) {
            case "Echo":
                return client.echo(request);
            case "Slow":
                return client.slow(request);
            case "Never":
                return client.never(request);
            case "Fail":
                return client.fail(request);
            default:
                throw new IllegalArgumentException("unknown method " + method);
        }
    }
}
