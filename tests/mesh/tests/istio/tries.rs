//! How often calls are tried, and for how long, as routers say.

use std::time::Duration;

use meltemi_tests::{Action, DEADLINE, eventually};
use serde_json::json;

use crate::stage::{self, DEMO, router};

const SERVER_TIMEOUT: u8 = 31;

/// What a slow server takes.
const SLOW: Duration = Duration::from_secs(3);

#[test]
fn a_call_that_is_slow_is_tried_elsewhere_as_a_router_says() {
    const METHOD: &str = "hedged";
    let mut stage = stage::take();
    let route = json!([{
        "name": "both",
        "route": [{"destination": {"host": DEMO.host()}}],
        "retries": {"hedge": {"after": "50ms"}},
    }]);
    stage.route(DEMO, &router(DEMO, route));
    let (mut client, _) = stage.connect_balanced(DEMO.address);
    let slow = stage.backend("v1", DEMO);
    slow.on(METHOD, Action::Delay(SLOW));
    let is_hedged = |server: &str, before: usize| server == "v2" && slow.calls(METHOD) > before;
    // Envoy's workers learn of the plan one after the other.
    eventually("another server answers", || {
        let before = slow.calls(METHOD);
        is_hedged(&client.ask(METHOD, "x"), before).then_some(())
    });
    // From now on it never answers.
    slow.on(METHOD, Action::Ignore);
    let before = slow.calls(METHOD);
    while slow.calls(METHOD) < before + 5 {
        assert_eq!(client.ask(METHOD, "x"), "v2");
    }
    let name = "^wasmcustom.meltemi.*method=.=hedged;.*hedges_total";
    stage.pod("client").admin(|admin| admin.wait(name, DEADLINE, |count| count >= 5)).unwrap();
}

#[test]
fn a_call_takes_no_longer_than_its_client_waits_as_a_router_says() {
    const METHOD: &str = "bounded";
    let mut stage = stage::take();
    let route = json!([{
        "name": "both",
        "route": [{"destination": {"host": DEMO.host()}}],
        "propagateDeadline": true,
    }]);
    stage.route(DEMO, &router(DEMO, route));
    for server in stage::SERVERS {
        stage.backend(server, DEMO).on(METHOD, Action::Delay(SLOW));
    }
    let mut client = stage.connect(DEMO.address);
    // Envoy's workers learn of the plan one after the other.
    eventually("the client's time ends a call", || {
        let answer = client.call_with(METHOD, "x", &[("timeout", "200")]);
        (answer.status == SERVER_TIMEOUT).then(|| {
            let message = answer.message();
            assert_eq!(message.as_deref(), Some("meltemi: no answer within the time that the client gave"));
        })
    });
    assert!(client.call_with(METHOD, "x", &[("timeout", "60000")]).message().is_none());
    let name = "^wasmcustom.meltemi.*reason=.=timeout;.*local_replies_total";
    stage.pod("client").admin(|admin| admin.wait(name, DEADLINE, |count| count > 0)).unwrap();
}
