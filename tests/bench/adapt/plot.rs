//! Plots over time, one below the other, as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 66.0;
/// Between two plots, for the title of the lower one.
const GAP: f64 = 46.0;
const BOTTOM: f64 = 44.0;

/// A line: points of seconds and values. It has a gap where there is no value.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) color: &'static str,
    pub(super) dashed: bool,
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// One plot.
pub(super) struct Plot {
    pub(super) title: &'static str,
    pub(super) lines: Vec<Line>,
}

/// A stretch of time with a name, up to its end in seconds.
pub(super) struct Phase {
    pub(super) name: String,
    pub(super) end: f64,
}

/// The plots over the same time, which the phases fill.
pub(super) fn svg(title: &str, plots: &[Plot], phases: &[Phase]) -> String {
    let seconds = phases.last().map_or(1.0, |phase| phase.end);
    let x = |time: f64| LEFT + time.min(seconds) / seconds * (WIDTH - LEFT - RIGHT);
    let top = |index: usize| TOP + index as f64 * (HEIGHT + GAP);
    let bottom = top(plots.len()) - GAP;
    let height = bottom + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"#222\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    text(&mut svg, (LEFT, 20.0), "start", "font-size=\"15\" font-weight=\"bold\"", title);
    let mut begin = 0.0;
    for (index, phase) in phases.iter().enumerate() {
        let (from, to) = (x(begin), x(phase.end));
        if index % 2 == 1 {
            let (y, width, height) = (TOP - 24.0, to - from, bottom - TOP + 24.0);
            let _ = writeln!(
                svg,
                "<rect x=\"{from:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\" fill=\"#f3efe4\"/>"
            );
        }
        text(&mut svg, ((from + to) / 2.0, TOP - 30.0), "middle", "fill=\"#666\"", &phase.name);
        begin = phase.end;
    }
    for (index, plot) in plots.iter().enumerate() {
        draw(&mut svg, plot, top(index), x);
        let step = round_step(seconds);
        for time in (0..).map(|n| f64::from(n) * step).take_while(|time| *time <= seconds) {
            let (x, y) = (x(time), top(index) + HEIGHT);
            let _ = writeln!(svg, "<path d=\"M{x:.1} {y}v4\" stroke=\"#222\"/>");
            if index + 1 == plots.len() {
                text(&mut svg, (x, y + 18.0), "middle", "", &time.to_string());
            }
        }
    }
    text(&mut svg, ((LEFT + WIDTH - RIGHT) / 2.0, bottom + 36.0), "middle", "", "seconds");
    svg + "</svg>\n"
}

fn draw(svg: &mut String, plot: &Plot, top: f64, x: impl Fn(f64) -> f64) {
    let values = plot.lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value);
    let most = values.fold(1.0, f64::max);
    let step = round_step(most);
    let limit = (most / step).ceil() * step;
    let y = |value: f64| top + HEIGHT - value / limit * HEIGHT;
    text(svg, (LEFT, top - 8.0), "start", "font-weight=\"bold\"", plot.title);
    for tick in (0..).map(|n| f64::from(n) * step).take_while(|tick| *tick <= limit) {
        let (y, end) = (y(tick), WIDTH - RIGHT);
        let _ = writeln!(svg, "<path d=\"M{LEFT} {y:.1}H{end}\" stroke=\"#ddd\"/>");
        text(svg, (LEFT - 8.0, y + 4.0), "end", "", &tick.to_string());
    }
    let mut right = WIDTH - RIGHT;
    for line in plot.lines.iter().rev() {
        let dashes = if line.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
        let style = format!("fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"{dashes}", line.color);
        let (mut path, mut pen) = (String::new(), 'M');
        for (time, value) in &line.points {
            if let Some(value) = value {
                let _ = write!(path, "{pen}{:.1} {:.1}", x(*time), y(*value));
            }
            pen = if value.is_some() { 'L' } else { 'M' };
        }
        let _ = writeln!(svg, "<path d=\"{path}\" {style}/>");
        // The legend, from right to left, above the plot.
        text(svg, (right, top - 8.0), "end", "", line.name);
        right -= line.name.len() as f64 * 6.2 + 10.0;
        let _ = writeln!(svg, "<path d=\"M{:.1} {:.1}h24\" {style}/>", right - 24.0, top - 12.0);
        right -= 44.0;
    }
    let (width, left) = (WIDTH - LEFT - RIGHT, LEFT);
    let _ = writeln!(
        svg,
        "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{HEIGHT}\" fill=\"none\" stroke=\"#222\"/>"
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, style: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {style}>{text}</text>");
}

/// A step of 1, 2 or 5 times a power of ten, of which a few make the whole.
fn round_step(whole: f64) -> f64 {
    let least = whole / 6.0;
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(power)
}
