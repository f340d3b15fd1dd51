//! What the schemas of the custom resources say beyond the types: bounds, patterns and rules in CEL.
//!
//! Lists and texts are bounded so that the API server can see that the rules cost little. What needs more than one
//! resource is for the controller.

pub(super) mod adaptive;
pub(super) mod tap;

use meltemi_proxy::plan::raw::MOST_ATTEMPTS;
use schemars::Schema;
use serde_json::{Map, Value, json};

/// A host name: labels of lower-case letters, digits and hyphens.
pub(crate) const HOST: &str = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$";
/// The name of a namespace, a subset or a Secret's like.
const LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// A duration as Go writes it.
pub(crate) const DURATION: &str = r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$";
/// What a list of exports holds.
const EXPORT: &str = r"^(\*|\.|~|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$";
/// A gateway, perhaps after its namespace.
const GATEWAY: &str =
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// An endpoint by host and port.
const ENDPOINT: &str = r"^[^:/\s]+:[0-9]{1,5}$";
/// A value, `prefix*`, `*suffix` or `*`.
const WILDCARD: &str = r"^(\*|\*?[^*]+|[^*]+\*)$";

fn set(schema: &mut Schema, settings: Value) {
    if let Value::Object(settings) = settings {
        settings.into_iter().for_each(|(key, value)| _ = schema.insert(key, value));
    }
}

fn items(schema: &mut Schema, settings: Value) {
    let items = schema.get_mut("items").and_then(Value::as_object_mut);
    if let (Some(items), Value::Object(settings)) = (items, settings) {
        items.extend(settings);
    }
}

fn require(schema: &mut Schema, fields: &[&str]) {
    set(schema, json!({"required": fields}));
}

fn rules(schema: &mut Schema, rules: &[(&str, &str)]) {
    let rules = rules.iter().map(|(rule, message)| json!({"rule": rule, "message": message}));
    set(schema, json!({"x-kubernetes-validations": rules.collect::<Vec<_>>()}));
}

/// A text that is not empty.
pub(super) fn text(schema: &mut Schema) {
    set(schema, json!({"minLength": 1, "maxLength": 1024}));
}

/// A text that may be empty.
pub(super) fn value(schema: &mut Schema) {
    set(schema, json!({"maxLength": 4096}));
}

/// A host name.
pub(super) fn host(schema: &mut Schema) {
    set(schema, json!({"pattern": HOST, "minLength": 1, "maxLength": 253}));
}

/// One host name in a list.
pub(super) fn only_host(schema: &mut Schema) {
    set(schema, json!({"minItems": 1, "maxItems": 1}));
    items(schema, json!({"pattern": HOST, "minLength": 1, "maxLength": 253}));
}

/// Some host names.
pub(super) fn hosts(schema: &mut Schema) {
    set(schema, json!({"minItems": 1, "maxItems": 64}));
    items(schema, json!({"pattern": HOST, "minLength": 1, "maxLength": 253}));
}

/// A subset's name.
pub(super) fn label(schema: &mut Schema) {
    set(schema, json!({"pattern": LABEL, "maxLength": 63}));
}

/// A duration.
pub(super) fn duration(schema: &mut Schema) {
    set(schema, json!({"pattern": DURATION, "maxLength": 32}));
}

/// A duration that is not nothing.
pub(super) fn positive_duration(schema: &mut Schema) {
    duration(schema);
    rules(schema, &[("duration(self) >= duration('1ms')", "must be 1ms or more")]);
}

/// A port.
pub(super) fn port(schema: &mut Schema) {
    set(schema, json!({"minimum": 1, "maximum": 65535}));
}

/// A share of 0 to 100.
pub(super) fn percent(schema: &mut Schema) {
    set(schema, json!({"minimum": 0, "maximum": 100}));
}

/// A share of more than nothing.
pub(super) fn share(schema: &mut Schema) {
    rules(schema, &[("self.value > 0.0", "must be more than 0")]);
}

/// One or more.
pub(super) fn positive(schema: &mut Schema) {
    set(schema, json!({"minimum": 1}));
}

/// One token or more.
pub(super) fn tokens(schema: &mut Schema) {
    set(schema, json!({"minimum": 1, "maximum": u32::MAX}));
}

/// How often tokens are added.
pub(super) fn fill_interval(schema: &mut Schema) {
    duration(schema);
    rules(schema, &[("duration(self) >= duration('50ms')", "must be 50ms or more")]);
}

/// The namespaces that something is exported to.
pub(super) fn exports(schema: &mut Schema) {
    set(schema, json!({"maxItems": 128}));
    items(schema, json!({"pattern": EXPORT, "maxLength": 63}));
    rules(
        schema,
        &[
            (
                "self.size() < 2 || !self.exists(e, e == '*' || e == '~')",
                "'*' and '~' must be the only entry",
            ),
            ("self.all(e, self.exists_one(other, other == e))", "duplicate namespace"),
        ],
    );
}

/// Gateways.
pub(super) fn gateways(schema: &mut Schema) {
    set(schema, json!({"maxItems": 64}));
    items(schema, json!({"pattern": GATEWAY, "minLength": 1, "maxLength": 317}));
}

/// A router of `meltemi.io`.
pub(super) fn router(schema: &mut Schema) {
    require(schema, &["hosts"]);
    let rule = "has(self.routes) || has(self.onNoMatch) || has(self.localRateLimit) || \
         has(self.globalRateLimit) || has(self.adaptiveConcurrency)";
    let needed =
        "one of routes, onNoMatch, localRateLimit, globalRateLimit and adaptiveConcurrency is needed";
    rules(schema, &[(rule, needed)]);
}

/// A router of Aeraki's.
pub(super) fn aeraki_router(schema: &mut Schema) {
    require(schema, &["hosts"]);
    let rule = "has(self.routes) || has(self.localRateLimit) || has(self.globalRateLimit)";
    rules(schema, &[(rule, "one of routes, localRateLimit and globalRateLimit is needed")]);
}

/// Routes.
pub(super) fn routes(schema: &mut Schema) {
    set(schema, json!({"minItems": 1, "maxItems": 256}));
}

const MIRRORED: (&str, &str) =
    ("!has(self.mirrorPercentage) || has(self.mirror)", "mirrorPercentage needs mirror");

/// A route of `meltemi.io`.
pub(super) fn route(schema: &mut Schema) {
    require(schema, &["route"]);
    let in_time = "!has(self.timeout) || !has(self.retries) || !has(self.retries.perTryTimeout) || \
         duration(self.timeout) == duration('0s') || duration(self.retries.perTryTimeout) <= duration(self.timeout)";
    let hedged = "!has(self.timeout) || !has(self.retries) || !has(self.retries.hedge) || \
         !has(self.retries.hedge.after) || duration(self.timeout) == duration('0s') || \
         duration(self.retries.hedge.after) < duration(self.timeout)";
    let in_time = (in_time, "perTryTimeout must not be longer than timeout");
    rules(schema, &[MIRRORED, in_time, (hedged, "hedge.after must be shorter than timeout")]);
}

/// A route of Aeraki's.
pub(super) fn aeraki_route(schema: &mut Schema) {
    require(schema, &["route"]);
    rules(schema, &[MIRRORED]);
}

/// The destinations of a route.
pub(super) fn destinations(schema: &mut Schema) {
    set(schema, json!({"minItems": 1, "maxItems": 16}));
    let rule = "self.size() < 2 || self.map(d, has(d.weight) ? d.weight : 0).sum() == 100";
    rules(schema, &[(rule, "the weights of several destinations must sum to 100")]);
}

/// A weight.
pub(super) fn weight(schema: &mut Schema) {
    set(schema, json!({"minimum": 0, "maximum": 100}));
}

/// Attributes by name.
pub(super) fn attributes(schema: &mut Schema) {
    set(schema, json!({"maxProperties": 32}));
    rules(schema, &[("self.all(name, name != '')", "the name of an attribute is empty")]);
}

/// A matcher of `meltemi.io`.
pub(super) fn matcher(schema: &mut Schema) {
    let rule = "[has(self.exact), has(self.prefix), has(self.suffix), has(self.contains), has(self.regex), \
         has(self.range), has(self.present)].filter(there, there).size() == 1";
    rules(
        schema,
        &[(rule, "exactly one of exact, prefix, suffix, contains, regex, range and present is needed")],
    );
}

/// A matcher of Aeraki's.
pub(super) fn aeraki_matcher(schema: &mut Schema) {
    let rule = "[has(self.exact), has(self.prefix), has(self.regex)].filter(there, there).size() == 1";
    rules(schema, &[(rule, "exactly one of exact, prefix and regex is needed")]);
}

/// A regular expression. Matching anything with it is an error of the rule if it is none.
pub(super) fn regex(schema: &mut Schema) {
    set(schema, json!({"minLength": 1, "maxLength": 512}));
    rules(schema, &[("''.matches(self) in [true, false]", "not a regular expression")]);
}

/// A range of integers.
pub(super) fn range(schema: &mut Schema) {
    rules(schema, &[("self.start < self.end", "start must be less than end")]);
}

/// The value of a mutation: the operators that there are, and what their names cannot be.
pub(super) fn edit_value(schema: &mut Schema) {
    let name = "[^:?%][^?%]*";
    let operators = format!(
        "REQ\\({name}(\\?{name})?\\)|ROUTE_NAME|UPSTREAM_(CLUSTER|HOST|REQUEST_ATTEMPT_COUNT)|\
         DOWNSTREAM_(REMOTE_ADDRESS(_WITHOUT_PORT)?|PEER_URI_SAN)"
    );
    let pattern = format!("^([^%]|%%|%({operators})(:[0-9]{{1,4}})?%)*$");
    set(schema, json!({"minLength": 1, "maxLength": 1024, "pattern": pattern}));
}

/// Mutations, or names of attachments.
pub(super) fn edits(schema: &mut Schema) {
    set(schema, json!({"maxItems": 64}));
}

/// Names of attachments.
pub(super) fn names(schema: &mut Schema) {
    set(schema, json!({"maxItems": 64}));
    items(schema, json!({"minLength": 1, "maxLength": 1024}));
}

/// Names of attributes by which calls are hashed.
pub(super) fn hash_key(schema: &mut Schema) {
    set(schema, json!({"maxItems": 16}));
    items(schema, json!({"minLength": 1, "maxLength": 256}));
    let rule = "self.all(name, self.exists_one(other, other == name))";
    rules(schema, &[(rule, "an attribute is in the list twice")]);
}

/// When a call is tried again.
pub(super) fn retries(schema: &mut Schema) {
    let on =
        |failure: &str| format!("has(self.retryOn) && self.retryOn.exists(failure, failure == '{failure}')");
    rules(
        schema,
        &[
            (&format!("!has(self.statuses) || ({})", on("status")), "statuses need \"status\" in retryOn"),
            (&format!("!({}) || has(self.statuses)", on("status")), "\"status\" in retryOn needs statuses"),
            (
                &format!("!({}) || has(self.perTryTimeout)", on("per-try-timeout")),
                "\"per-try-timeout\" in retryOn needs perTryTimeout",
            ),
            (
                "!has(self.hedge) || !has(self.hedge.after) || !has(self.perTryTimeout) || \
                 duration(self.hedge.after) < duration(self.perTryTimeout)",
                "hedge.after must be shorter than perTryTimeout",
            ),
        ],
    );
}

/// When a second try is made.
pub(super) fn hedge(schema: &mut Schema) {
    rules(schema, &[("has(self.after) || has(self.percentile)", "after or percentile is needed")]);
}

/// A percentile.
pub(super) fn percentile(schema: &mut Schema) {
    set(schema, json!({"minimum": 1, "maximum": 99}));
}

/// Faults of a route.
pub(super) fn fault(schema: &mut Schema) {
    rules(schema, &[("has(self.delay) || has(self.abort)", "delay or abort is needed")]);
}

/// Calls that are held back.
pub(super) fn delay(schema: &mut Schema) {
    require(schema, &["percentage", "fixedDelay"]);
}

/// Calls that are answered with an error.
pub(super) fn abort(schema: &mut Schema) {
    require(schema, &["percentage"]);
}

/// Tries after the first.
pub(super) fn attempts(schema: &mut Schema) {
    set(schema, json!({"minimum": 1, "maximum": MOST_ATTEMPTS}));
}

/// The failures that are retried.
pub(super) fn failures(schema: &mut Schema) {
    set(schema, json!({"maxItems": 4}));
}

/// The statuses that are tried again.
pub(super) fn statuses(schema: &mut Schema) {
    set(schema, json!({"minItems": 1, "maxItems": 64}));
    items(schema, json!({"minLength": 1, "maxLength": 128}));
}

/// A limit of calls at each server.
pub(super) fn local_rate_limit(schema: &mut Schema) {
    let rule = "has(self.tokenBucket) || has(self.conditions)";
    rules(schema, &[(rule, "tokenBucket or conditions are needed")]);
}

/// The most conditions of a limit.
pub(crate) const CONDITIONS: usize = 64;

/// Conditions of a limit.
pub(super) fn conditions(schema: &mut Schema) {
    set(schema, json!({"minItems": 1, "maxItems": CONDITIONS}));
}

/// A condition of a limit.
pub(super) fn condition(schema: &mut Schema) {
    require(schema, &["match", "tokenBucket"]);
}

/// A token bucket.
pub(super) fn bucket(schema: &mut Schema) {
    require(schema, &["maxTokens", "tokensPerFill", "fillInterval"]);
}

/// A limit of calls that a service counts.
pub(super) fn global_rate_limit(schema: &mut Schema) {
    require(schema, &["domain", "rateLimitService", "descriptors"]);
}

/// What is sent to the service.
pub(super) fn descriptors(schema: &mut Schema) {
    set(schema, json!({"minItems": 1, "maxItems": 64}));
}

/// One entry of it.
pub(super) fn descriptor(schema: &mut Schema) {
    require(schema, &["property", "descriptorKey"]);
}

/// A protocol and its codec.
pub(super) fn protocol(schema: &mut Schema) {
    require(schema, &["protocol", "codec"]);
}

/// A protocol that is declared.
pub(super) fn declared_protocol(schema: &mut Schema) {
    require(schema, &["protocol", "layout"]);
}

/// The layout of a protocol, which is the plan's own type and so has no bounds.
pub(super) fn layout(schema: &mut Schema) {
    if let Some(object) = schema.as_object_mut() {
        bounded(object);
    }
}

fn bounded(schema: &mut Map<String, Value>) {
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.first().cloned(),
        kind => kind.cloned(),
    };
    match kind.as_ref().and_then(Value::as_str) {
        Some("array") => drop(schema.insert("maxItems".to_owned(), 256.into())),
        Some("string") if !schema.contains_key("enum") => {
            drop(schema.insert("maxLength".to_owned(), 4096.into()))
        }
        _ => {}
    }
    for (name, below) in schema.iter_mut() {
        match (&**name, below) {
            ("properties", Value::Object(fields)) => {
                fields.values_mut().filter_map(Value::as_object_mut).for_each(bounded);
            }
            ("items" | "additionalProperties", Value::Object(below)) => bounded(below),
            _ => {}
        }
    }
}

/// The name of a protocol.
pub(super) fn protocol_name(schema: &mut Schema) {
    set(schema, json!({"pattern": "^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$", "maxLength": 63}));
}

/// A Redis service.
pub(super) fn redis_service(schema: &mut Schema) {
    require(schema, &["host"]);
}

/// The password of a Redis service.
pub(super) fn redis_auth(schema: &mut Schema) {
    rules(schema, &[("has(self.secret) != has(self.plain)", "exactly one of secret and plain is needed")]);
}

/// A Secret by name.
pub(super) fn redis_secret(schema: &mut Schema) {
    require(schema, &["name"]);
}

/// A password.
pub(super) fn redis_password(schema: &mut Schema) {
    require(schema, &["password"]);
}

/// Some entries, of which each is looked at alone.
pub(super) fn entries(schema: &mut Schema) {
    set(schema, json!({"maxItems": 128}));
}

/// Blocks of addresses.
pub(super) fn blocks(schema: &mut Schema) {
    set(schema, json!({"maxItems": 256}));
    items(schema, json!({"minLength": 1, "maxLength": 64}));
}

/// Names of protocols.
pub(super) fn protocols(schema: &mut Schema) {
    set(schema, json!({"maxItems": 64}));
    items(schema, json!({"minLength": 1, "maxLength": 63}));
}

/// A route of Redis commands.
pub(super) fn redis_route(schema: &mut Schema) {
    require(schema, &["route"]);
}

/// A service that Redis commands go to.
pub(super) fn redis_target(schema: &mut Schema) {
    require(schema, &["host"]);
}

/// A service that gets copies of Redis commands.
pub(super) fn redis_mirror(schema: &mut Schema) {
    require(schema, &["route"]);
}

/// A fault of a Redis service.
pub(super) fn redis_fault(schema: &mut Schema) {
    rules(schema, &[("self.type != 'DELAY' || has(self.delay)", "a fault of type DELAY needs delay")]);
}

/// The names of Redis commands.
pub(super) fn commands(schema: &mut Schema) {
    set(schema, json!({"maxItems": 256}));
    items(schema, json!({"pattern": "^[A-Za-z]+$", "maxLength": 32}));
}

/// How a Redis service is connected to.
pub(super) fn redis_destination(schema: &mut Schema) {
    require(schema, &["host"]);
}

/// Where a Redis cluster is discovered.
pub(super) fn endpoints(schema: &mut Schema) {
    set(schema, json!({"maxItems": 64}));
    items(schema, json!({"pattern": ENDPOINT, "maxLength": 260}));
}

/// Values with wildcards.
pub(super) fn wildcards(schema: &mut Schema) {
    set(schema, json!({"maxItems": 256}));
    items(schema, json!({"pattern": WILDCARD, "minLength": 1, "maxLength": 1024}));
}
