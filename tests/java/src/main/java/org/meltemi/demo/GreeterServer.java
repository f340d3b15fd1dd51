package org.meltemi.demo;

import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.dubbo.rpc.RpcContext;

/** Serves {@link Greeter} and counts the calls of each method. */
final class GreeterServer implements Greeter {

    private final String name;
    private final Map<String, AtomicLong> counts = new ConcurrentHashMap<>();

    GreeterServer(String name) {
        this.name = name;
    }

    /** How often each method was called so far. */
    Map<String, Long> counts() {
        Map<String, Long> result = new TreeMap<>();
        counts.forEach((method, count) -> result.put(method, count.get()));
        return result;
    }

    private void count(String method) {
        counts.computeIfAbsent(method, key -> new AtomicLong()).incrementAndGet();
    }

    @Override
    public String sayHello(String caller) {
        count("sayHello");
        return "Hello, " + caller + ", from " + name;
    }

    @Override
    public String whoami() {
        count("whoami");
        return name;
    }

    @Override
    public byte[] echoBytes(byte[] bytes) {
        count("echoBytes");
        return bytes;
    }

    @Override
    public String slow(long millis) {
        count("slow");
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        return name;
    }

    @Override
    public String fail(String message) {
        count("fail");
        throw new IllegalStateException(message);
    }

    @Override
    public String failChecked(String message) throws Refusal {
        count("failChecked");
        throw new Refusal(message);
    }

    @Override
    public void nothing() {
        count("nothing");
    }

    @Override
    public void note(String text) {
        count("note:" + text);
    }

    @Override
    public Map<String, String> attachments() {
        count("attachments");
        return new HashMap<>(RpcContext.getContext().getAttachments());
    }
}
