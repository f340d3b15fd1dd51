//! What the user looks at, and what keys make of it.

use std::collections::BTreeMap;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::table::{By, Column, Row, Table};
use crate::traffic::{Figures, Seen};

/// What is shown, and how.
#[derive(Debug, Clone)]
pub(crate) struct View {
    by: By,
    sort: Column,
    is_ascending: bool,
    filter: String,
    /// The filter is being written.
    pub(super) is_filtering: bool,
    /// Just this service, or just this proxy.
    service: Option<String>,
    proxy: Option<String>,
    /// Where the user came from.
    before: Vec<(By, Option<String>, Option<String>)>,
    /// The line that is chosen.
    pub(super) chosen: usize,
    /// Nothing moves.
    pub(super) is_paused: bool,
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Look,
    Leave,
}

impl View {
    /// All services, methods and so on whose names have the filter in them.
    pub(super) fn new(by: By, sort: Column, filter: String) -> Self {
        Self {
            by,
            sort,
            is_ascending: false,
            filter,
            is_filtering: false,
            service: None,
            proxy: None,
            before: Vec::new(),
            chosen: 0,
            is_paused: false,
        }
    }

    /// All of it, or all of one service.
    pub(crate) fn of(by: By, sort: Column, service: Option<&str>) -> Self {
        Self { service: service.map(str::to_owned), ..Self::new(by, sort, String::new()) }
    }

    /// What it is of, in a few words.
    pub(super) fn title(&self) -> String {
        let order = if self.is_ascending { ", smallest first" } else { "" };
        let mut title = format!("{} by {}{order}", self.by.name(), self.sort.title());
        for within in [&self.service, &self.proxy].into_iter().flatten() {
            title.push_str(&format!(" of {within}"));
        }
        if !self.filter.is_empty() || self.is_filtering {
            title.push_str(&format!(" /{}", self.filter));
        }
        title
    }

    /// The lines of what is known now.
    pub(crate) fn table(&self, all: &[Seen]) -> Table {
        let is_wanted = |seen: &&Seen| self.proxy.as_ref().is_none_or(|proxy| seen.proxy == *proxy);
        let seen = || all.iter().filter(is_wanted);
        let mut rows = match self.by {
            By::Services => self.methods(seen(), |service, _| (service.clone(), None)),
            By::Methods => self.methods(seen(), |service, method| (service.clone(), Some(method.clone()))),
            By::Clients => {
                self.counts(seen().filter_map(|seen| Some(&seen.look.as_ref()?.clients)), |row, name| {
                    row.client = Some(name);
                })
            }
            By::Versions => {
                self.counts(seen().filter_map(|seen| Some(&seen.look.as_ref()?.servers)), |row, name| {
                    row.server = Some(name);
                })
            }
            By::Proxies => seen().map(|seen| self.of_proxy(seen)).collect(),
        };
        rows.retain(|row| row.has(&self.filter));
        Table::new(self.by, rows, self.sort, self.is_ascending)
    }

    fn is_in(&self, service: &str) -> bool {
        self.service.as_ref().is_none_or(|known| known == service)
    }

    fn methods<'a>(
        &self,
        seen: impl Iterator<Item = &'a Seen>,
        key: impl Fn(&String, &String) -> (String, Option<String>),
    ) -> Vec<Row> {
        let mut all: BTreeMap<(String, Option<String>), Figures> = BTreeMap::new();
        let looks = seen.filter_map(|seen| seen.look.as_ref());
        for ((service, method), figures) in looks.flat_map(|look| &look.methods) {
            if self.is_in(service) {
                all.entry(key(service, method)).or_default().add(figures);
            }
        }
        let row = |((service, method), figures)| Row { service: Some(service), method, ..Row::of(&figures) };
        all.into_iter().map(row).collect()
    }

    fn counts<'a>(
        &self,
        counts: impl Iterator<Item = &'a BTreeMap<(String, String), f64>>,
        name: impl Fn(&mut Row, String),
    ) -> Vec<Row> {
        let mut all: BTreeMap<(String, String), f64> = BTreeMap::new();
        for ((service, who), rate) in counts.flatten() {
            if self.is_in(service) {
                *all.entry((service.clone(), who.clone())).or_default() += rate;
            }
        }
        let row = |((service, who), requests_per_second)| {
            let mut row = Row { service: Some(service), requests_per_second, ..Row::default() };
            name(&mut row, who);
            row
        };
        all.into_iter().map(row).collect()
    }

    fn of_proxy(&self, seen: &Seen) -> Row {
        let mut figures = Figures::default();
        let methods = seen.look.iter().flat_map(|look| &look.methods);
        let own = methods.filter(|((service, _), _)| self.is_in(service));
        own.for_each(|(_, of_method)| figures.add(of_method));
        let row = match &seen.look {
            Some(look) => Row { ejections_per_second: Some(look.ejections), ..Row::of(&figures) },
            None => Row::default(),
        };
        Row { proxy: Some(seen.proxy.clone()), down: seen.down.clone(), ..row }
    }

    /// What a key does.
    pub(super) fn press(&mut self, key: KeyEvent, table: &Table) -> Wish {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Wish::Leave;
        }
        if self.is_filtering {
            match key.code {
                KeyCode::Enter => self.is_filtering = false,
                KeyCode::Esc => (self.is_filtering, self.filter) = (false, String::new()),
                KeyCode::Backspace => drop(self.filter.pop()),
                KeyCode::Char(letter) if !is_control => self.filter.push(letter),
                _ => {}
            }
            self.chosen = 0;
            return Wish::Look;
        }
        let last = table.rows.len().saturating_sub(1);
        match key.code {
            KeyCode::Char('q') => return Wish::Leave,
            KeyCode::Tab | KeyCode::Char('v') => self.go(self.by.next()),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.is_ascending = !self.is_ascending,
            KeyCode::Char('/') => self.is_filtering = true,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Down | KeyCode::Char('j') => self.chosen = (self.chosen + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::PageDown => self.chosen = (self.chosen + 20).min(last),
            KeyCode::PageUp => self.chosen = self.chosen.saturating_sub(20),
            KeyCode::Home | KeyCode::Char('g') => self.chosen = 0,
            KeyCode::End | KeyCode::Char('G') => self.chosen = last,
            KeyCode::Enter => self.enter(table),
            KeyCode::Esc | KeyCode::Backspace => {
                if let Some((by, service, proxy)) = self.before.pop() {
                    (self.service, self.proxy) = (service, proxy);
                    self.go(by);
                }
            }
            _ => {}
        }
        Wish::Look
    }

    fn go(&mut self, by: By) {
        (self.by, self.chosen) = (by, 0);
    }

    /// Goes into the line that is chosen: of a service its methods, of a proxy its services.
    fn enter(&mut self, table: &Table) {
        let Some(row) = table.rows.get(self.chosen) else { return };
        let here = (self.by, self.service.clone(), self.proxy.clone());
        let to = match (self.by, &row.service, &row.proxy) {
            (By::Services, Some(service), _) => {
                self.service = Some(service.clone());
                By::Methods
            }
            (By::Proxies, _, Some(proxy)) => {
                self.proxy = Some(proxy.clone());
                if self.service.is_some() { By::Methods } else { By::Services }
            }
            _ => return,
        };
        self.before.push(here);
        self.go(to);
    }
}
