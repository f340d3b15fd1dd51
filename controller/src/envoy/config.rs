use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use serde_json::Value;

use super::Error;

/// An Envoy configuration that is moved before it is used: to other ports, to other files.
///
/// The shipped files stay the one source; what differs in a run is changed here.
#[derive(Debug, Clone, PartialEq)]
pub struct Config(Value);

impl From<Value> for Config {
    fn from(document: Value) -> Self {
        Self(document)
    }
}

impl Config {
    /// Reads a configuration in YAML or JSON. `name` is the file's, for errors.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with line and column.
    pub fn parse(name: &str, text: &str) -> Result<Self, Error> {
        let wrong = |error: serde_saphyr::Error| Error::Config { file: name.to_owned(), why: plain(&error) };
        serde_saphyr::from_str(text).map(Self).map_err(wrong)
    }

    /// The document.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// The document, to change what the methods do not.
    pub fn value_mut(&mut self) -> &mut Value {
        &mut self.0
    }

    /// The ports on which listeners and the admin interface accept connections.
    pub fn listen_ports(&self) -> Vec<u16> {
        let listeners = self.0["static_resources"]["listeners"].as_array();
        let owners = listeners.into_iter().flatten().chain(Some(&self.0["admin"]));
        owners.filter_map(|owner| port(&owner["address"]["socket_address"])).collect()
    }

    /// Replaces the port numbers of all socket addresses, for listeners and endpoints alike. Port 0 makes Envoy
    /// choose: [`Admin::listeners`](super::Admin::listeners) says what it chose.
    pub fn move_ports(&mut self, moves: &BTreeMap<u16, u16>) {
        each_mut(&mut self.0, &mut |value| {
            let Some(address) = value.get_mut("socket_address") else { return };
            if let Some(to) = port(address).and_then(|from| moves.get(&from)) {
                address["port_value"] = (*to).into();
            }
        });
    }

    /// Lets Envoy choose a port in the place of each [listening port](Self::listen_ports) that another program holds.
    /// Returns the ports that were given up. Envoy does not start if another program takes one of the others meanwhile.
    pub fn leave_taken_ports(&mut self) -> Vec<u16> {
        for listener in self.0["static_resources"]["listeners"].as_array_mut().into_iter().flatten() {
            if listener.get("address").is_some() {
                // By default two Envoys listen on one port happily, and each gets a part of the other's connections.
                listener["enable_reuse_port"] = false.into();
            }
        }
        let taken = |port: &u16| *port != 0 && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_err();
        let ports: Vec<u16> = self.listen_ports().into_iter().filter(taken).collect();
        self.move_ports(&ports.iter().map(|port| (*port, 0)).collect());
        ports
    }

    /// Lets Envoy choose every [listening port](Self::listen_ports).
    pub fn leave_all_ports(&mut self) {
        self.move_ports(&self.listen_ports().into_iter().map(|port| (port, 0)).collect());
    }

    /// Replaces the file name `from` by `to`. Returns how often it occurred.
    pub fn move_file(&mut self, from: &str, to: &Path) -> usize {
        let mut count = 0;
        each_mut(&mut self.0, &mut |value| {
            if value.as_str() == Some(from) {
                *value = to.to_string_lossy().into();
                count += 1;
            }
        });
        count
    }

    /// Writes it to `path`, as YAML.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let wrong = |error: serde_saphyr::ser::Error| Error::Config {
            file: path.display().to_string(),
            why: error.to_string(),
        };
        let text = serde_saphyr::to_string(&self.0).map_err(wrong)?;
        fs::write(path, text).map_err(Error::io("write", path))
    }
}

fn port(address: &Value) -> Option<u16> {
    address["port_value"].as_u64()?.try_into().ok()
}

/// Calls `change` with every value of the document, a parent before its children.
pub(super) fn each_mut(value: &mut Value, change: &mut dyn FnMut(&mut Value)) {
    change(value);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each_mut(item, change)),
        Value::Object(fields) => fields.values_mut().for_each(|field| each_mut(field, change)),
        _ => {}
    }
}

/// The error on one line, without the excerpt of the text.
fn plain(error: &serde_saphyr::Error) -> String {
    error.without_snippet().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 15000}}}
static_resources:
  listeners:
  - {name: a, address: {socket_address: {address: 127.0.0.1, port_value: 20880}}}
  - {name: b, internal_listener: {}}
  clusters:
  - {name: c, endpoints: [{address: {socket_address: {address: 127.0.0.1, port_value: 20881}}}]}
plan: {path: some/plan.yaml}
";

    #[test]
    fn ports_move_everywhere() {
        let mut config = Config::parse("test", TEXT).unwrap();
        assert_eq!(config.listen_ports(), [20880, 15000]);
        config.move_ports(&[(20880, 1), (20881, 2)].into());
        assert_eq!(config.listen_ports(), [1, 15000]);
        let endpoint = &config.value()["static_resources"]["clusters"][0]["endpoints"][0];
        assert_eq!(endpoint["address"]["socket_address"]["port_value"], 2);
        config.leave_all_ports();
        assert_eq!(config.listen_ports(), [0, 0]);
    }

    #[test]
    fn a_taken_port_is_left_to_envoy() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let held = holder.local_addr().unwrap().port();
        let mut config = Config::parse("test", TEXT).unwrap();
        config.move_ports(&[(20880, held), (15000, 0)].into());
        assert_eq!(config.leave_taken_ports(), [held]);
        assert_eq!(config.listen_ports(), [0, 0]);
        let listeners = &config.value()["static_resources"]["listeners"];
        assert_eq!(listeners[0]["enable_reuse_port"], false);
        assert!(listeners[1].get("enable_reuse_port").is_none(), "an internal listener has no port");
    }

    #[test]
    fn files_move() {
        let mut config = Config::parse("test", TEXT).unwrap();
        assert_eq!(config.move_file("some/plan.yaml", Path::new("/run/plan.yaml")), 1);
        assert_eq!(config.value()["plan"]["path"], "/run/plan.yaml");
    }

    #[test]
    fn errors_name_file_and_place() {
        let error = Config::parse("envoy.yaml", "a: [1,\nb: 2\n").unwrap_err().to_string();
        assert!(error.starts_with("envoy.yaml: ") && error.contains("line 1"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
