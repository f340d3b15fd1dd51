//! The terminal while it is looked at.

use std::thread;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::draw::draw;
use super::view::{View, Wish};
use crate::traffic::{Meters, watch};
use crate::words;

/// How often it is seen whether keys are still wanted.
const KEY_WAIT: Duration = Duration::from_millis(200);

/// Shows what goes on until the user leaves. However it ends, the terminal is as it was: ratatui does the same when
/// something panics.
pub(super) async fn run(meters: Meters, view: View, interval: Duration) -> Result<(), String> {
    let failed = |error| format!("cannot use the terminal: {}; --once needs none", words::file(&error));
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let outcome = show(&mut terminal, meters, view, interval).await;
    ratatui::restore();
    outcome.map_err(failed)
}

async fn show(
    terminal: &mut DefaultTerminal,
    mut meters: Meters,
    mut view: View,
    interval: Duration,
) -> std::io::Result<()> {
    let mut looks = watch(meters.proxies(), interval);
    let mut events = keys();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut table = view.table(meters.seen());
    loop {
        terminal.draw(|frame| draw(frame, &view, &meters, &table))?;
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            event = events.recv() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    if view.press(key, &table) == Wish::Leave {
                        return Ok(());
                    }
                    table = view.table(meters.seen());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            Some((at, outcome)) = looks.next(), if !view.is_paused => {
                meters.saw(at, outcome);
                table = view.table(meters.seen());
            }
        }
    }
}

/// What is typed. Reading a terminal blocks, so a thread does.
fn keys() -> mpsc::Receiver<std::io::Result<Event>> {
    let (tell, events) = mpsc::channel(16);
    thread::spawn(move || {
        while !tell.is_closed() {
            let event = match event::poll(KEY_WAIT) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let is_over = event.is_err();
            if tell.blocking_send(event).is_err() || is_over {
                return;
            }
        }
    });
    events
}
