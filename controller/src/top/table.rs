//! The lines that are shown.

use std::cmp::Ordering;

use clap::ValueEnum;
use serde::Serialize;

use crate::traffic::Figures;

/// What there is a line for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Each service.
    #[default]
    Services,
    /// Each method.
    Methods,
    /// Each client of a service, by its identity; its servers' proxies know it.
    Clients,
    /// Each version of a service's servers; its clients' proxies know it.
    Versions,
    /// Each proxy.
    Proxies,
}

impl By {
    /// The one after it, round and round.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Services => Self::Methods,
            Self::Methods => Self::Clients,
            Self::Clients => Self::Versions,
            Self::Versions => Self::Proxies,
            Self::Proxies => Self::Services,
        }
    }

    /// What it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Methods => "methods",
            Self::Clients => "clients",
            Self::Versions => "versions",
            Self::Proxies => "proxies",
        }
    }
}

/// A column of numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Column {
    /// Requests a second.
    #[default]
    Requests,
    /// The share of answers that are of success.
    Success,
    /// The time that half of the answers took at most.
    P50,
    /// That of 95 in a hundred.
    P95,
    /// That of 99 in a hundred.
    P99,
    /// Retries a second.
    Retries,
    /// Calls that are not answered yet.
    InFlight,
    /// Endpoints left out a second.
    Ejections,
}

impl Column {
    /// All, from left to right.
    pub(super) const ALL: [Self; 8] = [
        Self::Requests,
        Self::Success,
        Self::P50,
        Self::P95,
        Self::P99,
        Self::Retries,
        Self::InFlight,
        Self::Ejections,
    ];

    /// The one to the right of it, round and round.
    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|column| *column == self).unwrap_or_default();
        Self::ALL.get(at + 1).copied().unwrap_or_default()
    }

    /// What is above it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Requests => "REQ/S",
            Self::Success => "SUCCESS",
            Self::P50 => "P50",
            Self::P95 => "P95",
            Self::P99 => "P99",
            Self::Retries => "RETRIES/S",
            Self::InFlight => "IN FLIGHT",
            Self::Ejections => "EJECTIONS/S",
        }
    }
}

/// A line: its names, and what is known of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proxy: Option<String>,
    pub(super) requests_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) success: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p50_micros: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p95_micros: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p99_micros: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retries_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) in_flight: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ejections_per_second: Option<f64>,
    /// The proxy does not answer, for this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) down: Option<String>,
}

impl Row {
    /// What is known of calls; the names are to be filled in.
    pub(super) fn of(figures: &Figures) -> Self {
        Self {
            requests_per_second: figures.requests,
            success: figures.success(),
            p50_micros: figures.quantile(0.5),
            p95_micros: figures.quantile(0.95),
            p99_micros: figures.quantile(0.99),
            retries_per_second: Some(figures.retries),
            in_flight: Some(figures.in_flight),
            ..Self::default()
        }
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        [&self.service, &self.method, &self.client, &self.server, &self.proxy].into_iter().flatten()
    }

    /// Whether one of its names has the text, in whatever case.
    pub(super) fn has(&self, text: &str) -> bool {
        self.names().any(|name| name.to_lowercase().contains(&text.to_lowercase()))
    }

    /// The number of a column.
    fn number(&self, column: Column) -> Option<f64> {
        match column {
            Column::Requests => self.down.is_none().then_some(self.requests_per_second),
            Column::Success => self.success,
            Column::P50 => self.p50_micros,
            Column::P95 => self.p95_micros,
            Column::P99 => self.p99_micros,
            Column::Retries => self.retries_per_second,
            Column::InFlight => self.in_flight.map(|calls| calls as f64),
            Column::Ejections => self.ejections_per_second,
        }
    }

    fn cell(&self, column: Column) -> String {
        let Some(number) = self.number(column) else { return "-".to_owned() };
        match column {
            Column::Success => format!("{:.1} %", floor_tenth(number * 100.0)),
            Column::P50 | Column::P95 | Column::P99 => time(number),
            Column::InFlight => format!("{number:.0}"),
            _ => format!("{number:.1}"),
        }
    }
}

/// A share never looks fuller than it is: 99.96 % is not all.
fn floor_tenth(number: f64) -> f64 {
    (number * 10.0).floor() / 10.0
}

pub(crate) fn time(micros: f64) -> String {
    match micros {
        ..1000.0 => format!("{micros:.0} us"),
        1000.0..100_000.0 => format!("{:.1} ms", micros / 1000.0),
        100_000.0..1_000_000.0 => format!("{:.0} ms", micros / 1000.0),
        _ => format!("{:.1} s", micros / 1_000_000.0),
    }
}

/// The lines, in their order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    by: By,
    pub(crate) rows: Vec<Row>,
}

impl Table {
    /// Puts the lines in order: by a column, the largest or the smallest first, and by name where that is the same. What is
    /// not known is last.
    pub(super) fn new(by: By, mut rows: Vec<Row>, sort: Column, is_ascending: bool) -> Self {
        rows.sort_by(|one, other| {
            let order = match (one.number(sort), other.number(sort)) {
                (Some(one), Some(other)) if is_ascending => one.total_cmp(&other),
                (Some(one), Some(other)) => other.total_cmp(&one),
                (one, other) => other.is_some().cmp(&one.is_some()),
            };
            order.then_with(|| one.names().cmp(other.names())).then(Ordering::Equal)
        });
        Self { by, rows }
    }

    /// What is above the names.
    fn name_titles(&self) -> &'static [&'static str] {
        match self.by {
            By::Services => &["SERVICE"],
            By::Methods => &["SERVICE", "METHOD"],
            By::Clients => &["SERVICE", "CLIENT"],
            By::Versions => &["SERVICE", "SERVER"],
            By::Proxies => &["PROXY"],
        }
    }

    /// The columns of numbers that it has.
    pub(super) fn columns(&self) -> &'static [Column] {
        match self.by {
            By::Clients | By::Versions => &[Column::Requests],
            By::Services | By::Methods => Column::ALL.split_last().map_or(&[], |(_, columns)| columns),
            By::Proxies => &Column::ALL,
        }
    }

    /// What is above all columns.
    pub(super) fn titles(&self) -> Vec<&'static str> {
        self.name_titles().iter().copied().chain(self.columns().iter().map(|column| column.title())).collect()
    }

    /// What is in each column of a line.
    pub(super) fn cells(&self, row: &Row) -> Vec<String> {
        let names = row.names().map(|name| crate::plain::Plain(name).to_string());
        names.chain(self.columns().iter().map(|column| row.cell(*column))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(service: &str, requests: f64, success: Option<f64>) -> Row {
        let service = Some(service.to_owned());
        Row { service, requests_per_second: requests, success, ..Row::default() }
    }

    #[test]
    fn lines_are_sorted_and_what_is_not_known_is_last() {
        let rows = vec![
            row("a", 1.0, None),
            row("b", 3.0, Some(0.5)),
            row("c", 2.0, Some(0.9996)),
            row("d", 2.0, None),
        ];
        let order = |sort, is_ascending| -> String {
            let table = Table::new(By::Services, rows.clone(), sort, is_ascending);
            table.rows.iter().filter_map(|row| row.service.clone()).collect()
        };
        assert_eq!(order(Column::Requests, false), "bcda");
        assert_eq!(order(Column::Requests, true), "acdb");
        assert_eq!(order(Column::Success, true), "bcad");
        let table = Table::new(By::Services, rows.clone(), Column::Requests, false);
        assert_eq!(table.titles()[..3], ["SERVICE", "REQ/S", "SUCCESS"]);
        assert_eq!(table.cells(&rows[2])[..4], ["c", "2.0", "99.9 %", "-"]);
    }

    #[test]
    fn times_are_written_in_their_unit() {
        for (micros, text) in
            [(12.4, "12 us"), (1500.0, "1.5 ms"), (250_000.0, "250 ms"), (2_500_000.0, "2.5 s")]
        {
            assert_eq!(time(micros), text);
        }
    }
}
