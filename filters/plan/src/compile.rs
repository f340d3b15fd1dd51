//! From the document to the plan: everything that cannot work is found here, with a word on what to write instead.
use std::rc::Rc;

use meltemi_codecs::{Codec, Codecs, Depth, Operation, Sharing};
use rustc_hash::FxHashMap;

use crate::source;

use super::{
    AccessLog, IstioMetrics, Plan, PlanError,
    actions::Actions,
    address::Block,
    cluster::clusters,
    dry_run,
    error::Path,
    global_rate_limit::{GlobalRateLimits, global_rate_limits},
    guard::{self, Guard, is_source},
    hash::HashKey,
    index::Index,
    layout::layout,
    map::Map,
    matcher::{Predicate, Rule, Test},
    pattern::Patterns,
    rate_limit::{LocalRateLimit, local_rate_limit},
    raw,
    route::{Destination, Route},
    service::{Limits, RetryBudget, Service, UpstreamOptions},
    share::share,
    span::Span,
    table::Table,
};

/// The name of the route of the calls that no route matches.
pub(super) const DEFAULT: &str = "default";

/// The protocol that the first bytes of a connection tell.
const AUTO: &str = "auto";

/// Names become HTTP headers and metrics; no sensible one is longer.
const MAX_NAME: usize = 1024;

/// In a box, since whatever compiles a value hands an error on.
pub(super) type Result<T> = core::result::Result<T, Box<PlanError>>;

pub(super) fn fail<T>(path: &Path<'_>, message: impl Into<String>) -> Result<T> {
    Err(error(path, message))
}

fn error(path: &Path<'_>, message: impl Into<String>) -> Box<PlanError> {
    Box::new(PlanError::at(path, message))
}

pub(super) fn plan(raw: &raw::Plan, codecs: &Codecs) -> Result<Plan> {
    let root = Path::Root;
    let metrics = root.key("metrics");
    let max_operations = within(&metrics.key("maxOperations"), raw.metrics.max_operations, 0, 100_000)?;
    let istio = raw.metrics.istio.as_ref().map(|raw| istio(&metrics.key("istio"), raw)).transpose()?;
    let max_calls = raw.max_calls.map(|most| within(&root.key("maxCalls"), most, 1, u32::MAX)).transpose()?;
    let memory_budget = within(&root.key("memoryBudgetBytes"), raw.memory_budget_bytes, 16 << 20, 3 << 30)?;

    let declared = &protocols(&root.key("protocols"), &raw.protocols, codecs)?;
    let path = root.key("services");
    let mut services = Vec::new();
    for (authority, raw) in raw.services.iter() {
        let service = service(&path.key(authority), authority, raw, declared)?;
        let asks_cluster = service.asks_cluster || service.clusters.is_some() || max_calls.is_some();
        services.push((authority.into(), Rc::new(Service { asks_cluster, ..service })));
    }
    let unknown_authority = raw.unknown_authority;
    let max_calls = max_calls.unwrap_or(usize::MAX);
    let access_log =
        raw.access_log.as_ref().map(|raw| access_log(&root.key("accessLog"), raw)).transpose()?;
    let services = Map::new(services);
    Ok(Plan { max_operations, istio, access_log, memory_budget, max_calls, unknown_authority, services })
}

fn access_log(path: &Path<'_>, raw: &raw::AccessLog) -> Result<AccessLog> {
    let share = share(path, raw.percent)?;
    Ok(AccessLog { errors: raw.errors, slower_than: raw.slower_than.map(Span::duration), share })
}

fn istio(path: &Path<'_>, raw: &raw::IstioMetrics) -> Result<IstioMetrics> {
    let exception_status = within(&path.key("exceptionStatus"), raw.exception_status, 0, 16)?;
    let max_series = within(&path.key("maxSeries"), raw.max_series, 1, 10_000)?;
    Ok(IstioMetrics { exception_status: u32::try_from(exception_status).unwrap_or(0), max_series })
}

/// The protocols that services may name: those that are declared, and the module's own.
fn protocols(path: &Path<'_>, raw: &Table<raw::Layout>, codecs: &Codecs) -> Result<Codecs> {
    let mut all = codecs.clone();
    for (name, raw) in raw.iter() {
        let path = path.key(name);
        if codecs.get(name).is_some() {
            return fail(&path, "the module has a codec of that name; choose another");
        }
        if name == AUTO {
            return fail(&path, "stands for any protocol; choose another name");
        }
        all.declare(layout(&path, name, raw)?);
    }
    Ok(all)
}

fn service(path: &Path<'_>, authority: &str, raw: &raw::Service, codecs: &Codecs) -> Result<Service> {
    name(path, "the authority of a service", authority)?;
    let protocols = path.key("protocols");
    if raw.protocol != AUTO {
        return match raw.protocols.is_empty() {
            true => of_codec(path, authority, raw, codec(&path.key("protocol"), &raw.protocol, codecs)?),
            false => fail(&protocols, "is what \"auto\" may be; write that as \"protocol\", or remove this"),
        };
    }
    let mut services: Vec<Rc<Service>> = Vec::new();
    let mut add = |path: &Path<'_>, at: &Path<'_>, protocol: &str| {
        let codec = codec(at, protocol, codecs)?;
        if services.iter().any(|service| Rc::ptr_eq(&service.codec, &codec)) {
            return fail(at, format!("{protocol:?} is in the list already; remove one of the two"));
        }
        services.push(Rc::new(of_codec(path, authority, raw, codec)?));
        Ok(())
    };
    match raw.protocols.is_empty() {
        true => codecs.names().try_for_each(|protocol| add(path, &path.key("protocol"), protocol))?,
        false => {
            for (number, protocol) in raw.protocols.iter().enumerate() {
                add(path, &protocols.index(number), protocol)?;
            }
        }
    }
    let mut services = services.into_iter();
    match services.next().and_then(Rc::into_inner) {
        Some(first) => Ok(Service { others: Some(services.collect()), ..first }),
        None => fail(path, "the module knows no protocol"),
    }
}

fn of_codec(path: &Path<'_>, authority: &str, raw: &raw::Service, codec: Rc<dyn Codec>) -> Result<Service> {
    let patterns = Patterns::default();
    let (routes, rules) = routes(&path.key("routes"), &raw.routes, &*codec, &patterns)?;
    let limit = raw.local_rate_limit.as_ref();
    let limit = limit
        .map(|raw| local_rate_limit(&path.key("localRateLimit"), raw, authority, &patterns))
        .transpose()?;
    let global = global_rate_limits(&path.key("globalRateLimits"), &raw.global_rate_limits, &patterns)?;
    let default_route = default_route(&path.key("defaultRoute"), &raw.default_route, &*codec)?;
    let clusters = clusters(&path.key("upstream"), &raw.upstream)?;
    let keys = || {
        routes.iter().map(|route| &**route).chain([&default_route]).filter_map(|route| route.hash.as_ref())
    };
    let hashed = keys().next().is_some();
    let read = || {
        let limited = limit.as_ref().map_or(&[][..], LocalRateLimit::rules);
        let asked = global.as_ref().map_or(&[][..], GlobalRateLimits::rules);
        let sent = global.iter().flat_map(GlobalRateLimits::attributes);
        let keys = keys().chain(clusters.iter().flat_map(|clusters| clusters.keys()));
        let tested = [&*rules, limited, asked].into_iter().flat_map(attributes);
        tested.chain(sent).chain(keys.flat_map(HashKey::attributes))
    };
    let depths = read().filter(|name| !is_source(name)).map(|attribute| codec.depth(attribute));
    let depth = depths.max().unwrap_or(Depth::Operation);
    let asks_source = read().any(is_source);
    let dry_run = raw.dry_run.as_ref();
    let dry_run = dry_run.map(|raw| dry_run::dry_run(&path.key("dryRun"), raw, &patterns)).transpose()?;

    let rejects = |route: &Rc<Route>| matches!(route.destination, Destination::Reject(_));
    let is_guarded =
        routes.iter().any(rejects) || matches!(default_route.destination, Destination::Reject(_));
    let guarded = if is_guarded { guard::depth(&rules) } else { Depth::Operation };

    Ok(Service {
        name: authority.to_owned(),
        pattern_bytes: patterns.bytes(),
        sharing: sharing(&path.key("upstream"), raw.upstream.sharing, &*codec)?,
        is_pinned: raw.upstream.sharing == Some(raw::UpstreamSharing::Pinned),
        codec,
        others: None,
        depth: depth.max(guarded),
        asks_source,
        is_guarded,
        dry_run: dry_run.map(Box::new),
        is_limited: limit.is_some() || global.is_some(),
        local_rate_limit: limit.map(Box::new),
        global_rate_limits: global.map(Box::new),
        on_no_match: raw.on_no_match,
        default_route: Rc::new(default_route),
        retry_budget: retry_budget(&path.key("retryBudget"), &raw.retry_budget)?,
        idle_timeout: raw.idle_timeout.limit(),
        stream_idle_timeout: raw.stream_idle_timeout.limit(),
        frame_timeout: raw.frame_timeout.limit(),
        limits: limits(&path.key("limits"), &raw.limits)?,
        upstream: upstream(&path.key("upstream"), &raw.upstream)?,
        clusters,
        asks_cluster: hashed,
        routes,
        guard: if is_guarded { Guard::new(&rules) } else { Guard::default() },
        index: Index::new(rules),
    })
}

/// The attributes that rules test.
pub(super) fn attributes(rules: &[Rule]) -> impl Iterator<Item = &str> {
    rules.iter().flat_map(|rule| &rule.predicates).map(|predicate| &*predicate.attribute)
}

fn codec(path: &Path<'_>, protocol: &str, codecs: &Codecs) -> Result<Rc<dyn Codec>> {
    if let Some(codec) = codecs.get(protocol) {
        return Ok(codec.clone());
    }
    let known: Vec<_> = codecs.names().map(|name| format!("{name:?}")).collect();
    fail(path, format!("unknown protocol {protocol:?}; this module knows {}", known.join(", ")))
}

fn routes(
    path: &Path<'_>,
    raw: &[raw::Route],
    codec: &dyn Codec,
    patterns: &Patterns,
) -> Result<(Vec<Rc<Route>>, Vec<Rule>)> {
    let mut routes = Vec::with_capacity(raw.len());
    let mut rules = Vec::with_capacity(raw.len());
    let mut names = FxHashMap::default();
    for (number, raw) in raw.iter().enumerate() {
        let path = &path.index(number);
        route_name(&path.key("name"), &raw.name, number, &mut names)?;
        let first = rules.len();
        matches(&path.key("match"), raw.matches.as_deref(), number, patterns, &mut rules)?;
        let own = rules.get(first..).unwrap_or_default();
        let actions = Actions {
            cluster: raw.cluster.as_deref(),
            weighted_clusters: raw.weighted_clusters.as_deref(),
            reject: raw.reject.as_ref(),
            timeout: raw.timeout,
            propagate_deadline: raw.propagate_deadline,
            retry: raw.retry.as_ref(),
            fault: raw.fault.as_ref(),
            hash_by: raw.hash_by.as_deref(),
            mirrors: &raw.mirrors,
            request_attachments: &raw.request_attachments,
            response_attachments: &raw.response_attachments,
        };
        let names_operation = own.iter().all(|rule| names_operation(rule, codec));
        routes.push(Rc::new(Route { names_operation, ..actions.route(path, &raw.name, codec)? }));
    }
    Ok((routes, rules))
}

/// Whether only one operation meets a rule.
fn names_operation(rule: &Rule, codec: &dyn Codec) -> bool {
    let Operation { service, method } = codec.operation();
    [service, method].iter().all(|name| {
        rule.predicates.iter().any(|predicate| {
            *predicate.attribute == **name && !predicate.invert && matches!(predicate.test, Test::Exact(_))
        })
    })
}

fn route_name<'a>(
    path: &Path<'_>,
    text: &'a str,
    number: usize,
    names: &mut FxHashMap<&'a str, usize>,
) -> Result<()> {
    name(path, "the name of a route", text)?;
    if text == DEFAULT {
        return fail(path, "\"default\" is the name of the default route; choose another");
    }
    match names.insert(text, number) {
        None => Ok(()),
        Some(first) => fail(path, format!("{text:?} is the name of routes[{first}] already; choose another")),
    }
}

fn default_route(path: &Path<'_>, raw: &raw::DefaultRoute, codec: &dyn Codec) -> Result<Route> {
    let actions = Actions {
        cluster: raw.cluster.as_deref(),
        weighted_clusters: raw.weighted_clusters.as_deref(),
        reject: raw.reject.as_ref(),
        timeout: raw.timeout,
        propagate_deadline: raw.propagate_deadline,
        retry: raw.retry.as_ref(),
        fault: raw.fault.as_ref(),
        hash_by: raw.hash_by.as_deref(),
        mirrors: &raw.mirrors,
        request_attachments: &raw.request_attachments,
        response_attachments: &raw.response_attachments,
    };
    actions.route(path, DEFAULT, codec)
}

/// Appends the rules of a route, one for each alternative.
pub(super) fn matches(
    path: &Path<'_>,
    raw: Option<&[raw::Match]>,
    route: usize,
    patterns: &Patterns,
    rules: &mut Vec<Rule>,
) -> Result<()> {
    let Some(raw) = raw else {
        rules.push(Rule { route, predicates: Box::default() });
        return Ok(());
    };
    if raw.is_empty() {
        return fail(path, "an empty list matches no call; leave \"match\" out to match every call");
    }
    for (number, raw) in raw.iter().enumerate() {
        let path = &path.index(number);
        if raw.attributes.is_empty() {
            let message = "names no attribute; leave \"match\" out to match every call";
            return fail(&path.key("attributes"), message);
        }
        let wanted = predicates(path, "attributes", &raw.attributes, false, patterns);
        let unwanted = predicates(path, "notAttributes", &raw.not_attributes, true, patterns);
        let predicates = wanted.chain(unwanted);
        rules.push(Rule { route, predicates: predicates.collect::<Result<_>>()? });
    }
    Ok(())
}

/// What `raw`, the field of a match, says of attributes: that they match, or that they do not.
fn predicates(
    path: &Path<'_>,
    field: &str,
    raw: &Table<raw::Matcher>,
    unwanted: bool,
    patterns: &Patterns,
) -> impl Iterator<Item = Result<Predicate>> {
    raw.iter().map(move |(attribute, raw)| {
        let path = &path.key(field);
        let path = &path.key(attribute);
        attribute_name(path, attribute)?;
        let invert = raw.invert != unwanted;
        Ok(Predicate { attribute: attribute.into(), test: test(path, attribute, raw, patterns)?, invert })
    })
}

/// Checks the name of an attribute that calls may have.
pub(super) fn attribute_name(path: &Path<'_>, attribute: &str) -> Result<()> {
    if attribute.is_empty() {
        return fail(path, "the name of an attribute is empty; name one");
    }
    if attribute.starts_with(source::PREFIX) && !source::ATTRIBUTES.contains(&attribute) {
        return source::unknown(path);
    }
    Ok(())
}

fn test(path: &Path<'_>, attribute: &str, raw: &raw::Matcher, patterns: &Patterns) -> Result<Test> {
    let part = |key: &str, text: &str| match text {
        "" => fail(&path.key(key), "every value has it; write \"present\": true"),
        text => Ok(Box::from(text)),
    };
    let exact = raw.exact.as_deref().map(|text| Ok(Test::Exact(text.into())));
    let prefix = raw.prefix.as_deref().map(|text| part("prefix", text).map(Test::Prefix));
    let suffix = raw.suffix.as_deref().map(|text| part("suffix", text).map(Test::Suffix));
    let contains = raw.contains.as_deref().map(|text| part("contains", text).map(Test::Contains));
    let regex = raw.regex.as_deref().map(|source| match patterns.get(source) {
        Ok(pattern) => Ok(Test::Regex(pattern)),
        Err(error) => fail(&path.key("regex"), error),
    });
    let range = raw.range.as_ref().map(|&raw::Range { start, end }| match start < end {
        true => Ok(Test::Range { start, end }),
        false => fail(
            &path.key("range"),
            format!("{start} to {end} is empty; \"end\" is the first integer after it"),
        ),
    });
    let cidr = (!raw.cidr.is_empty()).then(|| addresses(&path.key("cidr"), attribute, &raw.cidr));
    let present = raw.present.map(|present| Ok(Test::Present(present)));

    let mut tests = [exact, prefix, suffix, contains, regex, range, cidr, present].into_iter().flatten();
    let kinds = "exact, prefix, suffix, contains, regex, range, cidr, present";
    match (tests.next(), tests.next()) {
        (Some(test), None) => test,
        (None, _) => fail(path, format!("no matcher; write one of {kinds}")),
        (Some(_), Some(_)) => fail(path, format!("more than one matcher; keep one of {kinds}")),
    }
}

pub(super) fn no_block(text: &str) -> String {
    format!("{text:?} is no block of addresses; write one such as \"10.0.0.0/8\" or \"fd00::/8\"")
}

fn addresses(path: &Path<'_>, attribute: &str, blocks: &[String]) -> Result<Test> {
    if attribute != source::IP {
        return fail(path, format!("only {} is an address; write it there", source::IP));
    }
    let block = |(number, text): (usize, &String)| match Block::new(text) {
        Some(block) => Ok(block),
        None => fail(&path.index(number), no_block(text)),
    };
    Ok(Test::Address(blocks.iter().enumerate().map(block).collect::<Result<_>>()?))
}

fn retry_budget(path: &Path<'_>, raw: &raw::RetryBudget) -> Result<RetryBudget> {
    within(&path.key("percent"), raw.percent, 0, 100)?;
    Ok(RetryBudget { percent: raw.percent, min_retries: raw.min_retries })
}

fn limits(path: &Path<'_>, raw: &raw::Limits) -> Result<Limits> {
    let (least, most) = raw::Limits::BYTES.into_inner();
    let bytes = |name, bytes| within(&path.key(name), bytes, least, most);
    let max_frame_bytes = bytes("maxFrameBytes", raw.max_frame_bytes)?;
    let max_request_bytes = bytes("maxRequestBytes", raw.max_request_bytes)?;
    Ok(Limits {
        max_frame_bytes,
        max_request_bytes: max_request_bytes.min(max_frame_bytes),
        cut_through_bytes: {
            let (least, most) = raw::Limits::CUT_THROUGH.into_inner();
            within(&path.key("cutThroughBytes"), raw.cut_through_bytes, least, most)?
        },
        max_calls_per_connection: calls(path, raw.max_calls_per_connection)?,
    })
}

/// How calls of a protocol share connections, where the plan may want it otherwise.
fn sharing(path: &Path<'_>, wanted: Option<raw::UpstreamSharing>, codec: &dyn Codec) -> Result<Sharing> {
    match wanted {
        None | Some(raw::UpstreamSharing::Pinned) => Ok(codec.sharing()),
        Some(raw::UpstreamSharing::Shared) if codec.max_id() == 0 => fail(
            &path.key("sharing"),
            format!("{} has no request ids; write in-order, exclusive, or pinned", codec.name()),
        ),
        Some(raw::UpstreamSharing::Shared) => Ok(Sharing::Shared),
        Some(raw::UpstreamSharing::InOrder) => Ok(Sharing::InOrder),
        Some(raw::UpstreamSharing::Exclusive) => Ok(Sharing::Exclusive),
    }
}

fn upstream(path: &Path<'_>, raw: &raw::Upstream) -> Result<UpstreamOptions> {
    let connect_timeout = raw.connect_timeout.limit();
    Ok(UpstreamOptions {
        max_connection_age: raw.max_connection_age.limit(),
        connections_per_endpoint: within(
            &path.key("connectionsPerEndpoint"),
            raw.connections_per_endpoint,
            1,
            64,
        )?,
        connect_timeout: connect_timeout.ok_or_else(|| {
            error(&path.key("connectTimeout"), "no connection opens in no time; write at least \"1ms\"")
        })?,
        max_calls_per_connection: calls(path, raw.max_calls_per_connection)?,
        ejection_time: raw.ejection_time.limit(),
    })
}

fn calls(path: &Path<'_>, value: u32) -> Result<usize> {
    within(&path.key("maxCallsPerConnection"), value, 1, 1_000_000)
}

/// Checks a number against its bounds, both included.
pub(super) fn within(path: &Path<'_>, value: u32, low: u32, high: u32) -> Result<usize> {
    match usize::try_from(value) {
        Ok(size) if (low..=high).contains(&value) => Ok(size),
        _ => fail(path, format!("{value} is out of bounds; write {low} to {high}")),
    }
}

/// Checks a name that becomes part of HTTP headers and metrics.
pub(super) fn name(path: &Path<'_>, what: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        return fail(path, format!("{what} is empty; give one"));
    }
    if text.len() > MAX_NAME {
        return fail(path, format!("{what} has {} bytes; at most {MAX_NAME} are allowed", text.len()));
    }
    if text.chars().any(char::is_control) {
        return fail(
            path,
            format!("{what} has control characters, which HTTP headers cannot carry; remove them"),
        );
    }
    if text.trim() != text {
        return fail(
            path,
            format!("{what} starts or ends with a space, which HTTP headers cannot carry; remove it"),
        );
    }
    Ok(())
}
