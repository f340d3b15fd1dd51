package org.meltemi.demo;

/** A checked exception of the service's own. */
public class Refusal extends Exception {

    private static final long serialVersionUID = 1L;

    public Refusal(String message) {
        super(message);
    }
}
