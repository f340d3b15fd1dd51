//! What the status of a resource says, made of the findings in it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::apply::Hold;
use crate::api::aeraki::Status;
use crate::findings::{Finding, Severity};
use crate::generate::Places;
use crate::words::shortened;

/// How long the message of a condition may be, by the schema of conditions.
const MAX_MESSAGE_LEN: usize = 32768;

/// What `Accepted` says of a resource, with the places behind it if there are any.
const IN_FORCE: &str = "in force";

/// The namespaces in which a resource is not in force yet, and why.
pub type Pending = BTreeMap<String, Hold>;

/// The status that findings make, and where the resource is in force and where not yet, given the status before: a
/// condition that stays keeps the time of its last change. What is in force stays so while proxies that came later get it.
pub fn status(
    findings: &[Finding],
    places: Option<&Places>,
    held: &Pending,
    generation: Option<i64>,
    before: Option<&Status>,
    now: Timestamp,
) -> Status {
    let errors = all_said(findings, Severity::Error);
    let neglected = all_said(findings, Severity::NotHonoured);
    let warnings = all_said(findings, Severity::Warning);
    let in_force = places.map_or(IN_FORCE.to_owned(), |places| format!("{IN_FORCE} {places}"));
    let accepted = match (errors.is_empty(), warnings.is_empty()) {
        (false, _) => ("False", "Invalid", errors.clone()),
        (true, false) => ("True", "AcceptedWithWarnings", format!("{in_force}; {warnings}")),
        (true, true) => ("True", "Accepted", in_force),
    };
    let honoured = match (errors.is_empty(), neglected.is_empty()) {
        (false, _) => ("False", "Invalid", "rejected".to_owned()),
        (true, false) => ("False", "NotHonoured", neglected),
        (true, true) => ("True", "Honoured", "every field is honoured".to_owned()),
    };
    let configured = "the mesh is configured for it";
    let programmed = match (errors.is_empty(), held.values().max()) {
        (false, _) => ("False", "Invalid", "rejected".to_owned()),
        (true, None) => ("True", "Programmed", configured.to_owned()),
        (true, Some(Hold::WarmUp)) if was_programmed(before, generation) => {
            ("True", "Programmed", format!("{configured}; {}", pending(held)))
        }
        (true, Some(worst)) => ("False", reason(worst), pending(held)),
    };
    let conditions = [("Accepted", accepted), ("Honoured", honoured), ("Programmed", programmed)]
        .into_iter()
        .map(|(type_, (status, reason, message))| {
            let then = before
                .and_then(|before| before.conditions.iter().find(|condition| condition.type_ == type_))
                .filter(|condition| condition.status == status);
            Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message: shortened(&message, MAX_MESSAGE_LEN),
                observed_generation: generation,
                last_transition_time: then
                    .map_or(Time(now), |condition| condition.last_transition_time.clone()),
            }
        })
        .collect();
    Status { observed_generation: generation, conditions }
}

/// Whether the mesh was configured for what people wrote last, and some proxy went by it.
fn was_programmed(before: Option<&Status>, generation: Option<i64>) -> bool {
    before.is_some_and(|before| {
        let is_true = |type_: &str| {
            before.conditions.iter().find(|condition| {
                condition.type_ == type_
                    && condition.status == "True"
                    && condition.observed_generation == generation
            })
        };
        let has_places = |accepted: &Condition| {
            accepted.message.strip_prefix(IN_FORCE).is_some_and(|places| places.starts_with(' '))
        };
        is_true("Programmed").is_some() && is_true("Accepted").is_some_and(has_places)
    })
}

fn reason(hold: &Hold) -> &'static str {
    match hold {
        Hold::WarmUp => "Pending",
        Hold::Failed(_) => "NotWritten",
    }
}

/// Where it is not in force yet, and why.
fn pending(held: &Pending) -> String {
    let mut by_why: BTreeMap<Reverse<&Hold>, Vec<&str>> = BTreeMap::new();
    for (namespace, hold) in held {
        by_why.entry(Reverse(hold)).or_default().push(namespace);
    }
    let of = |(Reverse(hold), namespaces): (Reverse<&Hold>, Vec<&str>)| {
        let why = match hold {
            Hold::WarmUp => "sidecars are given the time to fetch the module".to_owned(),
            Hold::Failed(None) => "objects there cannot be written, see the controller's log".to_owned(),
            Hold::Failed(Some(why)) => format!("objects there cannot be written: {why}"),
        };
        format!("not yet in {}: {why}", namespaces.join(", "))
    };
    Vec::from_iter(by_why.into_iter().map(of)).join("; ")
}

fn all_said(findings: &[Finding], severity: Severity) -> String {
    let of_severity = findings.iter().filter(|finding| finding.severity == severity);
    of_severity.map(said).collect::<Vec<_>>().join("; ")
}

/// A finding in words.
pub fn said(finding: &Finding) -> String {
    match finding.path.as_str() {
        "" => finding.message.clone(),
        path => format!("{path}: {}", finding.message),
    }
}

/// Whether two statuses say the same, at whatever generation and time.
pub fn is_same_news(before: Option<&Status>, now: &Status) -> bool {
    let says = |status: &Status| -> Vec<(String, String)> {
        status
            .conditions
            .iter()
            .map(|condition| (condition.reason.clone(), condition.message.clone()))
            .collect()
    };
    match before {
        Some(before) => says(before) == says(now),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, path: &str, message: &str) -> Finding {
        Finding { severity, path: path.to_owned(), message: message.to_owned() }
    }

    fn told(status: &Status) -> Vec<String> {
        status
            .conditions
            .iter()
            .map(|condition| {
                format!(
                    "{}={} {}: {}",
                    condition.type_, condition.status, condition.reason, condition.message
                )
            })
            .collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn findings_become_conditions() {
        let error = finding(Severity::Error, "spec.hosts", "is empty");
        let neglect = finding(Severity::NotHonoured, "spec.routes[0].mirror", "is not honoured yet");
        let warning = finding(Severity::Warning, "", "two routers");
        let fine = status(&[], None, &Pending::new(), Some(1), None, at(1));
        assert_eq!(
            told(&fine),
            [
                "Accepted=True Accepted: in force",
                "Honoured=True Honoured: every field is honoured",
                "Programmed=True Programmed: the mesh is configured for it"
            ]
        );
        assert_eq!(
            told(&status(&[neglect.clone(), warning.clone()], None, &Pending::new(), Some(1), None, at(1))),
            [
                "Accepted=True AcceptedWithWarnings: in force; two routers",
                "Honoured=False NotHonoured: spec.routes[0].mirror: is not honoured yet",
                "Programmed=True Programmed: the mesh is configured for it"
            ]
        );
        assert_eq!(
            told(&status(&[error, neglect], None, &Pending::new(), Some(1), None, at(1))),
            [
                "Accepted=False Invalid: spec.hosts: is empty",
                "Honoured=False Invalid: rejected",
                "Programmed=False Invalid: rejected"
            ]
        );
    }

    #[test]
    fn what_is_held_up_is_not_in_force_yet() {
        let held =
            |all: &[(&str, Hold)]| all.iter().map(|(name, why)| ((*name).to_owned(), why.clone())).collect();
        let told = |held: Pending| told(&status(&[], None, &held, Some(1), None, at(1))).pop().unwrap();
        assert_eq!(
            told(held(&[("shop", Hold::WarmUp), ("web", Hold::WarmUp)])),
            "Programmed=False Pending: not yet in shop, web: sidecars are given the time to fetch the module"
        );
        assert_eq!(
            told(held(&[("shop", Hold::WarmUp), ("web", Hold::Failed(None))])),
            "Programmed=False NotWritten: not yet in web: objects there cannot be written, see the controller's log; \
             not yet in shop: sidecars are given the time to fetch the module"
        );
        let quota = || Hold::Failed(Some("exceeded quota: small".into()));
        assert_eq!(
            told(held(&[("shop", quota()), ("web", Hold::Failed(None)), ("work", quota())])),
            "Programmed=False NotWritten: not yet in shop, work: objects there cannot be written: exceeded quota: small; \
             not yet in web: objects there cannot be written, see the controller's log"
        );
    }

    #[test]
    fn what_is_in_force_stays_so_while_more_proxies_get_it() {
        let held = |why| Pending::from([("web".to_owned(), why)]);
        let programmed = |why, generation, before: &Status| {
            let status =
                status(&[], Some(&Places::default()), &held(why), Some(generation), Some(before), at(9));
            let condition = &status.conditions[2];
            (condition.status.clone(), condition.last_transition_time.0, condition.message.clone())
        };
        let in_force = status(&[], Some(&Places::default()), &Pending::new(), Some(1), None, at(1));
        let (is_true, since, message) = programmed(Hold::WarmUp, 1, &in_force);
        assert_eq!((&*is_true, since), ("True", at(1)));
        assert!(message.starts_with("the mesh is configured for it; not yet in web: sidecars "), "{message}");
        let no =
            |why, generation, before: &Status| assert_eq!(programmed(why, generation, before).0, "False");
        no(Hold::WarmUp, 2, &in_force);
        no(Hold::Failed(None), 1, &in_force);
        no(
            Hold::WarmUp,
            1,
            &status(&[], Some(&Places::default()), &held(Hold::WarmUp), Some(1), None, at(1)),
        );
    }

    #[test]
    fn what_was_in_force_nowhere_is_not_in_force_before_its_proxies_have_it() {
        // A router that is exported to a namespace whose pods are injected later.
        let before = status(&[], None, &Pending::new(), Some(1), None, at(1));
        let places = Places::default();
        let held = Pending::from([("web".to_owned(), Hold::WarmUp)]);
        let now = status(&[], Some(&places), &held, Some(1), Some(&before), at(9));
        assert_eq!(
            told(&now).pop().unwrap(),
            "Programmed=False Pending: not yet in web: sidecars are given the time to fetch the module"
        );
    }

    #[test]
    fn a_condition_that_stays_keeps_its_time() {
        let before = status(&[], None, &Pending::new(), Some(1), None, at(1));
        assert_eq!(status(&[], None, &Pending::new(), Some(1), Some(&before), at(9)), before);
        let neglect = [finding(Severity::NotHonoured, "spec", "x")];
        let after = status(&neglect, None, &Pending::new(), Some(2), Some(&before), at(9));
        assert_eq!(after.conditions[0].last_transition_time, Time(at(1)));
        assert_eq!(after.conditions[1].last_transition_time, Time(at(9)));
        assert_eq!(after.conditions[0].observed_generation, Some(2));
        assert!(!is_same_news(Some(&before), &after));
        assert!(is_same_news(
            Some(&before),
            &status(&[], None, &Pending::new(), Some(2), Some(&before), at(9))
        ));
    }
}
