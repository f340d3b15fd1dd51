//! The picture in the terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row, Table as Grid, TableState};

use super::table::Table;
use super::view::View;
use crate::plain::Plain;
use crate::traffic::{Figures, Meters};

/// What keys do.
const KEYS: &str = "q quit  tab what  enter into  esc back  / filter  s sort  r reverse  p pause  arrows";

/// How wide a column of numbers is.
const NUMBER: u16 = 11;

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, meters: &Meters, table: &Table) {
    let [head, title, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Line::from(sum(meters, view)).bold(), head);
    frame.render_widget(Line::from(Plain(view.title()).to_string()), title);

    let titles = table.titles();
    let names = titles.len() - table.columns().len();
    let widths = (0..titles.len()).map(|at| match at < names {
        true => Constraint::Fill(1),
        false => Constraint::Length(NUMBER),
    });
    let cell = |(at, text): (usize, String)| match at < names {
        true => Cell::from(text),
        false => Cell::from(Line::from(text).right_aligned()),
    };
    let rows = table.rows.iter().map(|row| {
        let style = match (&row.down, row.success) {
            (Some(_), _) => Style::new().red(),
            (None, Some(success)) if success < 0.99 => Style::new().yellow(),
            _ => Style::new(),
        };
        Row::new(table.cells(row).into_iter().enumerate().map(cell)).style(style)
    });
    let header = titles.iter().map(|title| (*title).to_owned()).enumerate().map(cell);
    let grid = Grid::new(rows, widths)
        .header(Row::new(header).style(Style::new().dim()))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(Some(view.chosen));
    frame.render_stateful_widget(grid, body, &mut state);
    frame.render_widget(Line::from(foot_of(view, meters)).dim(), foot);
}

/// What goes on in all of it.
fn sum(meters: &Meters, view: &View) -> String {
    let mut figures = Figures::default();
    let mut ejections = 0.0;
    for look in meters.seen().iter().filter_map(|seen| seen.look.as_ref()) {
        look.methods.values().for_each(|of_method| figures.add(of_method));
        ejections += look.ejections;
    }
    let down = meters.seen().iter().filter(|seen| seen.down.is_some()).count();
    let down = if down == 0 { String::new() } else { format!(", {down} down") };
    let success =
        figures.success().map_or(String::new(), |share| format!("  {:.1} % success", share * 100.0));
    let pause = if view.is_paused { "  PAUSED" } else { "" };
    format!(
        "meltemi top  {} proxies{down}  {:.1} req/s{success}  {:.1} retries/s  {ejections:.1} ejections/s  {} in flight{pause}",
        meters.seen().len(),
        figures.requests,
        figures.retries,
        figures.in_flight
    )
}

fn foot_of(view: &View, meters: &Meters) -> String {
    if view.is_filtering {
        return "write what names are to have; enter keeps it, esc drops it".to_owned();
    }
    let mut down = meters.seen().iter().filter_map(|seen| Some((&seen.proxy, seen.down.as_ref()?)));
    match down.next() {
        Some((proxy, why)) => format!("{proxy}: {}", Plain(why)),
        None if meters.seen().iter().all(|seen| seen.look.is_none()) => "counting...".to_owned(),
        None => KEYS.to_owned(),
    }
}
