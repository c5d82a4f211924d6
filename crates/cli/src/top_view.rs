//! The live view on a terminal.

use crate::top_tables::{self, Panel};
use crate::top_text::{size, squeeze};
use heapwright_monitor::{Blame, Look, MonitorError, RawProfile, Request, Watched};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Sparkline, Table, Wrap};
use std::io;
use std::time::{Duration, Instant};

/// Looks kept for the curves.
const HISTORY: usize = 240;
/// How long a request of the user's may take before the view goes on without an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Looks for which a message stays.
const MESSAGE_LOOKS: u32 = 12;
const KEYS: &str = " q quit   tab classes, heaps and nodes, sites   r give free memory back   \
                    p begin or read the profile   space pause";

/// What the view shows.
pub(crate) struct View {
    look: Look,
    resident: Vec<u64>,
    live: Vec<u64>,
    blame: Option<Blame>,
    panel: Panel,
    message: String,
    /// Looks for which the message stays.
    message_looks: u32,
    is_paused: bool,
}

/// Why the view ended early.
#[derive(Debug)]
pub(crate) enum ViewError {
    /// The terminal.
    Terminal(io::Error),
    /// The process.
    Monitor(MonitorError),
}

impl From<ViewError> for crate::failure::Failure {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Terminal(error) => Self::ours(format!("the terminal: {error}")),
            ViewError::Monitor(error) => error.into(),
        }
    }
}

impl View {
    pub(crate) fn new(look: Look) -> Self {
        Self {
            resident: vec![look.resident],
            live: vec![look.live],
            look,
            blame: None,
            panel: Panel::Classes,
            message: String::new(),
            message_looks: 0,
            is_paused: false,
        }
    }

    /// Shows `watched` until the user has seen enough or it ends.
    pub(crate) fn run(watched: &Watched, interval: Duration) -> Result<(), ViewError> {
        let mut view = Self::new(Look::at(watched, None).map_err(ViewError::Monitor)?);
        // Restored also when this panics: `init` sets a hook for that.
        let mut terminal = ratatui::try_init().map_err(ViewError::Terminal)?;
        let result = view.turn(watched, interval, &mut terminal);
        ratatui::restore();
        result
    }

    fn turn(
        &mut self,
        watched: &Watched,
        interval: Duration,
        terminal: &mut ratatui::DefaultTerminal,
    ) -> Result<(), ViewError> {
        let mut next = Instant::now() + interval;
        loop {
            terminal.draw(|frame| self.draw(frame)).map_err(ViewError::Terminal)?;
            let left = next.saturating_duration_since(Instant::now());
            if event::poll(left).map_err(ViewError::Terminal)? {
                let event = event::read().map_err(ViewError::Terminal)?;
                if self.is_over(&event, watched) {
                    return Ok(());
                }
                continue;
            }
            next = Instant::now() + interval;
            if !self.is_paused {
                let look = Look::at(watched, Some(&self.look)).map_err(ViewError::Monitor)?;
                self.take(look);
            }
        }
    }

    /// Does what a key says; whether the view is over.
    fn is_over(&mut self, event: &Event, watched: &Watched) -> bool {
        let Event::Key(key) = event else { return false };
        if key.kind != KeyEventKind::Press {
            return false;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') if is_control => return true,
            KeyCode::Char('r') => {
                self.message_looks = MESSAGE_LOOKS;
                self.message = match watched.ask(Request::Release, PATIENCE) {
                    Ok(()) => "free memory was given back".to_owned(),
                    Err(error) => error.to_string(),
                };
            }
            KeyCode::Char('p') => {
                self.message_looks = MESSAGE_LOOKS;
                self.message = match self.profile(watched) {
                    Ok(message) => message,
                    Err(error) => error.to_string(),
                };
            }
            KeyCode::Char(' ') => self.is_paused = !self.is_paused,
            KeyCode::Tab => self.panel = self.panel.next(self.blame.is_some()),
            _ => {}
        }
        false
    }

    fn profile(&mut self, watched: &Watched) -> Result<String, MonitorError> {
        if self.look.profile_rate == 0 && self.look.samples[0] == 0 {
            watched.ask(Request::ProfileOn, PATIENCE)?;
            return Ok("sampling has begun; p again shows which sites pin memory".to_owned());
        }
        watched.ask(Request::Profile, PATIENCE)?;
        let path = watched.profile_path();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| MonitorError::Io { path: path.clone(), error })?;
        match RawProfile::parse(&text) {
            Ok(profile) => {
                self.blame = Some(Blame::new(&profile, None));
                self.panel = Panel::Sites;
                Ok(format!("profile of {} live samples", profile.live.len()))
            }
            Err(error) => Ok(error.to_string()),
        }
    }

    pub(crate) fn take(&mut self, look: Look) {
        for (series, value) in [(&mut self.resident, look.resident), (&mut self.live, look.live)] {
            series.push(value);
            if series.len() > HISTORY {
                series.remove(0);
            }
        }
        self.look = look;
        self.message_looks = self.message_looks.saturating_sub(1);
    }

    /// Draws everything; works in any size.
    pub(crate) fn draw(&self, frame: &mut Frame<'_>) {
        let [head, curves, middle, map, foot] = Layout::vertical([
            Constraint::Length(4),
            Constraint::Length(7),
            Constraint::Min(8),
            Constraint::Length(7),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        self.draw_head(frame, head);
        let [left, right] =
            Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)])
                .areas(curves);
        self.draw_curve(frame, left, "resident", &self.resident, Color::Yellow);
        self.draw_curve(frame, right, "live", &self.live, Color::Green);
        let [parts, tables] =
            Layout::horizontal([Constraint::Length(42), Constraint::Min(30)]).areas(middle);
        self.draw_residence(frame, parts);
        match self.panel {
            Panel::Classes => {
                let [classes, heaps] =
                    Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(45)])
                        .areas(tables);
                frame.render_widget(top_tables::classes(&self.look), classes);
                frame.render_widget(top_tables::heaps_in_short(&self.look), heaps);
            }
            Panel::Owners => {
                // A border, a header and a row for each node; the heaps get the rest.
                let nodes_height = self.look.nodes.len().clamp(1, 8) as u16 + 3;
                let [heaps, nodes] =
                    Layout::vertical([Constraint::Min(4), Constraint::Length(nodes_height)])
                        .areas(tables);
                frame.render_widget(top_tables::heaps(&self.look), heaps);
                frame.render_widget(top_tables::nodes(&self.look), nodes);
            }
            Panel::Sites => frame.render_widget(top_tables::sites(self.blame.as_ref()), tables),
        }
        self.draw_map(frame, map);
        let foot_text = if self.message_looks == 0 { KEYS } else { self.message.as_str() };
        frame.render_widget(Paragraph::new(foot_text).style(dim()), foot);
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect) {
        let look = &self.look;
        let state = if self.is_paused {
            "paused".to_owned()
        } else if look.age_s > 2.0 {
            format!("idle for {:.0} s", look.age_s)
        } else {
            String::new()
        };
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let lines = vec![
            Line::from(vec![
                Span::styled(format!("{} ", look.name), bold),
                Span::raw(format!("process {}, threads {}  ", look.pid, look.threads)),
                Span::styled(state, dim()),
            ]),
            Line::from(format!(
                "live {}   resident {}   the allocator's {} ({:.2} x live)   retained {}   \
                 fragmentation {:.0} %",
                size(look.live as f64),
                size(look.resident as f64),
                size(look.resident_of_allocator as f64),
                look.resident_over_live,
                size(look.retained as f64),
                look.external_fragmentation * 100.0,
            )),
            Line::from(format!(
                "allocates {}/s   purged {} ({}/s)   merged {} pages{}   largest free {}{}   \
                 samples {}",
                size(look.rates.allocated_bytes),
                size(look.purged as f64),
                size(look.rates.purged_bytes),
                look.merged_pages,
                match look.merge_state {
                    "" => String::new(),
                    state => format!(" ({state})"),
                },
                size(look.largest_free as f64),
                look.headroom.map_or(String::new(), |left| {
                    format!("   under the limit {}", size(left as f64))
                }),
                look.samples[1],
            )),
            Line::from(Span::styled(look.reading(), dim())),
        ];
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn draw_curve(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        name: &str,
        series: &[u64],
        color: Color,
    ) {
        let width = usize::from(area.width.saturating_sub(2));
        let shown = &series[series.len().saturating_sub(width)..];
        let most = self.resident.iter().chain(&self.live).max().copied().unwrap_or(1);
        let title = format!(" {name} {} ", size(series.last().copied().unwrap_or(0) as f64));
        let curve = Sparkline::default()
            .block(Block::new().borders(Borders::ALL).title(title))
            .data(shown)
            .max(most.max(1))
            .style(Style::new().fg(color));
        frame.render_widget(curve, area);
    }

    fn draw_residence(&self, frame: &mut Frame<'_>, area: Rect) {
        let look = &self.look;
        let block = Block::new().borders(Borders::ALL).title(" what resident bytes are for ");
        if !look.residence_problem.is_empty() {
            let text = Paragraph::new(look.residence_problem.as_str()).wrap(Wrap { trim: true });
            frame.render_widget(text.block(block), area);
            return;
        }
        let rows = look.residence.parts().map(|(name, bytes)| {
            let share = bytes as f64 / look.resident.max(1) as f64;
            Row::new([name.to_owned(), size(bytes as f64), format!("{:.0} %", share * 100.0)])
        });
        let widths = [Constraint::Min(22), Constraint::Length(10), Constraint::Length(5)];
        frame.render_widget(Table::new(rows, widths).block(block), area);
    }

    fn draw_map(&self, frame: &mut Frame<'_>, area: Rect) {
        let block = Block::new()
            .borders(Borders::ALL)
            .title(" heap map: 0-9 small blocks by fill, # large, _ free, . given back ");
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let columns = usize::from(inner.width);
        let cells = squeeze(&self.look.map, columns * usize::from(inner.height));
        let letters: Vec<char> = cells.chars().collect();
        let lines: Vec<Line<'_>> = letters
            .chunks(columns.max(1))
            .map(|row| Line::from(row.iter().map(|letter| cell(*letter)).collect::<Vec<_>>()))
            .collect();
        frame.render_widget(Paragraph::new(lines), inner);
    }
}

fn cell(letter: char) -> Span<'static> {
    let color = match letter {
        '0'..='2' => Color::Red,
        '3'..='6' => Color::Yellow,
        '7'..='9' => Color::Green,
        '#' => Color::Blue,
        '_' => Color::Magenta,
        _ => Color::DarkGray,
    };
    Span::styled(letter.to_string(), Style::new().fg(color))
}

/// What stands back.
pub(crate) fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

#[cfg(test)]
mod tests;
