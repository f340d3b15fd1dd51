package org.meltemi.demo;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Collections;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.MethodConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.rpc.RpcContext;
import org.apache.dubbo.rpc.RpcException;

/**
 * Apache Dubbo under remote control: reads one JSON command a line from standard input and writes one JSON answer a line to
 * standard output, as {"id": ..., "value": ...} or {"id": ..., "error": {...}}. Calls run side by side, so answers come in
 * any order. Ends when standard input does.
 */
public final class Peer {

    private static final int PAYLOAD = 64 << 20;

    private final Gson gson = new Gson();
    private final PrintStream out;
    private final ApplicationConfig application = new ApplicationConfig("meltemi-tests");
    private final Map<String, Greeter> references = new ConcurrentHashMap<>();
    private final Ledger ledger = new Ledger();
    private volatile GreeterServer server;

    private Peer(PrintStream out) {
        this.out = out;
        application.setQosEnable(false);
        application.setParameters(Collections.singletonMap("shutdown.wait", "100"));
    }

    public static void main(String[] args) throws Exception {
        // Without it, Dubbo 3 exports a metadata service on port 20880 as well.
        System.setProperty("dubbo.application.register-mode", "interface");
        System.setProperty("dubbo.application.logger", "jdk");
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
            case "guard":
                return guard(command.get("port").getAsInt());
            case "ledger":
                return ledger.entries();
            case "connect":
                return connect(command.get("reference").getAsString(), command.get("url").getAsString());
            case "call":
                return call(command);
            case "counts":
                return server.counts();
            default:
                throw new IllegalArgumentException("unknown command " + command);
        }
    }

    private Object serve(int port, String name) {
        server = new GreeterServer(name);
        ProtocolConfig protocol = protocol(port);
        protocol.setPayload(PAYLOAD);
        export(protocol, Greeter.class, "1.0.0", null, server);
        return port;
    }

    /** Two services in several versions and groups, whose calls are written down. */
    private Object guard(int port) {
        ProtocolConfig protocol = protocol(port);
        export(protocol, Open.class, null, null, ledger.service("Open"));
        export(protocol, Open.class, "2.0", null, ledger.service("Open:2.0"));
        export(protocol, Open.class, null, "grp", ledger.service("grp/Open"));
        export(protocol, Shut.class, null, null, ledger.service("Shut"));
        export(protocol, Shut.class, "1.0", null, ledger.service("Shut:1.0"));
        export(protocol, Shut.class, null, "grp", ledger.service("grp/Shut"));
        export(protocol, Shut.class, "1.0", "grp", ledger.service("grp/Shut:1.0"));
        return port;
    }

    private ProtocolConfig protocol(int port) {
        ProtocolConfig protocol = new ProtocolConfig("dubbo", port);
        protocol.setThreads(128);
        protocol.setParameters(new TreeMap<>(Map.of("prefer.serialization", "hessian2,fastjson2")));
        return protocol;
    }

    private <T> void export(ProtocolConfig protocol, Class<T> type, String version, String group, T service) {
        ServiceConfig<T> config = new ServiceConfig<>();
        config.setApplication(application);
        config.setRegistry(new RegistryConfig("N/A"));
        config.setProtocol(protocol);
        config.setInterface(type);
        config.setVersion(version);
        config.setGroup(group);
        config.setRef(service);
        config.export();
    }

    private Object connect(String reference, String url) {
        MethodConfig note = new MethodConfig();
        note.setName("note");
        note.setReturn(false);
        note.setSent(true);
        ReferenceConfig<Greeter> config = new ReferenceConfig<>();
        config.setApplication(application);
        config.setRegistry(new RegistryConfig("N/A"));
        config.setInterface(Greeter.class);
        config.setVersion("1.0.0");
        config.setUrl(url);
        config.setCheck(false);
        config.setRetries(0);
        config.setTimeout(30_000);
        if (!url.contains("payload=")) {
            config.setParameters(new TreeMap<>(Map.of("payload", String.valueOf(PAYLOAD))));
        }
        config.setMethods(Collections.singletonList(note));
        references.put(reference, config.get());
        return reference;
    }

    private Object call(JsonObject command) throws Exception {
        Greeter greeter = references.get(command.get("reference").getAsString());
        RpcContext context = RpcContext.getContext();
        if (command.has("attachments")) {
            command.getAsJsonObject("attachments").entrySet()
                    .forEach(entry -> context.setAttachment(entry.getKey(), entry.getValue().getAsString()));
        }
        String text = command.has("text") ? command.get("text").getAsString() : "";
        long number = command.has("number") ? command.get("number").getAsLong() : 0;
        switch (command.get("method").getAsString()) {
            case "sayHello":
                return greeter.sayHello(text);
            case "whoami":
                return greeter.whoami();
            case "echoBytes":
                byte[] bytes = new byte[(int) number];
                new Random(number).nextBytes(bytes);
                return Arrays.equals(bytes, greeter.echoBytes(bytes));
            case "slow":
                return greeter.slow(number);
            case "fail":
                return greeter.fail(text);
            case "failChecked":
                return greeter.failChecked(text);
            case "nothing":
                greeter.nothing();
                return null;
            case "note":
                greeter.note(text);
                return null;
            case "attachments":
                return greeter.attachments();
            default:
                throw new IllegalArgumentException("unknown method " + command);
        }
    }
}
