//! Outlier detection: whether the calls of an endpoint fail so often that it is to be left out for a time.

use core::time::Duration;

use crate::clock::Instant;
use crate::plan::{OutlierDetection, SuccessRate};

/// What is kept of one endpoint's calls.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Failures since the last success.
    in_a_row: u32,
    /// Calls and failures of the interval that began then.
    interval: Option<(Instant, u32, u32)>,
    /// Calls and failures of the interval of all endpoints, where they are compared.
    compared: (u32, u32),
    /// When the first call was sent that was given up, of those since the last success.
    silent_since: Option<Instant>,
    /// The last time that it was left out.
    ejection: Option<Ejection>,
}

#[derive(Debug, Clone, Copy)]
struct Ejection {
    until: Instant,
    /// How long it was.
    time: Duration,
    is_over: bool,
}

impl Health {
    /// Notes that a call has ended, and whether it `failed`; whether the endpoint is to be left out.
    pub(crate) fn note(&mut self, failed: bool, rule: &OutlierDetection, now: Instant) -> bool {
        self.in_a_row = if failed { self.in_a_row.saturating_add(1) } else { 0 };
        self.silent_since = self.silent_since.filter(|_| failed);
        let is_in_a_row = rule.consecutive_failures.is_some_and(|most| self.in_a_row >= most);
        let (began, calls, failures) = match self.interval {
            Some(interval) if now < interval.0.after(rule.interval) => interval,
            _ => (now, 0, 0),
        };
        let (calls, failures) = (calls.saturating_add(1), failures.saturating_add(u32::from(failed)));
        self.interval = Some((began, calls, failures));
        if rule.success_rate.is_some() {
            let (calls, failures) = self.compared;
            self.compared = (calls.saturating_add(1), failures.saturating_add(u32::from(failed)));
        }
        let share = |percent: u32| {
            u64::from(failures).saturating_mul(100) >= u64::from(calls).saturating_mul(u64::from(percent))
        };
        let is_too_often = calls >= rule.min_calls && rule.failure_percent.is_some_and(share);
        failed && (is_in_a_row || is_too_often)
    }

    /// Notes that a call was given up which was sent then, as a second try of it was answered: whether there has been no success
    /// for `time`.
    pub(crate) fn gave_up(&mut self, sent: Instant, time: Duration, now: Instant) -> bool {
        self.silent_since.get_or_insert(sent).after(time) <= now
    }

    /// How many of its calls have succeeded since that was asked last, of one, if they were enough to tell.
    pub(crate) fn take_rate(&mut self, rule: &SuccessRate) -> Option<f64> {
        let (calls, failures) = core::mem::take(&mut self.compared);
        let succeeded = f64::from(calls.saturating_sub(failures));
        (calls >= rule.request_volume).then(|| succeeded / f64::from(calls))
    }

    /// Leaves it out for a time, longer than the last one unless that is as long ago as it took; until when.
    pub(crate) fn eject(&mut self, rule: &OutlierDetection, now: Instant) -> Instant {
        let again = self.ejection.filter(|last| now < last.until.after(last.time));
        let time = again.map_or(Duration::ZERO, |last| last.time).saturating_add(rule.base_ejection_time);
        let time = time.min(rule.max_ejection_time);
        let until = now.after(time);
        *self = Self { ejection: Some(Ejection { until, time, is_over: false }), ..Self::default() };
        until
    }

    /// Until when it is left out, if it is.
    pub(crate) fn ejected_until(&self) -> Option<Instant> {
        self.ejection.filter(|ejection| !ejection.is_over).map(|ejection| ejection.until)
    }

    /// Whether it is left out.
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected_until().is_some()
    }

    /// It takes part again.
    pub(crate) fn readmit(&mut self) {
        if let Some(ejection) = &mut self.ejection {
            ejection.is_over = true;
        }
    }
}

/// Under which rate an endpoint is left out, if the `rates` of all are enough to tell: so many deviations under their mean.
pub(crate) fn least_rate(rates: &[f64], rule: &SuccessRate) -> Option<f64> {
    if rates.len() < rule.minimum_hosts {
        return None;
    }
    // Exact: nobody has so many endpoints.
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let variance = rates.iter().map(|rate| (rate - mean) * (rate - mean)).sum::<f64>() / count;
    // Less a little, for equals are not quite so when their mean is rounded.
    Some(mean - variance.sqrt() * f64::from(rule.stdev_factor) / 1000.0 - 1e-12)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: OutlierDetection = OutlierDetection {
        consecutive_failures: Some(3),
        failure_percent: Some(50),
        min_calls: 10,
        success_rate: None,
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(70),
        max_ejection_percent: 10,
        min_health_percent: 0,
    };

    fn at(seconds: u64) -> Instant {
        Instant::default().after(Duration::from_secs(seconds))
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_forgives() {
        let mut health = Health::default();
        let noted = [true, true, false, true, true, true].map(|failed| health.note(failed, &RULE, at(0)));
        assert_eq!(noted, [false, false, false, false, false, true]);
        let any = OutlierDetection { consecutive_failures: None, failure_percent: None, ..RULE };
        assert!((0..100).all(|_| !health.note(true, &any, at(0))));
    }

    #[test]
    fn calls_that_are_given_up_are_failures_once_there_was_no_success_for_long() {
        let (mut health, long) = (Health::default(), Duration::from_secs(5));
        let mut gave_up = |second| health.gave_up(at(second), long, at(second));
        assert_eq!([0, 4, 5, 6].map(&mut gave_up), [false, false, true, true]);
        health.note(true, &RULE, at(6));
        assert!(health.gave_up(at(7), long, at(7)));
        health.note(false, &RULE, at(7));
        assert_eq!(
            [8, 12, 13].map(|second| health.gave_up(at(second), long, at(second))),
            [false, false, true]
        );
    }

    #[test]
    fn a_share_of_the_calls_of_an_interval_ejects() {
        let rule = OutlierDetection { consecutive_failures: None, ..RULE };
        let mut health = Health::default();
        let mut noted = |failed, second| health.note(failed, &rule, at(second));
        for second in 0..9 {
            assert!(!noted(second % 2 == 0, second));
        }
        assert!(noted(true, 9), "six of ten");
        for second in 10..19 {
            assert!(!noted(true, second), "another interval, and too few calls to tell");
        }
        assert!(noted(true, 19));
        assert!((0..9).all(|_| !noted(false, 20)));
        assert!(!noted(true, 20), "one of ten");
    }

    #[test]
    fn one_rate_is_far_under_the_mean_of_the_others() {
        let rule = SuccessRate { stdev_factor: 1900, minimum_hosts: 5, request_volume: 100 };
        assert_eq!(least_rate(&[1.0, 1.0, 1.0, 0.0], &rule), None, "too few");
        let least = least_rate(&[1.0, 1.0, 1.0, 1.0, 0.5], &rule).unwrap();
        // A mean of 0.9, and a deviation of 0.2.
        assert!((least - 0.52).abs() < 1e-9, "{least}");
        for stdev_factor in [1, 900, 1900] {
            let rule = SuccessRate { stdev_factor, ..rule };
            assert!(least_rate(&[0.3; 7], &rule).unwrap() <= 0.3, "equals are never under it");
        }
    }

    #[test]
    fn rates_are_those_of_an_interval_with_enough_calls() {
        let success_rate = SuccessRate { stdev_factor: 1900, minimum_hosts: 5, request_volume: 10 };
        let rule = OutlierDetection {
            consecutive_failures: None,
            failure_percent: None,
            success_rate: Some(success_rate),
            ..RULE
        };
        let mut health = Health::default();
        (0..10).for_each(|n| assert!(!health.note(n < 4, &rule, at(0))));
        assert_eq!(health.take_rate(&success_rate), Some(0.6));
        (0..9).for_each(|_| _ = health.note(false, &rule, at(0)));
        assert_eq!(health.take_rate(&success_rate), None);
        assert_eq!(health.take_rate(&success_rate), None);
    }

    #[test]
    fn ejections_grow_until_it_was_well_for_as_long() {
        let mut health = Health::default();
        assert_eq!(health.ejected_until(), None);
        let mut ejected = |second| health.eject(&RULE, at(second));
        let untils = [0, 30, 91, 162, 1000].map(&mut ejected);
        assert_eq!(untils, [30, 90, 161, 232, 1030].map(at));
        assert_eq!(health.ejected_until(), Some(at(1030)));
        health.readmit();
        assert_eq!(health.ejected_until(), None);
    }
}
