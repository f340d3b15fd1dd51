//! What is random about a run of the chaos and does not change in it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use meltemi_sockets::Options;
use serde_json::{Value, json};

use crate::dubbo::DubboWire;
use crate::http2::Habits;
use crate::random::Random;
use crate::toy::{NARROW, ORDERED, PIPELINED, WIDE};
use crate::wire::Wire;
use crate::world::{Ask, Setup};

/// A run's peers, plan and times.
#[derive(Debug)]
pub struct Scene {
    pub seed: u64,
    pub protocol: &'static str,
    pub attempts: u32,
    pub on: Vec<&'static str>,
    pub timeout: Option<u64>,
    pub per_try: Option<u64>,
    /// A second try is made after so many milliseconds, or after what so many percent of the calls take.
    pub hedge: Option<(u64, Option<u64>)>,
    pub endpoints: Vec<String>,
    pub is_split: bool,
    /// Nothing fails.
    pub is_calm: bool,
    /// Every message is small and every window is not.
    pub is_light: bool,
    /// Limits are small, and some clients mean harm.
    pub is_besieged: bool,
    /// The worker may close connections of its own accord.
    pub may_close: bool,
    pub goes_away: bool,
    /// Milliseconds in which calls are made and things go wrong.
    pub span: u64,
    pub delay: u64,
    pub idle: Option<u64>,
    pub age: u64,
    pub per_endpoint: u64,
    pub most_calls: u64,
    pub most_calls_of_client: u64,
    pub sets_attachments: bool,
    /// Half of the calls are held back for so many milliseconds.
    pub held: Option<u64>,
    /// A tenth of the calls is aborted.
    pub aborts: bool,
    /// So many calls pass at once, and as many in each tenth of a second.
    pub limit: Option<u32>,
    /// Endpoints are left out after so many failures in a row.
    pub detects: Option<u32>,
    /// So many calls may be in flight.
    pub breaker: Option<u32>,
    /// Endpoints get calls as often as they are chosen.
    pub keeps_weights: bool,
    /// Answers may say that they are the last on their connection.
    pub has_last: bool,
    /// Fewer calls may be in flight the longer answers take, and so many at least.
    pub adapts: Option<u32>,
    /// What is larger is passed on while it comes.
    pub cut_through: u64,
    /// A rate limit service is asked about most calls; whether they are refused when it does not answer.
    pub asks: Option<bool>,
    /// The first bytes of clients tell their protocol.
    pub is_mixed: bool,
    /// Half of the calls are copied to another cluster.
    pub has_mirror: bool,
    /// Calls of one method go to one endpoint.
    pub hashes: bool,
    /// So many calls may be in flight in all.
    pub most_in_flight: Option<u64>,
    /// Another worker takes the new clients at some time.
    pub is_superseded: bool,
}

impl Scene {
    pub fn new(seed: u64, random: &mut Random) -> Self {
        let protocol = *random.pick(&["dubbo", "dubbo", "dubbo", "wide", "narrow", "ordered", "pipelined"]);
        let is_besieged = random.chance(0.3);
        let is_calm = !is_besieged && random.chance(0.2);
        let retries = is_besieged || (!is_calm && random.chance(0.6));
        let mut on = Vec::new();
        if retries {
            on = vec!["connect-failure", "reset", "per-try-timeout", "status"];
            on.retain(|_| random.chance(0.7));
        }
        // What hoarders send is kept for the sake of a retry, and is lost with its connection.
        if is_besieged && random.chance(0.7) {
            on = vec!["connect-failure", "status"];
        }
        let times: &[u64] = if is_besieged { &[200, 1000] } else { &[20, 60, 200, 1000] };
        let timeout = (!is_calm && random.chance(0.5)).then(|| *random.pick(times));
        let per_try = (on.contains(&"per-try-timeout")).then(|| random.between(5..20));
        let goes_away = !is_calm && random.chance(0.07);
        let idle = (!is_calm && random.chance(0.1)).then(|| *random.pick(&[50, 500]));
        let mut scene = Self {
            seed,
            protocol,
            attempts: if on.is_empty() { 0 } else { 1 + random.below(4) as u32 },
            on,
            timeout,
            per_try,
            // Of the seed alone: all else of a run is as without.
            hedge: (seed % 3 == 1).then(|| (1 + seed / 3 % 12, seed.is_multiple_of(2).then_some(90))),
            endpoints: (1..=if is_besieged { 2 + random.below(2) } else { 1 + random.below(4) })
                .map(|n| format!("10.0.0.{n}:20880"))
                .collect(),
            is_split: !is_besieged && random.chance(0.3),
            is_calm,
            is_light: is_besieged || random.chance(0.5),
            is_besieged,
            may_close: idle.is_some() || goes_away,
            goes_away,
            span: *random.pick(if is_besieged { &[1000, 4000] } else { &[20, 200, 1000, 4000] }),
            delay: *random.pick(&[1000, 1000, 100_000, 1_000_000, 3_000_000]),
            idle,
            age: *random.pick(&[100, 1000, 60_000]),
            per_endpoint: *random.pick(&[1, 1, 2]),
            most_calls: *random.pick(if is_besieged { &[1, 2, 1024, 1024] } else { &[1, 3, 1024, 1024] }),
            most_calls_of_client: *random.pick(if is_besieged {
                &[3, 8, 8, 20]
            } else {
                &[1, 2, 4096, 4096]
            }),
            sets_attachments: protocol == "dubbo" && random.chance(0.3),
            held: (!is_calm && random.chance(0.2)).then(|| *random.pick(&[1, 20, 300])),
            aborts: !is_calm && random.chance(0.1),
            limit: (!is_calm && random.chance(0.1)).then(|| *random.pick(&[1, 20])),
            detects: (!is_calm && random.chance(0.2)).then(|| *random.pick(&[1, 3])),
            breaker: (!is_calm && random.chance(0.1)).then(|| *random.pick(&[1, 10])),
            keeps_weights: random.chance(0.2),
            has_last: random.chance(0.3),
            adapts: (!is_calm && seed % 5 == 2).then_some(1 + (seed / 5 % 4) as u32),
            cut_through: *random.pick(&[1024, 1024, 4096, 32 << 10, 256 << 20]),
            asks: (!is_calm && random.chance(0.2)).then(|| random.chance(0.5)),
            is_mixed: protocol == "dubbo" && !goes_away && random.chance(0.4),
            has_mirror: seed % 7 == 3,
            hashes: seed % 4 == 1,
            most_in_flight: (!is_calm && seed % 13 == 5).then_some(1 + seed / 13 % 9),
            is_superseded: !is_calm && !goes_away && seed % 17 == 6,
        };
        scene.may_close |= scene.is_superseded;
        scene.hedge = scene.hedge.filter(|(after, _)| {
            let ends = [scene.timeout, scene.per_try];
            !scene.on.is_empty() && ends.into_iter().flatten().all(|end| *after < end)
        });
        if scene.is_mixed {
            // What not every protocol has.
            scene.on.retain(|on| *on != "status");
            scene.sets_attachments = false;
        }
        scene.has_last &= protocol != "dubbo" && !scene.is_mixed;
        scene
    }

    pub fn wire(&self) -> Rc<dyn Wire> {
        match self.protocol {
            "dubbo" => Rc::new(DubboWire),
            "wide" => Rc::new(&WIDE),
            "narrow" => Rc::new(&NARROW),
            "pipelined" => Rc::new(&PIPELINED),
            _ => Rc::new(&ORDERED),
        }
    }

    pub fn plan(&self, has_policies: bool) -> Value {
        let mut route = json!({});
        if let Some(held) = self.held.filter(|_| has_policies) {
            route["fault"]["delay"] = json!({"percent": 50, "duration": format!("{held}ms")});
        }
        if self.aborts && has_policies {
            route["fault"]["abort"] = json!({"percent": 10});
        }
        if self.has_mirror && has_policies {
            route["mirrors"] = json!([{"cluster": "shadow", "percent": 50}]);
        }
        if self.is_split {
            route["weightedClusters"] =
                json!([{"cluster": "demo", "weight": 2}, {"cluster": "v2", "weight": 1}]);
        }
        if let Some(timeout) = self.timeout {
            route["timeout"] = json!(format!("{timeout}ms"));
        }
        if !self.on.is_empty() {
            route["retry"] = json!({
                "attempts": self.attempts,
                "on": self.on,
                "backoff": {"base": "3ms", "max": "20ms"},
            });
            if self.on.contains(&"status") {
                let statuses = if self.protocol == "dubbo" { json!([80, 100]) } else { json!([8]) };
                route["retry"]["statuses"] = statuses;
            }
            if let Some((after, percentile)) = self.hedge {
                route["retry"]["hedge"] = json!({"after": format!("{after}ms"), "percentile": percentile});
            }
            if let Some(per_try) = self.per_try {
                route["retry"]["perTryTimeout"] = json!(format!("{per_try}ms"));
            }
        }
        if self.sets_attachments {
            let values =
                json!({"via": "meltemi", "what": "%REQ(method)% %REQ(tag)%", "to": "%UPSTREAM_HOST%"});
            route["requestAttachments"] = json!({"set": values, "remove": ["secret"]});
            route["responseAttachments"] =
                json!({"set": {"by": "meltemi"}, "append": {"load": "%REQ(method)%"}});
        }
        let bucket = |most| json!({"maxTokens": most, "tokensPerFill": most, "fillInterval": "100ms"});
        let limit = self.limit.filter(|_| has_policies).map(|most| json!({"tokenBucket": bucket(most)}));
        let detection = self.detects.filter(|_| has_policies);
        let detection =
            detection.map(|most| json!({"consecutiveFailures": most, "baseEjectionTime": "50ms"}));
        let breaker = self.breaker.filter(|_| has_policies).map(|most| json!({"maxCalls": most}));
        let adaptive = self.adapts.filter(|_| has_policies).map(|least| {
            json!({
                "minConcurrency": least, "maxConcurrencyLimit": 20, "minRttCalcRequestCount": 3,
                "minRttCalcInterval": "100ms", "concurrencyUpdateInterval": "5ms",
            })
        });
        let asks = self.asks.filter(|_| has_policies);
        let asks = asks.map(|is_strict| {
            let names = if self.protocol == "dubbo" { ["method", "tag"] } else { ["method", "method"] };
            json!({
                "cluster": "limiter", "domain": "demo", "denyOnFailure": is_strict,
                "descriptors": names.map(|name| json!([{"key": name, "attribute": name}])),
            })
        });
        let mut service = json!({
            "protocol": if self.is_mixed { "auto" } else { self.protocol },
            "localRateLimit": limit,
            "globalRateLimits": asks.as_slice(),
            "defaultRoute": route,
            "idleTimeout": format!("{}ms", self.idle.unwrap_or(0)),
            "limits": {
                "maxCallsPerConnection": self.most_calls_of_client,
                "cutThroughBytes": self.cut_through,
            },
            "upstream": {
                "maxConnectionAge": format!("{}ms", self.age),
                "connectTimeout": "150ms",
                "connectionsPerEndpoint": self.per_endpoint,
                "maxCallsPerConnection": self.most_calls,
                "ejectionTime": "100ms",
                "keepWeights": self.keeps_weights && !self.hashes,
                "outlierDetection": detection,
                "circuitBreaker": breaker,
                "adaptiveConcurrency": adaptive,
            },
        });
        if self.hashes {
            service["upstream"]["hashBy"] = json!(["method"]);
        }
        let names = if self.is_mixed { &["demo", "mail", "beats"][..] } else { &["demo"] };
        let services: BTreeMap<_, _> = names.iter().map(|name| (*name, service.clone())).collect();
        json!({"services": services, "accessLog": {}, "maxCalls": self.most_in_flight})
    }

    pub fn setup(&self, random: &mut Random) -> Setup {
        let windows = |random: &mut Random| match self.is_light {
            true => 1 << 20,
            false => *random.pick(&[100, 5000, 65_535, 1 << 20]),
        };
        let habits = |random: &mut Random| Habits {
            window: windows(random),
            connection_window: *random.pick(&[65_535, (1 << 31) - 1]),
            is_erratic: random.chance(0.5),
        };
        let options = Options {
            receive_window_downstream: windows(random),
            receive_window_upstream: windows(random),
            ..Options::default()
        };
        Setup {
            seed: random.number(),
            wire: self.wire(),
            plan: self.plan(true),
            delay: self.delay,
            downstream: habits(random),
            upstream: habits(random),
            options,
            ..Setup::default()
        }
    }

    pub fn ask(&self, random: &mut Random) -> Ask {
        let most = match (self.is_light, random.chance(0.03)) {
            (false, true) => 100_000,
            (false, false) if random.chance(0.2) => 8000,
            _ => 300,
        };
        let mut ask = Ask::new(["echo", "sayHello", "find"][random.below(3)]).size(random.size(most));
        if self.protocol == "dubbo" && random.chance(0.3) {
            ask = ask.with("tag", "gray").with("secret", "x");
        }
        if random.chance(0.15) { ask.one_way() } else { ask }
    }

    /// No request waits for long in a window or behind others, and alarms can always be set.
    pub fn keeps_time(&self) -> bool {
        self.is_light
            && !self.is_besieged
            && !self.goes_away
            && self.most_calls_of_client > 2
            && !matches!(self.protocol, "ordered" | "pipelined")
    }

    pub fn in_span(&self, random: &mut Random) -> Duration {
        Duration::from_micros(random.between(0..self.span * 1000))
    }
}
