//! `meltemi top`: what goes on in proxies, by services, methods, clients and servers, live in a terminal or once.

mod draw;
mod live;
mod table;
mod view;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::command::{print, print_json};
use crate::proxies::{Form, Which, block_on};
use crate::screen;
use crate::traffic::{Meters, State};
use table::Table;
pub(crate) use table::{By, Column, Row, time};
pub(crate) use view::View;

/// Shows what goes on in proxies.
#[derive(Debug, Args)]
pub struct Top {
    #[command(flatten)]
    which: Which,
    /// Count for one interval, print the result and end, as is done where the output is no terminal.
    #[arg(long)]
    once: bool,
    /// How long to count before each look.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    interval: Duration,
    /// What there is a line for.
    #[arg(long, value_enum, default_value_t)]
    by: By,
    /// The column to sort by, the largest first.
    #[arg(long, value_enum, default_value_t)]
    sort: Column,
    /// Only what has this in its names.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// How the result is written when it is once.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Form,
}

/// An interval, as an argument.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.trim_end_matches('s').parse().ok();
    let interval = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let possible = Duration::from_millis(500)..=Duration::from_secs(3600);
    interval.filter(|interval| possible.contains(interval)).ok_or_else(|| "write 0.5 to 3600".to_owned())
}

/// What is printed once.
#[derive(Debug, Serialize)]
struct Once<'a> {
    seconds: f64,
    rows: &'a [Row],
    proxies: Vec<State>,
}

impl Top {
    /// Shows it until the user leaves, or prints it once. The exit code is 1 if no proxy answers.
    ///
    /// # Errors
    ///
    /// There is no cluster, or no such proxy in it; or the terminal cannot be used.
    pub fn run(&self) -> Result<ExitCode, String> {
        block_on(async {
            let mut meters = Meters::of(self.which.proxies().await?);
            let view = View::new(self.by, self.sort, self.filter.clone());
            if !self.once && self.output == Form::Table && io::stdout().is_terminal() {
                return live::run(meters, view, self.interval).await.map(|()| ExitCode::SUCCESS);
            }
            meters.read().await;
            tokio::time::sleep(self.interval).await;
            meters.read().await;
            self.tell(&meters, &view)
        })
    }

    fn tell(&self, meters: &Meters, view: &View) -> Result<ExitCode, String> {
        let table = view.table(meters.seen());
        let states = meters.states();
        match self.output {
            Form::Table => {
                print(&plain(&table))?;
                let down = states.iter().filter_map(|state| Some((&state.proxy, state.down.as_ref()?)));
                down.for_each(|(proxy, why)| screen::warn(format_args!("{proxy}: {why}")));
            }
            Form::Json => {
                let seconds = self.interval.as_secs_f64();
                print_json(&Once { seconds, rows: &table.rows, proxies: states.clone() })?;
            }
        }
        let is_none = states.iter().all(|state| state.down.is_some());
        Ok(if is_none { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn plain(table: &Table) -> String {
    let mut text = crate::command::findings::columns(&table.titles());
    for row in &table.rows {
        text.add_row(table.cells(row));
    }
    crate::command::findings::rows(&text)
}
