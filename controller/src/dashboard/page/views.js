// The views: what each asks for, and how it is drawn.

import { bar, graph, heatMap, lines, short, spark, stacked, time } from "./charts.js";

const QUICK = 2000;
const SLOW = 5000;

/** An element with attributes and children; those that are null are left out. */
function h(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value != null) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

const share = (value) => (value == null ? "-" : `${(Math.floor(value * 1000) / 10).toFixed(1)} %`);
const rate = (value) => (value == null ? "-" : value.toFixed(1));
const link = (hash, text) => h("a", { href: hash }, text);
const to = (view, name) => `#/${view}/${encodeURIComponent(name)}`;

const counted = (count, one, many) => `${count} ${count === 1 ? one : many}`;

/** How each table is sorted, for as long as the page is open. */
const orders = new Map();
/** What is typed to find something. */
let wanted = "";

/** Another view is shown: nothing is looked for in it yet. */
export function forget() {
  wanted = "";
}

/**
 * A table whose columns sort it. `columns` are `{ title, value, cell, isNumber }`; the first is the name of the line.
 * `again` draws the view anew.
 */
function table(caption, columns, rows, again, empty = "nothing yet") {
  if (!rows.length) return h("p", { class: "note" }, `${caption}: ${empty}.`);
  const order = orders.get(caption) ?? { column: null, isDown: true };
  const column = columns.find(({ title }) => title === order.column);
  const sorted = [...rows];
  if (column) {
    const compare = (one, other) => {
      const [a, b] = [column.value(one), column.value(other)];
      if (a == null || b == null) return (a == null) - (b == null);
      return (typeof a === "number" ? a - b : String(a).localeCompare(String(b))) * (order.isDown ? -1 : 1);
    };
    sorted.sort(compare);
  }
  const sort = (title, isNumber) => () => {
    const now = orders.get(caption);
    orders.set(caption, { column: title, isDown: now?.column === title ? !now.isDown : Boolean(isNumber) });
    again();
  };
  const head = columns.map(({ title, isNumber, value }) => {
    const is = order.column === title;
    const name = value ? h("button", { type: "button", onclick: sort(title, isNumber) },
      `${title}${is ? (order.isDown ? " ▾" : " ▴") : ""}`) : title;
    const direction = is ? (order.isDown ? "descending" : "ascending") : null;
    return h("th", { scope: "col", class: isNumber ? "number" : null, "aria-sort": direction }, name);
  });
  const body = sorted.map((row) => h("tr", { "data-key": columns[0].value(row) }, columns.map(({ cell, value, isNumber, isClass }, at) =>
    h(at ? "td" : "th", { scope: at ? null : "row", class: isNumber ? "number" : isClass?.(row) }, cell ? cell(row) : value(row) ?? "-"))));
  return h("div", { class: "wide" }, h("table", {}, h("caption", {}, caption),
    h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}

const number = (title, key, format = rate) => ({ title, value: (row) => row[key], cell: (row) => format(row[key]), isNumber: true });

/** The columns of figures that `meltemi top` has too. */
const FIGURES = [
  number("Requests/s", "requestsPerSecond"),
  { ...number("Success", "success", share), cell: (row) => h("span", { class: row.success < 0.99 ? (row.success < 0.9 ? "bad" : "warn") : null }, share(row.success)) },
  number("p50", "p50Micros", time),
  number("p95", "p95Micros", time),
  number("p99", "p99Micros", time),
  number("Retries/s", "retriesPerSecond"),
  number("In flight", "inFlight", (value) => value ?? "-"),
];

/** A field to find lines by a part of their names. */
function finder(again) {
  const input = h("input", {
    type: "search", "aria-label": "Find by name", placeholder: "Find by name",
    oninput: (event) => { wanted = event.target.value.toLowerCase(); again(); },
  });
  input.value = wanted;
  return h("p", {}, input);
}
const isWanted = (...names) => names.some((name) => name?.toLowerCase().includes(wanted));

function overview(told, _, again) {
  const services = told.services.filter(({ service }) => isWanted(service));
  return [
    h("h2", {}, "Services"),
    finder(again),
    table("Calls by RPC service", [
      { title: "Service", value: ({ service }) => service, cell: ({ service }) => link(to("service", service), service) },
      { title: "Last minutes", cell: ({ requests }) => spark(requests) },
      ...FIGURES,
    ], services, again, told.times.length ? "no call was counted" : "counting"),
  ];
}

function stateOfOverview(told) {
  const down = told.proxies.filter((proxy) => proxy.down);
  const words = [counted(told.proxies.length, "proxy", "proxies")];
  if (down.length) words.push(`${down.length} not answering (${down[0].proxy}: ${down[0].down})`);
  if (told.leftOut) words.unshift(`${counted(told.leftOut, "series", "series")} left out: there are too many`);
  if (told.trouble) words.unshift(told.trouble);
  return `${words.join(", ")}.`;
}

const paceOfOverview = (told) => `${rate(told.retriesPerSecond)} retries/s, ${rate(told.ejectionsPerSecond)} ejections/s.`;

function service(told, name, again) {
  const { times } = told;
  const series = (names) => names.map(([key, title]) => ({ name: title, values: told[key] }));
  const servers = Object.entries(told.servers).map(([server, values]) => ({ name: server, values }));
  return [
    h("h2", {}, name),
    h("div", { class: "charts" },
      lines("Requests a second", times, series([["requests", "requests"], ["failures", "failed"], ["retries", "retried"]])),
      lines("How long answers take", times, series([["p50Micros", "p50"], ["p95Micros", "p95"], ["p99Micros", "p99"]]), time),
      heatMap("Answers by how long they take", times, told.bounds, told.heat),
      servers.length ? stacked("Answers a second by server", times, servers) : null),
    h("h3", {}, "Methods"),
    table("Calls by method", [{ title: "Method", value: ({ method }) => method }, ...FIGURES], told.methods, again),
    h("h3", {}, "Clients"),
    table("Requests by client", [{ title: "Client", value: ({ client }) => client }, number("Requests/s", "requestsPerSecond")],
      told.clients, again, "the proxies of servers know them, by mutual TLS"),
  ];
}

function calls(told, _, again) {
  const services = [...new Set([...told.clients, ...told.servers].map(({ service }) => service))].sort();
  const clients = [...new Set(told.clients.map(({ client }) => client))].sort();
  const servers = [...new Set(told.servers.map(({ server }) => server))].sort();
  const edges = [
    told.clients.map(({ client, service, requestsPerSecond }) => ({ from: client, to: service, rate: requestsPerSecond })),
    told.servers.map(({ server, service, requestsPerSecond }) => ({ from: service, to: server, rate: requestsPerSecond })),
  ];
  const known = services.length ? h("div", { class: "wide" }, graph("Who calls whom; the tables below say the same", [clients, services, servers], edges)) : null;
  return [
    h("h2", {}, "Who calls whom"),
    h("p", { class: "note" }, "Clients are known to the proxies of servers, and servers to those of clients, with mutual TLS."),
    known,
    h("h3", {}, "Clients"),
    table("Requests by client and service", [
      { title: "Client", value: ({ client }) => client },
      { title: "Service", value: ({ service }) => service, cell: ({ service }) => link(to("service", service), service) },
      number("Requests/s", "requestsPerSecond"),
    ], told.clients, again, "no proxy of a server knows a client"),
    h("h3", {}, "Servers"),
    table("Answers by service and server", [
      { title: "Server", value: ({ server }) => server },
      { title: "Service", value: ({ service }) => service, cell: ({ service }) => link(to("service", service), service) },
      number("Answers/s", "requestsPerSecond"),
    ], told.servers, again, "no proxy of a client knows a server"),
  ];
}

function managed(told, _, again) {
  return [
    h("h2", {}, "Routes"),
    h("p", { class: "note" }, "What the proxies have in their plans."),
    finder(again),
    table("Managed services", [
      { title: "Service", value: ({ authority }) => authority, cell: ({ authority }) => link(to("routes", authority), authority) },
      { title: "Protocol", value: ({ protocol }) => protocol },
      number("Routes", "routes", String),
      number("Proxies", "proxies", String),
      { title: "", value: ({ differs }) => (differs ? "proxies differ" : ""), isClass: () => "warn" },
      number("Calls/s", "callsPerSecond"),
    ], told.filter(({ authority }) => isWanted(authority)), again, "no plan manages one"),
  ];
}

/** A matcher of a plan in words: `method is sayHello`. */
function condition(attribute, matcher, isNot) {
  const words = Object.entries(matcher).filter(([kind]) => kind !== "invert").map(([kind, value]) => {
    if (kind === "exact") return `is ${value}`;
    if (kind === "present") return value ? "is there" : "is not there";
    if (kind === "range") return `from ${value.start} to before ${value.end}`;
    return `${kind} ${Array.isArray(value) ? value.join(" or ") : value}`;
  });
  return `${isNot !== Boolean(matcher.invert) ? "not: " : ""}${attribute} ${words.join(" and ")}`;
}

function conditions({ match, isDefault }) {
  if (!match?.length) return isDefault ? "all others" : "all";
  const each = (matchers, isNot) => Object.entries(matchers ?? {}).map(([attribute, matcher]) => condition(attribute, matcher, isNot));
  return match.map(({ attributes, notAttributes }) => [...each(attributes, false), ...each(notAttributes, true)].join(" and ") || "all").join(", or ");
}

function destination(route) {
  if (route.reject != null) return "refused";
  if (route.weightedClusters) return route.weightedClusters.map(({ cluster, weight }) => `${cluster} ${weight}`).join(", ");
  return route.cluster ?? "as the connection";
}

function routes(told, name, again) {
  const { entry, proxies, differs } = told.managed;
  const all = (entry.routes ?? []).map((route) => ({ ...route }));
  if (entry.onNoMatch !== "reject") all.push({ ...entry.defaultRoute, name: "default", isDefault: true });
  const total = Object.values(told.callsPerSecond).reduce((sum, value) => sum + value, 0);
  const known = ["name", "match", "cluster", "weightedClusters", "reject", "isDefault"];
  const calls = ({ name }) => (Object.hasOwn(told.callsPerSecond, name) ? told.callsPerSecond[name] : 0);
  const rest = Object.fromEntries(Object.entries(entry).filter(([key]) => !["routes", "defaultRoute"].includes(key)));
  return [
    h("h2", {}, name),
    h("p", { class: "note" }, `In ${counted(proxies.length, "proxy", "proxies")}${differs ? "; others have it in another form, see Proxies" : ""}. The first route that matches takes the call.`),
    table("Routes in their order", [
      { title: "Route", value: (route) => route.name },
      { title: "Matches", cell: (route) => h("code", {}, conditions(route)) },
      { title: "To", cell: (route) => h("code", {}, destination(route)) },
      { title: "Policies", cell: (route) => h("code", {}, Object.entries(route).filter(([key]) => !known.includes(key)).map(([key, value]) => `${key}: ${JSON.stringify(value)}`).join("; ")) },
      { title: "Calls/s", value: calls, cell: (route) => rate(calls(route)), isNumber: true },
      { title: "Share", value: calls, cell: (route) => h("span", {}, total ? bar(calls(route) / total) : null, ` ${share(total ? calls(route) / total : null)}`), isNumber: true },
    ], all, again),
    h("h3", {}, "The service"),
    h("p", {}, h("code", {}, JSON.stringify(rest, null, 1))),
  ];
}

function endpoints(told, _, again) {
  return [
    h("h2", {}, "Endpoints"),
    h("p", { class: "note" }, "The endpoints of the clusters that plans name, as Envoy knows them; all proxies together."),
    finder(again),
    table("Endpoints", [
      { title: "Endpoint", value: ({ address }) => address },
      { title: "Cluster", value: ({ cluster }) => cluster },
      { title: "State", value: ({ health }) => health, isClass: ({ health }) => (health === "healthy" ? "good" : "bad") },
      { title: "Zone", value: ({ zone }) => zone },
      number("Weight", "weight", String),
      number("Connections", "connections", String),
      number("Connect failures", "connectFailures", String),
      number("Proxies", "proxies", String),
    ], told.filter(({ address, cluster }) => isWanted(address, cluster)), again, "no cluster of a plan has one"),
  ];
}

const STATES = { inForce: "in force", unmanaged: "not managed", notLoaded: "not loaded" };
function proxies(told, _, again) {
  const classOf = ({ state }) => ({ inForce: "good", unmanaged: "faint", behind: "warn", stale: "warn" })[state] ?? "bad";
  return [
    h("h2", {}, "Proxies"),
    finder(again),
    table("Plans by proxy", [
      { title: "Proxy", value: ({ proxy }) => proxy },
      { title: "Plan", value: ({ plugin }) => plugin },
      { title: "State", value: ({ state }) => STATES[state] ?? state, isClass: classOf },
      { title: "Since", value: ({ since }) => since, cell: ({ since }) => (since ? new Date(since).toLocaleString() : "-") },
      number("Services", "services", (value) => value ?? "-"),
      { title: "Module", cell: ({ module }) => h("code", {}, module ? `${module.build ?? "?"} ${module.code.slice(0, 12)}` : "-") },
      { title: "Why", value: ({ why }) => why ?? "" },
    ], told.filter(({ proxy, plugin }) => isWanted(proxy, plugin)), again),
  ];
}

function resources(told, _, again) {
  if (!told) return [h("h2", {}, "Resources"), h("p", { class: "note" }, "Envoys of --admin have no resources: their plans are files.")];
  const classOf = ({ state }) => ({ accepted: "good", warnings: "warn", pending: "warn" })[state] ?? "bad";
  return [
    h("h2", {}, "Resources"),
    h("p", { class: "note" }, "What the controller says of each; meltemi validate names the lines of a file."),
    finder(again),
    table("Resources", [
      { title: "Name", value: ({ name }) => name },
      { title: "Namespace", value: ({ namespace }) => namespace },
      { title: "Kind", value: ({ kind }) => kind },
      { title: "State", value: ({ state }) => state, isClass: classOf },
      { title: "Message", value: ({ message }) => message },
    ], told.filter(({ name, namespace, kind }) => isWanted(name, namespace, kind)), again, "the cluster has none"),
  ];
}

const api = (path) => (of) => `/api/${path}${of == null ? "" : `/${encodeURIComponent(of)}`}`;

/** By the first part of the address; those of one thing end with a slash. */
export const views = {
  "": { title: "Services", path: api("overview"), draw: overview, state: stateOfOverview, pace: paceOfOverview, every: QUICK, under: "" },
  "service/": { title: "Service", path: api("calls"), draw: service, every: QUICK, under: "" },
  calls: { title: "Who calls whom", path: api("overview"), draw: calls, state: stateOfOverview, pace: paceOfOverview, every: QUICK },
  routes: { title: "Routes", path: api("services"), draw: managed, every: SLOW },
  "routes/": { title: "Routes", path: api("services"), draw: routes, every: QUICK },
  endpoints: { title: "Endpoints", path: api("endpoints"), draw: endpoints, every: SLOW },
  proxies: { title: "Proxies", path: api("proxies"), draw: proxies, every: SLOW },
  resources: { title: "Resources", path: api("resources"), draw: resources, every: SLOW },
};
