//! The bytes of a frame as hexadecimal digits, each field in rows and in a colour of its own.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use meltemi_codecs::inspect::Span;

/// The colours of fields, in turn.
const COLOURS: [AnsiColor; 5] =
    [AnsiColor::Cyan, AnsiColor::Green, AnsiColor::Yellow, AnsiColor::Magenta, AnsiColor::Blue];
/// The colour of what is not understood.
const BROKEN: Style = AnsiColor::Red.on_default().bold();

/// The bytes of a row.
const ROW: usize = 16;
/// The most rows of a field.
const MOST_ROWS: usize = 8;

/// Writes the fields of a frame that starts at `offset` of the input.
pub fn frame(offset: u64, bytes: &[u8], spans: &[Span], output: &mut impl Write) -> io::Result<()> {
    for (number, span) in spans.iter().filter(|span| span.bytes.start < bytes.len()).enumerate() {
        let style = match &*span.name {
            "" => Style::new(),
            _ => COLOURS.get(number % COLOURS.len()).copied().unwrap_or(AnsiColor::Cyan).on_default(),
        };
        let field = bytes.get(span.bytes.start..span.bytes.end.min(bytes.len())).unwrap_or_default();
        rows(offset + span.bytes.start as u64, field, &span.name, style, output)?;
    }
    let end = spans.last().map_or(0, |span| span.bytes.end).min(bytes.len());
    rows(offset + end as u64, bytes.get(end..).unwrap_or_default(), "", Style::new(), output)
}

/// Writes what is known of bytes that are no frame for the reason `what`, which lies at `at` of them.
pub fn stopped(
    offset: u64,
    bytes: &[u8],
    spans: &[Span],
    at: usize,
    what: &str,
    output: &mut impl Write,
) -> io::Result<()> {
    let (before, rest) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
    frame(offset, before, spans, output)?;
    let offset = offset + before.len() as u64;
    match rest {
        [] => writeln!(output, "{BROKEN}{offset:08x}  {what}{BROKEN:#}"),
        rest => rows(offset, rest, what, BROKEN, output),
    }
}

fn rows(offset: u64, field: &[u8], name: &str, style: Style, output: &mut impl Write) -> io::Result<()> {
    for (number, row) in field.chunks(ROW).take(MOST_ROWS).enumerate() {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let visible =
            |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
        let text: String = row.iter().map(visible).collect();
        let name = if number == 0 { name } else { "" };
        let line = format!("{:<47}  {text:<16}  {name}", hex.join(" "));
        writeln!(output, "{:08x}  {style}{}{style:#}", offset + (number * ROW) as u64, line.trim_end())?;
    }
    match field.len().saturating_sub(ROW * MOST_ROWS) {
        0 => Ok(()),
        more => writeln!(output, "          {style}... {more} bytes more{style:#}"),
    }
}
