package org.meltemi.demo;

import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;

/** What the services of a guarded server carried out, written by themselves. */
final class Ledger {

    private final Map<String, AtomicLong> entries = new ConcurrentHashMap<>();

    /** How often each method of each service was carried out. */
    Map<String, Long> entries() {
        Map<String, Long> result = new TreeMap<>();
        entries.forEach((entry, count) -> result.put(entry, count.get()));
        return result;
    }

    /** The service that is written down as {@code name}. */
    Shut service(String name) {
        return new Service(name);
    }

    private final class Service implements Shut {

        private final String name;

        Service(String name) {
            this.name = name;
        }

        private String carryOut(String method) {
            entries.computeIfAbsent(name + " " + method, key -> new AtomicLong()).incrementAndGet();
            return name + " " + method;
        }

        @Override
        public String ping() {
            return carryOut("ping");
        }

        @Override
        public String hello(String text) {
            return carryOut("honest".equals(text) ? "hello honest" : "hello");
        }

        @Override
        public String take(Object value) {
            return carryOut("take");
        }

        @Override
        public String keep(Card card) {
            return carryOut("keep");
        }

        @Override
        public String pair(Object first, Object second) {
            return carryOut("pair");
        }

        @Override
        public String count(int number, Object value) {
            return carryOut("count");
        }

        @Override
        public String erase(String text) {
            return carryOut("erase");
        }
    }
}
