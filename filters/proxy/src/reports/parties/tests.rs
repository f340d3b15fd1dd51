use super::*;

fn own() -> Workload {
    Workload::parse("web-v2;shop;web;v2;web-app;2;Kubernetes")
}

fn service(authority: &str) -> std::rc::Rc<Service> {
    let plan = format!(r#"{{"services": {{"{authority}": {{"protocol": "dubbo"}}}}}}"#);
    let plan = crate::plan::Plan::parse(plan.as_bytes(), &meltemi_codecs::Codecs::all()).unwrap();
    plan.service(authority).unwrap().clone()
}

fn headers(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The labels of an end, in the order of their names.
fn labels(parties: &Parties, id: PartyId) -> Vec<(&str, &str)> {
    let mut labels: Vec<_> =
        parties.fields(id).iter().map(|(name, value)| (&name[2..], value.as_str())).collect();
    labels.sort_unstable();
    labels
}

#[test]
fn a_client_tells_of_itself_and_of_the_server_that_it_reaches() {
    let mut parties = Parties::new(own());
    let accept =
        Accept { cluster: Some("outbound|1||demo.a.svc.cluster.local".to_owned()), ..Accept::default() };
    let source = parties.source(&accept, Way::Streams);
    assert_eq!(
        labels(&parties, source),
        [
            ("connection-security-policy", "unknown"),
            ("reporter", "source"),
            ("source-app", "web-app"),
            ("source-canonical-revision", "v2"),
            ("source-canonical-service", "web"),
            ("source-cluster", "Kubernetes"),
            ("source-version", "2"),
            ("source-workload", "web-v2"),
            ("source-workload-namespace", "shop"),
        ]
    );
    let headers = headers(&[
        ("x-meltemi-workload", "v1;dubbo;demo;r1;east"),
        ("x-meltemi-identity", "spiffe://td/ns/other/sa/server,https://x"),
        ("x-meltemi-own-identity", "spiffe://td/ns/shop/sa/web"),
        (
            "x-meltemi-services",
            r#"[{"name":"demo","host":"demo.a","namespace":"a"},{"host":"b","name":"b"}]"#,
        ),
    ]);
    let server = Server {
        cluster: "outbound|1|v1|demo.a.svc.cluster.local",
        service: &service("demo:1"),
        headers: &headers,
    };
    let destination = parties.destination(&server);
    assert_eq!(
        labels(&parties, destination),
        [
            ("destination-app", "demo"),
            ("destination-canonical-revision", "r1"),
            ("destination-canonical-service", "demo"),
            ("destination-cluster", "east"),
            ("destination-principal", "spiffe://td/ns/other/sa/server"),
            ("destination-service", "demo.a"),
            ("destination-service-name", "demo"),
            ("destination-service-namespace", "a"),
            ("destination-version", "r1"),
            ("destination-workload", "v1"),
            ("destination-workload-namespace", "other"),
            ("rpc-system", "dubbo"),
            ("source-principal", "spiffe://td/ns/shop/sa/web"),
        ]
    );
    assert_eq!(parties.destination(&server), destination, "it has one number");
}

#[test]
fn a_server_tells_of_itself_and_of_the_client_that_calls_it() {
    let mut parties = Parties::new(own());
    let fields = [
        ("x-meltemi-peer-identity", "spiffe://td/ns/dubbo/sa/client"),
        ("x-meltemi-own-identity", "spiffe://td/ns/shop/sa/web"),
        ("x-meltemi-peer-workload", "client-v1;-;client;-;client;-;Kubernetes"),
    ];
    let mut accept =
        Accept { cluster: Some("inbound|1||".to_owned()), headers: headers(&fields), ..Accept::default() };
    let source = parties.source(&accept, Way::Streams);
    let expected = [
        ("connection-security-policy", "mutual_tls"),
        ("destination-principal", "spiffe://td/ns/shop/sa/web"),
        ("reporter", "destination"),
        ("source-app", "client"),
        ("source-canonical-revision", "latest"),
        ("source-canonical-service", "client"),
        ("source-cluster", "Kubernetes"),
        ("source-principal", "spiffe://td/ns/dubbo/sa/client"),
        ("source-version", "unknown"),
        ("source-workload", "client-v1"),
        ("source-workload-namespace", "dubbo"),
    ];
    assert_eq!(labels(&parties, source), expected);
    accept.headers = headers(&[("x-meltemi-peer-identity", "-"), ("x-meltemi-own-identity", "-")]);
    let stranger = parties.source(&accept, Way::Streams);
    assert!(labels(&parties, stranger).contains(&("connection-security-policy", "none")));
    assert!(labels(&parties, stranger).contains(&("source-workload", "unknown")));
    let untold = parties.source(&accept, Way::Names);
    assert!(labels(&parties, untold).contains(&("connection-security-policy", "unknown")));

    let headers = headers(&[("x-meltemi-services", r#"[ { "host" : "web.shop" , "name" : "web" } ]"#)]);
    let server = Server { cluster: "inbound|1||", service: &service("demo:1"), headers: &headers };
    let destination = parties.destination(&server);
    let expected = [
        ("destination-app", "web-app"),
        ("destination-canonical-revision", "v2"),
        ("destination-canonical-service", "web"),
        ("destination-cluster", "Kubernetes"),
        ("destination-service", "web.shop"),
        ("destination-service-name", "web"),
        ("destination-service-namespace", "shop"),
        ("destination-version", "2"),
        ("destination-workload", "web-v2"),
        ("destination-workload-namespace", "shop"),
        ("rpc-system", "dubbo"),
    ];
    assert_eq!(labels(&parties, destination), expected);
}

#[test]
fn a_service_is_known_by_its_host_where_nobody_is_reached() {
    for (cluster, authority, host, name, namespace) in [
        ("outbound|1||demo.a.svc.cluster.local", "x:1", "demo.a.svc.cluster.local", "demo", "a"),
        ("outbound|1||legacy.example", "x:1", "legacy.example", "legacy.example", "unknown"),
        ("", "demo.a.svc.cluster.local:1", "demo.a.svc.cluster.local", "demo", "a"),
        ("", "plain", "plain", "plain", "unknown"),
        ("inbound|1||", "inbound.demo.a.svc.cluster.local:1", "demo.a.svc.cluster.local", "demo", "shop"),
        ("inbound|1||", "unidentified.inbound.legacy.example:1", "legacy.example", "legacy.example", "shop"),
    ] {
        let mut parties = Parties::new(own());
        let accept = Accept { cluster: Some(cluster.to_owned()), ..Accept::default() };
        let source = parties.source(&accept, Way::Streams);
        let cluster = if cluster.starts_with(INBOUND) { "" } else { cluster };
        let service = service(authority);
        let id = parties.unserved(source, cluster, &service);
        assert_eq!(parties.unserved(source, cluster, &service), id);
        let labels = labels(&parties, id);
        let workload = if namespace == "shop" { "web-v2" } else { "unknown" };
        for (label, value) in [
            ("destination-service", host),
            ("destination-service-name", name),
            ("destination-service-namespace", namespace),
            ("destination-workload", workload),
        ] {
            assert!(labels.contains(&(label, value)), "{label} of {authority}: {labels:?}");
        }
    }
}

#[test]
fn there_are_only_so_many() {
    let mut parties = Parties::default();
    let mut ids = Vec::new();
    for number in 0..2 * MOST {
        let identity = format!("spiffe://td/ns/a/sa/{number}");
        let fields = [("x-meltemi-peer-identity", identity.as_str())];
        let accept = Accept {
            cluster: Some("inbound|1||".to_owned()),
            headers: headers(&fields),
            ..Accept::default()
        };
        ids.push(parties.source(&accept, Way::Streams));
    }
    let last = *ids.last().unwrap();
    assert_eq!((parties.all.len(), ids[MOST]), (MOST, last));
    assert_eq!((parties.other(ids[0]), parties.other(last)), (last, last));
    assert!(labels(&parties, last).contains(&("source-principal", "other")));
    assert!(labels(&parties, last).contains(&("reporter", "destination")));
}

#[test]
fn no_peer_makes_a_field_that_breaks_the_connection() {
    let mut parties = Parties::new(own());
    let cut = format!("{} {}", "x".repeat(LONGEST - 1), "y".repeat(100));
    let told = format!("a\u{1}b\u{7f};\t shop\u{b};  ;\u{85}é;{cut}");
    let accept = Accept {
        cluster: Some("inbound|1||".to_owned()),
        headers: headers(&[("x-meltemi-peer-workload", &told)]),
        ..Accept::default()
    };
    let source = parties.source(&accept, Way::Streams);
    let labels = labels(&parties, source);
    let of = |name: &str| labels.iter().find(|(known, _)| *known == name).unwrap().1;
    assert_eq!(
        ["source-workload", "source-workload-namespace", "source-canonical-service"].map(of),
        ["a_b_", "shop", "unknown"]
    );
    assert_eq!(of("source-canonical-revision"), "é");
    assert_eq!(of("source-app"), "x".repeat(LONGEST - 1));
}
