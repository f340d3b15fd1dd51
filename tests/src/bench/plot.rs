//! The plot beside the JSON: CPU time per Dubbo request, one panel per body length, bars by case and proxy.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::report::{Row, Sample, find};
use super::{Case, Protocol, Proxy};

const WIDTH: u32 = 1320;
const HEIGHT: u32 = 480;
const TITLE: u32 = 44;
const FOOT: u32 = 30;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
/// Room of one bar, where that of one case is 1: three bars and a gap.
const BAR: f64 = 0.27;

fn colour(proxy: Proxy) -> RGBColor {
    match proxy {
        Proxy::Native => RGBColor(0xe0, 0x7b, 0x39),
        Proxy::Tcp => RGBColor(0x9a, 0xa5, 0xb1),
        Proxy::PassThrough => RGBColor(0xcd, 0xd3, 0xd9),
        Proxy::Meltemi => RGBColor(0x1f, 0x77, 0xb4),
    }
}

/// Draws the rows as SVG into `path`, with `caption` at the foot.
///
/// # Errors
///
/// When the file cannot be written.
pub fn draw(path: &Path, rows: &[Row], caption: &str) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (WIDTH, HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let (top, rest) = root.split_vertically(TITLE);
    let (middle, foot) = rest.split_vertically(HEIGHT - TITLE - FOOT);
    let title = (FONT, 22).into_font().color(&INK);
    top.draw_text("CPU time of Envoy per Dubbo request, in µs (less is better)", &title, (16, 14))?;
    legend(&top)?;
    foot.draw_text(caption, &(FONT, 14).into_font().color(&INK), (16, 6))?;

    let of_dubbo = rows.iter().filter(|row| row.median.case.protocol == Protocol::Dubbo);
    let mut bodies: Vec<_> = of_dubbo.map(|row| row.median.case.body).collect();
    bodies.dedup();
    for (&body, panel) in bodies.iter().zip(middle.split_evenly((1, bodies.len().max(1)))) {
        draw_panel(&panel, body, rows)?;
    }
    root.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Outcome<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn legend<'a>(area: &Area<'a>) -> Outcome<'a> {
    let style = (FONT, 16).into_font().color(&INK);
    for (index, proxy) in Proxy::ALL.into_iter().enumerate() {
        let x = (WIDTH - 400) as i32 + 130 * index as i32;
        area.draw(&Rectangle::new([(x, 16), (x + 14, 30)], colour(proxy).filled()))?;
        area.draw_text(proxy.name(Protocol::Dubbo), &style, (x + 20, 16))?;
    }
    Ok(())
}

fn draw_panel<'a>(area: &Area<'a>, body: usize, rows: &[Row]) -> Outcome<'a> {
    let cases: Vec<_> = Protocol::Dubbo
        .cases()
        .into_iter()
        .filter(|case| case.body == body && rows.iter().any(|row| row.median.case == *case))
        .collect();
    let size = cases.first().map(Case::size).unwrap_or_default();
    let highest = cases.iter().flat_map(|case| rows.iter().filter(move |row| row.median.case == *case));
    let highest = highest.map(|row| row.median.cpu);
    let highest = highest.filter(|cpu| cpu.is_finite()).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("bodies of {size}"), (FONT, 18).into_font().color(&INK))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(48)
        .build_cartesian_2d(-0.5..cases.len() as f64 - 0.5, 0.0..highest * 1.12)?;
    let name = |x: &f64| {
        let whole = x.round() >= 0.0 && (x - x.round()).abs() < 0.01;
        cases.get(x.round() as usize).filter(|_| whole).map(Case::shape).unwrap_or_default()
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(0xdd, 0xdd, 0xdd))
        .axis_style(RGBColor(0x99, 0x99, 0x99))
        .label_style((FONT, 15).into_font().color(&INK))
        .x_labels(2 * cases.len() + 1)
        .x_label_formatter(&name)
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;

    let value_style = (FONT, 13).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Bottom));
    for (index, case) in cases.iter().enumerate() {
        for (place, proxy) in Proxy::ALL.into_iter().enumerate() {
            let Some(Row { median: Sample { cpu, .. }, .. }) = find(rows, proxy.name(Protocol::Dubbo), case)
            else {
                continue;
            };
            if !cpu.is_finite() {
                continue;
            }
            let centre = index as f64 + (place as f64 - 1.0) * BAR;
            let (left, right) = (centre - BAR * 0.46, centre + BAR * 0.46);
            let value = if *cpu < 10.0 { format!("{cpu:.1}") } else { format!("{cpu:.0}") };
            chart.draw_series([Rectangle::new([(left, 0.0), (right, *cpu)], colour(proxy).filled())])?;
            chart.draw_series([Text::new(value, (centre, cpu + highest * 0.008), value_style.clone())])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::report::rows;
    use super::*;

    #[test]
    fn the_plot_names_what_it_shows() {
        let samples: Vec<_> = Protocol::Dubbo
            .cases()
            .into_iter()
            .flat_map(|case| {
                Proxy::ALL.map(|proxy| Sample {
                    what: proxy.name(Protocol::Dubbo),
                    case,
                    cpu: if case.in_flight == 32 { f64::INFINITY } else { 12.34 },
                    per_second: 1.0,
                    p50: 1.0,
                    p99: 1.0,
                    errors: 0,
                })
            })
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plot.svg");
        draw(&path, &rows(&samples), "made on this machine").unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        for text in ["meltemi", "tcp_proxy", "dubbo_proxy", "16x8", "1 MiB", "made on this machine", "12"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
