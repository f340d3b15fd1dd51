package org.meltemi.demo;

/** A service that whoever the rules let in may call. */
public interface Open {

    /** Does nothing. */
    String ping();

    /** Takes a string. */
    String hello(String name);

    /** Takes anything. */
    String take(Object value);

    /** Takes a map, an object or whatever else is none. */
    String keep(Card card);

    /** Takes two values of any kind. */
    String pair(Object first, Object second);

    /** Takes a number and anything. */
    String count(int number, Object value);

    /** Is for nobody. */
    String erase(String name);
}
