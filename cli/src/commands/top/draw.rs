//! The picture that `p2p top` shows.

use p2p_protocol::{
    control::{PeerInfo, Standing, State, Summary, WaitReason},
    name::printable,
};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Row, Table, TableState},
};

use super::model::Model;
use crate::{
    commands::list::other,
    format,
    json::{priority, stage},
};

/// Cells of a bar.
const BAR: u64 = 12;
/// Most peers that are shown.
const PEERS: usize = 6;
/// In their order, each with how early it gives way where there is little room.
const KEYS: [(&str, u8); 5] =
    [("up/down select", 2), ("p pause or resume", 3), ("c cancel", 4), ("+/- priority", 1), ("q quit", 5)];

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, color: bool) {
    let peers = shown_peers(model);
    let under = if peers.is_empty() { 0 } else { peers.len() as u16 + 2 };
    let areas = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(2),
        Constraint::Length(under),
        Constraint::Length(1),
    ]);
    let [top, middle, below, bottom] = areas.areas(frame.area());
    frame.render_widget(Paragraph::new(head(model)).style(bold()), top);
    draw_transfers(frame, middle, model, color);
    draw_peers(frame, below, model, &peers);
    frame.render_widget(Paragraph::new(foot(model, color, bottom.width)), bottom);
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn head(model: &Model) -> String {
    let running = model.transfers.iter().filter(|transfer| transfer.state == State::Active).count();
    let open = model.transfers.iter().filter(|transfer| transfer.ended_ms.is_none()).count();
    let (up, down) = Model::rates(model.transfers.iter().cloned());
    let (up, down, waiting) = (format::rate(up), format::rate(down), open - running);
    let mut head = format!("p2p  {running} running, {waiting} waiting  up {up}, down {down}");
    if let Some(status) = &model.status {
        let limits = status.limits.limits;
        let named = [("up", limits.up), ("down", limits.down)];
        for (way, rate) in named.into_iter().filter_map(|(way, rate)| rate.map(|rate| (way, rate))) {
            head.push_str(&format!("  limit {way} {rate}"));
        }
    }
    head
}

fn draw_transfers(frame: &mut Frame<'_>, area: Rect, model: &Model, color: bool) {
    // What limits it goes first where there is little room, then what is left, the way, the peer, the rate.
    let columns =
        Columns::fitting([4, 7, 12, BAR as u16 + 5, 11, 11, 10, 16, 12], &[6, 5, 1, 7, 4, 3], area.width);
    let rows = model.transfers.iter().map(|transfer| {
        let [number, way, state, bar, rate, left, by, peer, name] = cells(transfer);
        let look = match transfer.state {
            _ if !color => Style::new(),
            State::Active => Style::new().fg(Color::Cyan),
            State::Waiting => Style::new().fg(Color::Yellow),
            State::Done => Style::new().fg(Color::Green),
            State::Failed => Style::new().fg(Color::Red),
            State::Cancelled => Style::new().add_modifier(Modifier::DIM),
        };
        columns.row([
            Line::from(number).right_aligned(),
            Line::from(way),
            Line::from(Span::styled(state, look)),
            Line::from(Span::styled(bar, look)),
            Line::from(rate).right_aligned(),
            Line::from(left).right_aligned(),
            Line::from(by),
            Line::from(peer),
            Line::from(name),
        ])
    });
    let header = ["N", "WAY", "STATE", "VERIFIED", "RATE", "LEFT", "LIMITED BY", "PEER", "NAME"];
    let table = Table::new(rows, columns.constraints())
        .header(columns.row(header.map(Line::from)).style(bold()))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let selected = model.selected.map(|_| model.place());
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(selected));
}

/// The columns of a table for which there is room.
struct Columns<const N: usize> {
    widths: [u16; N],
    /// Those that are shown, in their order.
    shown: Vec<usize>,
}

impl<const N: usize> Columns<N> {
    /// Of these widths, of which the last is the least that will do. The columns in `first_to_go` give way one by one.
    fn fitting(widths: [u16; N], first_to_go: &[usize], room: u16) -> Self {
        let mut shown: Vec<usize> = (0..N).collect();
        let needed = |shown: &[usize]| shown.iter().map(|column| widths[*column] + 1).sum::<u16>() - 1;
        for column in first_to_go {
            if needed(&shown) > room {
                shown.retain(|kept| kept != column);
            }
        }
        Self { widths, shown }
    }

    fn constraints(&self) -> Vec<Constraint> {
        let width = |column: &usize| match *column {
            column if column + 1 == N => Constraint::Fill(1),
            column => Constraint::Length(self.widths[column]),
        };
        self.shown.iter().map(width).collect()
    }

    fn row<'a>(&self, cells: [Line<'a>; N]) -> Row<'a> {
        let shown = |(column, cell)| self.shown.contains(&column).then_some(cell);
        Row::new(cells.into_iter().enumerate().filter_map(shown))
    }
}

fn cells(transfer: &Summary) -> [String; 9] {
    let progress = &transfer.progress;
    let active = transfer.state == State::Active;
    let rest = progress.total_bytes.saturating_sub(progress.verified_bytes);
    let left = format::eta_s(rest, progress.rate).filter(|_| active);
    let percent = format::percent(progress.verified_bytes, progress.total_bytes);
    [
        transfer.transfer.to_string(),
        transfer.direction.word().to_owned(),
        state(transfer),
        if progress.chunks_total == 0 { String::new() } else { format!("{} {percent:>3}%", bar(percent)) },
        if active { format::rate(progress.rate) } else { String::new() },
        left.map(format::eta).unwrap_or_default(),
        progress.limited_by().map(stage).unwrap_or_default().to_owned(),
        printable(&other(transfer)),
        printable(&transfer.name),
    ]
}

fn bar(percent: u64) -> String {
    let full = (percent.min(100) * BAR / 100) as usize;
    format!("{}{}", "━".repeat(full), "─".repeat(BAR as usize - full))
}

fn state(transfer: &Summary) -> String {
    let word = match (transfer.state, transfer.waiting) {
        (State::Active | State::Waiting, Some(reason)) => match reason {
            WaitReason::Hashing => "hashing",
            WaitReason::Accept => "accept?",
            WaitReason::Space => "disk full",
            WaitReason::Peer => "for peer",
            WaitReason::Queue => return format!("queue {}", priority(transfer.priority)),
            WaitReason::Paused => "paused",
        },
        (State::Active, None) => "active",
        (State::Waiting, None) => "waiting",
        (State::Done, _) => "done",
        (State::Failed, _) => "failed",
        (State::Cancelled, _) => "cancelled",
    };
    word.to_owned()
}

/// Peers that something is going on with.
fn shown_peers(model: &Model) -> Vec<&PeerInfo> {
    let busy = |peer: &&PeerInfo| {
        let mut open = model.transfers.iter().filter(|transfer| transfer.ended_ms.is_none());
        peer.connected
            || peer.standing == Standing::Pending
            || open.any(|transfer| transfer.peer == Some(peer.id))
    };
    model.peers.iter().filter(busy).take(PEERS).collect()
}

fn draw_peers(frame: &mut Frame<'_>, area: Rect, model: &Model, peers: &[&PeerInfo]) {
    let columns = Columns::fitting([16, 8, 9, 9, 11, 11, 10], &[6, 1, 3], area.width);
    let rows = peers.iter().map(|peer| {
        let of_peer = || model.transfers.iter().filter(|transfer| transfer.peer == Some(peer.id)).cloned();
        let (up, down) = Model::rates(of_peer());
        let open = of_peer().filter(|transfer| transfer.ended_ms.is_none()).count();
        let standing = match peer.standing {
            Standing::Known => "known",
            Standing::Trusted => "trusted",
            Standing::Pending => "pending",
        };
        columns.row([
            Line::from(peer.name.as_deref().map_or_else(|| peer.id.short(), printable)),
            Line::from(standing),
            Line::from(if peer.connected { "connected" } else { "away" }),
            Line::from(open.to_string()).right_aligned(),
            Line::from(format::rate(up)).right_aligned(),
            Line::from(format::rate(down)).right_aligned(),
            Line::from(printable(&peer.addresses.first().cloned().unwrap_or_default())),
        ])
    });
    let header = ["PEER", "STANDING", "", "TRANSFERS", "UP", "DOWN", "ADDRESS"];
    let header = columns.row(header.map(Line::from)).style(bold()).top_margin(1);
    let table = Table::new(rows, columns.constraints()).header(header);
    frame.render_widget(table, area);
}

/// The keys for which there is room.
fn keys(room: u16) -> String {
    let mut shown = KEYS.to_vec();
    loop {
        let line = shown.iter().map(|(key, _)| *key).collect::<Vec<_>>().join("  ");
        let Some(first) = shown.iter().map(|(_, stays)| *stays).min() else { return line };
        if line.len() <= usize::from(room) {
            return line;
        }
        shown.retain(|(_, stays)| *stays != first);
    }
}

fn foot(model: &Model, color: bool, room: u16) -> Line<'static> {
    let loud = |text: String| {
        let look = if color { bold().fg(Color::Red) } else { bold() };
        Line::from(Span::styled(text, look))
    };
    match (model.asking, &model.trouble) {
        (Some(transfer), _) => {
            loud(format!("cancel transfer {transfer} and remove what it left? y, or any other key for no"))
        }
        (None, Some(trouble)) => loud(printable(trouble)),
        (None, None) => Line::from(keys(room)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use p2p_protocol::{
        PeerId,
        control::{Confinement, Status, Writing},
        queue::Priority,
        rate::{InForce, Limits, Source},
        waits::Shares,
    };
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::commands::example;

    pub(in super::super) fn status() -> Status {
        Status {
            version: "1".into(),
            pid: 1,
            peer: PeerId([9; 32]),
            listen: Vec::new(),
            home: String::new(),
            inbox: String::new(),
            uptime_s: 1,
            unfinished: 1,
            connections: 1,
            shares: 1,
            confinement: Confinement { writing: Writing::Anywhere, no_new_privs: true, dumpable: false },
            limits: InForce {
                limits: Limits { up: "20 MiB/s".parse().ok(), down: None },
                source: Source::Config,
            },
        }
    }

    fn shown(model: &Model, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, true)).unwrap();
        terminal.backend().to_string()
    }

    fn model() -> Model {
        let mut active = example(7, State::Active);
        active.progress.waits = Some(Shares { path: 90, source: 10, ..Shares::default() });
        let paused = Summary { waiting: Some(WaitReason::Paused), ..example(8, State::Waiting) };
        let mut queued = example(9, State::Waiting);
        (queued.waiting, queued.priority) = (Some(WaitReason::Queue), Priority::High);
        queued.progress = Default::default();
        queued.name = "evil\u{1b}[2J".into();
        let mut done = example(3, State::Done);
        (done.ended_ms, done.progress.verified_bytes) = (Some(1), done.progress.total_bytes);
        let peer = PeerInfo {
            id: PeerId([1; 32]),
            standing: Standing::Trusted,
            name: Some("fifi".into()),
            send: true,
            fetch: true,
            addresses: vec!["192.0.2.7:4419".into()],
            connected: true,
            rules: Default::default(),
        };
        let away = PeerInfo { id: PeerId([2; 32]), connected: false, ..peer.clone() };
        let mut model = Model::default();
        model.take(vec![done, active, paused, queued], vec![peer, away], status());
        model
    }

    #[test]
    fn all_is_in_the_picture() {
        insta::assert_snapshot!(shown(&model(), 110, 14));
    }

    #[test]
    fn where_there_is_little_room_what_matters_least_gives_way() {
        let header = |width| {
            let picture = shown(&model(), width, 14);
            let words = |first: &str| {
                let line =
                    picture.lines().find(|line| line.trim_start_matches(['"', ' ']).starts_with(first));
                line.unwrap()
                    .split_whitespace()
                    .map(|word| word.trim_matches('"'))
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            (words("N "), words("PEER"))
        };
        let (all, peers) = (
            "N WAY STATE VERIFIED RATE LEFT LIMITED BY PEER NAME",
            "PEER STANDING TRANSFERS UP DOWN ADDRESS",
        );
        let said = |transfers: &str, peers: &str| (format!("{transfers} "), format!("{peers} "));
        assert_eq!(header(110), said(all, peers));
        assert_eq!(header(80), said("N STATE VERIFIED RATE PEER NAME", peers));
        assert_eq!(header(60), said("N STATE VERIFIED RATE NAME", "PEER TRANSFERS UP DOWN"));
    }

    #[test]
    fn keys_for_which_there_is_no_room_are_left_out_whole() {
        assert_eq!(keys(80), "up/down select  p pause or resume  c cancel  +/- priority  q quit");
        assert_eq!(keys(60), "up/down select  p pause or resume  c cancel  q quit");
        assert_eq!(keys(40), "p pause or resume  c cancel  q quit");
        assert_eq!((keys(20).as_str(), keys(3).as_str()), ("c cancel  q quit", ""));
        assert!(shown(&model(), 40, 14).contains("p pause or resume  c cancel  q quit "));
    }

    #[test]
    fn a_question_takes_the_place_of_the_keys_and_little_room_does_no_harm() {
        let mut model = model();
        model.asking = Some(7);
        let picture = shown(&model, 110, 14);
        assert!(picture.contains("cancel transfer 7 and remove what it left?"), "{picture}");
        (model.asking, model.trouble) = (None, Some("no such\ntransfer".into()));
        let picture = shown(&model, 110, 14);
        assert!(picture.contains("no such\\u{a}transfer"), "{picture}");
        for (width, height) in [(1, 1), (20, 3), (40, 5), (300, 80)] {
            shown(&model, width, height);
        }
        shown(&Model::default(), 80, 24);
    }
}
