package org.meltemi.trpc;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.protobuf.StringValue;
import com.tencent.trpc.core.common.ConfigManager;
import com.tencent.trpc.core.common.config.BackendConfig;
import com.tencent.trpc.core.common.config.ConsumerConfig;
import com.tencent.trpc.core.common.config.ProviderConfig;
import com.tencent.trpc.core.common.config.ServiceConfig;
import com.tencent.trpc.core.exception.TRpcException;
import com.tencent.trpc.core.rpc.CallInfo;
import com.tencent.trpc.core.rpc.RpcClientContext;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import reactor.core.publisher.Flux;

/**
 * trpc-java under remote control: reads one JSON command a line from standard input and writes one JSON answer a line to
 * standard output, as {"id": ..., "value": ...} or {"id": ..., "error": {...}}. Calls run side by side, so answers come in
 * any order. Ends when standard input does.
 */
public final class Peer {

    private final Gson gson = new Gson();
    private final PrintStream out;
    private final Map<String, Greeter> greeters = new ConcurrentHashMap<>();
    private final Map<String, Streams> streams = new ConcurrentHashMap<>();
    private GreeterServer server;

    private Peer(PrintStream out) {
        this.out = out;
    }

    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        System.setOut(System.err);
        ConfigManager.getInstance().start();
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
        if (error instanceof TRpcException) {
            TRpcException own = (TRpcException) error;
            result.addProperty("code", own.isFrameException() ? own.getCode() : own.getBizCode());
        }
        if (error.getCause() != null) {
            result.add("cause", describe(error.getCause()));
        }
        return result;
    }

    private Object run(JsonObject command) {
        switch (command.get("do").getAsString()) {
            case "serve":
                String name = command.get("name").getAsString();
                server = new GreeterServer(name);
                serve(server, command.get("port").getAsInt());
                serve(new Streams.Server(name), command.get("streams").getAsInt());
                return name;
            case "counts":
                return server.counts();
            case "call":
                return call(command);
            case "stream":
                return stream(command);
            default:
                throw new IllegalArgumentException("unknown command " + command);
        }
    }

    private static <T> void serve(T service, int port) {
        ProviderConfig<T> provider = new ProviderConfig<>();
        provider.setRef(service);
        ServiceConfig config = new ServiceConfig();
        config.setIp("127.0.0.1");
        config.setNetwork("tcp");
        config.setPort(port);
        config.addProviderConfig(provider);
        config.export();
    }

    private static <T> T connect(Class<T> service, String address) {
        ConsumerConfig<T> consumer = new ConsumerConfig<>();
        consumer.setServiceInterface(service);
        BackendConfig backend = new BackendConfig();
        backend.setNamingUrl("ip://" + address);
        backend.setConnsPerAddr(1);
        backend.setRequestTimeout(30_000);
        return backend.getProxy(consumer);
    }

    private static RpcClientContext context(JsonObject command) {
        RpcClientContext context = new RpcClientContext();
        context.setOneWay(command.has("oneWay"));
        CallInfo info = context.getCallInfo();
        info.setCallerApp("meltemi");
        info.setCallerServer("tests");
        info.setCallerService("javaClient");
        if (command.has("timeout")) {
            context.setTimeoutMills(command.get("timeout").getAsInt());
        }
        if (command.has("meta")) {
            command.getAsJsonObject("meta").entrySet()
                    .forEach(entry -> context.getReqAttachMap().put(entry.getKey(), entry.getValue().getAsString()));
        }
        return context;
    }

    private Object call(JsonObject command) {
        String address = command.get("address").getAsString();
        Greeter client = greeters.computeIfAbsent(address, key -> connect(Greeter.class, key));
        String text = command.has("text") ? command.get("text").getAsString() : "";
        if (command.has("number")) {
            text = "x".repeat(command.get("number").getAsInt());
        }
        RpcClientContext context = context(command);
        StringValue answer = run(client, command.get("method").getAsString(), context, StringValue.of(text));
        if (context.isOneWay()) {
            return null;
        }
        if (command.has("number")) {
            return text.equals(answer.getValue());
        }
        Map<String, String> meta = new TreeMap<>();
        context.getRspAttachMap()
                .forEach((key, value) -> meta.put(key, new String((byte[]) value, StandardCharsets.UTF_8)));
        return Map.of("text", answer.getValue(), "meta", meta);
    }

    private static StringValue run(Greeter client, String method, RpcClientContext context, StringValue request) {
        switch (method) {
            case "Hello":
                return client.hello(context, request);
            case "Echo":
                return client.echo(context, request);
            case "Slow":
                return client.slow(context, request);
            case "Never":
                return client.never(context, request);
            case "Fail":
                return client.fail(context, request);
            case "Broken":
                return client.broken(context, request);
            case "Meta":
                return client.meta(context, request);
            case "Note":
                return client.note(context, request);
            default:
                throw new IllegalArgumentException("unknown method " + method);
        }
    }

    /** What came on the stream. */
    private List<String> stream(JsonObject command) {
        String address = command.get("address").getAsString();
        Streams client = streams.computeIfAbsent(address, key -> connect(Streams.class, key));
        int number = command.get("number").getAsInt();
        String text = command.has("text") ? command.get("text").getAsString() : "";
        Flux<StringValue> requests = Flux.range(0, number).map(n -> StringValue.of(text + " " + n));
        RpcClientContext context = context(command);
        Flux<StringValue> answers;
        switch (command.get("method").getAsString()) {
            case "Count":
                answers = client.count(context, StringValue.of(String.valueOf(number)));
                break;
            case "Collect":
                answers = client.collect(context, requests).flux();
                break;
            case "Talk":
                answers = client.talk(context, requests);
                break;
            case "Refuse":
                answers = client.refuse(context, requests);
                break;
            default:
                throw new IllegalArgumentException("unknown stream " + command);
        }
        return answers.map(StringValue::getValue).collectList().block();
    }
}
