//! The results as a page: every setting as a point of CPU time and memory, its pauses as the size.

use crate::search::Results;
use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const MARGIN: f64 = 60.0;

/// A page that needs nothing else.
pub fn html(results: &Results, command: &str) -> String {
    let trials = &results.trials;
    let most = |value: fn(&crate::Measured) -> f64| {
        trials.iter().map(|trial| value(&trial.measured)).fold(f64::MIN_POSITIVE, f64::max)
    };
    let cpu_max = most(|one| one.cpu_s);
    let memory_max = most(|one| one.peak_rss_kb as f64);
    let pause_max = most(|one| one.pause_ms_p99);
    let mut points = String::new();
    let mut rows = String::new();
    for (index, trial) in trials.iter().enumerate() {
        let one = &trial.measured;
        let x = MARGIN + one.cpu_s / cpu_max * (WIDTH - 2.0 * MARGIN);
        let y = HEIGHT - MARGIN - one.peak_rss_kb as f64 / memory_max * (HEIGHT - 2.0 * MARGIN);
        let radius = 4.0 + 14.0 * (one.pause_ms_p99 / pause_max).sqrt();
        let class = match (index, trial.on_front) {
            (0, _) => "chosen",
            (_, true) => "front",
            _ => "beaten",
        };
        let name = escape(&trial.setting.to_string());
        // A string takes everything that is written to it.
        let _ = write!(
            points,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"><title>{name}: \
             {:.3} s CPU, {} MiB, pause p99 {:.3} ms</title></circle>",
            one.cpu_s,
            one.peak_rss_kb >> 10,
            one.pause_ms_p99
        );
        let _ = write!(
            rows,
            "<tr class=\"{class}\"><td>{name}</td><td>{:.3}</td><td>{}</td><td>{:.3}</td>\
             <td>{:.3}</td><td>{}</td></tr>",
            one.cpu_s,
            one.peak_rss_kb >> 10,
            one.pause_ms_p99,
            one.pause_ms_max,
            trial.runs
        );
    }
    let command = escape(command);
    let bottom = HEIGHT - MARGIN;
    let right = WIDTH - MARGIN;
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>gc tune: {command}</title>\
         <style>body{{font:15px system-ui;margin:2em;max-width:60em}}table{{border-collapse:\
         collapse}}td,th{{padding:.2em .8em;text-align:right}}td:first-child{{text-align:left}}\
         circle{{fill-opacity:.6}}.beaten{{fill:#999;color:#777}}.front{{fill:#2468b0}}\
         .chosen{{fill:#c03020;font-weight:bold}}line{{stroke:#888}}</style>\
         <h1>Settings of the collector</h1><p><code>{command}</code></p>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"CPU time and memory of each \
         setting\"><line x1=\"{MARGIN}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\"/>\
         <line x1=\"{MARGIN}\" y1=\"{MARGIN}\" x2=\"{MARGIN}\" y2=\"{bottom}\"/>\
         <text x=\"{right}\" y=\"{}\" text-anchor=\"end\">CPU, to {cpu_max:.3} s</text>\
         <text x=\"{MARGIN}\" y=\"{}\">peak memory, to {:.0} MiB</text>{points}</svg>\
         <p>The area of a point is the 99th percentile of its pauses. Red: chosen; blue: no other \
         setting is as good in all three; grey: beaten.</p>\
         <table><tr><th>setting</th><th>CPU s</th><th>peak MiB</th><th>pause p99 ms</th>\
         <th>max ms</th><th>runs</th></tr>{rows}</table></html>\n",
        bottom + 30.0,
        MARGIN - 12.0,
        memory_max / 1024.0
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn text_cannot_end_its_element() {
        assert_eq!(escape("<a b=\"&\">"), "&lt;a b=&quot;&amp;&quot;>");
    }
}
