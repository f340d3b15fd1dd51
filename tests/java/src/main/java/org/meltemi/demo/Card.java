package org.meltemi.demo;

import java.io.Serializable;

/** An object with fields that are named like what Dubbo's servers look for in attachments. */
public class Card implements Serializable {

    private static final long serialVersionUID = 1;

    public String path;
    public Integer version;
    public String name;
    public Card next;
}
