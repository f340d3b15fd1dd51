//! From the document to the plan: everything that cannot work is found here, with a word on what to write instead.
use std::rc::Rc;

use meltemi_codecs::{Codec, Codecs, Depth, Sharing};
use rustc_hash::FxHashMap;

use super::{
    AccessLog, IstioMetrics, Plan,
    actions::actions,
    check::{name, within},
    cluster::clusters,
    dry_run,
    error::{Path, Result, error, fail},
    global_rate_limit::{GlobalRateLimits, global_rate_limits},
    guard::{self, Guard, is_source},
    hash::HashKey,
    index::Index,
    json::Json,
    layout::layout,
    listed::Listed,
    log_format::{LogFormat, log_format},
    map::Map,
    matcher::Rule,
    matches::{attributes, matches, names_operation},
    parsing::pause,
    pattern::Patterns,
    rate_limit::{LocalRateLimit, local_rate_limit},
    raw,
    route::{Destination, Route},
    service::{Limits, RetryBudget, Service, UpstreamOptions},
    share::share,
    span::Span,
    table::Table,
    tap::{self, taps},
    tracing::{self, B3, TRACEPARENT, Tag, tells_trace},
};

/// The name of the route of the calls that no route matches.
pub(super) const DEFAULT: &str = "default";

/// The protocol that the first bytes of a connection tell.
pub(super) const AUTO: &str = "auto";

/// The `routes` of each service, in the order of the services, are those that were not read with it.
pub(super) async fn plan(raw: &raw::Plan, routes: &[Option<Vec<Json<'_>>>], codecs: &Codecs) -> Result<Plan> {
    let root = Path::Root;
    let metrics = root.key("metrics");
    let max_operations = within(&metrics.key("maxOperations"), raw.metrics.max_operations, 0, 100_000)?;
    let istio = raw.metrics.istio.as_ref().map(|raw| istio(&metrics.key("istio"), raw)).transpose()?;
    let max_calls = raw.max_calls.map(|most| within(&root.key("maxCalls"), most, 1, u32::MAX)).transpose()?;
    let memory_budget = within(&root.key("memoryBudgetBytes"), raw.memory_budget_bytes, 16 << 20, 3 << 30)?;

    let access_log =
        raw.access_log.as_ref().map(|raw| access_log(&root.key("accessLog"), raw)).transpose()?;
    let logged = raw.access_log.as_ref().and_then(|raw| raw.matches.as_deref());
    let log_format = access_log.as_ref().and_then(|log| log.format.as_ref());
    let log_format = log_format.filter(|format| format.is_kept);
    let tapping = &Patterns::default();
    taps(&root.key("taps"), &raw.taps, tapping)?;
    let all = Whole { is_bounded: max_calls.is_some(), logged, log_format, taps: &raw.taps, tapping };

    let declared = &protocols(&root.key("protocols"), &raw.protocols, codecs)?;
    let path = root.key("services");
    let mut services = Vec::new();
    for (number, (authority, raw)) in raw.services.iter().enumerate() {
        let written = routes.get(number).and_then(Option::as_deref);
        let listed = written.map_or(Listed::Made(&raw.routes), Listed::Written);
        let service = service(&path.key(authority), authority, (raw, listed), all, declared).await?;
        services.push((authority.into(), Rc::new(service)));
    }
    let unknown_authority = raw.unknown_authority;
    let max_calls = max_calls.unwrap_or(usize::MAX);
    let services = Map::new(services);
    Ok(Plan { max_operations, istio, access_log, memory_budget, max_calls, unknown_authority, services })
}

/// What the plan says for all of its services.
#[derive(Clone, Copy)]
struct Whole<'a> {
    /// It limits how many calls they have.
    is_bounded: bool,
    /// Their calls that may have lines in the log, where that is not all of them.
    logged: Option<&'a [raw::Match]>,
    /// How their lines are written, where they have attributes of calls.
    log_format: Option<&'a Rc<LogFormat>>,
    /// Their calls that are told of one by one.
    taps: &'a [raw::Tap],
    /// The expressions of these, which all services share: what looks on for a time takes none of a service's room.
    tapping: &'a Patterns,
}

fn access_log(path: &Path<'_>, raw: &raw::AccessLog) -> Result<AccessLog> {
    logged(path, raw.matches.as_deref(), &Patterns::default())?;
    let share = share(&path.key("percent"), raw.percent)?;
    let slower_than = raw.slower_than.map(Span::duration);
    let format = log_format(path, raw)?;
    if !raw.log && !raw.files && raw.fields.is_empty() {
        let message = "nobody is told of calls then; give \"files\" or \"fields\", or leave this out";
        return fail(&path.key("log"), message);
    }
    let (has_lines, has_files) = (raw.log, raw.files);
    Ok(AccessLog { errors: raw.errors, slower_than, share, has_lines, has_files, format })
}

/// The rules for the calls that may have lines in the log; each service has its own, as it reads calls by its protocol.
fn logged(path: &Path<'_>, raw: Option<&[raw::Match]>, patterns: &Patterns) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    if raw.is_some() {
        matches(&path.key("match"), raw, 0, patterns, &mut rules)?;
    }
    Ok(rules)
}

fn istio(path: &Path<'_>, raw: &raw::IstioMetrics) -> Result<IstioMetrics> {
    let exception_status = within(&path.key("exceptionStatus"), raw.exception_status, 0, 16)?;
    let max_series = within(&path.key("maxSeries"), raw.max_series, 1, 10_000)?;
    let exception_status = u32::try_from(exception_status).unwrap_or(0);
    Ok(IstioMetrics { exception_status, max_series, by_names: raw.by_names })
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

async fn service(
    path: &Path<'_>,
    authority: &str,
    (raw, listed): (&raw::Service, Listed<'_>),
    all: Whole<'_>,
    codecs: &Codecs,
) -> Result<Service> {
    name(path, "the authority of a service", authority)?;
    let at = &path.key("protocol");
    let protocols = path.key("protocols");
    let is_auto = raw.protocol == AUTO;
    // Those that its clients may speak, and where they are named.
    let spoken: Vec<(Path<'_>, &str)> = match (is_auto, &*raw.protocols) {
        (true, []) => codecs.names().map(|name| (*at, name)).collect(),
        (true, names) => {
            names.iter().enumerate().map(|(number, name)| (protocols.index(number), &**name)).collect()
        }
        (false, []) => vec![(*at, &*raw.protocol)],
        (false, _) => {
            let message = "is what \"auto\" may be; write that as \"protocol\", or remove this";
            return fail(&protocols, message);
        }
    };
    let mut services: Vec<Rc<Service>> = Vec::new();
    for (at, protocol) in spoken {
        let codec = codec(&at, protocol, codecs)?;
        if !is_auto && raw.tracing.is_some() && !tells_trace(&*codec) {
            let message = format!(
                "requests of {} do not say their trace; declare an attribute {TRACEPARENT:?} or {B3:?}, or leave it out",
                codec.name()
            );
            return fail(&path.key("tracing"), message);
        }
        if services.iter().any(|service| Rc::ptr_eq(&service.codec, &codec)) {
            return fail(&at, format!("{protocol:?} is in the list already; remove one of the two"));
        }
        services.push(Rc::new(of_codec(path, authority, (raw, listed), all, codec).await?));
    }
    let mut services = services.into_iter();
    match services.next().and_then(Rc::into_inner) {
        Some(first) => Ok(Service { others: is_auto.then(|| services.collect()), ..first }),
        None => fail(path, "the module knows no protocol"),
    }
}

/// The service in one protocol.
async fn of_codec(
    path: &Path<'_>,
    authority: &str,
    (raw, listed): (&raw::Service, Listed<'_>),
    all: Whole<'_>,
    codec: Rc<dyn Codec>,
) -> Result<Service> {
    let patterns = Patterns::default();
    // Of the protocols that "auto" may be, those whose calls may say their traces do.
    let tracing = raw.tracing.as_ref().filter(|_| tells_trace(&*codec));
    let tracing = tracing.map(|raw| tracing::tracing(&path.key("tracing"), raw, &*codec)).transpose()?;
    // Into some it cannot be written.
    let is_traced = tracing.is_some() && codec.carries_attachments();
    let (routes, rules) = routes(&path.key("routes"), listed, &*codec, is_traced, &patterns).await?;
    pause().await;
    let limit = raw.local_rate_limit.as_ref();
    let limit = limit
        .map(|raw| local_rate_limit(&path.key("localRateLimit"), raw, authority, &patterns))
        .transpose()?;
    let global = global_rate_limits(&path.key("globalRateLimits"), &raw.global_rate_limits, &patterns)?;
    let logged = logged(&Path::Root.key("accessLog"), all.logged, &patterns)?;
    let taps = taps(&Path::Root.key("taps"), all.taps, all.tapping)?;
    let default_route = actions(&path.key("defaultRoute"), &raw.default_route, DEFAULT, &*codec, is_traced)?;
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
        let told = tracing.iter().flat_map(|tracing| &tracing.tags).filter_map(Tag::attribute);
        let tested = [&*rules, limited, asked, &logged].into_iter().flat_map(attributes);
        tested.chain(sent).chain(keys.flat_map(HashKey::attributes)).chain(told)
    };
    let written = || all.log_format.iter().flat_map(|format| &format.attributes).map(|name| &**name);
    let depths =
        read().chain(written()).filter(|name| !is_source(name)).map(|attribute| codec.depth(attribute));
    let finds_trace = is_traced && codec.finds();
    let traced = match (&tracing, is_traced) {
        _ if finds_trace => Depth::Operation,
        (_, true) => Depth::Attachments,
        (Some(_), false) => Depth::Head,
        (None, false) => Depth::Operation,
    };
    let tapped = tap::read(&taps, &*codec);
    let asks_source = read().any(is_source) || tapped.asks_source;
    let dry_run = raw.dry_run.as_ref();
    let dry_run = dry_run.map(|raw| dry_run::dry_run(&path.key("dryRun"), raw, &patterns)).transpose()?;

    let rejects = |route: &Rc<Route>| matches!(route.destination, Destination::Reject(_));
    let is_guarded =
        routes.iter().any(rejects) || matches!(default_route.destination, Destination::Reject(_));
    let guarded = if is_guarded { guard::depth(&rules) } else { Depth::Operation };
    let depth = depths.fold(traced, Depth::max).max(guarded).max(tapped.depth);

    Ok(Service {
        name: authority.to_owned(),
        pattern_bytes: patterns.bytes(),
        sharing: sharing(&path.key("upstream"), raw.upstream.sharing, &*codec)?,
        is_pinned: raw.upstream.sharing == Some(raw::UpstreamSharing::Pinned),
        codec,
        others: None,
        depth,
        finds_trace: finds_trace && depth < Depth::Attachments,
        asks_source,
        is_guarded,
        dry_run: dry_run.map(Box::new),
        is_limited: limit.is_some() || global.is_some(),
        local_rate_limit: limit.map(Box::new),
        global_rate_limits: global.map(Box::new),
        logged: (!logged.is_empty()).then(|| Box::new(Index::new(logged))),
        log_format: all.log_format.cloned(),
        taps: (!taps.is_empty()).then(|| taps.into_boxed_slice()),
        on_no_match: raw.on_no_match,
        default_route: Rc::new(default_route),
        retry_budget: retry_budget(&path.key("retryBudget"), &raw.retry_budget)?,
        idle_timeout: raw.idle_timeout.limit(),
        stream_idle_timeout: raw.stream_idle_timeout.limit(),
        frame_timeout: raw.frame_timeout.limit(),
        limits: limits(&path.key("limits"), &raw.limits)?,
        upstream: upstream(&path.key("upstream"), &raw.upstream)?,
        asks_cluster: hashed || all.is_bounded || clusters.is_some(),
        clusters,
        tracing: tracing.map(Rc::new),
        routes,
        guard: if is_guarded { Guard::new(&rules) } else { Guard::default() },
        index: Index::new(rules),
    })
}

fn codec(path: &Path<'_>, protocol: &str, codecs: &Codecs) -> Result<Rc<dyn Codec>> {
    if let Some(codec) = codecs.get(protocol) {
        return Ok(codec.clone());
    }
    let known: Vec<_> = codecs.names().map(|name| format!("{name:?}")).collect();
    fail(path, format!("unknown protocol {protocol:?}; this module knows {}", known.join(", ")))
}

async fn routes(
    path: &Path<'_>,
    listed: Listed<'_>,
    codec: &dyn Codec,
    is_traced: bool,
    patterns: &Patterns,
) -> Result<(Vec<Rc<Route>>, Vec<Rule>)> {
    let mut routes = Vec::new();
    let mut rules = Vec::new();
    for part in listed.parts(path) {
        for raw in &*part? {
            let number = routes.len();
            let path = &path.index(number);
            route_name(&path.key("name"), &raw.name)?;
            let first = rules.len();
            matches(&path.key("match"), raw.matches.as_deref(), number, patterns, &mut rules)?;
            let own = rules.get(first..).unwrap_or_default();
            let names_operation = own.iter().all(|rule| names_operation(rule, codec));
            let route = actions(path, &raw.actions, &raw.name, codec, is_traced)?;
            routes.push(Rc::new(Route { names_operation, ..route }));
        }
        pause().await;
    }
    let mut names = FxHashMap::default();
    names.reserve(routes.len());
    for (number, route) in routes.iter().enumerate() {
        if let Some(first) = names.insert(&*route.name, number) {
            let message = format!("{:?} is the name of routes[{first}] already; choose another", route.name);
            return fail(&path.index(number).key("name"), message);
        }
    }
    Ok((routes, rules))
}

fn route_name(path: &Path<'_>, text: &str) -> Result<()> {
    name(path, "the name of a route", text)?;
    match text {
        DEFAULT => fail(path, "\"default\" is the name of the default route; choose another"),
        _ => Ok(()),
    }
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
