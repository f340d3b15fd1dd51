//! Whether a server can only understand a request as its head reports it, so that calls can be denied by that.
//!
//! The front of a request names service and method, but Dubbo's servers use the attachments `path` and `version` where
//! those say something else, and of an attachment that occurs twice by the last. They find a service by one string,
//! `group/path:version:port`, which several groups, paths and versions may make.
use super::front::Front;
use super::{FRONT, descriptor, generic};
use crate::Head;

/// What a server finds a service by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service<'a> {
    pub(super) path: &'a str,
    pub(super) version: &'a str,
    pub(super) group: &'a str,
}

/// Listens to the attachments of a request.
pub(super) struct Check<'a> {
    front: &'a Front<'a>,
    has_path: bool,
    /// The attachment `interface` says something else than the front.
    has_other_interface: bool,
    group: Option<String>,
    count: usize,
}

impl<'a> Check<'a> {
    /// `None` when the front does not say what is called.
    pub(super) fn new(front: &'a Front<'a>) -> Option<Self> {
        let is_sure = front.path.as_deref().is_some_and(is_simple)
            && front.method.is_some()
            && front.version.as_deref().is_none_or(|version| is_simple(version) && version != ANY)
            && descriptor::are_proper(front.types()?);
        is_sure.then_some(Self { front, has_path: false, has_other_interface: false, group: None, count: 0 })
    }

    /// What servers find the service by, once all attachments were admitted.
    pub(super) fn service(&self) -> Service<'_> {
        Service {
            path: self.front.path.as_deref().unwrap_or_default(),
            version: self.front.version.as_deref().unwrap_or_default(),
            group: self.group.as_deref().unwrap_or_default(),
        }
    }

    /// Adds an attachment to `head`; whether it leaves no doubt. A `value` that is no text is `None`.
    pub(super) fn admit(&mut self, head: &mut Head, name: &str, value: Option<&str>) -> bool {
        self.count = self.count.saturating_add(1);
        let path = self.front.path.as_deref();
        let agrees = match name {
            "path" => {
                self.has_path = true;
                value == path
            }
            "version" => {
                let front = self.front.version.as_deref().unwrap_or_default();
                value != Some(ANY) && service_version(value.unwrap_or_default()) == service_version(front)
            }
            "group" => {
                self.group = value.map(str::to_owned);
                value.is_none_or(|group| is_simple(group) && group != ANY)
            }
            "generic" => !self.front.is_generic() || generic::keeps_number(value.unwrap_or_default()),
            "interface" => {
                self.has_other_interface |= value != path;
                true
            }
            _ => true,
        };
        if !agrees || self.count > Head::MOST_ATTACHMENTS || head.has_attachment(name) {
            return false;
        }
        if let Some(value) = value.filter(|_| !FRONT.contains(&name)) {
            head.push_attachment(name, value);
        }
        true
    }

    /// Whether no doubt is left after the last attachment. A service's path may differ from its interface, and servers
    /// that use the interface do so only without a path.
    pub(super) fn is_sure(&self) -> bool {
        self.has_path || !self.has_other_interface
    }
}

/// Whether a generic call runs the method of that name, and not what is left of it without the spaces at its ends.
pub(super) fn is_trimmed(method: &str) -> bool {
    method.trim_matches(|c| c <= ' ') == method
}

/// The version that means any, or none.
const ANY: &str = "*";

/// A service's version, of which there are several ways to say that there is none.
pub(super) fn service_version(text: &str) -> &str {
    match text {
        "0.0.0" | ANY => "",
        version => version,
    }
}

/// Whether a part of a service's name leaves no doubt where it ends.
fn is_simple(part: &str) -> bool {
    !part.contains([':', '/'])
}
