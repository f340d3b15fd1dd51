use serde_json::json;

use super::refusals::refuse;

#[test]
fn faults_of_the_access_log_are_refused() {
    for (rules, message) in [
        (
            json!({"match": []}),
            "accessLog.match: an empty list matches no call; leave \"match\" out to match every call",
        ),
        (
            json!({"match": [{"attributes": {"source.port": {"exact": "1"}}}]}),
            "accessLog.match[0].attributes[\"source.port\"]: ",
        ),
        (
            json!({"textFormat": "a %REQ(x)"}),
            "accessLog.textFormat: \"%\" opens an operator that does not end; a percent sign is written %%",
        ),
        (
            json!({"textFormat": "%START_TIME(%Y-%m"}),
            "accessLog.textFormat: no operator %START_TIME(%; write one of %START_TIME%, ",
        ),
        (json!({"textFormat": "%RESP(x)%"}), "accessLog.textFormat: no operator %RESP(x)%; write one of "),
        (
            json!({"textFormat": "%UPSTREAM_LOCAL_ADDRESS%"}),
            "accessLog.textFormat: no operator %UPSTREAM_LOCAL",
        ),
        (json!({"textFormat": "%:PATH%"}), "accessLog.textFormat: \"PATH\" is no length; write 1 to 1024"),
        (
            json!({"textFormat": "%REQ(:SCHEME)%"}),
            "accessLog.textFormat: \":SCHEME\" is of HTTP; of its pseudo headers write :AUTHORITY, :PATH or :METHOD",
        ),
        (json!({"textFormat": "%REQ(x):0%"}), "accessLog.textFormat: \"0\" is no length; write 1 to 1024"),
        (
            json!({"textFormat": "%START_TIME(%Q)%"}),
            "accessLog.textFormat: \"%Q\" is no format of a time; after a percent sign write one of Y",
        ),
        (json!({"textFormat": "\n"}), "accessLog.textFormat: is empty; "),
        (
            json!({"jsonFormat": {"a": "%REQ()%"}}),
            "accessLog.jsonFormat.a: %REQ()% names no attribute; name one, such as %REQ(method)%",
        ),
        (
            json!({"jsonFormat": {"a": {"b": "c"}}}),
            "accessLog.jsonFormat.a: expected a string, found an object",
        ),
        (
            json!({"textFormat": "a", "jsonFormat": {"a": "b"}}),
            "accessLog.jsonFormat: lines have one format; leave out this or \"textFormat\"",
        ),
        (
            json!({"textFormat": "a".repeat(8193)}),
            "accessLog.textFormat: has 8193 bytes; at most 8192 are allowed",
        ),
        (
            json!({"textFormat": "%DURATION%".repeat(65)}),
            "accessLog.textFormat: the format has 65 operators; at most 64 are allowed",
        ),
        (json!({"textFormat": "%LINE%"}), "accessLog.textFormat: no operator %LINE%; write one of "),
        (
            json!({"fields": {"x-a": "%DURATIO%"}}),
            "accessLog.fields.x-a: no operator %DURATIO%; write one of ",
        ),
        (json!({"fields": {"x-a": ""}}), "accessLog.fields.x-a: is empty; "),
        (json!({"fields": {"X_ä": "a"}}), "accessLog.fields[\"X_ä\"]: is no header: "),
        (
            json!({"fields": (0..65).map(|number| (format!("x-{number}"), json!("a"))).collect::<serde_json::Map<_, _>>()}),
            "accessLog.fields: 65 is out of bounds; write 0 to 64",
        ),
        (json!({"fields": {":path": "a"}}), "accessLog.fields[\":path\"]: is no header: "),
        (
            json!({"fields": {"X-Forwarded-Proto": "a"}}),
            "accessLog.fields.X-Forwarded-Proto: is a header that ",
        ),
        (
            json!({"log": false}),
            "accessLog.log: nobody is told of calls then; give \"files\" or \"fields\", or ",
        ),
        (json!({"fields": {"te": "a"}}), "accessLog.fields.te: is a header of the proxy's own; leave it out"),
        (
            json!({"fields": {"x-meltemi-cluster": "a"}}),
            "accessLog.fields.x-meltemi-cluster: is a header of the proxy's own; leave it out",
        ),
        (
            json!({"fields": {"x-a": "%LINE%".repeat(65)}}),
            "accessLog.fields.x-a: the format has 65 operators; at most 64 are allowed",
        ),
    ] {
        let refusal = refuse(&json!({"services": {}, "accessLog": rules}));
        assert!(refusal.starts_with(message), "{refusal}");
    }
}

#[test]
fn what_others_wrote_turns_no_line_around() {
    let mut line = String::new();
    crate::escape("a\"\u{1b}\u{9b}\u{202e}b\u{2028}\u{61c}ä", &mut line);
    assert_eq!(line, r#"a\"\u001b\u009b\u202eb\u2028\u061cä"#);
}
