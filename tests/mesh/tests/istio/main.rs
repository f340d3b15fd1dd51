//! Meltemi in a real mesh: the controller, the module that it has agents fetch, and what both make of the objects that
//! people write.
//!
//! What Istio does that explains them: Envoy looks for the endpoints of a service by chance, one worker apart from the
//! other, and again with each renewal of its connections, within a minute. A port whose `appProtocol` Istio does not know,
//! such as `meltemi.io/dubbo`, has HTTP detected on it, by filters that only Istio's own build of Envoy has: the ports
//! here are named. istiod gives a ServiceEntry without addresses one in its status, and yet sidecars listen on 0.0.0.0.
//!
//! One mesh serves all tests, one after the other. It stays as [`stage`] made it, but for what a test applies, which the
//! next one finds removed.

mod access_log;
mod apache_dubbo;
mod arrival;
mod authorization;
mod calls;
mod changes;
mod controller;
mod delivery;
mod demonstrations;
mod destination_rules;
mod detection;
mod gateway;
mod many_routes;
mod metrics;
mod older_envoy;
mod permissive;
mod policies;
mod private_protocol;
mod protocols;
mod redis;
mod resources;
mod samples;
mod shapes;
mod shell;
mod stage;
mod tenants;
mod tracing;
mod tries;
mod upgrade;
mod walk_through;
mod weights;
mod without_module;
