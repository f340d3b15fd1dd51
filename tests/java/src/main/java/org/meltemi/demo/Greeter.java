package org.meltemi.demo;

import java.util.Map;

/** The service of the tests: one method for each way in which a call can go. */
public interface Greeter {

    /** Answers "Hello, NAME, from SERVER". */
    String sayHello(String name);

    /** Answers the name of the server. */
    String whoami();

    /** Answers what was sent. */
    byte[] echoBytes(byte[] bytes);

    /** Answers the name of the server, so many milliseconds late. */
    String slow(long millis);

    /** Throws an unchecked exception. */
    String fail(String message);

    /** Throws a checked exception that the interface declares. */
    String failChecked(String message) throws Refusal;

    /** Answers nothing. */
    void nothing();

    /** Is called one-way. */
    void note(String text);

    /** Answers the attachments that came with the call. */
    Map<String, String> attachments();
}
