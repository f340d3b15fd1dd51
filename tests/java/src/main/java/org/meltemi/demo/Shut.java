package org.meltemi.demo;

/** The same methods, for nobody. */
public interface Shut extends Open {}
