//! MetaRouters for services of other namespaces.

use meltemi::generate::ForeignRouters;

use super::{PAY, assert_told, base, explain_client, grab, made_with, mesh_config, own, router, routes};
use crate::{made, plan, spec};

/// A router of Aeraki's whose only route takes no call: what Aeraki's leave over is refused.
const REJECT: &str = "---
apiVersion: metaprotocol.aeraki.io/v1alpha1
kind: MetaRouter
metadata: {name: dos, namespace: evil}
spec:
  hosts: [pay.shop.svc.cluster.local]
  routes:
  - name: never
    match: {attributes: {never: {exact: x}}}
    route: [{destination: {host: pay.shop.svc.cluster.local}}]
";

const OWNED: &str = "{name: pay, namespace: shop}\nspec:\n  clusterIP";

/// The same as [`base`], with an annotation on the service of `shop`.
fn letting(whom: &str) -> String {
    let annotated = format!(
        "{{name: pay, namespace: shop, annotations: {{meltemi.io/routers-from: '{whom}'}}}}\nspec:\n  clusterIP"
    );
    base().replace(OWNED, &annotated)
}

#[test]
fn a_foreign_router_holds_for_clients_of_its_own_namespace_alone() {
    for owned in [own(), String::new()] {
        let quiet = made(&(base() + &owned));
        let text = base() + &owned + &grab();
        let output = made(&text);
        for client in ["shop", "web"] {
            assert_eq!(plan(&output, client), plan(&quiet, client), "{client}");
            let explained = explain_client(&text, client);
            assert!(!explained.to_string().contains("evil"), "{client}: {explained}");
        }
        // Its own clients follow it first, and by the owner's routes with what it leaves over.
        assert_eq!(routes(&output, "evil", PAY)[0], "evil/grab/steal");
        assert_eq!(explain_client(&text, "evil")["route"], "evil/grab/steal");
        assert_told(
            &output,
            "Warning MetaRouter evil/grab",
            "spec.hosts[0]",
            &[
                "of another namespace",
                "shop",
                "clients of evil",
                "meltemi.io/routers-from",
                "--foreign-routers",
            ],
        );
    }
    let both = made(&(base() + &own() + &grab()));
    assert_eq!(routes(&both, "evil", PAY), ["evil/grab/steal", "shop/pay/all"]);
}

#[test]
fn only_the_owner_says_what_happens_to_calls_that_nothing_matches() {
    let quiet = made(&base());
    let own_reject = router("evil", "own-dos", "  onNoMatch: reject\n");
    for reject in [REJECT, &own_reject] {
        let text = base() + reject;
        let output = made(&text);
        for client in ["shop", "web"] {
            assert_eq!(plan(&output, client), plan(&quiet, client), "{client}");
            assert_eq!(explain_client(&text, client)["outcome"], "default", "{client}");
        }
        assert!(plan(&output, "evil")[PAY].get("onNoMatch").is_none());
    }
    assert_told(
        &made(&(base() + &own_reject)),
        "NotHonoured MetaRouter evil/own-dos",
        "spec.onNoMatch",
        &["shop"],
    );
    let by_owner = made(&(base() + &router("shop", "strict", "  onNoMatch: reject\n") + REJECT));
    for client in ["shop", "web", "evil"] {
        assert_eq!(plan(&by_owner, client)[PAY]["onNoMatch"], "reject", "{client}");
    }
}

#[test]
fn the_owner_or_the_operator_lets_routers_of_others_hold() {
    let allowed = [
        made(&(letting("*") + &own() + &grab())),
        made(&(letting("ours, evil") + &own() + &grab())),
        made_with(&(base() + &own() + &grab()), |options| options.foreign_routers = ForeignRouters::All),
    ];
    for output in allowed {
        // But not before the owner's, one of which takes all calls.
        for client in ["shop", "web"] {
            assert_eq!(routes(&output, client, PAY), ["shop/pay/all"], "{client}");
        }
        assert_told(&output, "Warning MetaRouter evil/grab", "spec", &["never matches", "shop/pay/all"]);
        assert_told(&output, "Warning MetaRouter evil/grab", "spec.hosts[0]", &["of another namespace"]);
    }
    let some = router(
        "shop",
        "pay",
        "  routes: [{name: some, match: {attributes: {a: {exact: x}}}, route: [{destination: {host: pay}}]}]\n",
    );
    let text = letting("evil") + &some + &grab() + REJECT;
    let output = made(&text);
    assert_eq!(routes(&output, "web", PAY), ["shop/pay/some", "evil/grab/steal", "evil/dos/never"]);
    assert!(plan(&output, "web")[PAY].get("onNoMatch").is_none());
    // Whom the owner does not name is not meant.
    assert_eq!(routes(&made(&(letting("ours") + &some + &grab())), "web", PAY), ["shop/pay/some"]);
    // Nor is anybody by an annotation on a thing of their own.
    let squatter = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: squatter, namespace: evil, annotations: {meltemi.io/routers-from: '*'}}
spec:
  hosts: [pay.shop.svc.cluster.local]
  addresses: [192.0.2.1]
  resolution: STATIC
  ports: [{number: 20880, name: tcp-metaprotocol-dubbo, protocol: TCP}]
";
    assert_eq!(routes(&made(&(base() + &some + &grab() + squatter)), "web", PAY), ["shop/pay/some"]);
}

#[test]
fn operators_of_the_mesh_close_routers_with_virtual_services() {
    let config = mesh_config("defaultVirtualServiceExportTo: [\".\"]");
    let output = made(&(base() + &own() + &config));
    assert_eq!(routes(&output, "shop", PAY), ["shop/pay/all"]);
    assert_eq!(routes(&output, "web", PAY), Vec::<String>::new());
    let exported = router(
        "shop",
        "pay",
        "  exportTo: ['*']\n  routes: [{name: all, route: [{destination: {host: pay}}]}]\n",
    );
    assert_eq!(routes(&made(&(base() + &exported + &config)), "web", PAY), ["shop/pay/all"]);
}

#[test]
fn clients_of_a_service_entry_go_by_the_routers_of_its_owner() {
    let entry = |namespace: &str, created: &str| {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: greeter, namespace: {namespace}, creationTimestamp: '{created}'}}
spec:
  hosts: [org.acme.greeter]
  addresses: [240.240.0.20]
  resolution: STATIC
  ports: [{{number: 20880, name: tcp-metaprotocol-dubbo, protocol: TCP}}]
"
        )
    };
    let of = |namespace: &str| {
        router(
            namespace,
            "greeter",
            "  routes: [{name: all, route: [{destination: {host: org.acme.greeter}}]}]\n",
        )
        .replace("hosts: [pay.shop.svc.cluster.local]", "hosts: [org.acme.greeter]")
    };
    let text = base()
        + &entry("shop", "2021-01-01T00:00:00Z")
        + &entry("evil", "2022-01-01T00:00:00Z")
        + &of("shop")
        + &of("evil");
    let output = made(&text);
    let greeter = "org.acme.greeter:20880";
    assert_eq!(routes(&output, "web", greeter), ["shop/greeter/all"]);
    assert_eq!(routes(&output, "shop", greeter), ["shop/greeter/all"]);
    assert_eq!(routes(&output, "evil", greeter), ["evil/greeter/all"]);
    assert!(spec(&output, "EnvoyFilter", "evil", "meltemi-outbound-evil")["configPatches"].is_array());
}
